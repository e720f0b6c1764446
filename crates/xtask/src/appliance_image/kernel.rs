//! Takes the uncompressed kernel (an ELF file with a PVH entry point) out of a bzImage.
//!
//! QEMU starts the ELF file at once; the bzImage would spend seconds under emulation on unpacking itself.
//! Header fields: kernel Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", protocol 2.08 and later.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

use super::lz4;

/// Number of 512-byte sectors of real-mode code after the boot sector; 0 means 4.
const SETUP_SECTS: usize = 0x1f1;
/// `HdrS`.
const HEADER_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
/// Boot protocol version, little endian.
const VERSION: usize = 0x206;
/// Offset of the compressed payload from the start of the protected-mode code.
const PAYLOAD_OFFSET: usize = 0x248;
/// Its length, the trailing 4-byte size included.
const PAYLOAD_LENGTH: usize = 0x24c;
/// The payload fields exist since this protocol.
const PAYLOAD_SINCE: u16 = 0x0208;
/// No kernel is larger; a bound for damaged payloads.
const MAX_VMLINUX: u64 = 1 << 30;

/// The ELF kernel inside `bzimage`.
pub(super) fn vmlinux(bzimage: &[u8]) -> Result<Vec<u8>> {
    let (at, magic) = HEADER_MAGIC;
    ensure!(
        bzimage.get(at..at + magic.len()) == Some(magic),
        "not a bzImage: no HdrS at {at:#x}"
    );
    let version = u16::from_le_bytes([byte(bzimage, VERSION)?, byte(bzimage, VERSION + 1)?]);
    ensure!(
        version >= PAYLOAD_SINCE,
        "boot protocol {version:#x}, expected {PAYLOAD_SINCE:#x} or later"
    );
    let setup_sectors = match byte(bzimage, SETUP_SECTS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + field(bzimage, PAYLOAD_OFFSET)?;
    let length = field(bzimage, PAYLOAD_LENGTH)?;
    let payload = start
        .checked_add(length)
        .and_then(|end| bzimage.get(start..end))
        .with_context(|| format!("payload of {length} bytes at {start:#x} is outside the file"))?;
    let elf = unpack(payload)?;
    ensure!(
        elf.starts_with(b"\x7fELF"),
        "the payload is not an ELF file"
    );
    Ok(elf)
}

fn unpack(payload: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Vec::new();
    match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let reader = zstd::stream::read::Decoder::new(payload)?.single_frame();
            reader
                .take(MAX_VMLINUX)
                .read_to_end(&mut elf)
                .context("unpacking the zstd payload")?;
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let reader = lzma_rust2::XzReader::new(payload, false);
            reader
                .take(MAX_VMLINUX)
                .read_to_end(&mut elf)
                .context("unpacking the xz payload")?;
        }
        [0x1f, 0x8b, ..] => {
            let reader = flate2::read::GzDecoder::new(payload);
            reader
                .take(MAX_VMLINUX)
                .read_to_end(&mut elf)
                .context("unpacking the gzip payload")?;
        }
        [0x02, 0x21, 0x4c, 0x18, ..] => {
            elf = lz4::unpack(payload).context("unpacking the LZ4 payload")?
        }
        [0x7f, b'E', b'L', b'F', ..] => elf.extend_from_slice(payload),
        other => bail!(
            "kernel payload starts with {:02x?}: expected zstd, xz, gzip, LZ4 or ELF",
            other.get(..4).unwrap_or(other)
        ),
    }
    Ok(elf)
}

fn byte(image: &[u8], at: usize) -> Result<u8> {
    image
        .get(at)
        .copied()
        .with_context(|| format!("the file ends before {at:#x}"))
}

fn field(image: &[u8], at: usize) -> Result<usize> {
    let bytes = image
        .get(at..at + 4)
        .with_context(|| format!("the file ends before {at:#x}"))?;
    Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0u8; 2 * 512 + 16];
        image[SETUP_SECTS] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x020fu16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16u32.to_le_bytes());
        let len = u32::try_from(payload.len() + 4).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&len.to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(&[9, 9, 9, 9]);
        image
    }

    #[test]
    fn zstd_payload_with_its_size_trailer_unpacks() {
        let elf = [b"\x7fELF".as_slice(), &[7u8; 5000]].concat();
        let packed = zstd::encode_all(elf.as_slice(), 3).unwrap();
        assert_eq!(vmlinux(&bzimage(&packed)).unwrap(), elf);
    }

    #[test]
    fn unknown_payload_and_short_file_are_refused() {
        let error = vmlinux(&bzimage(b"BZh91AY")).unwrap_err().to_string();
        assert!(error.contains("expected zstd"), "{error}");
        assert!(vmlinux(&bzimage(b"\x7fELF")[..1040]).is_err());
        assert!(vmlinux(b"MZ").is_err());
    }
}
