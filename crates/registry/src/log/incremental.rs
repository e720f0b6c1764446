//! The new format, Windows 8.1 and Server 2012 R2 on (regf specification, "New format"): entries from the second sector
//! on, each with pages of the hive and two hashes.
//!
//! ```text
//!   0  HvLE  size  flags  sequence  hive bins size  pages  hash-1 (8)  hash-2 (8)
//!  40  offset, size of each page        hash-1: from here to the entry's end
//!      the pages, without gaps          hash-2: the first 32 bytes
//! ```

use super::base::{Edit, PAGE, SECTOR, in_bins, u32_at, u64_at};
use super::{GROWTH_MAX, marvin};

const SIGNATURE: &[u8] = b"HvLE";
const HEADER: usize = 40;
const HASHED_BY_2: usize = 32;
const REFERENCE: usize = 8;

/// A valid entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'l> {
    pub(super) sequence: u32,
    flags: u32,
    bins_size: u32,
    pages: u32,
    /// The whole entry.
    bytes: &'l [u8],
}

impl<'l> Entry<'l> {
    /// The entry in front of `bytes`, or why it is none.
    fn read(bytes: &'l [u8]) -> Result<Self, &'static str> {
        let field = |at| u32_at(bytes, at).ok_or("it is cut short");
        if !bytes.starts_with(SIGNATURE) {
            return Err("there is no entry");
        }
        let size = usize::try_from(field(4)?).map_err(|_| "its size is too large")?;
        if size < HEADER || !size.is_multiple_of(SECTOR) {
            return Err("its size is not one of whole sectors");
        }
        let whole = bytes.get(..size).ok_or("it is cut short")?;
        if !is_headed_right(whole) {
            return Err("its second hash is wrong");
        }
        let body = whole.get(HEADER..).unwrap_or_default();
        // No mutation finds a hash; `cargo xtask fuzz` takes them all.
        if !cfg!(fuzzing) && u64_at(whole, 24) != Some(marvin::hash(marvin::SEED, body)) {
            return Err("its first hash is wrong");
        }
        let entry = Self {
            flags: field(8)?,
            sequence: field(12)?,
            bins_size: field(16)?,
            pages: field(20)?,
            bytes: whole,
        };
        if entry.bins_size == 0 || !entry.bins_size.is_multiple_of(PAGE) {
            return Err("the size of its hive bins is not one of whole pages");
        }
        if entry.places().is_none() {
            return Err("its pages are beyond its end or the hive's");
        }
        Ok(entry)
    }

    /// Range within the hive file and content of every page; `None` where one is out of bounds.
    fn places(&self) -> Option<Vec<(std::ops::Range<usize>, &'l [u8])>> {
        let count = usize::try_from(self.pages).ok()?;
        let mut at = count.checked_mul(REFERENCE)?.checked_add(HEADER)?;
        let references = self.bytes.get(HEADER..at)?;
        let mut places = Vec::with_capacity(count);
        for reference in references.as_chunks::<REFERENCE>().0 {
            let (offset, len) = (u32_at(reference, 0)?, u32_at(reference, 4)?);
            if offset.checked_add(len)? > self.bins_size {
                return None;
            }
            let range = in_bins(offset, len)?;
            let end = at.checked_add(range.len())?;
            places.push((range, self.bytes.get(at..end)?));
            at = end;
        }
        Some(places)
    }

    /// Writes the pages into the hive; false, and nothing written, where the hive would grow beyond reason.
    pub(super) fn apply(&self, hive: &mut Vec<u8>) -> bool {
        let Some(end) = in_bins(self.bins_size, 0).map(|range| range.end) else {
            return false;
        };
        let Some(places) = self.places() else {
            return false;
        };
        if end.saturating_sub(hive.len()) > GROWTH_MAX {
            return false;
        }
        if hive.len() < end {
            hive.resize(end, 0);
        }
        for (range, page) in places {
            if let Some(place) = hive.get_mut(range) {
                place.copy_from_slice(page);
            }
        }
        let edit = Edit(hive).bins_size(self.bins_size).flags(self.flags);
        edit.sequence(self.sequence, self.sequence);
        true
    }
}

/// Entries of a log up to the first invalid one or gap in their numbers, and what ended them.
pub(super) fn entries(log: &[u8], sector: usize) -> (Vec<Entry<'_>>, &'static str) {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut rest = start(log, sector);
    loop {
        let entry = match Entry::read(rest) {
            Ok(entry) => entry,
            Err(reason) => return (entries, reason),
        };
        // Entries of an earlier use of the file follow the last one.
        let expected = entries.last().map(|last| last.sequence.checked_add(1));
        if expected.is_some_and(|expected| expected != Some(entry.sequence)) {
            return (entries, "its sequence number does not follow");
        }
        rest = rest.get(entry.bytes.len()..).unwrap_or_default();
        entries.push(entry);
    }
}

/// True when the log is of this format, by what follows its base block.
pub(super) fn is_format(log: &[u8], sector: usize) -> bool {
    start(log, sector).starts_with(SIGNATURE)
}

/// The largest sequence number of all entries with an intact header, whether they can be applied or not.
pub(super) fn last_sequence(log: &[u8]) -> Option<u32> {
    let (sectors, _) = log.as_chunks::<SECTOR>();
    sectors
        .iter()
        .filter(|sector| sector.starts_with(SIGNATURE) && is_headed_right(sector.as_slice()))
        .filter_map(|sector| u32_at(sector.as_slice(), 12))
        .max()
}

fn is_headed_right(entry: &[u8]) -> bool {
    let header = entry.get(..HASHED_BY_2).unwrap_or_default();
    cfg!(fuzzing) || u64_at(entry, HASHED_BY_2) == Some(marvin::hash(marvin::SEED, header))
}

/// From the second sector on; where sectors are large, some writers start after 512 bytes nevertheless.
fn start(log: &[u8], sector: usize) -> &[u8] {
    let at = |at| log.get(at..).unwrap_or_default();
    match at(sector) {
        rest if rest.starts_with(SIGNATURE) => rest,
        _ => at(SECTOR),
    }
}

/// An entry with these pages, for tests.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn write_entry(
    sequence: u32,
    flags: u32,
    bins_size: u32,
    pages: &[(u32, &[u8])],
) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap_or_default().to_le_bytes();
    let mut entry = SIGNATURE.to_vec();
    entry.extend([0; 4]);
    for field in [flags, sequence, bins_size] {
        entry.extend(field.to_le_bytes());
    }
    entry.extend(number(pages.len()));
    entry.extend([0; 16]);
    for (offset, page) in pages {
        entry.extend(offset.to_le_bytes());
        entry.extend(number(page.len()));
    }
    for (_, page) in pages {
        entry.extend(*page);
    }
    entry.resize(entry.len().next_multiple_of(SECTOR), 0);
    let size = number(entry.len());
    put(&mut entry, 4, &size);
    let body = marvin::hash(marvin::SEED, entry.get(HEADER..).unwrap_or_default());
    put(&mut entry, 24, &body.to_le_bytes());
    let header = entry.get(..HASHED_BY_2).unwrap_or_default();
    let header = marvin::hash(marvin::SEED, header);
    put(&mut entry, HASHED_BY_2, &header.to_le_bytes());
    entry
}

#[cfg(any(test, feature = "testing"))]
fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}
