//! Finds and checks the grain directory: at the place that the header names, in its redundant copy, or at the place
//! that a stream's footer names; and where none of these serves, has the markers walked.

use std::ops::Range;

use super::geometry::{Geometry, SECTOR};
use super::header::{DirectoryAt, HEADER_LEN, Header, MAGIC};
use super::marker::{MARKER_LEN, Marker};
use super::walk;
use crate::{Error, ErrorKind, FileRange, Result};

/// How far from the end of the file a footer is looked for: some writers pad what they made.
const FOOTER_SEARCH_LEN: u64 = 64 << 10;

/// Which grain is where.
#[derive(Debug)]
pub(super) enum GrainMap {
    /// Sectors of the grain tables, 0 where there is none. `at` is the directory's own place.
    Directory { tables: Vec<u32>, at: Range<u64> },
    /// Grain numbers with the sectors of their markers, in order of grain: what walking a stream found.
    Walked(Vec<(u32, u32)>),
}

/// Finds the map of the extent.
pub(super) fn locate(range: &FileRange, header: &Header) -> Result<GrainMap> {
    match header.directory {
        DirectoryAt::Offset(offset) => at_offset(range, header, offset),
        DirectoryAt::Footer if header.compressed => behind_footer(range, header),
        DirectoryAt::Footer => Err(Error::corrupt(
            "expected a stream where the grain directory is at the end, found grains not compressed",
        )),
    }
}

fn at_offset(range: &FileRange, header: &Header, offset: u64) -> Result<GrainMap> {
    let error = match read(range, &header.geometry, offset) {
        Ok(map) => return Ok(map),
        Err(error) => error,
    };
    if let Some(copy) = header.redundant_directory.filter(|copy| *copy != offset)
        && let Ok(map) = read(range, &header.geometry, copy)
    {
        tracing::warn!(file = range.label(), %error, "reading the redundant grain directory instead");
        return Ok(map);
    }
    // A writer that puts the directory in front may leave out the end-of-stream marker; without it nothing says
    // that the walk saw every grain, and the first error is the one to show.
    if header.compressed
        && let Ok(grains) = walk::walk(range, header)
    {
        tracing::warn!(file = range.label(), %error, "reading the stream's markers instead of its directory");
        return Ok(GrainMap::Walked(grains));
    }
    Err(error)
}

fn behind_footer(range: &FileRange, header: &Header) -> Result<GrainMap> {
    match footer_directory(range, header) {
        Ok(map) => Ok(map),
        Err(error) => {
            let grains = walk::walk(range, header)?;
            tracing::warn!(file = range.label(), %error, "reading the stream's markers instead of its directory");
            Ok(GrainMap::Walked(grains))
        }
    }
}

fn footer_directory(range: &FileRange, header: &Header) -> Result<GrainMap> {
    let at = find_footer(range)?;
    let footer = Header::read(range, at)?;
    if footer.geometry != header.geometry || footer.compressed != header.compressed {
        return Err(Error::corrupt(format!(
            "expected a footer that agrees with the header ({:?}), found {:?}",
            header.geometry, footer.geometry
        ))
        .at(at));
    }
    match footer.directory {
        DirectoryAt::Offset(offset) => read(range, &header.geometry, offset),
        DirectoryAt::Footer => {
            Err(Error::corrupt("expected the grain directory's place in the footer").at(at))
        }
    }
}

/// The byte offset of the last footer: the sector behind a footer marker.
fn find_footer(range: &FileRange) -> Result<u64> {
    let end = range.len() / SECTOR * SECTOR;
    let start = end.saturating_sub(FOOTER_SEARCH_LEN);
    let tail = range.read_vec(start, usize::try_from(end - start).unwrap_or(0))?;
    let (sectors, _) = tail.as_chunks::<HEADER_LEN>();
    let found = sectors.windows(2).rposition(|pair| {
        let marker = pair[0].first_chunk::<MARKER_LEN>().map(Marker::parse);
        matches!(marker, Some(Marker::Footer(_))) && pair[1].starts_with(&MAGIC)
    });
    match found {
        Some(index) => Ok(start + (index as u64 + 1) * SECTOR),
        None => Err(Error::new(
            ErrorKind::Truncated,
            "expected a footer near the end of the stream, found none",
        )
        .at(start)),
    }
}

/// Reads and checks the directory at byte `offset`.
pub(super) fn read(range: &FileRange, geometry: &Geometry, offset: u64) -> Result<GrainMap> {
    let fail = |e: Error| e.at(offset).in_file(range.label());
    let len = u64::from(geometry.tables()) * 4;
    let at = match offset.checked_add(len) {
        Some(end) if end <= range.len() => offset..end,
        _ => {
            return Err(fail(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected a grain directory of {len} bytes, but the file ends at {:#x}",
                    range.len()
                ),
            )));
        }
    };
    // Bounded by the length of the file and by the limit on tables.
    let bytes = range.read_vec(offset, usize::try_from(len).unwrap_or(usize::MAX))?;
    let (words, _) = bytes.as_chunks::<4>();
    let tables: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    check(&tables, &at, range.len(), geometry).map_err(fail)?;
    Ok(GrainMap::Directory { tables, at })
}

/// Tables lie within the file, not on the header or the directory, and not on each other.
pub(super) fn check(
    tables: &[u32],
    at: &Range<u64>,
    file_len: u64,
    geometry: &Geometry,
) -> Result<()> {
    let entry_len = geometry.entry_len() as u64;
    let table_len = |index: usize| {
        u32::try_from(index).map_or(0, |table| geometry.entries_in(table) as u64 * entry_len)
    };
    let mut places = Vec::new();
    for (index, sector) in tables
        .iter()
        .enumerate()
        .filter(|(_, sector)| **sector != 0)
    {
        let start = u64::from(*sector) * SECTOR;
        let end = start + table_len(index);
        let entry = at.start + index as u64 * entry_len;
        if end > file_len {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected grain table {index} at {start:#x}, but the file ends at {file_len:#x}"
                ),
            )
            .at(entry));
        }
        if start < at.end && at.start < end {
            return Err(Error::corrupt(format!(
                "grain table {index} at {start:#x} lies on the grain directory"
            ))
            .at(entry));
        }
        places.push((start, index));
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        let [(start, index), (next, other)] = pair else {
            continue;
        };
        if start + table_len(*index) > *next {
            return Err(Error::corrupt(format!(
                "grain tables {index} at {start:#x} and {other} at {next:#x} lie on each other"
            ))
            .at(at.start + *other as u64 * entry_len));
        }
    }
    Ok(())
}
