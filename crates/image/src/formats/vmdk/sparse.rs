//! One sparse extent: a whole disk, or one file of a disk that is split into several.

use std::ops::Range;

use super::directory::{self, GrainMap};
use super::geometry::{Geometry, Piece};
use super::grains::Grains;
use super::header::Header;
use super::tables::{Grain, GrainTables, Layout};
use crate::{Error, Extent, ExtentKind, FileRange, Result};

/// Where a run of grains comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// From the parent, if there is one.
    Below,
    /// Known zeroes.
    Zero,
    /// This byte of the file.
    Stored(u64),
    /// Compressed grains, wherever they are.
    Inflated,
}

impl Fill {
    /// True when `next` can follow `len` bytes of this one in the same request.
    fn goes_on(self, len: usize, next: Self) -> bool {
        match (self, next) {
            (Self::Stored(at), Self::Stored(next)) => at + len as u64 == next,
            (Self::Stored(_), _) | (_, Self::Stored(_)) => false,
            (one, other) => one == other,
        }
    }
}

/// What fills a buffer from an offset of the extent where the extent holds nothing: zeroes, or the parent.
pub(super) type Below<'a> = &'a dyn Fn(&mut [u8], u64) -> Result<()>;

/// An open extent.
#[derive(Debug)]
pub(super) struct SparseExtent {
    range: FileRange,
    geometry: Geometry,
    tables: GrainTables,
    /// Where grains are compressed.
    compressed: Option<Grains>,
}

impl SparseExtent {
    /// Opens the extent that `header` begins.
    pub(super) fn open(range: FileRange, header: &Header) -> Result<Self> {
        if header.unclean {
            tracing::warn!(
                file = range.label(),
                "the VMDK was not closed by its last writer; reading it as it is"
            );
        }
        let map = directory::locate(&range, header)?;
        Ok(Self::new(range, &header.layout(), map))
    }

    /// Puts together an extent whose directory was read and checked.
    pub(super) fn new(range: FileRange, layout: &Layout, map: GrainMap) -> Self {
        let geometry = layout.geometry;
        Self {
            tables: GrainTables::new(range.clone(), layout, map),
            compressed: layout
                .compressed
                .then(|| Grains::new(range.clone(), geometry)),
            range,
            geometry,
        }
    }

    /// The file.
    pub(super) fn range(&self) -> &FileRange {
        &self.range
    }

    /// True when grains are compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    /// The tables.
    pub(super) fn tables(&self) -> &GrainTables {
        &self.tables
    }

    /// The sizes.
    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes of the disk that the extent covers.
    pub(super) fn capacity(&self) -> u64 {
        self.geometry.capacity()
    }

    /// Bytes of a grain.
    pub(super) fn grain_size(&self) -> u64 {
        self.geometry.grain_size() as u64
    }

    /// Fills `buf` from byte `offset`; the range lies within the capacity.
    pub(super) fn read_at(
        &self,
        mut buf: &mut [u8],
        mut offset: u64,
        below: Below<'_>,
    ) -> Result<()> {
        while !buf.is_empty() {
            let left = self.geometry.table_span() - offset % self.geometry.table_span();
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let (part, rest) = buf.split_at_mut(len);
            match self.tables.get(self.geometry.table_of(offset))? {
                None => below(part, offset)?,
                Some(table) => self.read_table(&table, part, offset, below)?,
            }
            buf = rest;
            offset += len as u64;
        }
        Ok(())
    }

    /// Fills `buf`, which lies under one table. Neighbouring grains of one nature are one request.
    fn read_table(
        &self,
        table: &[u32],
        buf: &mut [u8],
        offset: u64,
        below: Below<'_>,
    ) -> Result<()> {
        let mut run: Option<(Fill, Range<usize>)> = None;
        for (piece, place, start) in self.pieces(table, buf.len(), offset) {
            let fill = match place {
                Grain::Unallocated => Fill::Below,
                Grain::Zero => Fill::Zero,
                Grain::At(_) if self.compressed.is_some() => Fill::Inflated,
                Grain::At(at) => Fill::Stored(at + piece.skip as u64),
            };
            match &mut run {
                Some((last, bytes)) if last.goes_on(bytes.len(), fill) => bytes.end += piece.len,
                _ => {
                    if let Some((fill, bytes)) = run.replace((fill, start..start + piece.len)) {
                        let at = offset + bytes.start as u64;
                        self.fill(fill, table, &mut buf[bytes], at, below)?;
                    }
                }
            }
        }
        match run {
            Some((fill, bytes)) => {
                let at = offset + bytes.start as u64;
                self.fill(fill, table, &mut buf[bytes], at, below)
            }
            None => Ok(()),
        }
    }

    fn fill(
        &self,
        fill: Fill,
        table: &[u32],
        buf: &mut [u8],
        offset: u64,
        below: Below<'_>,
    ) -> Result<()> {
        match (fill, &self.compressed) {
            (Fill::Below, _) => below(buf, offset),
            (Fill::Zero, _) => {
                buf.fill(0);
                Ok(())
            }
            (Fill::Stored(at), _) => self.range.read_exact_at(buf, at),
            (Fill::Inflated, Some(grains)) => {
                let len = buf.len();
                let stored = self
                    .pieces(table, len, offset)
                    .filter_map(|(piece, place, start)| match place {
                        Grain::At(at) => Some((piece, at, start..start + piece.len)),
                        _ => None,
                    });
                grains.read(buf, stored)
            }
            (Fill::Inflated, None) => Err(Error::corrupt("grains are not compressed").at(offset)),
        }
    }

    /// The parts of grains that make up `len` bytes from `offset`: each with its place, and where in the `len` bytes
    /// it begins.
    fn pieces(
        &self,
        table: &[u32],
        len: usize,
        offset: u64,
    ) -> impl Iterator<Item = (Piece, Grain, usize)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= len {
                return None;
            }
            let piece = self.geometry.piece(offset + start as u64, len - start);
            let place = table
                .get(piece.slot)
                .map_or(Grain::Unallocated, |entry| self.tables.place(*entry));
            let item = (piece, place, start);
            start += piece.len;
            (piece.len > 0).then_some(item)
        })
    }

    /// The extent at `offset`, at most up to the end of its table, or over all tables that are absent.
    pub(super) fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let max_len = max_len.min(self.capacity() - offset);
        let index = self.geometry.table_of(offset);
        let span = self.geometry.table_span();
        let within = offset % span;
        let Some(table) = self.tables.get(index)? else {
            let absent = u64::from(self.tables.absent_from(index).max(1));
            let len = (absent * span - within).min(max_len);
            return Ok(Extent {
                offset,
                len,
                kind: ExtentKind::Unallocated,
            });
        };
        let kind = |entry: &u32| match self.tables.place(*entry) {
            Grain::Unallocated => ExtentKind::Unallocated,
            Grain::Zero => ExtentKind::Zero,
            Grain::At(_) => ExtentKind::Data,
        };
        let piece = self.geometry.piece(offset, 1);
        let rest = table.get(piece.slot..).unwrap_or_default();
        let first = rest.first().map_or(ExtentKind::Unallocated, kind);
        let wanted = max_len
            .saturating_add(piece.skip as u64)
            .div_ceil(self.grain_size());
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let same = rest
            .iter()
            .take(wanted)
            .take_while(|entry| kind(entry) == first)
            .count()
            .max(1);
        let len = (same as u64 * self.grain_size() - piece.skip as u64).min(max_len);
        Ok(Extent {
            offset,
            len,
            kind: first,
        })
    }
}
