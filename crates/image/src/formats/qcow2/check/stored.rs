//! The refcounts that the image stores: qcow2 "Host cluster management".

use std::sync::Arc;

use crate::{Error, ErrorKind, FindingKind, Result};

use super::super::cache::Cache;
use super::super::geometry::ENTRY_BYTES;
use super::super::refcount::MAX_TABLE_BYTES;
use super::counts::Counts;
use super::{Check, to_usize};

/// Bits 0 to 8 of a refcount table entry are 0.
const RESERVED: u64 = (1 << 9) - 1;
/// Bytes of refcount blocks held while copied flags are looked at.
const CACHE_BYTES: usize = 8 << 20;

/// The refcount table and the way to its blocks.
pub(super) struct Stored {
    /// Host offset of each block, 0 for none or a bad one.
    table: Vec<u64>,
    order: u32,
    /// Clusters that a block counts.
    per_block: u64,
    cache: Cache<u64, u8>,
}

impl Stored {
    /// Reads the table and notes entries that cannot be.
    pub(super) fn read(check: &mut Check<'_>) -> Result<Self> {
        let header = check.header;
        let offset = header.refcount_table_offset;
        let len = header.refcount_table_clusters * check.cluster_size;
        if len > MAX_TABLE_BYTES.max(check.cluster_size) {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected a refcount table of at most {MAX_TABLE_BYTES} bytes, found {len}"
                ),
            )
            .at(56));
        }
        if offset == 0 || len == 0 {
            return Err(Error::corrupt("expected a refcount table, found none").at(48));
        }
        if !check.is_placed("refcount table", offset, len) {
            return Err(Error::corrupt(format!(
                "expected a refcount table of {len} bytes at a cluster of the file, found {offset:#x}"
            ))
            .at(48));
        }
        let mut table = vec![0; to_usize(len / ENTRY_BYTES)];
        check.entries(offset, len / ENTRY_BYTES, |check, index, entry| {
            if entry & RESERVED != 0 {
                check.corrupt(format!(
                    "reserved bits are set in refcount table entry {index}: {entry:#018x}"
                ));
            } else if check.is_placed("refcount block", entry, check.cluster_size) {
                table[to_usize(index)] = entry;
            }
            Ok(())
        })?;
        Ok(Self {
            table,
            order: header.refcount_order,
            per_block: (check.cluster_size * 8) >> header.refcount_order,
            cache: Cache::new(CACHE_BYTES),
        })
    }

    /// Host offsets of the blocks.
    pub(super) fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.table.iter().copied().filter(|&block| block != 0)
    }

    /// The refcount of a cluster.
    pub(super) fn get(&self, check: &Check<'_>, cluster: u64) -> Result<u64> {
        let index = cluster / self.per_block;
        let Some(&at @ 1..) = self.table.get(to_usize(index)) else {
            return Ok(0);
        };
        let block = match self.cache.get(index) {
            Some(block) => block,
            None => {
                let block: Arc<[u8]> = check
                    .range
                    .read_vec(at, to_usize(check.cluster_size))?
                    .into();
                self.cache.insert(index, Arc::clone(&block));
                block
            }
        };
        Ok(refcount(&block, self.order, cluster % self.per_block))
    }

    /// Compares the counted references of a window with what is stored, and notes the differences, neighbours of
    /// one kind as one.
    pub(super) fn compare(&self, check: &mut Check<'_>, counts: &Counts) -> Result<()> {
        let mut run = Run::default();
        let (mut cluster, end) = (counts.first(), counts.first() + counts.len());
        while cluster < end {
            check.cancelled()?;
            let index = cluster / self.per_block;
            let block_end = ((index + 1) * self.per_block).min(end);
            let at = self.table.get(to_usize(index)).copied().unwrap_or(0);
            let hole = at == 0
                || (check.range.is_sparse()
                    && check.range.run_at(at, check.cluster_size) == (false, check.cluster_size));
            if hole && counts.unused(cluster, block_end - cluster) {
                cluster = block_end;
                continue;
            }
            let block = if hole {
                Vec::new()
            } else {
                check.range.read_vec(at, to_usize(check.cluster_size))?
            };
            while cluster < block_end {
                let found = refcount(&block, self.order, cluster % self.per_block);
                let expected = counts.get(cluster);
                if found != expected {
                    run.add(check, cluster, expected, found);
                }
                cluster += 1;
            }
        }
        run.flush(check);
        Ok(())
    }
}

/// Entry `index` of a block; those of less than a byte fill a byte from its low bits on.
fn refcount(block: &[u8], order: u32, index: u64) -> u64 {
    if order < 3 {
        let bit = to_usize(index << order);
        let byte = block.get(bit / 8).copied().unwrap_or(0);
        let mask = (1u64 << (1 << order)) - 1;
        return u64::from(byte) >> (bit % 8) & mask;
    }
    let len = 1usize << (order - 3);
    let start = to_usize(index) * len;
    let bytes = block.get(start..start + len).unwrap_or_default();
    bytes.iter().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

/// Clusters in a row with the same difference.
#[derive(Default)]
struct Run {
    first: u64,
    clusters: u64,
    expected: u64,
    found: u64,
}

impl Run {
    fn add(&mut self, check: &mut Check<'_>, cluster: u64, expected: u64, found: u64) {
        if self.clusters > 0
            && cluster == self.first + self.clusters
            && (expected, found) == (self.expected, self.found)
        {
            self.clusters += 1;
            return;
        }
        self.flush(check);
        *self = Self {
            first: cluster,
            clusters: 1,
            expected,
            found,
        };
    }

    fn flush(&mut self, check: &mut Check<'_>) {
        if self.clusters == 0 {
            return;
        }
        let kind = if self.found < self.expected {
            FindingKind::Corruption
        } else {
            FindingKind::Leak
        };
        let message = format!(
            "expected a refcount of {} for {} clusters at {:#x}, found {}",
            self.expected,
            self.clusters,
            self.first * check.cluster_size,
            self.found
        );
        check.report.note(kind, self.clusters, message);
        self.clusters = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_of_every_width_are_found() {
        let block = [0b1110_0100, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];
        let bits: Vec<u64> = (0..8).map(|n| refcount(&block, 0, n)).collect();
        assert_eq!(bits, [0, 0, 1, 0, 0, 1, 1, 1]);
        let pairs: Vec<u64> = (0..4).map(|n| refcount(&block, 1, n)).collect();
        assert_eq!(pairs, [0, 1, 2, 3]);
        assert_eq!(refcount(&block, 2, 0), 4);
        assert_eq!(refcount(&block, 2, 1), 14);
        assert_eq!(refcount(&block, 3, 2), 0x34);
        assert_eq!(refcount(&block, 4, 1), 0x3456);
        assert_eq!(refcount(&block, 5, 1), 0x789a_bcde);
        assert_eq!(refcount(&block, 6, 0), 0xe412_3456_789a_bcde);
        assert_eq!(refcount(&[], 4, 5), 0);
    }
}
