//! Reader of the LZ4 "legacy frame", in which some kernels pack themselves (lz4_Frame_format.md, "Legacy frame";
//! the blocks: lz4_Block_format.md).
//!
//! After the magic come blocks, each with its packed length as 32 bits, little endian; each unpacks to 8 MiB, the last
//! to less, and none refers to another.

use anyhow::{Context, Result, ensure};

/// First bytes of a legacy frame.
pub(super) const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// What a block unpacks to at most.
const BLOCK: usize = 8 << 20;
/// The shortest match; lengths of matches are counted from it.
const MIN_MATCH: usize = 4;

/// Unpacks `frame`; whatever follows a block that is not full is not of the frame.
pub(super) fn unpack(frame: &[u8]) -> Result<Vec<u8>> {
    let mut rest = frame.strip_prefix(&MAGIC).context("no LZ4 legacy frame")?;
    let mut out = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_le_bytes(*len))?;
        let packed = after
            .get(..len)
            .context("an LZ4 block ends after the file")?;
        let start = out.len();
        block(packed, &mut out)?;
        rest = &after[len..];
        if out.len() - start < BLOCK {
            break;
        }
    }
    Ok(out)
}

fn block(packed: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let mut input = packed.iter().copied();
    while let Some(token) = input.next() {
        let literals = length(usize::from(token >> 4), &mut input)?;
        ensure!(input.len() >= literals, "an LZ4 block ends within literals");
        out.extend(input.by_ref().take(literals));
        let Some(low) = input.next() else {
            return Ok(());
        };
        let high = input.next().context("an LZ4 block ends within an offset")?;
        let offset = usize::from(u16::from_le_bytes([low, high]));
        let matched = length(usize::from(token & 15), &mut input)? + MIN_MATCH;
        ensure!(
            offset > 0 && offset <= out.len() - start,
            "an LZ4 match {offset} bytes back is outside its block"
        );
        ensure!(
            out.len() - start + matched <= BLOCK,
            "an LZ4 block unpacks to more than {BLOCK} bytes"
        );
        // A match may overlap what it makes.
        for _ in 0..matched {
            out.push(out[out.len() - offset]);
        }
    }
    Ok(())
}

/// 15 is followed by bytes that are added, up to and including the first that is not 255.
fn length(nibble: usize, input: &mut impl Iterator<Item = u8>) -> Result<usize> {
    let mut total = nibble;
    if nibble == 15 {
        loop {
            let byte = input.next().context("an LZ4 block ends within a length")?;
            total += usize::from(byte);
            if byte < 255 {
                break;
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(block: &[u8]) -> Vec<u8> {
        let len = u32::try_from(block.len()).unwrap().to_le_bytes();
        [&MAGIC[..], &len, block].concat()
    }

    #[test]
    fn literals_and_overlapping_matches_unpack() {
        // "ab", a match of 4+15+3 bytes two back, then the literal "z".
        let packed = frame(&[0x2f, b'a', b'b', 2, 0, 3, 0x10, b'z']);
        let want = ["ab".repeat(12), "z".into()].concat();
        assert_eq!(unpack(&packed).unwrap(), want.as_bytes());
    }

    #[test]
    fn damage_is_an_error() {
        for block in [
            &[0x20, b'a'][..],
            &[0x10, b'a', 2, 0],
            &[0x10, b'a', 0, 0],
            &[0x1f, b'a', 1, 0, 255],
            &[0x10, b'a', 1],
        ] {
            assert!(unpack(&frame(block)).is_err(), "{block:x?}");
        }
        assert!(unpack(&MAGIC[..3]).is_err());
        assert!(unpack(&[&MAGIC[..], &[9, 0, 0, 0, 1]].concat()).is_err());
    }
}
