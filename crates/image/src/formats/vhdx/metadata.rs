//! The metadata region: a table of items, then the items. MS-VHDX 2.6.

use std::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::content::Content;
use super::guid::Guid;
use super::locator::Locator;
use super::{MAX_VIRTUAL_SIZE, MIB, to_usize};
use crate::{Error, ErrorKind, Result};

/// Bytes of the table; items lie behind it: MS-VHDX 2.6.1.
pub(super) const TABLE_LEN: u64 = 64 << 10;
const SIGNATURE: [u8; 8] = *b"metadata";
/// Most items: MS-VHDX 2.6.1.1.
const MAX_ITEMS: u16 = 2047;
/// Longest item: MS-VHDX 2.6.1.2.
const MAX_ITEM_LEN: u32 = 1 << 20;
/// Block sizes: MS-VHDX 2.6.2.1.
pub(super) const BLOCK_SIZES: std::ops::RangeInclusive<u64> = MIB..=256 * MIB;

/// MS-VHDX 2.6.2, Known Metadata Items.
const FILE_PARAMETERS: Guid = Guid::of(0xcaa16737_fa36_4d43_b3b6_33f0aa44e76b);
const VIRTUAL_DISK_SIZE: Guid = Guid::of(0x2fa54224_cd1b_4876_b211_5dbed83bf4b8);
const VIRTUAL_DISK_ID: Guid = Guid::of(0xbeca12ab_b2e6_4523_93ef_c309e000c746);
const LOGICAL_SECTOR_SIZE: Guid = Guid::of(0x8141bf1d_a96f_4709_ba47_f233a8faab5f);
const PHYSICAL_SECTOR_SIZE: Guid = Guid::of(0xcda348c7_445d_4471_9cc9_e9885251c556);
const PARENT_LOCATOR: Guid = Guid::of(0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c);
const KNOWN: [Guid; 6] = [
    FILE_PARAMETERS,
    VIRTUAL_DISK_SIZE,
    VIRTUAL_DISK_ID,
    LOGICAL_SECTOR_SIZE,
    PHYSICAL_SECTOR_SIZE,
    PARENT_LOCATOR,
];

/// Flags of an item: MS-VHDX 2.6.1.2.
const IS_USER: u32 = 1 << 0;
const IS_VIRTUAL_DISK: u32 = 1 << 1;
const IS_REQUIRED: u32 = 1 << 2;

/// Flags of the file parameters: MS-VHDX 2.6.2.1.
const LEAVE_BLOCKS_ALLOCATED: u32 = 1 << 0;
const HAS_PARENT: u32 = 1 << 1;

/// Metadata Table Header: MS-VHDX 2.6.1.1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawTable {
    /// Byte 0: `metadata`.
    signature: [u8; 8],
    /// Byte 8.
    reserved: U16,
    /// Byte 10.
    entry_count: U16,
    /// Byte 12.
    reserved2: [u8; 20],
}
const _: () = assert!(size_of::<RawTable>() == 32);

/// Metadata Table Entry: MS-VHDX 2.6.1.2.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// Byte 0: what the item is.
    item_id: Guid,
    /// Byte 16: from the start of the region, at least 64 KiB.
    offset: U32,
    /// Byte 20: bytes.
    length: U32,
    /// Byte 24: bits 0 to 2.
    flags: U32,
    /// Byte 28.
    reserved: U32,
}
const _: () = assert!(size_of::<RawEntry>() == 32);

/// File Parameters: MS-VHDX 2.6.2.1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawFileParameters {
    /// Byte 0: bytes, a power of two.
    block_size: U32,
    /// Byte 4: bits 0 and 1.
    flags: U32,
}
const _: () = assert!(size_of::<RawFileParameters>() == 8);

/// What the metadata say of the disk.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Bytes, a power of two from 1 to 256 MiB.
    pub(super) block_size: u64,
    pub(super) leave_blocks_allocated: bool,
    pub(super) virtual_size: u64,
    /// SCSI VPD page 0x83 identification, the same in a whole chain.
    pub(super) virtual_disk_id: Option<Guid>,
    /// 512 or 4096.
    pub(super) logical_sector_size: u32,
    pub(super) physical_sector_size: u32,
    /// Present in a differencing disk.
    pub(super) parent: Option<Locator>,
}

/// The items of the region by GUID; those of users are not kept.
struct Items<'a> {
    content: &'a Content,
    region: Range<u64>,
    found: Vec<(Guid, Range<u64>)>,
}

impl Metadata {
    /// Reads the metadata in `region`, which lies in the file.
    pub(super) fn read(content: &Content, region: Range<u64>) -> Result<Self> {
        let items = Items::read(content, region)?;
        let (at, bytes) = items.required(FILE_PARAMETERS, 8, "file parameters")?;
        let parameters = RawFileParameters::read_from_bytes(&bytes)
            .map_err(|_| Error::corrupt("short file parameters").at(at))?;
        let block_size = u64::from(parameters.block_size.get());
        if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) {
            return Err(Error::corrupt(format!(
                "expected a block size that is a power of two from 1 to 256 MiB, found {block_size} bytes"
            ))
            .at(at));
        }
        let flags = parameters.flags.get();
        if flags & !(LEAVE_BLOCKS_ALLOCATED | HAS_PARENT) != 0 {
            return Err(Error::unsupported(format!(
                "the file parameters have flags {flags:#x}, of which only {:#x} are known",
                LEAVE_BLOCKS_ALLOCATED | HAS_PARENT
            ))
            .at(at));
        }
        let logical_sector_size = items
            .sector_size(LOGICAL_SECTOR_SIZE, "logical sector size")?
            .ok_or_else(|| items.missing("logical sector size"))?;
        let parent = if flags & HAS_PARENT == 0 {
            None
        } else {
            Some(items.locator()?)
        };
        Ok(Self {
            block_size,
            leave_blocks_allocated: flags & LEAVE_BLOCKS_ALLOCATED != 0,
            virtual_size: items.virtual_size(logical_sector_size)?,
            virtual_disk_id: items
                .fixed(VIRTUAL_DISK_ID, 16, "virtual disk identifier")?
                .and_then(|(_, bytes)| Guid::read_from_bytes(&bytes).ok()),
            logical_sector_size,
            physical_sector_size: items
                .sector_size(PHYSICAL_SECTOR_SIZE, "physical sector size")?
                .unwrap_or(logical_sector_size),
            parent,
        })
    }
}

impl<'a> Items<'a> {
    fn read(content: &'a Content, region: Range<u64>) -> Result<Self> {
        let start = region.start;
        let bytes = content.read_vec(start, to_usize(TABLE_LEN))?;
        let Ok((raw, rest)) = RawTable::ref_from_prefix(&bytes) else {
            return Err(Error::corrupt("short metadata table").at(start));
        };
        if raw.signature != SIGNATURE {
            return Err(Error::corrupt(format!(
                "expected the signature `metadata`, found {}",
                raw.signature.escape_ascii()
            ))
            .at(start));
        }
        if raw.entry_count.get() > MAX_ITEMS {
            return Err(Error::corrupt(format!(
                "expected at most {MAX_ITEMS} metadata items, found {}",
                raw.entry_count
            ))
            .at(start));
        }
        let mut items = Self {
            content,
            region,
            found: Vec::new(),
        };
        let entries = rest.chunks_exact(size_of::<RawEntry>());
        for (index, bytes) in entries.take(raw.entry_count.get().into()).enumerate() {
            let at = start + (size_of::<RawTable>() + index * size_of::<RawEntry>()) as u64;
            if let Ok(raw) = RawEntry::ref_from_bytes(bytes) {
                items.add(raw).map_err(|e| e.at(at))?;
            }
        }
        Ok(items)
    }

    fn add(&mut self, raw: &RawEntry) -> Result<()> {
        let (guid, flags) = (raw.item_id, raw.flags.get());
        let known = flags & IS_USER == 0 && KNOWN.contains(&guid);
        if !known {
            return if flags & IS_REQUIRED == 0 {
                Ok(())
            } else {
                Err(Error::unsupported(format!(
                    "the required metadata item {guid} is not known"
                )))
            };
        }
        let (offset, len) = (u64::from(raw.offset.get()), raw.length.get());
        let end = offset + u64::from(len);
        if offset < TABLE_LEN || len > MAX_ITEM_LEN || end > self.region.end - self.region.start {
            return Err(Error::corrupt(format!(
                "expected the metadata item {guid} of at most {MAX_ITEM_LEN:#x} bytes between {TABLE_LEN:#x} and {:#x}, \
                 found {len:#x} bytes at {offset:#x}",
                self.region.end - self.region.start
            )));
        }
        if self.found.iter().any(|(other, _)| *other == guid) {
            return Err(Error::corrupt(format!(
                "expected the metadata item {guid} once"
            )));
        }
        let start = self.region.start;
        self.found.push((guid, start + offset..start + end));
        Ok(())
    }

    fn missing(&self, what: &str) -> Error {
        Error::corrupt(format!("expected the metadata item {what}, found none"))
            .at(self.region.start)
    }

    /// Place and bytes of an item, if it is there.
    fn get(&self, guid: Guid) -> Result<Option<(u64, Vec<u8>)>> {
        let found = self.found.iter().find(|(other, _)| *other == guid);
        let Some((_, range)) = found else {
            return Ok(None);
        };
        let len = to_usize(range.end - range.start);
        Ok(Some((
            range.start,
            self.content.read_vec(range.start, len)?,
        )))
    }

    /// An item of a known length.
    fn fixed(&self, guid: Guid, len: usize, what: &str) -> Result<Option<(u64, Vec<u8>)>> {
        match self.get(guid)? {
            Some((at, bytes)) if bytes.len() != len => Err(Error::corrupt(format!(
                "expected {len} bytes of {what}, found {}",
                bytes.len()
            ))
            .at(at)),
            found => Ok(found),
        }
    }

    fn required(&self, guid: Guid, len: usize, what: &str) -> Result<(u64, Vec<u8>)> {
        self.fixed(guid, len, what)?
            .ok_or_else(|| self.missing(what))
    }

    fn sector_size(&self, guid: Guid, what: &str) -> Result<Option<u32>> {
        let Some((at, bytes)) = self.fixed(guid, 4, what)? else {
            return Ok(None);
        };
        match U32::read_from_bytes(&bytes).map(U32::get) {
            Ok(size @ (512 | 4096)) => Ok(Some(size)),
            other => Err(Error::corrupt(format!(
                "expected a {what} of 512 or 4096 bytes, found {}",
                other.unwrap_or(0)
            ))
            .at(at)),
        }
    }

    fn virtual_size(&self, logical_sector_size: u32) -> Result<u64> {
        let (at, bytes) = self.required(VIRTUAL_DISK_SIZE, 8, "virtual disk size")?;
        let size = U64::read_from_bytes(&bytes).map_or(0, U64::get);
        if size > MAX_VIRTUAL_SIZE {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected a virtual disk of at most 64 TiB, found {size} bytes"),
            )
            .at(at));
        }
        if !size.is_multiple_of(logical_sector_size.into()) {
            return Err(Error::corrupt(format!(
                "expected a virtual disk size in sectors of {logical_sector_size} bytes, found {size} bytes"
            ))
            .at(at));
        }
        Ok(size)
    }

    fn locator(&self) -> Result<Locator> {
        let (at, bytes) = self
            .get(PARENT_LOCATOR)?
            .ok_or_else(|| self.missing("parent locator of a disk that has a parent"))?;
        Locator::parse(&bytes).map_err(|e| e.at(at))
    }
}

/// What the metadata of a new disk say.
#[derive(Debug)]
pub(super) struct NewMetadata {
    pub(super) block_size: u64,
    pub(super) fixed: bool,
    pub(super) virtual_size: u64,
    pub(super) virtual_disk_id: Guid,
    pub(super) logical_sector_size: u32,
}

/// Physical sector of a new disk: what disks have had since 2010, and what Hyper-V writes.
const NEW_PHYSICAL_SECTOR_SIZE: u32 = 4096;

impl NewMetadata {
    /// The table and the items, from the start of the region.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let parameters = RawFileParameters {
            block_size: u32::try_from(self.block_size).unwrap_or(u32::MAX).into(),
            flags: if self.fixed {
                LEAVE_BLOCKS_ALLOCATED
            } else {
                0
            }
            .into(),
        };
        let items: [(Guid, u32, Vec<u8>); 5] = [
            (FILE_PARAMETERS, IS_REQUIRED, parameters.as_bytes().to_vec()),
            (
                VIRTUAL_DISK_SIZE,
                IS_REQUIRED | IS_VIRTUAL_DISK,
                self.virtual_size.to_le_bytes().to_vec(),
            ),
            (
                LOGICAL_SECTOR_SIZE,
                IS_REQUIRED | IS_VIRTUAL_DISK,
                self.logical_sector_size.to_le_bytes().to_vec(),
            ),
            (
                PHYSICAL_SECTOR_SIZE,
                IS_REQUIRED | IS_VIRTUAL_DISK,
                NEW_PHYSICAL_SECTOR_SIZE.to_le_bytes().to_vec(),
            ),
            (
                VIRTUAL_DISK_ID,
                IS_REQUIRED | IS_VIRTUAL_DISK,
                self.virtual_disk_id.as_bytes().to_vec(),
            ),
        ];
        let mut table = RawTable::new_zeroed();
        table.signature = SIGNATURE;
        table.entry_count = u16::try_from(items.len()).unwrap_or(u16::MAX).into();
        let mut bytes = table.as_bytes().to_vec();
        let mut values = Vec::new();
        for (item_id, flags, value) in items {
            let entry = RawEntry {
                item_id,
                offset: u32::try_from(TABLE_LEN + values.len() as u64)
                    .unwrap_or(u32::MAX)
                    .into(),
                length: u32::try_from(value.len()).unwrap_or(u32::MAX).into(),
                flags: flags.into(),
                reserved: U32::ZERO,
            };
            bytes.extend_from_slice(entry.as_bytes());
            values.extend_from_slice(&value);
        }
        bytes.resize(to_usize(TABLE_LEN), 0);
        bytes.extend_from_slice(&values);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::sync::Arc;

    use super::*;
    use crate::FileRange;

    #[test]
    fn fields_lie_where_the_specification_says() {
        assert_eq!(offset_of!(RawTable, entry_count), 10);
        assert_eq!(offset_of!(RawEntry, offset), 16);
        assert_eq!(offset_of!(RawEntry, length), 20);
        assert_eq!(offset_of!(RawEntry, flags), 24);
        assert_eq!(offset_of!(RawFileParameters, flags), 4);
    }

    #[test]
    fn written_metadata_are_read() {
        let new = NewMetadata {
            block_size: 4 * MIB,
            fixed: true,
            virtual_size: 12 << 12,
            virtual_disk_id: Guid::of(77),
            logical_sector_size: 4096,
        };
        let mut bytes = new.to_bytes();
        bytes.resize(to_usize(MIB), 0);
        let content = Content::new(FileRange::from_store(Arc::new(bytes), "test"), None);
        let read = Metadata::read(&content, 0..MIB).unwrap();
        assert_eq!(read.block_size, new.block_size);
        assert!(read.leave_blocks_allocated);
        assert_eq!(read.virtual_size, new.virtual_size);
        assert_eq!(read.virtual_disk_id, Some(new.virtual_disk_id));
        assert_eq!(
            (read.logical_sector_size, read.physical_sector_size),
            (4096, 4096)
        );
        assert!(read.parent.is_none());
    }
}
