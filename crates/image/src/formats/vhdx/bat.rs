//! The block allocation table: where each payload block and each sector bitmap block lies. MS-VHDX 2.4, 2.5.
//!
//! ```text
//! | payload 0 … payload r-1 | bitmap 0 | payload r … payload 2r-1 | bitmap 1 | …     r = chunk ratio
//! ```
//!
//! A sector bitmap block is 1 MiB, a bit a sector, so a chunk is 2^23 sectors. The entries of the bitmaps are there in
//! every disk, used only in a differencing one.

use std::ops::Range;

use super::metadata::Metadata;
use super::pages::Cursor;
use super::{MIB, to_usize};
use crate::{Error, Result};

/// Sectors that one sector bitmap block describes: MS-VHDX 2.4.
const SECTORS_PER_CHUNK: u64 = 1 << 23;
/// Bytes of an entry: MS-VHDX 2.5.1.
pub(super) const ENTRY_LEN: u64 = 8;
/// Bits 0 to 2 of an entry.
const STATE_MASK: u64 = 0x7;
/// Bits 3 to 19, reserved: a file offset that is not whole MiB would set them.
const RESERVED_MASK: u64 = 0xf_fff8;

/// State of a payload block: MS-VHDX 2.5.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadState {
    /// 0: nothing was written; a differencing disk asks its parent.
    NotPresent,
    /// 1: anything may be read.
    Undefined,
    /// 2.
    Zero,
    /// 3: the guest gave it up. Zeroes, not the parent's bytes.
    Unmapped,
    /// 6: all sectors are in the file.
    FullyPresent,
    /// 7: the sector bitmap says which sectors are in the file. Differencing disks only.
    PartiallyPresent,
}

/// The numbers in which a disk is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// log2 of the block size in bytes.
    pub(super) block_bits: u32,
    /// log2 of the logical sector size.
    pub(super) sector_bits: u32,
    pub(super) virtual_size: u64,
    pub(super) differencing: bool,
}

impl Geometry {
    pub(super) fn new(metadata: &Metadata) -> Self {
        Self {
            block_bits: metadata.block_size.trailing_zeros(),
            sector_bits: metadata.logical_sector_size.trailing_zeros(),
            virtual_size: metadata.virtual_size,
            differencing: metadata.parent.is_some(),
        }
    }

    pub(super) fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// Payload blocks per sector bitmap block: at least 16, at most 32768.
    pub(super) fn chunk_ratio(&self) -> u64 {
        (SECTORS_PER_CHUNK << self.sector_bits) >> self.block_bits
    }

    pub(super) fn payload_blocks(&self) -> u64 {
        self.virtual_size.div_ceil(self.block_size())
    }

    /// Entries of the table: MS-VHDX 2.5. A differencing disk has one for the last bitmap too.
    pub(super) fn entries(&self) -> u64 {
        let (payload, ratio) = (self.payload_blocks(), self.chunk_ratio());
        if self.differencing {
            payload.div_ceil(ratio) * (ratio + 1)
        } else {
            payload + payload.saturating_sub(1) / ratio
        }
    }

    /// Bytes of the block that belong to the disk: the last block may pass its end.
    pub(super) fn block_len(&self, block: u64) -> u64 {
        (self.virtual_size - (block << self.block_bits)).min(self.block_size())
    }

    /// Index of the entry of a payload block.
    pub(super) fn payload_index(&self, block: u64) -> u64 {
        block + block / self.chunk_ratio()
    }

    /// Index of the entry of the sector bitmap block that describes a payload block.
    pub(super) fn bitmap_index(&self, block: u64) -> u64 {
        let ratio = self.chunk_ratio();
        block / ratio * (ratio + 1) + ratio
    }

    /// What an index of the table is for.
    pub(super) fn use_of(&self, index: u64) -> Use {
        let ratio = self.chunk_ratio();
        let (chunk, within) = (index / (ratio + 1), index % (ratio + 1));
        if within == ratio {
            return Use::Bitmap;
        }
        let block = chunk * ratio + within;
        if block < self.payload_blocks() {
            Use::Payload(block)
        } else {
            Use::Nothing
        }
    }
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Payload(u64),
    Bitmap,
    /// Room for blocks past the end of a differencing disk.
    Nothing,
}

/// An entry as it is stored: MS-VHDX 2.5.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    /// Where the block is, in bytes: bits 20 to 63 are whole MiB.
    pub(super) fn file_offset(self) -> u64 {
        self.0 & !(STATE_MASK | RESERVED_MASK)
    }

    fn check_reserved(self) -> Result<()> {
        if self.0 & RESERVED_MASK == 0 {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "expected a block at whole MiB, found the BAT entry {:#x}",
            self.0
        )))
    }

    pub(super) fn payload_state(self, differencing: bool) -> Result<PayloadState> {
        self.check_reserved()?;
        match self.0 & STATE_MASK {
            0 => Ok(PayloadState::NotPresent),
            1 => Ok(PayloadState::Undefined),
            2 => Ok(PayloadState::Zero),
            3 => Ok(PayloadState::Unmapped),
            6 => Ok(PayloadState::FullyPresent),
            7 if differencing => Ok(PayloadState::PartiallyPresent),
            7 => Err(Error::corrupt(format!(
                "expected no partially present block in a disk without parent, found the BAT entry {:#x}",
                self.0
            ))),
            _ => Err(Error::corrupt(format!(
                "expected a block state of 0, 1, 2, 3, 6 or 7, found the BAT entry {:#x}",
                self.0
            ))),
        }
    }

    /// True when the sector bitmap block is in the file: MS-VHDX 2.5.1.2.
    pub(super) fn bitmap_present(self) -> Result<bool> {
        self.check_reserved()?;
        match self.0 & STATE_MASK {
            0 => Ok(false),
            6 => Ok(true),
            _ => Err(Error::corrupt(format!(
                "expected a sector bitmap state of 0 or 6, found the BAT entry {:#x}",
                self.0
            ))),
        }
    }

    /// The bytes of the file that the entry claims, if it claims any.
    pub(super) fn claim(self, geometry: &Geometry, used_for: Use) -> Result<Option<Range<u64>>> {
        let len = match used_for {
            Use::Payload(block) => match self.payload_state(geometry.differencing)? {
                PayloadState::FullyPresent | PayloadState::PartiallyPresent => {
                    geometry.block_len(block)
                }
                _ => return Ok(None),
            },
            // Without a parent the bitmaps mean nothing; QEMU before 8.0 left stray bytes there.
            Use::Bitmap if geometry.differencing && self.bitmap_present()? => MIB,
            Use::Bitmap | Use::Nothing => return Ok(None),
        };
        let start = self.file_offset();
        let end = start.checked_add(len).ok_or_else(|| {
            Error::corrupt(format!(
                "expected a block within the file, found the BAT entry {:#x}",
                self.0
            ))
        })?;
        Ok(Some(start..end))
    }
}

/// The table in the file.
#[derive(Debug)]
pub(super) struct Bat {
    pub(super) offset: u64,
    pub(super) geometry: Geometry,
}

impl Bat {
    /// The table in `region`, which must have room for all entries.
    pub(super) fn new(region: &Range<u64>, geometry: Geometry) -> Result<Self> {
        let (room, wanted) = (region.end - region.start, geometry.entries() * ENTRY_LEN);
        if room < wanted {
            return Err(Error::corrupt(format!(
                "expected a BAT of {wanted} bytes for {} bytes of disk in blocks of {}, found {room}",
                geometry.virtual_size,
                geometry.block_size()
            ))
            .at(region.start));
        }
        Ok(Self {
            offset: region.start,
            geometry,
        })
    }

    /// File offset of an entry.
    pub(super) fn offset_of(&self, index: u64) -> u64 {
        self.offset + index * ENTRY_LEN
    }

    /// Reads an entry. Entries are aligned, so none crosses a page.
    pub(super) fn entry(&self, cursor: &mut Cursor<'_>, index: u64) -> Result<Entry> {
        let offset = self.offset_of(index);
        let bytes = cursor.rest_of_page(offset)?;
        let bytes = bytes.first_chunk().ok_or_else(|| {
            Error::io("reading the BAT", std::io::ErrorKind::UnexpectedEof.into()).at(offset)
        })?;
        Ok(Entry(u64::from_le_bytes(*bytes)))
    }

    /// Calls `each` with index and entry of a range of the table, page by page.
    pub(super) fn for_each(
        &self,
        cursor: &mut Cursor<'_>,
        indices: Range<u64>,
        mut each: impl FnMut(u64, Entry),
    ) -> Result<()> {
        let mut index = indices.start;
        while index < indices.end {
            let bytes = cursor.rest_of_page(self.offset_of(index))?;
            let (entries, _) = bytes.as_chunks::<8>();
            if entries.is_empty() {
                return Ok(());
            }
            let count = to_usize(indices.end - index).min(entries.len());
            for entry in &entries[..count] {
                each(index, Entry(u64::from_le_bytes(*entry)));
                index += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(block_mib: u64, sector: u32, virtual_size: u64, differencing: bool) -> Geometry {
        Geometry {
            block_bits: (block_mib * MIB).trailing_zeros(),
            sector_bits: sector.trailing_zeros(),
            virtual_size,
            differencing,
        }
    }

    #[test]
    fn the_chunk_ratio_grows_with_the_sector() {
        assert_eq!(geometry(1, 512, 0, false).chunk_ratio(), 4096);
        assert_eq!(geometry(256, 512, 0, false).chunk_ratio(), 16);
        assert_eq!(geometry(1, 4096, 0, false).chunk_ratio(), 32768);
        assert_eq!(geometry(256, 4096, 0, false).chunk_ratio(), 128);
    }

    #[test]
    fn bitmap_entries_lie_between_the_chunks() {
        let g = geometry(256, 512, 4 << 30, false);
        assert_eq!((g.payload_blocks(), g.entries()), (16, 16));
        let g = geometry(256, 512, (4 << 30) + 512, false);
        assert_eq!((g.payload_blocks(), g.entries()), (17, 18));
        assert_eq!((g.payload_index(15), g.payload_index(16)), (15, 17));
        assert_eq!((g.bitmap_index(15), g.bitmap_index(16)), (16, 33));
        assert_eq!(geometry(256, 512, 512, true).entries(), 17);
        assert_eq!(geometry(256, 512, (4 << 30) + 512, true).entries(), 34);
        assert_eq!(geometry(1, 512, 0, true).entries(), 0);
        let g = geometry(256, 512, (4 << 30) + 512, true);
        for index in 0..34 {
            let expected = match index {
                16 | 33 => Use::Bitmap,
                0..16 => Use::Payload(index),
                17 => Use::Payload(16),
                _ => Use::Nothing,
            };
            assert_eq!(g.use_of(index), expected);
        }
    }
}
