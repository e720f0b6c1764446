//! Everything that uses clusters but L2 tables and what they map.

use crate::{Error, ErrorKind, Result};

use super::super::geometry::{ENTRY_BYTES, MAX_L1_BYTES, OFFSET_MASK};
use super::super::{bitmaps, snapshots};
use super::counts::Kind;
use super::stored::Stored;
use super::{Check, Region};

/// Most entries of all bitmap tables: a bitmap of the default granularity takes one for 32 GiB of disk.
const MAX_BITMAP_ENTRIES: u64 = 1 << 20;
/// Most entries of all L1 tables, those of snapshots included: each is read once.
const MAX_L1_ENTRIES: u64 = 64 << 20;

/// What was found.
pub(super) struct Regions {
    pub(super) used: Vec<Region>,
    /// Offset and entries of every L1 table; the first is that of the active state.
    pub(super) l1: Vec<(u64, u64)>,
}

/// All regions of the image.
pub(super) fn all(check: &mut Check<'_>, stored: &Stored) -> Result<Regions> {
    let header = check.header;
    let mut regions = Regions {
        used: Vec::new(),
        l1: Vec::new(),
    };
    regions.used.push(Region {
        first: 0,
        clusters: 1,
        kind: Kind::Other,
    });
    regions.add(
        check,
        header.refcount_table_offset,
        header.refcount_table_clusters * check.cluster_size,
    );
    for block in stored.blocks() {
        regions.add(check, block, check.cluster_size);
    }
    regions.add_l1(check, header.l1.offset, header.l1.bytes / ENTRY_BYTES);
    match snapshots::read(check.range, header) {
        Ok(table) => {
            regions.add(check, table.offset, table.len);
            for entry in &table.entries {
                if entry.l1_entries * ENTRY_BYTES > MAX_L1_BYTES {
                    check.corrupt(format!(
                        "expected an L1 table of at most {MAX_L1_BYTES} bytes, snapshot {:?} has {} entries",
                        entry.said.id, entry.l1_entries
                    ));
                } else if check.is_placed(
                    "L1 table of a snapshot",
                    entry.l1_offset,
                    entry.l1_entries * ENTRY_BYTES,
                ) {
                    regions.add_l1(check, entry.l1_offset, entry.l1_entries);
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::Io => return Err(error),
        Err(error) => check.corrupt(format!("the snapshot table is not readable: {error}")),
    }
    let entries: u64 = regions.l1.iter().map(|(_, entries)| entries).sum();
    if entries > MAX_L1_ENTRIES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected at most {MAX_L1_ENTRIES} entries of L1 tables, found {entries}"),
        ));
    }
    if let Some(at) = &header.bitmaps {
        regions.add_bitmaps(check, at)?;
    }
    Ok(regions)
}

impl Regions {
    /// Notes the clusters that bytes touch; the caller knows that they are in the file.
    fn add(&mut self, check: &Check<'_>, offset: u64, len: u64) {
        if len > 0 {
            let first = offset / check.cluster_size;
            self.used.push(Region {
                first,
                clusters: (offset + len).div_ceil(check.cluster_size) - first,
                kind: Kind::Other,
            });
        }
    }

    fn add_l1(&mut self, check: &Check<'_>, offset: u64, entries: u64) {
        self.add(check, offset, entries * ENTRY_BYTES);
        self.l1.push((offset, entries));
    }

    fn add_bitmaps(
        &mut self,
        check: &mut Check<'_>,
        at: &super::super::extension::BitmapsAt,
    ) -> Result<()> {
        if !check.is_placed("bitmap directory", at.directory_offset, at.directory_len) {
            return Ok(());
        }
        self.add(check, at.directory_offset, at.directory_len);
        let all = match bitmaps::read(check.range, at) {
            Ok(all) => all,
            Err(error) if error.kind() == ErrorKind::Io => return Err(error),
            Err(error) => {
                check.corrupt(format!("the bitmap directory is not readable: {error}"));
                return Ok(());
            }
        };
        let mut left = MAX_BITMAP_ENTRIES;
        for bitmap in all {
            let entries = bitmap.table_entries;
            left = left.checked_sub(entries).ok_or_else(|| {
                Error::new(
                    ErrorKind::Limit,
                    format!("expected at most {MAX_BITMAP_ENTRIES} entries of bitmap tables"),
                )
            })?;
            let len = entries * ENTRY_BYTES;
            if !check.is_placed("bitmap table", bitmap.table_offset, len) {
                continue;
            }
            self.add(check, bitmap.table_offset, len);
            check.entries(bitmap.table_offset, entries, |check, _, entry| {
                let offset = entry & OFFSET_MASK;
                if offset != 0 && check.is_placed("bitmap data cluster", offset, 1) {
                    self.add(check, offset, check.cluster_size);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
