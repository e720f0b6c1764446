//! What to copy next: cells of the disk that hold data, and the pieces within a cell.

use std::ops::Range;

use types::CancelToken;

use crate::{BlockSource, Error, ErrorKind, Extent, ExtentKind, Result};

/// The cursor that the workers share.
pub(super) struct Cells {
    next: u64,
    end: u64,
    chunk: u64,
}

/// One chunk of the disk's grid, which holds data.
pub(super) struct Cell {
    /// From the first data to the end of the cell.
    range: Range<u64>,
}

/// A run of granules to be copied at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Whole granules; it may pass the end of the disk.
    pub(super) range: Range<u64>,
    /// Bytes of data in it.
    pub(super) data_bytes: u64,
}

impl Cells {
    /// All cells of a disk.
    pub(super) fn new(virtual_size: u64, chunk: usize) -> Self {
        Self {
            next: 0,
            end: virtual_size,
            chunk: chunk as u64,
        }
    }

    /// The next cell that holds data.
    pub(super) fn next(
        &mut self,
        source: &dyn BlockSource,
        cancel: &CancelToken,
    ) -> Result<Option<Cell>> {
        while self.next < self.end {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let extent = extent(source, self.next, self.end)?;
            if extent.kind == ExtentKind::Data {
                let cell_end =
                    (extent.offset - extent.offset % self.chunk).saturating_add(self.chunk);
                self.next = cell_end.min(self.end);
                return Ok(Some(Cell {
                    range: extent.offset..self.next,
                }));
            }
            self.next += extent.len;
        }
        Ok(None)
    }
}

impl Cell {
    /// From the first data to the end of the cell.
    pub(super) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The data of the cell, widened to granules. Pieces less than `join` bytes apart are one.
    pub(super) fn pieces<'a>(
        &self,
        source: &'a dyn BlockSource,
        granule: u64,
        join: u64,
    ) -> impl Iterator<Item = Result<Piece>> + use<'a> {
        let Range {
            start: mut next,
            end,
        } = self.range;
        let mut held: Option<Piece> = None;
        std::iter::from_fn(move || {
            while next < end {
                let extent = match extent(source, next, end) {
                    Ok(extent) => extent,
                    Err(error) => {
                        next = end;
                        held = None;
                        return Some(Err(error));
                    }
                };
                next += extent.len;
                if extent.kind != ExtentKind::Data {
                    continue;
                }
                let start = extent.offset - extent.offset % granule;
                let range = start..next.checked_next_multiple_of(granule).unwrap_or(u64::MAX);
                match &mut held {
                    Some(piece) if range.start < piece.range.end.saturating_add(join) => {
                        piece.range.end = range.end;
                        piece.data_bytes += extent.len;
                    }
                    _ => {
                        if let Some(done) = held.replace(Piece {
                            range,
                            data_bytes: extent.len,
                        }) {
                            return Some(Ok(done));
                        }
                    }
                }
            }
            held.take().map(Ok)
        })
    }
}

/// The extent at `offset`. One that does not start there or has no length would be copied wrongly or for ever.
pub(super) fn extent(source: &dyn BlockSource, offset: u64, end: u64) -> Result<Extent> {
    let extent = source.extent_at(offset, end - offset)?;
    if extent.offset != offset || extent.len == 0 || extent.len > end - offset {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "expected an extent of at most {} bytes, found {extent:?}",
                end - offset
            ),
        )
        .at(offset));
    }
    Ok(extent)
}
