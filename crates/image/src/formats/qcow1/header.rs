//! The header: the struct as it lies in the file, and what it means once checked.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, ErrorKind, FileRange, Result};

use super::to_usize;

/// `QFI\xfb`.
const MAGIC: [u8; 4] = *b"QFI\xfb";
const VERSION: u32 = 1;
/// Bytes of the header.
const HEADER_BYTES: u64 = 48;
/// Cluster sizes that QEMU opens: 512 bytes to 64 KiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=16;
/// Entries of an L2 table that QEMU opens, as a power of two: a table of 512 bytes to 64 KiB.
const L2_BITS: std::ops::RangeInclusive<u32> = 6..=13;
/// Largest L1 table that is held, in bytes: as for qcow2; it maps 2 PiB with the usual clusters of 4 KiB.
const MAX_L1_BYTES: u64 = 32 << 20;
/// Longest name of a backing file that QEMU opens.
const MAX_BACKING_NAME: u64 = 1023;
/// Bytes of a table entry.
pub(super) const ENTRY_BYTES: u64 = 8;

/// The header in the file, big-endian: "The QCOW Image Format", Header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    /// Byte 0: [`MAGIC`].
    magic: [u8; 4],
    /// Byte 4: 1.
    version: U32,
    /// Byte 8: offset of the backing file's name, 0 for none.
    backing_file_offset: U64,
    /// Byte 16: its length in bytes.
    backing_file_size: U32,
    /// Byte 20: when the backing file was changed last; not used.
    mtime: U32,
    /// Byte 24: virtual size in bytes.
    size: U64,
    /// Byte 32: the cluster size is 2 to the power of this.
    cluster_bits: u8,
    /// Byte 33: an L2 table has 2 to the power of this entries.
    l2_bits: u8,
    /// Byte 34: nothing.
    padding: U16,
    /// Byte 36: 0 none, 1 AES.
    crypt_method: U32,
    /// Byte 40: offset of the L1 table.
    l1_table_offset: U64,
}

const _: () = assert!(size_of::<RawHeader>() as u64 == HEADER_BYTES);

/// A header that has been checked against QEMU's limits and the length of the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) virtual_size: u64,
    pub(super) cluster_bits: u32,
    pub(super) l2_bits: u32,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    pub(super) backing: Option<OsString>,
}

impl Header {
    /// Reads and checks the header at the start of `range`.
    pub(super) fn read(range: &FileRange) -> Result<Self> {
        if range.len() < HEADER_BYTES {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected a QCOW header of {HEADER_BYTES} bytes, found a file of {}",
                    range.len()
                ),
            ));
        }
        let bytes = range.read_vec(0, to_usize(HEADER_BYTES))?;
        let raw = RawHeader::read_from_bytes(&bytes)
            .map_err(|_| Error::corrupt("expected a QCOW header"))?;
        if raw.magic != MAGIC || raw.version.get() != VERSION {
            return Err(Error::corrupt(format!(
                "expected the QCOW magic {MAGIC:02x?} and version 1, found {:02x?} and {}",
                raw.magic,
                raw.version.get()
            ))
            .at(0));
        }
        match raw.crypt_method.get() {
            0 => {}
            1 => return Err(Error::unsupported("AES encryption of QCOW is not supported").at(36)),
            other => return Err(Error::unsupported(format!("unknown crypt_method {other}")).at(36)),
        }
        let (cluster_bits, l2_bits) = (u32::from(raw.cluster_bits), u32::from(raw.l2_bits));
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(Error::corrupt(format!(
                "expected cluster_bits in {CLUSTER_BITS:?}, found {cluster_bits}"
            ))
            .at(32));
        }
        if !L2_BITS.contains(&l2_bits) {
            return Err(Error::corrupt(format!(
                "expected l2_bits in {L2_BITS:?}, found {l2_bits}"
            ))
            .at(33));
        }
        let virtual_size = virtual_size(raw.size.get())?;
        let l1_entries = virtual_size.div_ceil(1 << (cluster_bits + l2_bits));
        let l1_bytes = l1_entries.saturating_mul(ENTRY_BYTES);
        if l1_bytes > MAX_L1_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected an L1 table of at most {MAX_L1_BYTES} bytes, found {l1_bytes}"),
            )
            .at(24));
        }
        let l1_offset = raw.l1_table_offset.get();
        if l1_offset < HEADER_BYTES && l1_entries > 0 {
            return Err(Error::corrupt(format!(
                "expected the L1 table after the header, found it at {l1_offset:#x}"
            ))
            .at(40));
        }
        if l1_offset
            .checked_add(l1_bytes)
            .is_none_or(|end| end > range.len())
        {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected an L1 table of {l1_bytes} bytes at {l1_offset:#x}, but the file ends at {:#x}",
                    range.len()
                ),
            )
            .at(40));
        }
        Ok(Self {
            virtual_size,
            cluster_bits,
            l2_bits,
            l1_offset,
            l1_entries,
            backing: backing(range, &raw)?,
        })
    }
}

/// Whole sectors: a size that ends within one is rounded up.
fn virtual_size(size: u64) -> Result<u64> {
    size.checked_next_multiple_of(512)
        .filter(|&size| i64::try_from(size).is_ok())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Limit,
                format!(
                    "expected a virtual size of at most {} bytes, found {size}",
                    i64::MAX
                ),
            )
            .at(24)
        })
}

fn backing(range: &FileRange, raw: &RawHeader) -> Result<Option<OsString>> {
    let (offset, len) = (
        raw.backing_file_offset.get(),
        u64::from(raw.backing_file_size.get()),
    );
    if offset == 0 || len == 0 {
        return Ok(None);
    }
    if len > MAX_BACKING_NAME || offset < HEADER_BYTES {
        return Err(Error::corrupt(format!(
            "expected a backing file name of at most {MAX_BACKING_NAME} bytes after the header, found {len} at \
             {offset:#x}"
        ))
        .at(8));
    }
    let name = range.read_vec(offset, to_usize(len))?;
    Ok(Some(OsString::from_vec(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_at_the_bytes_of_the_format() {
        let bytes: Vec<u8> = (0..48).collect();
        let raw = RawHeader::read_from_bytes(&bytes).unwrap();
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(raw.magic, [0, 1, 2, 3]);
        assert_eq!(raw.version.get(), u32_at(4));
        assert_eq!(raw.backing_file_offset.get(), u64_at(8));
        assert_eq!(raw.backing_file_size.get(), u32_at(16));
        assert_eq!(raw.mtime.get(), u32_at(20));
        assert_eq!(raw.size.get(), u64_at(24));
        assert_eq!((raw.cluster_bits, raw.l2_bits), (32, 33));
        assert_eq!(raw.padding.get(), 0x2223);
        assert_eq!(raw.crypt_method.get(), u32_at(36));
        assert_eq!(raw.l1_table_offset.get(), u64_at(40));
    }
}
