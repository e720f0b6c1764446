//! The header: the struct as it lies in the file, and what it means once checked.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, ErrorKind, FileRange, Result};

use super::to_usize;

/// `QED\0`.
const MAGIC: [u8; 4] = *b"QED\0";
/// Bytes of the header.
const HEADER_BYTES: u64 = 64;
/// Cluster sizes: qed "Header", `cluster_size`.
const CLUSTER_SIZES: std::ops::RangeInclusive<u64> = 1 << 12..=1 << 26;
/// Clusters of a table: qed "Header", `table_size`.
const TABLE_SIZES: std::ops::RangeInclusive<u64> = 1..=16;
/// Largest L1 table that is held, in bytes, as for qcow2. The usual one has 256 KiB.
const MAX_TABLE_BYTES: u64 = 32 << 20;
/// Longest name of a backing file that QEMU opens.
const MAX_BACKING_NAME: u64 = 1023;
/// Bytes of a table entry.
pub(super) const ENTRY_BYTES: u64 = 8;

/// Bit 0: the fields of the backing file are present.
const BACKING_FILE: u64 = 1 << 0;
/// Bit 1: the image was not closed; its tables may contradict each other.
const NEED_CHECK: u64 = 1 << 1;
/// Bit 2: the backing file is raw, whatever it looks like.
const BACKING_NO_PROBE: u64 = 1 << 2;

/// The header in the file, little-endian: qed "Header".
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    /// Byte 0: [`MAGIC`].
    magic: [u8; 4],
    /// Byte 4: bytes of a cluster.
    cluster_size: U32,
    /// Byte 8: clusters of a table.
    table_size: U32,
    /// Byte 12: clusters of the header.
    header_size: U32,
    /// Byte 16: features without which the image must not be opened.
    features: U64,
    /// Byte 24: features that may be ignored.
    compat_features: U64,
    /// Byte 32: features that a writer must clear if it does not know them.
    autoclear_features: U64,
    /// Byte 40: offset of the L1 table.
    l1_table_offset: U64,
    /// Byte 48: virtual size in bytes.
    image_size: U64,
    /// Byte 56: offset of the backing file's name.
    backing_filename_offset: U32,
    /// Byte 60: its length.
    backing_filename_size: U32,
}

const _: () = assert!(size_of::<RawHeader>() as u64 == HEADER_BYTES);

/// A header that has been checked against the specification and the length of the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) cluster_size: u64,
    /// Bytes of an L1 or L2 table.
    pub(super) table_bytes: u64,
    /// Bytes before the first cluster that is allocated.
    pub(super) header_bytes: u64,
    pub(super) virtual_size: u64,
    pub(super) l1_offset: u64,
    pub(super) need_check: bool,
    pub(super) backing: Option<OsString>,
    pub(super) backing_is_raw: bool,
}

impl Header {
    /// Reads and checks the header at the start of `range`.
    pub(super) fn read(range: &FileRange) -> Result<Self> {
        if range.len() < HEADER_BYTES {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected a QED header of {HEADER_BYTES} bytes, found a file of {}",
                    range.len()
                ),
            ));
        }
        let bytes = range.read_vec(0, to_usize(HEADER_BYTES))?;
        let raw = RawHeader::read_from_bytes(&bytes)
            .map_err(|_| Error::corrupt("expected a QED header"))?;
        if raw.magic != MAGIC {
            return Err(Error::corrupt(format!(
                "expected the QED magic {MAGIC:02x?}, found {:02x?}",
                raw.magic
            ))
            .at(0));
        }
        let features = raw.features.get();
        let unknown = features & !(BACKING_FILE | NEED_CHECK | BACKING_NO_PROBE);
        if unknown != 0 {
            return Err(Error::unsupported(format!("unknown QED features {unknown:#x}")).at(16));
        }
        let cluster_size = u64::from(raw.cluster_size.get());
        if !cluster_size.is_power_of_two() || !CLUSTER_SIZES.contains(&cluster_size) {
            return Err(Error::corrupt(format!(
                "expected a cluster size of a power of two in {CLUSTER_SIZES:?}, found {cluster_size}"
            ))
            .at(4));
        }
        let table_size = u64::from(raw.table_size.get());
        if !table_size.is_power_of_two() || !TABLE_SIZES.contains(&table_size) {
            return Err(Error::corrupt(format!(
                "expected a table size of a power of two in {TABLE_SIZES:?}, found {table_size}"
            ))
            .at(8));
        }
        let table_bytes = table_size * cluster_size;
        if table_bytes > MAX_TABLE_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected tables of at most {MAX_TABLE_BYTES} bytes, found {table_bytes}"),
            )
            .at(8));
        }
        let header_bytes = u64::from(raw.header_size.get()) * cluster_size;
        if header_bytes == 0 || header_bytes > range.len() {
            return Err(Error::corrupt(format!(
                "expected a header of whole clusters in the file, found {header_bytes} bytes"
            ))
            .at(12));
        }
        let header = Self {
            cluster_size,
            table_bytes,
            header_bytes,
            virtual_size: raw.image_size.get(),
            l1_offset: raw.l1_table_offset.get(),
            need_check: features & NEED_CHECK != 0,
            backing: backing(range, &raw, header_bytes)?,
            backing_is_raw: features & BACKING_NO_PROBE != 0,
        };
        let entries = table_bytes / ENTRY_BYTES;
        let most = u128::from(entries) * u128::from(entries) * u128::from(cluster_size);
        let size = header.virtual_size;
        if !size.is_multiple_of(512) || i64::try_from(size).is_err() || u128::from(size) > most {
            return Err(Error::corrupt(format!(
                "expected a virtual size of whole sectors, at most {most} bytes, found {size}"
            ))
            .at(48));
        }
        header
            .check_place(range, header.l1_offset, table_bytes, "L1 table")
            .map_err(|e| e.at(40))?;
        Ok(header)
    }

    /// Host bytes begin at a cluster after the header, and are in the file.
    pub(super) fn check_place(
        &self,
        range: &FileRange,
        host: u64,
        len: u64,
        what: &str,
    ) -> Result<()> {
        if !host.is_multiple_of(self.cluster_size) || host < self.header_bytes {
            return Err(Error::corrupt(format!(
                "expected the {what} after the header at a multiple of {:#x}, found {host:#x}",
                self.cluster_size
            )));
        }
        if host.checked_add(len).is_none_or(|end| end > range.len()) {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected {len} bytes of {what} at {host:#x}, but the file ends at {:#x}",
                    range.len()
                ),
            ));
        }
        Ok(())
    }

    /// Bytes of the disk that one L2 table maps.
    pub(super) fn l2_span(&self) -> u64 {
        // Tables have at most 2^22 entries, clusters 2^26 bytes.
        self.table_bytes / ENTRY_BYTES * self.cluster_size
    }

    /// Bytes of a data cluster that belong to the disk: the last may pass its end, and that of the file.
    pub(super) fn used_bytes(&self, cluster_start: u64) -> u64 {
        self.cluster_size
            .min(self.virtual_size.saturating_sub(cluster_start))
    }
}

/// The name lies in the header's clusters: qed "Header", `backing_filename_offset`.
fn backing(range: &FileRange, raw: &RawHeader, header_bytes: u64) -> Result<Option<OsString>> {
    let (offset, len) = (
        u64::from(raw.backing_filename_offset.get()),
        u64::from(raw.backing_filename_size.get()),
    );
    if raw.features.get() & BACKING_FILE == 0 || len == 0 {
        return Ok(None);
    }
    if len > MAX_BACKING_NAME || offset < HEADER_BYTES || offset + len > header_bytes {
        return Err(Error::corrupt(format!(
            "expected a backing file name of at most {MAX_BACKING_NAME} bytes in the header, found {len} at {offset:#x}"
        ))
        .at(56));
    }
    let name = range.read_vec(offset, to_usize(len))?;
    Ok(Some(OsString::from_vec(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_at_the_bytes_of_the_specification() {
        let bytes: Vec<u8> = (0..64).collect();
        let raw = RawHeader::read_from_bytes(&bytes).unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(raw.magic, [0, 1, 2, 3]);
        assert_eq!(raw.cluster_size.get(), u32_at(4));
        assert_eq!(raw.table_size.get(), u32_at(8));
        assert_eq!(raw.header_size.get(), u32_at(12));
        assert_eq!(raw.features.get(), u64_at(16));
        assert_eq!(raw.compat_features.get(), u64_at(24));
        assert_eq!(raw.autoclear_features.get(), u64_at(32));
        assert_eq!(raw.l1_table_offset.get(), u64_at(40));
        assert_eq!(raw.image_size.get(), u64_at(48));
        assert_eq!(raw.backing_filename_offset.get(), u32_at(56));
        assert_eq!(raw.backing_filename_size.get(), u32_at(60));
    }
}
