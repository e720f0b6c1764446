//! The refcounts of an image being written: qcow2 "Host cluster management". Every host cluster is used exactly once,
//! but for those that hold compressed clusters.

use crate::Result;
use crate::formats::raw::OutputFile;

use super::to_usize;

/// Bytes of a refcount table entry.
const TABLE_ENTRY_BYTES: u64 = 8;
/// Largest refcount table that QEMU opens, in bytes: qcow2 "Host cluster management".
pub(super) const MAX_TABLE_BYTES: u64 = 8 << 20;
/// Length of one write.
const WRITE_BYTES: u64 = 1 << 20;

/// Where the refcounts of an image go: the table, then the blocks, after all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    cluster_size: u64,
    /// Clusters before the table.
    used_clusters: u64,
    pub(super) table_clusters: u64,
    blocks: u64,
    /// Bytes of one refcount.
    refcount_bytes: u64,
}

impl Layout {
    /// Refcounts for `used_clusters` clusters and for their own, which is why it takes a few rounds.
    pub(super) fn new(used_clusters: u64, cluster_size: u64, refcount_bits: u32) -> Self {
        let mut layout = Self {
            cluster_size,
            used_clusters,
            table_clusters: 0,
            blocks: 0,
            refcount_bytes: u64::from(refcount_bits / 8),
        };
        loop {
            let blocks = layout
                .total_clusters()
                .div_ceil(cluster_size / layout.refcount_bytes);
            let table_clusters = (blocks * TABLE_ENTRY_BYTES).div_ceil(cluster_size);
            if (blocks, table_clusters) == (layout.blocks, layout.table_clusters) {
                return layout;
            }
            (layout.blocks, layout.table_clusters) = (blocks, table_clusters);
        }
    }

    /// All clusters of the file.
    pub(super) fn total_clusters(&self) -> u64 {
        self.used_clusters + self.table_clusters + self.blocks
    }

    /// Host offset of the table.
    pub(super) fn table_offset(&self) -> u64 {
        self.used_clusters * self.cluster_size
    }

    /// Bytes of the table that are in use.
    pub(super) fn table_bytes(&self) -> u64 {
        self.blocks * TABLE_ENTRY_BYTES
    }

    /// Writes table and blocks; `counts` has the refcounts of the clusters before the table, where they are not all
    /// one. What follows the last entry of each stays a hole, which reads as zero.
    pub(super) fn write(&self, file: &OutputFile, counts: Option<&[u16]>) -> Result<()> {
        let first_block = self.table_offset() + self.table_clusters * self.cluster_size;
        let mut table = Vec::new();
        let mut at = self.table_offset();
        for block in 0..self.blocks {
            table.extend_from_slice(&(first_block + block * self.cluster_size).to_be_bytes());
            if table.len() as u64 >= WRITE_BYTES || block + 1 == self.blocks {
                file.write(&table, at)?;
                at += table.len() as u64;
                table.clear();
            }
        }
        let width = to_usize(self.refcount_bytes);
        let counted = counts.unwrap_or_default();
        let (mut cluster, end) = (0, self.total_clusters());
        let mut refcounts = Vec::new();
        while cluster < end {
            let part = (end - cluster).min(WRITE_BYTES / self.refcount_bytes);
            refcounts.clear();
            for cluster in cluster..cluster + part {
                let count = counted
                    .get(to_usize(cluster))
                    .map_or(1, |&count| u64::from(count));
                refcounts.extend_from_slice(&count.to_be_bytes()[8 - width..]);
            }
            file.write(&refcounts, first_block + cluster * self.refcount_bytes)?;
            cluster += part;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_count_themselves() {
        for cluster_size in [512, 4096, 65536, 2 << 20] {
            for used in [
                1,
                2,
                255,
                256,
                257,
                32767,
                32768,
                65536 * 9 + 5,
                (2 << 40) / cluster_size,
            ] {
                let layout = Layout::new(used, cluster_size, 16);
                let covered = layout.blocks * (cluster_size / 2);
                assert!(
                    covered >= layout.total_clusters(),
                    "{used} of {cluster_size}"
                );
                assert!(
                    covered < layout.total_clusters() + cluster_size,
                    "{used} of {cluster_size}"
                );
                assert!(layout.table_clusters * cluster_size >= layout.table_bytes());
            }
        }
    }
}
