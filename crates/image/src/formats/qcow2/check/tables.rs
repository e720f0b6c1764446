//! L1 and L2 tables: what they refer to, and whether their flags are true.

use crate::{Error, ErrorKind, Result};

use super::super::geometry::{COMPRESSED, COPIED, ENTRY_BYTES, OFFSET_MASK, SUBCLUSTERS, ZERO};
use super::super::map::{L1_RESERVED, L2_RESERVED, compressed_place};
use super::counts::{Counts, Kind};
use super::stored::Stored;
use super::{Check, to_usize};

/// Most distinct L2 tables: with clusters of 64 KiB they map 2 EiB.
const MAX_L2_TABLES: usize = 4 << 20;
/// References gathered before they are sorted in.
const PENDING: usize = 1 << 20;

/// An L2 table.
pub(super) struct L2 {
    offset: u64,
    /// L1 entries that refer to it.
    references: u32,
}

/// The L2 tables of all L1 tables, each once, in the order of the file.
pub(super) fn distinct(check: &mut Check<'_>, l1: &[(u64, u64)]) -> Result<Vec<L2>> {
    let mut all = Vec::new();
    let mut pending = Vec::new();
    for &(offset, entries) in l1 {
        check.entries(offset, entries, |check, index, entry| {
            if let Some(table) = l2_offset(check, offset + index * ENTRY_BYTES, entry) {
                pending.push(table);
                if pending.len() == PENDING {
                    merge(&mut all, &mut pending)?;
                }
            }
            Ok(())
        })?;
    }
    merge(&mut all, &mut pending)?;
    Ok(all)
}

/// The table that an L1 entry means, if it is in the file; else what is wrong is noted.
fn l2_offset(check: &mut Check<'_>, at: u64, entry: u64) -> Option<u64> {
    if entry & L1_RESERVED != 0 {
        check.corrupt(format!(
            "reserved bits are set in L1 entry {entry:#018x} at {at:#x}"
        ));
    }
    let table = entry & OFFSET_MASK;
    if table == 0 {
        return None;
    }
    check
        .is_placed("L2 table", table, check.cluster_size)
        .then_some(table)
}

fn merge(all: &mut Vec<L2>, pending: &mut Vec<u64>) -> Result<()> {
    all.extend(pending.drain(..).map(|offset| L2 {
        offset,
        references: 1,
    }));
    all.sort_unstable_by_key(|table| table.offset);
    all.dedup_by(|next, kept| {
        let same = next.offset == kept.offset;
        if same {
            kept.references = kept.references.saturating_add(next.references);
        }
        same
    });
    if all.len() > MAX_L2_TABLES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected at most {MAX_L2_TABLES} L2 tables, found more"),
        ));
    }
    Ok(())
}

/// Counts an L2 table and what it maps; with `tell`, notes what is wrong with its entries.
pub(super) fn count(
    check: &mut Check<'_>,
    counts: &mut Counts,
    table: &L2,
    tell: bool,
) -> Result<()> {
    let cluster_size = check.cluster_size;
    counts.add(
        check,
        table.offset / cluster_size,
        1,
        table.references,
        Kind::L2,
    );
    each_l2_entry(check, table.offset, |check, at, entry, bitmap| {
        if tell {
            check_entry(check, at, entry, bitmap);
        }
        if let Some((first, clusters)) = place(check, entry) {
            counts.add(check, first, clusters, table.references, Kind::Data);
        }
        Ok(())
    })
}

/// Calls `each` with offset, first and second word of every entry in use.
fn each_l2_entry(
    check: &mut Check<'_>,
    table: u64,
    mut each: impl FnMut(&mut Check<'_>, u64, u64, u64) -> Result<()>,
) -> Result<()> {
    let words = check.header.geometry.entry_words();
    let total = check.cluster_size / ENTRY_BYTES;
    if words == 1 {
        return check.entries(table, total, |check, index, entry| {
            each(check, table + index * ENTRY_BYTES, entry, 0)
        });
    }
    let mut held = (u64::MAX, 0);
    check.entries(table, total, |check, index, word| {
        let entry = index / 2;
        if index % 2 == 0 {
            // The bitmap may be zero, and then it does not come.
            let last = std::mem::replace(&mut held, (entry, word));
            if last.0 != u64::MAX {
                each(check, table + last.0 * 16, last.1, 0)?;
            }
            return Ok(());
        }
        let first = if held.0 == entry { held.1 } else { 0 };
        if held.0 != entry && held.0 != u64::MAX {
            each(check, table + held.0 * 16, held.1, 0)?;
        }
        held = (u64::MAX, 0);
        each(check, table + entry * 16, first, word)
    })?;
    if held.0 == u64::MAX {
        return Ok(());
    }
    each(check, table + held.0 * 16, held.1, 0)
}

/// First cluster and number of clusters that an entry uses of the file.
fn place(check: &Check<'_>, entry: u64) -> Option<(u64, u64)> {
    let cluster_size = check.cluster_size;
    if entry & COMPRESSED != 0 {
        let (host, end) = compressed_place(check.header.geometry, entry);
        let first = host / cluster_size;
        return Some((first, end.div_ceil(cluster_size) - first));
    }
    let host = entry & OFFSET_MASK;
    (host != 0 && check.header.data_file.is_none()).then_some((host / cluster_size, 1))
}

fn check_entry(check: &mut Check<'_>, at: u64, entry: u64, bitmap: u64) {
    let external = check.header.data_file.is_some();
    if entry & COMPRESSED != 0 {
        if entry & COPIED != 0 {
            check.corrupt(format!(
                "the copied flag is set for compressed cluster {entry:#018x} at {at:#x}"
            ));
        }
        if external {
            check.corrupt(format!(
                "compressed cluster {entry:#018x} at {at:#x} in an image with an external data file"
            ));
        }
        let (host, end) = compressed_place(check.header.geometry, entry);
        if host < check.cluster_size || end.div_ceil(check.cluster_size) > check.clusters {
            check.corrupt(format!(
                "expected the compressed cluster {entry:#018x} at {at:#x} in the file, found it at {host:#x} to {end:#x}"
            ));
        }
        return;
    }
    let zero = match (check.header.version, check.header.geometry.extended_l2) {
        (3, false) => ZERO,
        _ => 0,
    };
    if entry & (L2_RESERVED | ZERO) & !zero != 0 {
        check.corrupt(format!(
            "reserved bits are set in L2 entry {entry:#018x} at {at:#x}"
        ));
    }
    let host = entry & OFFSET_MASK;
    let placed = host != 0 || (external && entry & COPIED != 0);
    let (allocated, zeroes) = (bitmap & ((1 << SUBCLUSTERS) - 1), bitmap >> SUBCLUSTERS);
    if allocated & zeroes != 0 || (allocated != 0 && !placed) {
        check.corrupt(format!(
            "subclusters {bitmap:#018x} of L2 entry {entry:#018x} at {at:#x} contradict each other or have no place"
        ));
    }
    if host == 0 {
        if entry & COPIED != 0 && !external {
            check.corrupt(format!(
                "L2 entry {entry:#018x} at {at:#x} is in use without a host cluster"
            ));
        }
        return;
    }
    if !host.is_multiple_of(check.cluster_size) {
        check.corrupt(format!(
            "expected a data cluster at a multiple of {:#x}, L2 entry {entry:#018x} at {at:#x} has {host:#x}",
            check.cluster_size
        ));
    } else if !external && host >= check.range.len() {
        check.corrupt(format!(
            "L2 entry {entry:#018x} at {at:#x} is past the end of the file at {:#x}",
            check.range.len()
        ));
    }
}

/// In the active tables the copied flag says that the refcount is one: qcow2 "Cluster mapping".
pub(super) fn check_copied(check: &mut Check<'_>, stored: &Stored) -> Result<()> {
    let (l1, entries) = (check.header.l1.offset, check.header.l1.bytes / ENTRY_BYTES);
    let mut tables = Vec::new();
    check.entries(l1, entries, |check, index, entry| {
        let table = entry & OFFSET_MASK;
        if table == 0
            || !table.is_multiple_of(check.cluster_size)
            || table + check.cluster_size > check.range.len()
        {
            return Ok(());
        }
        compare(check, stored, l1 + index * ENTRY_BYTES, entry)?;
        tables.push(table);
        Ok(())
    })?;
    tables.sort_unstable();
    tables.dedup();
    let external = check.header.data_file.is_some();
    for table in tables {
        each_l2_entry(check, table, |check, at, entry, _| {
            let host = entry & OFFSET_MASK;
            let standard = entry & COMPRESSED == 0 && host != 0 && !external;
            if standard && to_usize(host / check.cluster_size) < to_usize(check.clusters) {
                compare(check, stored, at, entry)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn compare(check: &mut Check<'_>, stored: &Stored, at: u64, entry: u64) -> Result<()> {
    let refcount = stored.get(check, (entry & OFFSET_MASK) / check.cluster_size)?;
    if (refcount == 1) != (entry & COPIED != 0) {
        check.corrupt(format!(
            "the copied flag of entry {entry:#018x} at {at:#x} contradicts the refcount {refcount}"
        ));
    }
    Ok(())
}
