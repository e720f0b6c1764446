//! Looks for contradictions in the tables of every sparse extent: grains on each other, damaged tables, a directory
//! copy that disagrees, grains that nothing refers to. Data are not read.

use types::CancelToken;

use super::directory::{self, GrainMap};
use super::extents::Body;
use super::geometry::SECTOR;
use super::header::{DirectoryAt, Header};
use super::reader::{Reader, Signature};
use super::sparse::SparseExtent;
use super::tables::Grain;
use crate::{Error, FindingKind, MetadataCheck, Result};

/// Sectors of the file that one pass over the tables looks at: 32 MiB of bits, 128 GiB of file.
const WINDOW_SECTORS: u64 = 256 << 20;

/// Checks every sparse extent of the disk, its parents not included. `None` when it has none.
pub(super) fn check(reader: &Reader, cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
    let mut found = None;
    for extent in reader.extents() {
        if let Body::Sparse(extent) = &extent.body {
            let check = found.get_or_insert_with(MetadataCheck::default);
            Checker {
                extent,
                cancel,
                check,
            }
            .run()?;
        }
    }
    Ok(found)
}

struct Checker<'a> {
    extent: &'a SparseExtent,
    cancel: &'a CancelToken,
    check: &'a mut MetadataCheck,
}

impl Checker<'_> {
    fn run(&mut self) -> Result<()> {
        let sectors = self.extent.range().len().div_ceil(SECTOR);
        let mut grains = 0;
        let mut first = 0;
        while first < sectors {
            let count = WINDOW_SECTORS.min(sectors - first);
            grains += self.window(first, count, first == 0)?;
            first += count;
        }
        self.hosted(grains)
    }

    /// Marks what the grains take of a window of the file; the number of grains that begin in it.
    fn window(&mut self, first: u64, count: u64, report_tables: bool) -> Result<u64> {
        let mut taken = Bits::new(count);
        let geometry = *self.extent.geometry();
        let mut grains = 0;
        for table in 0..geometry.tables() {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let entries = match self.extent.tables().get(table) {
                Ok(Some(entries)) => entries,
                Ok(None) => continue,
                Err(error) => {
                    if report_tables {
                        self.check
                            .note(FindingKind::Corruption, 1, error.to_string());
                    }
                    continue;
                }
            };
            let base = u64::from(table) * u64::from(geometry.table_entries());
            for (grain, entry) in (base..).zip(entries.iter()) {
                let Grain::At(start) = self.extent.tables().place(*entry) else {
                    continue;
                };
                let end = (start + self.extent.tables().least_len(grain)).div_ceil(SECTOR);
                let start = start / SECTOR;
                grains += u64::from((first..first + count).contains(&start));
                let from = start.max(first);
                let until = end.min(first + count);
                if from < until && !taken.take(from - first, until - first) {
                    self.check.note(
                        FindingKind::Corruption,
                        1,
                        format!(
                            "{}: grain {grain} at {:#x} lies on another grain",
                            self.extent.range().label(),
                            start * SECTOR
                        ),
                    );
                }
            }
        }
        Ok(grains)
    }

    /// What only hosted extents that are not compressed have: a copy of the directory, and an area of grains that
    /// says how many there are.
    fn hosted(&mut self, grains: u64) -> Result<()> {
        let range = self.extent.range();
        if self.extent.is_compressed() || Signature::read(range)? != Some(Signature::Sparse) {
            return Ok(());
        }
        let header = Header::read(range, 0)?;
        let area = range.len().saturating_sub(header.overhead);
        let stored = area / header.geometry.grain_size() as u64;
        if header.overhead > 0 && stored > grains {
            let lost = stored - grains;
            self.check.note(
                FindingKind::Leak,
                lost,
                format!(
                    "{}: {lost} grains that no table refers to, of {stored}",
                    range.label()
                ),
            );
        }
        self.copies(&header)
    }

    /// Compares the directory with its copy, table by table.
    fn copies(&mut self, header: &Header) -> Result<()> {
        let range = self.extent.range();
        let (Some(copy), DirectoryAt::Offset(main)) =
            (header.redundant_directory, header.directory)
        else {
            return Ok(());
        };
        let read = |at| directory::read(range, &header.geometry, at);
        let (main, copy) = match (read(main), read(copy)) {
            (Ok(main), Ok(copy)) => (main, copy),
            (Err(error), _) | (_, Err(error)) => {
                self.check
                    .note(FindingKind::Corruption, 1, error.to_string());
                return Ok(());
            }
        };
        let (GrainMap::Directory { tables: main, .. }, GrainMap::Directory { tables: copy, .. }) =
            (main, copy)
        else {
            return Ok(());
        };
        for (table, (main, copy)) in (0_u32..).zip(main.into_iter().zip(copy)) {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let len = header.geometry.entries_in(table) * header.geometry.entry_len();
            let read = |sector: u32| match sector {
                0 => Ok(vec![0; len]),
                sector => range.read_vec(u64::from(sector) * SECTOR, len),
            };
            if main != copy && read(main)? != read(copy)? {
                self.check.note(
                    FindingKind::Corruption,
                    1,
                    format!(
                        "{}: grain table {table} at {:#x} and its copy at {:#x} differ",
                        range.label(),
                        u64::from(main) * SECTOR,
                        u64::from(copy) * SECTOR
                    ),
                );
            }
        }
        Ok(())
    }
}

/// One bit a sector.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u64) -> Self {
        Self(vec![0; usize::try_from(count.div_ceil(64)).unwrap_or(0)])
    }

    /// Sets the bits; false when one of them was set.
    fn take(&mut self, start: u64, end: u64) -> bool {
        let mut free = true;
        let mut at = start;
        while at < end {
            let bit = at % 64;
            let len = (64 - bit).min(end - at);
            let mask = (u64::MAX >> (64 - len)) << bit;
            if let Some(word) = usize::try_from(at / 64)
                .ok()
                .and_then(|index| self.0.get_mut(index))
            {
                free &= *word & mask == 0;
                *word |= mask;
            }
            at += len;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_notice_what_is_taken_twice() {
        let mut bits = Bits::new(300);
        assert!(bits.take(0, 64));
        assert!(bits.take(64, 65));
        assert!(bits.take(70, 299));
        assert!(bits.take(65, 70));
        assert!(!bits.take(64, 66));
        assert!(!bits.take(298, 300));
        assert!(!bits.take(299, 300));
    }
}
