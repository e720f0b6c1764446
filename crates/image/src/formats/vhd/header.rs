//! The header of dynamic and differencing disks.

use std::mem::offset_of;
use std::ops::Range;

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::footer::checksum;
use super::geometry::SECTOR;
use crate::{Error, ErrorKind, FileRange, Result};

/// `Cookie`.
const COOKIE: [u8; 8] = *b"cxsparse";
/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 1024;
/// `Header Version` 1.0.
const VERSION: u32 = 0x0001_0000;
/// `Data Offset`: there is no further structure.
const NO_DATA_OFFSET: u64 = u64::MAX;
/// Largest block: a bitmap of 64 KiB, which is read whole. Real files have 512 KiB and 2 MiB.
const MAX_BLOCK_SIZE: u32 = 256 << 20;
/// Longest locator: a path of Windows has at most 32767 characters.
const MAX_LOCATOR_LEN: u32 = 64 << 10;
/// `Parent Locator Entry`s of a header.
pub(super) const LOCATORS: usize = 8;

/// VHD 1.0, Parent Locator Entries.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct RawLocator {
    platform_code: [u8; 4],
    /// Room for the data: sectors by the specification, bytes in the files of Hyper-V. Not needed.
    platform_data_space: U32,
    /// Bytes.
    platform_data_length: U32,
    reserved: U32,
    platform_data_offset: U64,
}
const _: () = assert!(size_of::<RawLocator>() == 24);

/// VHD 1.0, Dynamic Disk Header Format. Big-endian; sizes and offsets in bytes.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    cookie: [u8; 8],
    data_offset: U64,
    table_offset: U64,
    header_version: U32,
    max_table_entries: U32,
    block_size: U32,
    checksum: U32,
    parent_unique_id: [u8; 16],
    parent_time_stamp: U32,
    reserved: U32,
    parent_unicode_name: [u8; 512],
    parent_locators: [RawLocator; LOCATORS],
    reserved_2: [u8; 256],
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN);

/// Where a platform's name of the parent is.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocatorEntry {
    pub(super) platform: [u8; 4],
    pub(super) offset: u64,
    pub(super) len: usize,
}

/// The checked header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Byte offset of the header itself.
    pub(super) offset: u64,
    pub(super) table_offset: u64,
    pub(super) table_entries: u32,
    pub(super) block_size: u32,
    pub(super) parent_unique_id: [u8; 16],
    pub(super) parent_time_stamp: u32,
    /// UTF-16.
    pub(super) parent_name: Vec<u8>,
    pub(super) locators: Vec<LocatorEntry>,
}

impl Header {
    /// Reads and checks the header at `offset`.
    pub(super) fn read(range: &FileRange, offset: u64) -> Result<Self> {
        if range.len() < HEADER_LEN as u64 || offset > range.len() - HEADER_LEN as u64 {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected a header of {HEADER_LEN} bytes at {offset:#x}, but the file ends at {:#x}",
                    range.len()
                ),
            ));
        }
        let mut bytes = [0; HEADER_LEN];
        range.read_exact_at(&mut bytes, offset)?;
        Self::parse(&bytes, offset).map_err(|e| e.at(offset))
    }

    fn parse(bytes: &[u8; HEADER_LEN], offset: u64) -> Result<Self> {
        let (raw, _) = RawHeader::ref_from_prefix(bytes)
            .map_err(|_| Error::corrupt(format!("expected a header of {HEADER_LEN} bytes")))?;
        let at = |field: usize| move |e: Error| e.at(offset + field as u64);
        if raw.cookie != COOKIE {
            return Err(Error::corrupt(format!(
                "expected the dynamic header's cookie {COOKIE:02x?} (cxsparse), found {:02x?}",
                raw.cookie
            )));
        }
        let expected = checksum(bytes, offset_of!(RawHeader, checksum));
        if raw.checksum.get() != expected {
            return Err(Error::corrupt(format!(
                "expected the dynamic header's checksum {expected:#010x}, found {:#010x}",
                raw.checksum.get()
            )));
        }
        let version = raw.header_version.get();
        if version >> 16 != VERSION >> 16 {
            return Err(Error::unsupported(format!(
                "version {}.{} of the VHD dynamic header is not supported (1.0 is)",
                version >> 16,
                version & 0xffff
            )));
        }
        let block_size = raw.block_size.get();
        check_block_size(block_size).map_err(at(offset_of!(RawHeader, block_size)))?;
        let locators = raw
            .parent_locators
            .iter()
            .filter(|locator| locator.platform_code != [0; 4])
            .map(LocatorEntry::new)
            .collect::<Result<_>>()
            .map_err(at(offset_of!(RawHeader, parent_locators)))?;
        Ok(Self {
            offset,
            table_offset: raw.table_offset.get(),
            table_entries: raw.max_table_entries.get(),
            block_size,
            parent_unique_id: raw.parent_unique_id,
            parent_time_stamp: raw.parent_time_stamp.get(),
            parent_name: raw.parent_unicode_name.to_vec(),
            locators,
        })
    }

    /// Bytes of a block's bitmap: a bit for each sector, in whole sectors (VHD 1.0, Block Allocation Table and Data
    /// Blocks).
    pub(super) fn bitmap_len(&self) -> u64 {
        bitmap_len(u64::from(self.block_size))
    }

    /// Where the metadata lie, which no block may cover.
    pub(super) fn reserved(&self) -> Vec<Range<u64>> {
        let table_len = u64::from(self.table_entries) * 4;
        vec![
            0..SECTOR,
            self.offset..self.offset.saturating_add(HEADER_LEN as u64),
            self.table_offset..self.table_offset.saturating_add(table_len),
        ]
    }
}

/// Bytes of the bitmap of a block of `block_size` bytes.
pub(super) fn bitmap_len(block_size: u64) -> u64 {
    (block_size / SECTOR).div_ceil(8).next_multiple_of(SECTOR)
}

/// The bytes of the header of a new dynamic disk.
pub(super) fn new_header(table_offset: u64, entries: u32, block_size: u32) -> [u8; HEADER_LEN] {
    let no_locator = RawLocator {
        platform_code: [0; 4],
        platform_data_space: U32::new(0),
        platform_data_length: U32::new(0),
        reserved: U32::new(0),
        platform_data_offset: U64::new(0),
    };
    let mut raw = RawHeader {
        cookie: COOKIE,
        data_offset: U64::new(NO_DATA_OFFSET),
        table_offset: U64::new(table_offset),
        header_version: U32::new(VERSION),
        max_table_entries: U32::new(entries),
        block_size: U32::new(block_size),
        checksum: U32::new(0),
        parent_unique_id: [0; 16],
        parent_time_stamp: U32::new(0),
        reserved: U32::new(0),
        parent_unicode_name: [0; 512],
        parent_locators: [no_locator; LOCATORS],
        reserved_2: [0; 256],
    };
    raw.checksum
        .set(checksum(raw.as_bytes(), offset_of!(RawHeader, checksum)));
    let mut bytes = [0; HEADER_LEN];
    bytes.copy_from_slice(raw.as_bytes());
    bytes
}

/// "The sectors per block must always be a power of two" (VHD 1.0, Dynamic Disk Header Format, Block Size).
fn check_block_size(block_size: u32) -> Result<()> {
    if !block_size.is_power_of_two() || u64::from(block_size) < SECTOR {
        return Err(Error::corrupt(format!(
            "expected a block size that is a power of two of sectors, found {block_size} bytes"
        )));
    }
    if block_size > MAX_BLOCK_SIZE {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected blocks of at most {MAX_BLOCK_SIZE} bytes, found {block_size}"),
        ));
    }
    Ok(())
}

impl LocatorEntry {
    fn new(raw: &RawLocator) -> Result<Self> {
        let len = raw.platform_data_length.get();
        if len > MAX_LOCATOR_LEN {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected a parent locator of at most {MAX_LOCATOR_LEN} bytes, found {len}"
                ),
            ));
        }
        Ok(Self {
            platform: raw.platform_code,
            offset: raw.platform_data_offset.get(),
            len: usize::try_from(len).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        assert_eq!(offset_of!(RawHeader, table_offset), 16);
        assert_eq!(offset_of!(RawHeader, header_version), 24);
        assert_eq!(offset_of!(RawHeader, max_table_entries), 28);
        assert_eq!(offset_of!(RawHeader, block_size), 32);
        assert_eq!(offset_of!(RawHeader, checksum), 36);
        assert_eq!(offset_of!(RawHeader, parent_unique_id), 40);
        assert_eq!(offset_of!(RawHeader, parent_time_stamp), 56);
        assert_eq!(offset_of!(RawHeader, parent_unicode_name), 64);
        assert_eq!(offset_of!(RawHeader, parent_locators), 576);
        assert_eq!(offset_of!(RawHeader, reserved_2), 768);
        assert_eq!(offset_of!(RawLocator, platform_data_length), 8);
        assert_eq!(offset_of!(RawLocator, platform_data_offset), 16);
    }

    #[test]
    fn bitmaps_are_whole_sectors() {
        assert_eq!(bitmap_len(2 << 20), 512);
        assert_eq!(bitmap_len(512), 512);
        assert_eq!(bitmap_len(4 << 20), 1024);
        assert_eq!(bitmap_len(256 << 20), 64 << 10);
    }

    #[test]
    fn each_bad_field_is_refused() {
        let good = new_header(1536, 2, 2 << 20);
        assert!(Header::parse(&good, 512).is_ok());
        for (at, value, kind, text) in [
            (0, 0, ErrorKind::Corrupt, "cxsparse"),
            (1000, 1, ErrorKind::Corrupt, "checksum"),
            (25, 2, ErrorKind::Unsupported, "version 2.0"),
            (35, 1, ErrorKind::Corrupt, "power of two"),
            (32, 0x40, ErrorKind::Corrupt, "power of two"),
            (584, 1, ErrorKind::Limit, "locator"),
        ] {
            let mut bytes = good;
            bytes[at] = value;
            bytes[576] = b'W';
            if text != "checksum" {
                let sum = checksum(&bytes, 36);
                bytes[36..40].copy_from_slice(&sum.to_be_bytes());
            }
            let error = Header::parse(&bytes, 512).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error} lacks {text}");
        }
    }
}
