//! Grain tables: from a grain's number to its place in the file. Tables are read when they are first wanted, checked,
//! and kept in a bounded cache, so a disk of any size opens at once and takes little memory.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::cache::Generations;
use super::directory::GrainMap;
use super::geometry::{Geometry, SECTOR};
use super::header::HEADER_LEN;
use super::marker::GRAIN_MARKER_LEN;
use super::sesparse;
use crate::{Error, ErrorKind, FileRange, Result, is_zero};

/// Memory for tables that were read.
const CACHE_LEN: usize = 16 << 20;
/// Tables that follow each other in the file are read together, up to so many: `monolithicSparse` has all of them
/// in a row.
const READ_TOGETHER: usize = 64;
/// The entry that stands for a grain of zeroes, where the header says that there are such (VDF 5.0).
const ZEROED: u32 = 1;

/// Entries of one table as they are in the file; none when no grain of it was ever written.
pub(super) type Table = Option<Arc<[u32]>>;

/// Where a grain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// Never written.
    Unallocated,
    /// Known to be zeroes.
    Zero,
    /// The grain, or its marker where grains are compressed, begins at this byte of the file.
    At(u64),
}

/// What the entries of a table say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entries {
    /// Sector numbers in the file. With `zeroed`, 1 is a grain of zeroes.
    Sectors { zeroed: bool },
    /// Numbers of grains in an area that begins at byte `origin` of the file, plus [`FIRST_INDEX`]; 1 is a grain of
    /// zeroes. So the 64-bit entries of seSparse are kept in memory.
    Indexed { origin: u64 },
}

/// The entry in memory for grain 0 of an [`Entries::Indexed`] area.
pub(super) const FIRST_INDEX: u32 = 2;

/// How an extent is laid out.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    pub(super) entries: Entries,
    pub(super) compressed: bool,
    /// Bytes of the file where no grain can be, besides the directory.
    pub(super) reserved: Range<u64>,
}

/// All tables of an extent.
#[derive(Debug)]
pub(super) struct GrainTables {
    range: FileRange,
    geometry: Geometry,
    entries: Entries,
    compressed: bool,
    reserved: Range<u64>,
    map: GrainMap,
    cache: Mutex<Generations<Table>>,
}

impl GrainTables {
    pub(super) fn new(range: FileRange, layout: &Layout, map: GrainMap) -> Self {
        let geometry = layout.geometry;
        let table_len = geometry.table_entries() as usize * size_of::<u32>();
        Self {
            range,
            geometry,
            entries: layout.entries,
            compressed: layout.compressed,
            reserved: layout.reserved.clone(),
            map,
            cache: Mutex::new(Generations::new(CACHE_LEN / 2 / table_len)),
        }
    }

    /// Where the grain of this entry is.
    pub(super) fn place(&self, entry: u32) -> Grain {
        match (entry, self.entries) {
            (0, _) => Grain::Unallocated,
            (ZEROED, Entries::Sectors { zeroed: true } | Entries::Indexed { .. }) => Grain::Zero,
            (sector, Entries::Sectors { .. }) => Grain::At(u64::from(sector) * SECTOR),
            (index, Entries::Indexed { origin }) => {
                let grain = u64::from(index - FIRST_INDEX);
                Grain::At(origin + grain * self.geometry.grain_size() as u64)
            }
        }
    }

    /// How many tables from `index` on are known to be absent without reading anything.
    pub(super) fn absent_from(&self, index: u32) -> u32 {
        let left = self.geometry.tables() - index;
        let count = match &self.map {
            GrainMap::Directory { tables, .. } => {
                let rest = tables.get(index as usize..).unwrap_or_default();
                rest.iter().position(|sector| *sector != 0)
            }
            GrainMap::Walked(grains) => {
                let first = u64::from(index) * u64::from(self.geometry.table_entries());
                let next = grains.partition_point(|(grain, _)| u64::from(*grain) < first);
                grains
                    .get(next)
                    .map(|(grain, _)| (grain / self.geometry.table_entries() - index) as usize)
            }
        };
        count
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(left)
    }

    /// Table `index`, which is below [`Geometry::tables`].
    pub(super) fn get(&self, index: u32) -> Result<Table> {
        match &self.map {
            GrainMap::Directory { tables, .. }
                if tables.get(index as usize).is_none_or(|sector| *sector == 0) =>
            {
                return Ok(None);
            }
            _ => {}
        }
        if let Some(table) = self.cached().get(u64::from(index)) {
            return Ok(table);
        }
        match &self.map {
            GrainMap::Directory { tables, at } => self.load(tables, at, index),
            GrainMap::Walked(grains) => {
                let table = self.gather(grains, index);
                self.cached().insert(u64::from(index), table.clone());
                Ok(table)
            }
        }
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Generations<Table>> {
        // A panic elsewhere leaves the cache whole: it is only ever changed by complete insertions.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads table `index` and those that follow it in the file.
    fn load(&self, tables: &[u32], directory: &Range<u64>, index: u32) -> Result<Table> {
        let rest = tables.get(index as usize..).unwrap_or_default();
        let Some(first) = rest.first().map(|sector| u64::from(*sector)) else {
            return Ok(None);
        };
        let step = self.geometry.table_sectors();
        let expected = (0..).map(|count: u64| first + count * step);
        let together = rest.iter().zip(expected).take(READ_TOGETHER);
        let count = together
            .take_while(|(sector, expected)| u64::from(**sector) == *expected)
            .count();
        let (start, step_len) = (first * SECTOR, step * SECTOR);
        // The directory was checked: every table alone lies within the file, so the last one of a row does.
        let last = index + u32::try_from(count - 1).unwrap_or(0);
        let len = (count as u64 - 1) * step_len
            + (self.geometry.entries_in(last) * self.geometry.entry_len()) as u64;
        let bytes = self
            .range
            .read_vec(start, usize::try_from(len).unwrap_or(usize::MAX))?;
        let mut wanted = None;
        for (number, bytes) in bytes
            .chunks(usize::try_from(step_len).unwrap_or(usize::MAX))
            .enumerate()
        {
            let table = index + u32::try_from(number).unwrap_or(0);
            let at = start + number as u64 * step_len;
            let checked = self
                .parse(bytes, table, at, directory)
                .map_err(|e| e.at(at).in_file(self.range.label()));
            match checked {
                Ok(entries) => {
                    self.cached().insert(u64::from(table), entries.clone());
                    wanted.get_or_insert(entries);
                }
                // A neighbour's damage is told when the neighbour is wanted.
                Err(error) if number == 0 => return Err(error),
                Err(_) => {}
            }
        }
        Ok(wanted.flatten())
    }

    /// The table that a walked stream would have.
    fn gather(&self, grains: &[(u32, u32)], index: u32) -> Table {
        let width = self.geometry.table_entries();
        let first = index * width;
        let start = grains.partition_point(|(grain, _)| *grain < first);
        let mut entries = vec![0; self.geometry.entries_in(index)];
        let mut any = false;
        for (grain, sector) in grains.get(start..).unwrap_or_default() {
            let Some(entry) = entries.get_mut((grain - first) as usize) else {
                break;
            };
            *entry = *sector;
            any = true;
        }
        any.then(|| entries.into())
    }

    fn parse(&self, bytes: &[u8], table: u32, at: u64, directory: &Range<u64>) -> Result<Table> {
        let len = self.geometry.entries_in(table) * self.geometry.entry_len();
        let bytes = bytes.get(..len).unwrap_or(bytes);
        if is_zero(bytes) {
            return Ok(None);
        }
        let entries: Arc<[u32]> = match self.entries {
            Entries::Sectors { .. } => {
                let (words, _) = bytes.as_chunks::<4>();
                words.iter().map(|word| u32::from_le_bytes(*word)).collect()
            }
            Entries::Indexed { .. } => sesparse::decode(bytes, at)?,
        };
        self.check(&entries, table, at, directory)?;
        Ok(Some(entries))
    }

    /// Grains lie within the file, not on its metadata, and not on each other.
    fn check(&self, entries: &[u32], table: u32, at: u64, directory: &Range<u64>) -> Result<()> {
        let first = u64::from(table) * u64::from(self.geometry.table_entries());
        let entry_len = self.geometry.entry_len() as u64;
        let file_len = self.range.len();
        let mut ends_before = 0;
        let mut ascending = true;
        for (slot, entry) in (0_u64..).zip(entries) {
            let Grain::At(start) = self.place(*entry) else {
                continue;
            };
            let grain = first + slot;
            let end = start + self.least_len(grain);
            let fail = |e: Error| Err(e.at(at + slot * entry_len));
            if end > file_len {
                return fail(Error::new(
                    ErrorKind::Truncated,
                    format!(
                        "expected grain {grain} at {start:#x}, but the file ends at {file_len:#x}; the file is \
                         incomplete or damaged: copy, download or export it again"
                    ),
                ));
            }
            let on = |range: &Range<u64>| start < range.end && range.start < end;
            if start < HEADER_LEN as u64 || on(&self.reserved) || on(directory) {
                return fail(Error::corrupt(format!(
                    "grain {grain} at {start:#x} lies on the extent's metadata"
                )));
            }
            ascending &= start >= ends_before;
            ends_before = end;
        }
        if ascending {
            Ok(())
        } else {
            self.check_overlap(entries, first, at)
        }
    }

    fn check_overlap(&self, entries: &[u32], first: u64, at: u64) -> Result<()> {
        let place = |(slot, entry): (u64, &u32)| match self.place(*entry) {
            Grain::At(start) => Some((start, slot)),
            _ => None,
        };
        let mut places: Vec<_> = (0..).zip(entries).filter_map(place).collect();
        places.sort_unstable();
        for [(start, slot), (next, other)] in places.array_windows() {
            if start + self.least_len(first + slot) > *next {
                return Err(Error::corrupt(format!(
                    "grains {} at {start:#x} and {} at {next:#x} lie on each other",
                    first + slot,
                    first + other
                ))
                .at(at + other * self.geometry.entry_len() as u64));
            }
        }
        Ok(())
    }

    /// Bytes that a grain takes in the file at least.
    pub(super) fn least_len(&self, grain: u64) -> u64 {
        if self.compressed {
            GRAIN_MARKER_LEN as u64 + 1
        } else {
            self.geometry.grain_len(grain) as u64
        }
    }
}
