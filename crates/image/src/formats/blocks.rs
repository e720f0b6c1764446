//! What VHD, VDI and Parallels images have in common: one table that gives each block of the disk its place in the
//! file, as a number of 32 bits.
//!
//! The whole table is read and checked when the image is opened: every block must lie in the file, clear of the
//! metadata and of every other block. It is kept in pages; a page of equal entries takes no memory, so what an
//! empty disk of any size costs is the reading of its table.

use std::ops::Range;

use crate::{Error, ErrorKind, Extent, ExtentKind, FileRange, Result};

use super::context::Parent;

/// Entries of one page: 4 KiB of table.
const PAGE_ENTRIES: usize = 1024;
/// Most entries of a table: 32 TiB in the usual blocks of 1 MiB, and 128 MiB of memory where every entry is used.
pub(in crate::formats) const MAX_ENTRIES: u64 = 1 << 25;
/// Pages of equal entries, or single blocks, that one `extent_at` looks at before it returns what it has: a parent
/// may cut the extent shorter, and then the looking was in vain.
const MAX_STEPS: usize = 64;

/// A page of the table.
#[derive(Debug)]
enum Page {
    /// All entries are this.
    Same(u32),
    /// Any entries.
    Mixed(Box<[u32]>),
}

/// A table in memory.
#[derive(Debug)]
struct Table {
    pages: Vec<Page>,
    entries: u64,
}

impl Table {
    fn read(
        range: &FileRange,
        offset: u64,
        entries: u64,
        decode: fn([u8; 4]) -> u32,
    ) -> Result<Self> {
        let end = offset.checked_add(entries * 4);
        if end.is_none_or(|end| end > range.len()) {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected a block table of {} bytes, but the file ends at {:#x}",
                    entries * 4,
                    range.len()
                ),
            )
            .at(offset));
        }
        // Sixteen pages a read.
        const CHUNK: usize = 16 * PAGE_ENTRIES * 4;
        let mut pages = Vec::with_capacity(to_usize(entries.div_ceil(PAGE_ENTRIES as u64)));
        let (mut at, mut left) = (offset, entries * 4);
        let mut buf = vec![0; CHUNK];
        while left > 0 {
            let len = to_usize(left).min(CHUNK);
            let chunk = &mut buf[..len];
            range.read_exact_at(chunk, at)?;
            pages.extend(
                chunk
                    .chunks(PAGE_ENTRIES * 4)
                    .map(|bytes| page(bytes, decode)),
            );
            at += len as u64;
            left -= len as u64;
        }
        Ok(Self { pages, entries })
    }

    /// The entry and how many from it on are known to be equal without looking at each; `None` past the end.
    fn run(&self, index: u64) -> Option<(u32, u64)> {
        if index >= self.entries {
            return None;
        }
        let within = to_usize(index % PAGE_ENTRIES as u64);
        match self.pages.get(to_usize(index / PAGE_ENTRIES as u64))? {
            Page::Same(value) => {
                let rest = (PAGE_ENTRIES - within) as u64;
                Some((*value, rest.min(self.entries - index)))
            }
            Page::Mixed(values) => Some((*values.get(within)?, 1)),
        }
    }

    /// All entries as runs: index, value, count.
    fn runs(&self) -> impl Iterator<Item = (u64, u32, u64)> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let (value, count) = self.run(next)?;
            next += count;
            Some((next - count, value, count))
        })
    }
}

fn page(bytes: &[u8], decode: fn([u8; 4]) -> u32) -> Page {
    let (words, _) = bytes.as_chunks::<4>();
    match words.first() {
        Some(first) if words.iter().all(|word| word == first) => Page::Same(decode(*first)),
        _ => Page::Mixed(words.iter().map(|word| decode(*word)).collect()),
    }
}

/// How the entries of a table mean places.
#[derive(Clone, Debug)]
pub(in crate::formats) struct Layout {
    /// Byte offset of the table in the file.
    pub(in crate::formats) table_offset: u64,
    /// Number of entries.
    pub(in crate::formats) entries: u64,
    /// An entry from its bytes.
    pub(in crate::formats) decode: fn([u8; 4]) -> u32,
    /// Bytes of the disk that one block holds; not 0.
    pub(in crate::formats) block_size: u64,
    /// Bytes of the disk.
    pub(in crate::formats) virtual_size: u64,
    /// Byte offset in the file that entry 0 would mean.
    pub(in crate::formats) base: u64,
    /// Bytes of the file from one entry value to the next.
    pub(in crate::formats) unit: u64,
    /// Bytes before the data of a block that belong to it.
    pub(in crate::formats) lead: u64,
    /// The entry of a block that has no place.
    pub(in crate::formats) free: u32,
    /// The entry of a block of zeroes, where the format has one.
    pub(in crate::formats) zero: Option<u32>,
    /// Byte ranges of the file that hold metadata.
    pub(in crate::formats) reserved: Vec<Range<u64>>,
}

impl Layout {
    /// First byte of the block's space in the file.
    fn start(&self, value: u32) -> u64 {
        // What is too big for 64 bits is past the end of every file.
        u64::from(value)
            .saturating_mul(self.unit)
            .saturating_add(self.base)
    }

    fn is_place(&self, value: u32) -> bool {
        value != self.free && Some(value) != self.zero
    }

    /// Bytes of the space that must be in the file: the last block may be cut at the end of the disk.
    fn needed(&self, index: u64) -> u64 {
        let held = self.virtual_size.saturating_sub(index * self.block_size);
        self.lead + held.min(self.block_size)
    }
}

/// Where a byte of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::formats) enum Place {
    /// Nowhere: in the parent, or zero.
    Free,
    /// A block of zeroes.
    Zero,
    /// At this byte of the file, in the block whose space starts at `block`.
    File {
        /// Offset of the byte.
        at: u64,
        /// Offset of the block's space, its lead included.
        block: u64,
    },
}

/// A checked table with the file that it speaks of.
#[derive(Debug)]
pub(in crate::formats) struct BlockMap {
    range: FileRange,
    layout: Layout,
    table: Table,
    allocated: u64,
    leaks: u64,
}

impl BlockMap {
    /// Reads and checks the table. The caller has seen to it that `entries` blocks hold `virtual_size` bytes.
    pub(in crate::formats) fn open(range: FileRange, layout: Layout) -> Result<Self> {
        if layout.entries > MAX_ENTRIES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected a block table of at most {MAX_ENTRIES} entries, found {}",
                    layout.entries
                ),
            ));
        }
        let table = Table::read(&range, layout.table_offset, layout.entries, layout.decode)?;
        let mut map = Self {
            range,
            layout,
            table,
            allocated: 0,
            leaks: 0,
        };
        map.check()?;
        Ok(map)
    }

    /// Every block in the file, clear of metadata and of each other.
    fn check(&mut self) -> Result<()> {
        let layout = &self.layout;
        let space = layout.lead + layout.block_size;
        let mut values = Vec::new();
        for (first, value, count) in self.table.runs() {
            if !layout.is_place(value) {
                continue;
            }
            let start = layout.start(value);
            for index in first..first + count {
                if index * layout.block_size >= layout.virtual_size {
                    break;
                }
                self.check_place(index, start)?;
                values.push(value);
            }
        }
        // Mostly sorted already: writers append.
        values.sort_unstable();
        let mut next = layout.reserved.iter().map(|range| range.end).max();
        let mut leaks = 0;
        for (at, value) in values.iter().enumerate() {
            let start = layout.start(*value);
            let before = values.get(at.wrapping_sub(1));
            if let (Some(before), Some(next)) = (before, next)
                && start < next
            {
                return Err(self.overlap(*before, *value));
            }
            leaks += start.saturating_sub(next.unwrap_or(0)) / space;
            next = Some(start.saturating_add(space));
        }
        leaks += self.range.len().saturating_sub(next.unwrap_or(0)) / space;
        self.allocated = values.len() as u64;
        self.leaks = leaks;
        Ok(())
    }

    fn check_place(&self, index: u64, start: u64) -> Result<()> {
        let layout = &self.layout;
        let entry_at = layout.table_offset + index * 4;
        let end = start.saturating_add(layout.needed(index));
        if end > self.range.len() {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected block {index} at {start:#x}..{end:#x} of the file, but the file ends at {:#x}",
                    self.range.len()
                ),
            )
            .at(entry_at));
        }
        match layout
            .reserved
            .iter()
            .find(|range| start < range.end && range.start < end)
        {
            Some(range) => Err(Error::corrupt(format!(
                "expected block {index} clear of the metadata, found it at {start:#x}..{end:#x} over {:#x}..{:#x}",
                range.start, range.end
            ))
            .at(entry_at)),
            None => Ok(()),
        }
    }

    /// Names the two blocks whose entries lie too close.
    fn overlap(&self, one: u32, two: u32) -> Error {
        let mut blocks = self
            .table
            .runs()
            .flat_map(|(first, value, count)| (first..first + count).map(move |i| (i, value)))
            .filter(|(_, value)| *value == one || *value == two)
            .map(|(index, _)| index);
        let (first, second) = (
            blocks.next().unwrap_or_default(),
            blocks.next().unwrap_or_default(),
        );
        Error::corrupt(format!(
            "expected a place of its own for every block, found blocks {first} and {second} overlapping at {:#x}",
            self.layout.start(one.max(two))
        ))
        .at(self.layout.table_offset + second * 4)
    }

    /// The file.
    pub(in crate::formats) fn range(&self) -> &FileRange {
        &self.range
    }

    /// The meaning of the table.
    pub(in crate::formats) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Number of blocks that have a place.
    pub(in crate::formats) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Number of blocks that the file has room for between and behind those in use.
    pub(in crate::formats) fn leaks(&self) -> u64 {
        self.leaks
    }

    /// Where the byte at `offset` of the disk is, and how many bytes of at most `max_len` are known to go on in the
    /// same way: to the end of the block, or of a page of equal entries.
    pub(in crate::formats) fn at(&self, offset: u64, max_len: u64) -> Result<(Place, u64)> {
        let layout = &self.layout;
        let (index, within) = (offset / layout.block_size, offset % layout.block_size);
        let (value, count) = self.table.run(index).ok_or_else(|| {
            Error::corrupt(format!(
                "the block table has no entry for byte {offset:#x} of the disk"
            ))
            .in_file(self.range.label())
        })?;
        let (place, blocks) = if value == layout.free {
            (Place::Free, count)
        } else if Some(value) == layout.zero {
            (Place::Zero, count)
        } else {
            let block = layout.start(value);
            let at = block + layout.lead + within;
            (Place::File { at, block }, 1)
        };
        let len = (blocks * layout.block_size - within).min(max_len);
        Ok((place, len))
    }

    /// Reads bytes of the disk whose blocks are whole: all of a block comes from the file. What is free is read from
    /// the parent, or is zero.
    pub(in crate::formats) fn read_at(
        &self,
        mut buf: &mut [u8],
        mut offset: u64,
        parent: Option<&Parent>,
    ) -> Result<()> {
        while !buf.is_empty() {
            let (place, mut len) = self.at(offset, buf.len() as u64)?;
            if let Place::File { at, .. } = place {
                len = self.contiguous(offset, at, len, buf.len() as u64)?;
            }
            let (part, rest) = buf.split_at_mut(to_usize(len));
            match (place, parent) {
                (Place::File { at, .. }, _) => self.range.read_exact_at(part, at)?,
                (Place::Free, Some(parent)) => parent.read_at(part, offset)?,
                (Place::Free | Place::Zero, _) => part.fill(0),
            }
            (buf, offset) = (rest, offset + len);
        }
        Ok(())
    }

    /// How far the bytes at `offset` of the disk go on in the file without a break.
    fn contiguous(&self, offset: u64, at: u64, mut len: u64, max_len: u64) -> Result<u64> {
        for _ in 0..MAX_STEPS {
            if len >= max_len {
                break;
            }
            match self.at(offset + len, max_len - len)? {
                (Place::File { at: next, .. }, more) if next == at + len => len += more,
                _ => break,
            }
        }
        Ok(len)
    }

    /// The extent at `offset`, for blocks that are whole.
    pub(in crate::formats) fn extent_at(
        &self,
        offset: u64,
        max_len: u64,
        parent: Option<&Parent>,
    ) -> Result<Extent> {
        let max_len = max_len.min(self.layout.virtual_size - offset);
        let (first, mut len) = self.at(offset, max_len)?;
        match first {
            Place::File { at, .. } if self.range.is_sparse() => {
                let len = self.contiguous(offset, at, len, max_len)?;
                let (data, len) = self.range.run_at(at, len);
                let kind = if data {
                    ExtentKind::Data
                } else {
                    ExtentKind::Zero
                };
                return Ok(Extent { offset, len, kind });
            }
            _ => {}
        }
        let same = |place| std::mem::discriminant(&place) == std::mem::discriminant(&first);
        for _ in 0..MAX_STEPS {
            if len >= max_len {
                break;
            }
            let (next, more) = self.at(offset + len, max_len - len)?;
            if !same(next) {
                break;
            }
            len += more;
        }
        let kind = match (first, parent) {
            (Place::Free, Some(parent)) => return parent.extent_at(offset, len),
            (Place::Free, None) => ExtentKind::Unallocated,
            (Place::Zero, _) => ExtentKind::Zero,
            (Place::File { .. }, _) => ExtentKind::Data,
        };
        Ok(Extent { offset, len, kind })
    }
}

/// Bytes that fit memory: every caller has capped them by a buffer or a limit.
pub(in crate::formats) fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// A UUID in its usual spelling, from bytes in the order in which it is spelled.
pub(in crate::formats) fn uuid(bytes: &[u8; 16]) -> String {
    let hex = |part: &[u8]| -> String { part.iter().map(|byte| format!("{byte:02x}")).collect() };
    let (a, rest) = bytes.split_at(4);
    let (b, rest) = rest.split_at(2);
    let (c, rest) = rest.split_at(2);
    let (d, e) = rest.split_at(2);
    [hex(a), hex(b), hex(c), hex(d), hex(e)].join("-")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn layout(entries: u64) -> Layout {
        Layout {
            table_offset: 512,
            entries,
            decode: u32::from_le_bytes,
            block_size: 1024,
            virtual_size: entries * 1024,
            base: 8192,
            unit: 1024,
            lead: 0,
            free: u32::MAX,
            zero: Some(u32::MAX - 1),
            reserved: std::iter::once(0..512).collect(),
        }
    }

    fn open(table: &[u32], change: impl Fn(&mut Layout)) -> Result<BlockMap> {
        let mut bytes = vec![0; 8192 + 10 * 1024];
        for (index, entry) in table.iter().enumerate() {
            bytes[512 + index * 4..516 + index * 4].copy_from_slice(&entry.to_le_bytes());
        }
        let mut layout = layout(table.len() as u64);
        change(&mut layout);
        BlockMap::open(FileRange::from_store(Arc::new(bytes), "test"), layout)
    }

    #[test]
    fn blocks_are_merged_and_told_apart() {
        let free = u32::MAX;
        let map = open(&[free, free, 3, 4, 0, free - 1, free - 1], |_| ()).unwrap();
        let extents: Vec<_> = [0, 2048, 5120]
            .map(|offset| map.extent_at(offset, u64::MAX, None).unwrap())
            .map(|extent| (extent.offset, extent.len, extent.kind))
            .into();
        assert_eq!(
            extents,
            [
                (0, 2048, ExtentKind::Unallocated),
                (2048, 3072, ExtentKind::Data),
                (5120, 2048, ExtentKind::Zero)
            ]
        );
        assert_eq!(map.contiguous(2048, 8192 + 3072, 1024, 5120).unwrap(), 2048);
        // Entries 1 and 2, and 5 to 9, and what lies between the table and the data.
        assert_eq!((map.allocated(), map.leaks()), (3, 7 + 7));
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let refused = |table: &[u32], change: fn(&mut Layout)| open(table, change).unwrap_err();
        let error = refused(&[1, 2, 1], |_| ());
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("blocks 0 and 2"), "{error}");
        let error = refused(&[1, 10], |_| ());
        assert_eq!(
            (error.kind(), error.offset()),
            (ErrorKind::Truncated, Some(516))
        );
        let error = refused(&[1, 2], |layout| layout.unit = 512);
        assert!(error.to_string().contains("overlapping"), "{error}");
        let error = refused(&[0], |layout| layout.base = 0);
        assert!(error.to_string().contains("clear of"), "{error}");
        let error = refused(&[], |layout| layout.entries = MAX_ENTRIES + 1);
        assert_eq!(error.kind(), ErrorKind::Limit);
        let error = refused(&[], |layout| layout.entries = 1 << 20);
        assert_eq!(error.kind(), ErrorKind::Truncated);
        // The tail of the last block need not be there.
        assert!(open(&[1, 9], |layout| layout.virtual_size -= 512).is_ok());
    }

    #[test]
    fn uuids_are_spelled_as_usual() {
        let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(uuid(&bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
