//! One hosted sparse extent: a whole disk, or one file of a disk that is split into several.

use super::directory;
use super::geometry::{Geometry, Piece};
use super::grains::Grains;
use super::header::Header;
use super::tables::{Grain, GrainTables};
use crate::{Extent, ExtentKind, FileRange, Result};

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
        let geometry = header.geometry;
        Ok(Self {
            tables: GrainTables::new(range.clone(), header, map),
            compressed: header
                .compressed
                .then(|| Grains::new(range.clone(), geometry)),
            range,
            geometry,
        })
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
    pub(super) fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let left = self.geometry.table_span() - offset % self.geometry.table_span();
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let (part, rest) = buf.split_at_mut(len);
            match self.tables.get(self.geometry.table_of(offset))? {
                None => part.fill(0),
                Some(table) => match &self.compressed {
                    Some(grains) => self.inflate(grains, &table, part, offset)?,
                    None => self.copy(&table, part, offset)?,
                },
            }
            buf = rest;
            offset += len as u64;
        }
        Ok(())
    }

    /// Fills `buf`, which lies under one table, from compressed grains.
    fn inflate(&self, grains: &Grains, table: &[u32], buf: &mut [u8], offset: u64) -> Result<()> {
        for (piece, place, start) in self.pieces(table, buf.len(), offset) {
            if !matches!(place, Grain::At(_)) {
                buf[start..start + piece.len].fill(0);
            }
        }
        let len = buf.len();
        let stored =
            self.pieces(table, len, offset)
                .filter_map(|(piece, place, start)| match place {
                    Grain::At(at) => Some((piece, at, start..start + piece.len)),
                    _ => None,
                });
        grains.read(buf, stored)
    }

    /// Fills `buf`, which lies under one table, from grains that are stored as they are; neighbours by one read.
    fn copy(&self, table: &[u32], buf: &mut [u8], offset: u64) -> Result<()> {
        let mut run: Option<(u64, usize, usize)> = None;
        for (piece, place, start) in self.pieces(table, buf.len(), offset) {
            let from = match place {
                Grain::At(at) => Some(at + piece.skip as u64),
                _ => None,
            };
            if let (Some(from), Some((at, _, len))) = (from, &mut run)
                && *at + *len as u64 == from
            {
                *len += piece.len;
                continue;
            }
            if let Some((at, dest, len)) = run.take() {
                self.range.read_exact_at(&mut buf[dest..dest + len], at)?;
            }
            match from {
                Some(from) => run = Some((from, start, piece.len)),
                None => buf[start..start + piece.len].fill(0),
            }
        }
        match run {
            Some((at, dest, len)) => self.range.read_exact_at(&mut buf[dest..dest + len], at),
            None => Ok(()),
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
