//! Bins and cells: where everything of a hive is kept.
//!
//! ```text
//! base block, 4096 | bin: header 32, cell, cell, … | bin | …
//! cell: size, 4 bytes, negative when in use | content, padded to a multiple of 8 with the size
//! ```
//!
//! A cell is named by the offset of its size from the end of the base block.

use zerocopy::IntoBytes;

use super::base::{BASE_LEN, BaseBlock, MAX_BINS_LEN, PAGE};
use super::free::FreeSpace;
use crate::{Error, ErrorKind, Result};

/// No cell.
pub(super) const NIL: u32 = u32::MAX;
/// Bytes of a bin's header.
pub(super) const BIN_HEADER: u32 = 32;
/// `hbin`.
const BIN_MAGIC: &[u8] = b"hbin";
/// Bytes of a cell's size.
const SIZE_LEN: u32 = 4;
/// Cells are a multiple of it.
pub(super) const ALIGN: u32 = 8;
/// Largest piece by which the file's buffer grows, so that a large hive is not doubled in memory.
const GROWTH: usize = 1 << 20;

/// A hive's bytes, base block included, and where they are free.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    bytes: Vec<u8>,
    /// Known once something is to be allocated.
    free: Option<FreeSpace>,
}

/// A cell's size and use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) cell: u32,
    /// Bytes with the size.
    pub(super) size: u32,
    pub(super) used: bool,
}

/// A failure at a cell.
pub(super) fn corrupt(cell: u32, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, message).at(BASE_LEN as u64 + u64::from(cell))
}

impl Cells {
    /// The whole file: base block and bins, nothing behind.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, free: None }
    }

    /// One empty bin behind a base block of zeros.
    pub(super) fn empty() -> Self {
        let mut cells = Self::new(vec![0; BASE_LEN]);
        cells.free = Some(FreeSpace::default());
        cells
    }

    /// Gives an empty hive its base block.
    pub(super) fn set_base(&mut self, base: &BaseBlock) {
        for (place, byte) in self.bytes.iter_mut().zip(base.as_bytes()) {
            *place = *byte;
        }
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the bins.
    pub(super) fn bins_len(&self) -> u32 {
        u32::try_from(self.bytes.len().saturating_sub(BASE_LEN)).unwrap_or(MAX_BINS_LEN)
    }

    /// Size and use of a cell, which may be none at all: only its own size is looked at.
    fn extent(&self, cell: u32) -> Result<Extent> {
        let at = BASE_LEN + cell as usize;
        let size = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
        let Some(size) = size.filter(|_| cell.is_multiple_of(ALIGN) && cell >= BIN_HEADER) else {
            return Err(corrupt(cell, "expected a cell, this is no place for one"));
        };
        let raw = i32::from_le_bytes(*size);
        let size = raw.unsigned_abs();
        let end = cell.checked_add(size).filter(|end| *end <= self.bins_len());
        if size < ALIGN || !size.is_multiple_of(ALIGN) || end.is_none() {
            return Err(corrupt(
                cell,
                format!("a cell cannot have the size {raw:#x}"),
            ));
        }
        Ok(Extent {
            cell,
            size,
            used: raw < 0,
        })
    }

    /// Content of a cell in use.
    pub(super) fn data(&self, cell: u32) -> Result<&[u8]> {
        let extent = self.extent(cell)?;
        if !extent.used {
            return Err(corrupt(cell, "expected a cell in use, found a free one"));
        }
        let at = BASE_LEN + cell as usize;
        let data = self
            .bytes
            .get(at + SIZE_LEN as usize..at + extent.size as usize);
        data.ok_or_else(|| corrupt(cell, "a cell beyond the file"))
    }

    /// The same, to be changed.
    pub(super) fn data_mut(&mut self, cell: u32) -> Result<&mut [u8]> {
        let len = self.data(cell)?.len();
        let at = BASE_LEN + (cell + SIZE_LEN) as usize;
        let data = self.bytes.get_mut(at..at + len);
        data.ok_or_else(|| corrupt(cell, "a cell beyond the file"))
    }

    /// Calls for every cell in order; `Corrupt` where bins or cells do not tile the file.
    pub(super) fn walk(&self, mut see: impl FnMut(Extent)) -> Result<()> {
        let mut bin = 0;
        while bin < self.bins_len() {
            let end = self.bin_end(bin)?;
            let mut cell = bin + BIN_HEADER;
            while cell < end {
                let extent = self.extent(cell)?;
                cell += extent.size;
                if cell > end {
                    return Err(corrupt(extent.cell, "a cell that leaves its bin"));
                }
                see(extent);
            }
            bin = end;
        }
        Ok(())
    }

    /// Where a bin ends.
    fn bin_end(&self, bin: u32) -> Result<u32> {
        let header = self.bytes.get(BASE_LEN + bin as usize..);
        let header = header.and_then(<[u8]>::first_chunk::<12>);
        let Some([m0, m1, m2, m3, o0, o1, o2, o3, s0, s1, s2, s3]) = header.copied() else {
            return Err(corrupt(bin, "expected a bin, found the end"));
        };
        if [m0, m1, m2, m3] != *BIN_MAGIC {
            return Err(corrupt(bin, "expected the magic hbin"));
        }
        let offset = u32::from_le_bytes([o0, o1, o2, o3]);
        if offset != bin {
            return Err(corrupt(
                bin,
                format!("a bin that says to be at {offset:#x}"),
            ));
        }
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        let end = bin.checked_add(size).filter(|end| *end <= self.bins_len());
        match end {
            Some(end) if size != 0 && size.is_multiple_of(PAGE) => Ok(end),
            _ => Err(corrupt(
                bin,
                format!("a bin cannot have the size {size:#x}"),
            )),
        }
    }

    /// Finds what is free, once.
    pub(super) fn index_free(&mut self) -> Result<()> {
        if self.free.is_some() {
            return Ok(());
        }
        let mut free = FreeSpace::default();
        self.walk(|extent| {
            if !extent.used {
                free.add(extent.cell, extent.size);
            }
        })?;
        self.free = Some(free);
        Ok(())
    }

    /// `Limit` where a change of this many bytes might not find its place. Asked before anything is changed.
    pub(super) fn check_room(&self, len: usize) -> Result<()> {
        // Twice the bytes and a piece for lists is more than any change takes.
        let need = len.saturating_mul(2).saturating_add(GROWTH * 4);
        let room = (MAX_BINS_LEN - self.bins_len()) as usize;
        if need > room {
            let message = format!("the hive is full: {:#x} bytes of bins", self.bins_len());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(())
    }

    /// A new cell for this much content, all zeros.
    pub(super) fn allocate(&mut self, len: usize) -> Result<u32> {
        self.index_free()?;
        let size = u32::try_from(len)
            .ok()
            .and_then(|len| len.checked_add(SIZE_LEN))
            .and_then(|size| size.checked_next_multiple_of(ALIGN))
            .filter(|size| *size <= MAX_BINS_LEN - PAGE)
            .ok_or_else(|| Error::new(ErrorKind::Limit, format!("no cell has {len} bytes")))?;
        let found = self.free.as_mut().and_then(|free| free.take(size));
        let (cell, found) = match found {
            Some(found) => found,
            None => self.add_bin(size)?,
        };
        if found > size {
            self.give(cell + size, found - size)?;
        }
        self.write_size(cell, size, true)?;
        self.data_mut(cell)?.fill(0);
        Ok(cell)
    }

    /// Frees a cell; it grows together with free neighbours.
    pub(super) fn release(&mut self, cell: u32) -> Result<()> {
        self.index_free()?;
        let extent = self.extent(cell)?;
        if !extent.used {
            return Err(corrupt(cell, "expected a cell in use, found a free one"));
        }
        self.give(cell, extent.size)
    }

    /// Marks a piece as free.
    fn give(&mut self, cell: u32, size: u32) -> Result<()> {
        let (cell, size) = match &mut self.free {
            Some(free) => free.merge(cell, size),
            None => (cell, size),
        };
        self.write_size(cell, size, false)
    }

    fn write_size(&mut self, cell: u32, size: u32, used: bool) -> Result<()> {
        let raw = if used { size.wrapping_neg() } else { size };
        let at = BASE_LEN + cell as usize;
        let place = self.bytes.get_mut(at..at + SIZE_LEN as usize);
        let place = place.ok_or_else(|| corrupt(cell, "a cell beyond the file"))?;
        place.copy_from_slice(&raw.to_le_bytes());
        Ok(())
    }

    /// A bin at the end for a cell of this size; its one cell, not in the index.
    fn add_bin(&mut self, size: u32) -> Result<(u32, u32)> {
        let bin = self.bins_len();
        let len = size
            .checked_add(BIN_HEADER)
            .and_then(|len| len.checked_next_multiple_of(PAGE))
            .filter(|len| *len <= MAX_BINS_LEN - bin)
            .ok_or_else(|| Error::new(ErrorKind::Limit, "the hive is full"))?;
        if self.bytes.capacity() - self.bytes.len() < len as usize {
            self.bytes.reserve_exact(GROWTH.max(len as usize));
        }
        self.bytes.extend_from_slice(BIN_MAGIC);
        self.bytes.extend_from_slice(&bin.to_le_bytes());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.resize(BASE_LEN + (bin + len) as usize, 0);
        let cell = bin + BIN_HEADER;
        self.write_size(cell, len - BIN_HEADER, false)?;
        Ok((cell, len - BIN_HEADER))
    }
}
