//! Writes a VHDX image, dynamic or fixed.
//!
//! ```text
//! | header section | log, empty | metadata | BAT | payload blocks, as they come |
//! 0                1 MiB        + log_size + 1 MiB
//! ```
//!
//! A block gets the next place in the file when something other than zeroes is first written to it, so threads may
//! write in any order; within a block zeroes are left out, and the host's file has a hole there. Blocks without a
//! place are written in the state `PAYLOAD_BLOCK_ZERO`, which unlike "not present" defines what a reader sees.
//!
//! Identifier, headers and region tables are written after all else is durable: until then the file starts with a
//! hole, which no program takes for an image.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use zerocopy::IntoBytes;

use super::bat::{ENTRY_LEN, Geometry, Use};
use super::guid::Guid;
use super::header::{HEADER_OFFSETS, Header, RawFileId};
use super::metadata::NewMetadata;
use super::options::{Options, Subformat};
use super::region::{TABLE_OFFSETS, table_bytes};
use super::{MIB, to_usize};
use crate::formats::raw::{OutputFile, check_not_failed, check_virtual_size, check_write};
use crate::{BlockSink, Preallocation, Result, SinkStats, data_runs};

/// Unit of the zero scan: the block of the usual file systems, below which no hole can be, and the largest sector.
const UNIT: usize = 4096;
/// Bytes of the BAT that are made and written at a time.
const BAT_PART: u64 = MIB;
/// What the file says who made it.
const CREATOR: &str = concat!("v2v ", env!("CARGO_PKG_VERSION"));
/// MS-VHDX 2.5.1.1.
const STATE_ZERO: u64 = 2;
const STATE_FULLY_PRESENT: u64 = 6;

/// A VHDX image being written. Dropped without [`finish`](BlockSink::finish) it leaves a file that is no image; the
/// caller removes it.
#[derive(Debug)]
pub struct Writer {
    file: OutputFile,
    options: Options,
    layout: Layout,
    place: Place,
    data_bytes: AtomicU64,
    failed: AtomicBool,
}

/// Where everything is.
#[derive(Clone, Copy, Debug)]
struct Layout {
    geometry: Geometry,
    metadata: u64,
    bat: u64,
    /// First byte of the blocks.
    data: u64,
}

/// Where payload blocks go.
#[derive(Debug)]
enum Place {
    /// To the next free place: block to its number in the file.
    Appended(Mutex<HashMap<u64, u64>>),
    /// In order.
    Mapped,
}

impl Layout {
    fn new(virtual_size: u64, options: &Options) -> Self {
        let geometry = Geometry {
            block_bits: options.block_size.trailing_zeros(),
            sector_bits: options.logical_sector_size.trailing_zeros(),
            virtual_size,
            differencing: false,
        };
        let metadata = MIB + options.log_size;
        let bat = metadata + MIB;
        // A region has at least one MiB, even if the disk has no block.
        let bat_len = (geometry.entries() * ENTRY_LEN)
            .next_multiple_of(MIB)
            .max(MIB);
        Self {
            geometry,
            metadata,
            bat,
            data: bat + bat_len,
        }
    }

    /// Offset in the file of the block with this number in the file.
    fn offset_of(&self, slot: u64) -> u64 {
        self.data + (slot << self.geometry.block_bits)
    }
}

impl Writer {
    /// Creates the file at `path`, which must not exist.
    pub fn create(path: &Path, virtual_size: u64, options: Options) -> Result<Self> {
        check_virtual_size(virtual_size)
            .and_then(|()| options.check_disk(virtual_size))
            .map_err(|e| e.in_path(path))?;
        let layout = Layout::new(virtual_size, &options);
        let file = OutputFile::create(path)?;
        let whole = layout.offset_of(layout.geometry.payload_blocks());
        let place = match (options.subformat, options.preallocation) {
            (_, Preallocation::Falloc) => {
                file.allocate(whole)?;
                Place::Mapped
            }
            (Subformat::Fixed, _) => {
                file.set_len(whole)?;
                Place::Mapped
            }
            (Subformat::Dynamic, _) => Place::Appended(Mutex::default()),
        };
        Ok(Self {
            file,
            options,
            layout,
            place,
            data_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// Offset in the file of a block that is about to be written.
    fn place_of(&self, block: u64) -> u64 {
        let slot = match &self.place {
            Place::Mapped => block,
            Place::Appended(slots) => {
                let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
                let next = slots.len() as u64;
                *slots.entry(block).or_insert(next)
            }
        };
        self.layout.offset_of(slot)
    }

    fn store_runs(&self, buf: &[u8], offset: u64) -> Result<()> {
        let geometry = &self.layout.geometry;
        for run in data_runs(buf, UNIT) {
            let mut at = offset + run.start as u64;
            let mut rest = &buf[run];
            while !rest.is_empty() {
                let block = at >> geometry.block_bits;
                let within = at & (geometry.block_size() - 1);
                let len = to_usize(geometry.block_size() - within).min(rest.len());
                let (part, after) = rest.split_at(len);
                self.file.write(part, self.place_of(block) + within)?;
                self.data_bytes.fetch_add(len as u64, Ordering::Relaxed);
                (at, rest) = (at + len as u64, after);
            }
        }
        Ok(())
    }

    /// Writes the BAT; `placed` are the blocks that have a place, in order of the disk, or `None` when all have.
    fn write_bat(&self, placed: Option<&[(u64, u64)]>) -> Result<()> {
        let geometry = &self.layout.geometry;
        let entries = geometry.entries();
        let per_part = BAT_PART / ENTRY_LEN;
        let mut placed = placed.map(|placed| placed.iter().copied().peekable());
        let mut start = 0;
        while start < entries {
            let end = entries.min(start + per_part);
            let mut bytes = Vec::with_capacity(to_usize((end - start) * ENTRY_LEN));
            for index in start..end {
                let entry = match geometry.use_of(index) {
                    Use::Payload(block) => {
                        let slot = match &mut placed {
                            None => Some(block),
                            Some(placed) => placed
                                .next_if(|(next, _)| *next == block)
                                .map(|(_, slot)| slot),
                        };
                        slot.map_or(STATE_ZERO, |slot| {
                            self.layout.offset_of(slot) | STATE_FULLY_PRESENT
                        })
                    }
                    Use::Bitmap | Use::Nothing => 0,
                };
                bytes.extend_from_slice(&entry.to_le_bytes());
            }
            self.file
                .write(&bytes, self.layout.bat + start * ENTRY_LEN)?;
            start = end;
        }
        Ok(())
    }

    /// Writes what makes the file an image.
    fn write_head(&self) -> Result<()> {
        let table = table_bytes(
            self.layout.bat..self.layout.data,
            self.layout.metadata..self.layout.metadata + MIB,
        );
        for offset in TABLE_OFFSETS {
            self.file.write(&table, offset)?;
        }
        let guids = [Guid::random()?, Guid::random()?];
        for (offset, number) in HEADER_OFFSETS.into_iter().zip(1..) {
            let header = Header::new(number, guids, MIB, self.options.log_size);
            self.file.write(&header.to_bytes(), offset)?;
        }
        self.file.write(RawFileId::new(CREATOR).as_bytes(), 0)
    }
}

impl BlockSink for Writer {
    fn virtual_size(&self) -> u64 {
        self.layout.geometry.virtual_size
    }

    fn granularity(&self) -> u64 {
        UNIT as u64
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_write(offset, buf.len(), self.granularity(), self.virtual_size())
            .map_err(|e| e.in_file(self.file.label()))?;
        self.store_runs(buf, offset)
            .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        check_not_failed(&self.failed, &self.file)?;
        let geometry = &self.layout.geometry;
        let slots = match &self.place {
            Place::Mapped => None,
            Place::Appended(slots) => {
                let slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
                let mut slots: Vec<(u64, u64)> =
                    slots.iter().map(|(&block, &slot)| (block, slot)).collect();
                slots.sort_unstable();
                Some(slots)
            }
        };
        let blocks = slots
            .as_ref()
            .map_or(geometry.payload_blocks(), |slots| slots.len() as u64);
        let file_len = self.layout.offset_of(blocks);
        self.file.set_len(file_len)?;
        self.write_bat(slots.as_deref())?;
        let metadata = NewMetadata {
            block_size: self.options.block_size,
            fixed: self.options.subformat == Subformat::Fixed,
            virtual_size: geometry.virtual_size,
            virtual_disk_id: Guid::random()?,
            logical_sector_size: self.options.logical_sector_size,
        };
        self.file
            .write(&metadata.to_bytes(), self.layout.metadata)?;
        self.file.sync()?;
        self.write_head()?;
        self.file.sync()?;
        Ok(SinkStats {
            data_bytes: self.data_bytes.into_inner(),
            file_len,
        })
    }
}
