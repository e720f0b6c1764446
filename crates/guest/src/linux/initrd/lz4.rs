//! LZ4 "legacy frame" (lz4_Frame_format.md 1.6.4, section "Legacy frame"), which `lz4 -l` writes and the kernel reads: a
//! magic, then blocks of a little-endian length and that many bytes, each unpacking to at most 8 MiB.
//! Ubuntu compressed its initramfs so from 19.10 to 21.04. The frame has no end mark; the kernel before 5.13 fails on
//! anything that follows it, so an initramfs of this kind is recompressed and not appended to.

use std::io::{self, Read};

/// 0x184c2102, little-endian.
pub(crate) const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Unpacked length of every block but the last.
const BLOCK_MAX: usize = 8 << 20;
/// A stored block of [`BLOCK_MAX`] incompressible bytes is this long (LZ4_COMPRESSBOUND).
const PACKED_MAX: u32 = (8 << 20) + (8 << 20) / 255 + 16;
/// Shortest match, added to every coded match length.
const MATCH_MIN: usize = 4;

/// Unpacks a legacy frame; `inner` stands at its magic.
#[derive(Debug)]
pub(crate) struct Lz4Reader<R> {
    inner: R,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Lz4Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            block: Vec::new(),
            at: 0,
            ended: false,
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let mut word = [0u8; 4];
        loop {
            if let Err(error) = self.inner.read_exact(&mut word) {
                self.ended = true;
                return if error.kind() == io::ErrorKind::UnexpectedEof {
                    Ok(())
                } else {
                    Err(error)
                };
            }
            if word != MAGIC {
                break;
            }
        }
        let len = u32::from_le_bytes(word);
        if len == 0 {
            self.ended = true;
            return Ok(());
        }
        if len > PACKED_MAX {
            return Err(bad("lz4 block is longer than its frame allows"));
        }
        let mut packed = vec![0u8; len as usize];
        self.inner.read_exact(&mut packed)?;
        self.block.clear();
        self.at = 0;
        unpack(&packed, &mut self.block)
    }
}

impl<R: Read> Read for Lz4Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.ended {
            self.next_block()?;
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        self.at += len;
        Ok(len)
    }
}

/// Unpacks one block (lz4_Block_format.md): sequences of literals and a match, the last without a match.
fn unpack(mut packed: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    while let Some((&token, rest)) = packed.split_first() {
        packed = rest;
        let literals = length(usize::from(token >> 4), &mut packed)?;
        let (copied, rest) = packed
            .split_at_checked(literals)
            .ok_or_else(|| bad("lz4 literals run past the block"))?;
        out.extend_from_slice(copied);
        packed = rest;
        if packed.is_empty() {
            return Ok(());
        }
        let (offset, rest) = packed
            .split_first_chunk::<2>()
            .ok_or_else(|| bad("lz4 block ends inside an offset"))?;
        packed = rest;
        let offset = usize::from(u16::from_le_bytes(*offset));
        let len = length(usize::from(token & 15), &mut packed)?.saturating_add(MATCH_MIN);
        let from = out.len().checked_sub(offset).filter(|_| offset > 0);
        let from = from.ok_or_else(|| bad("lz4 match starts before the block"))?;
        if out.len().saturating_add(len) > BLOCK_MAX {
            return Err(bad("lz4 block unpacks to more than 8 MiB"));
        }
        for at in from..from + len {
            // A match may overlap what it produces: byte by byte.
            let byte = out.get(at).copied().unwrap_or_default();
            out.push(byte);
        }
    }
    Ok(())
}

fn length(start: usize, packed: &mut &[u8]) -> io::Result<usize> {
    let mut len = start;
    if start == 15 {
        loop {
            let (&byte, rest) = packed
                .split_first()
                .ok_or_else(|| bad("lz4 block ends inside a length"))?;
            *packed = rest;
            len = len.saturating_add(usize::from(byte));
            if byte != 255 {
                break;
            }
        }
    }
    Ok(len)
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(block: &[u8]) -> Vec<u8> {
        [
            &MAGIC[..],
            &u32::try_from(block.len()).unwrap().to_le_bytes(),
            block,
        ]
        .concat()
    }

    #[test]
    fn literals_and_an_overlapping_match_unpack() {
        // "ab", then a match of 4+15+3 bytes at offset 2, then the literal "!".
        let packed = frame(&[0x2f, b'a', b'b', 2, 0, 3, 0x10, b'!']);
        let mut out = String::new();
        Lz4Reader::new(&packed[..])
            .read_to_string(&mut out)
            .unwrap();
        assert_eq!(out, format!("{}!", "ab".repeat(12)));
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        for block in [
            &[0x10][..],
            &[0x00, 1, 0],
            &[0x1f, b'a', 9, 0, 0],
            &[0xf0, 255],
            &[0x1f, b'a', 1, 0, 255],
        ] {
            assert!(
                Lz4Reader::new(&frame(block)[..])
                    .read_to_end(&mut Vec::new())
                    .is_err(),
                "{block:x?}"
            );
        }
        assert!(
            Lz4Reader::new(&[&MAGIC[..], &[255; 4]].concat()[..])
                .read_to_end(&mut Vec::new())
                .is_err()
        );
    }
}
