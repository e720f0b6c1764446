//! The arithmetic of clusters and tables, common to reader and writer.

use crate::{Error, ErrorKind, Result};

/// Smallest cluster that the format allows: qcow2 "Header", `cluster_bits`.
pub(super) const MIN_CLUSTER_BITS: u32 = 9;
/// Largest cluster that QEMU opens: qcow2 "Header", `cluster_bits`.
pub(super) const MAX_CLUSTER_BITS: u32 = 21;
/// Largest L1 table that QEMU opens, in bytes: qcow2 "Header", `size`.
pub(super) const MAX_L1_BYTES: u64 = 32 << 20;
/// Bytes of an L1 entry, and of an L2 entry that is not extended.
pub(super) const ENTRY_BYTES: u64 = 8;
/// Subclusters of a cluster: qcow2 "Extended L2 Entries".
pub(super) const SUBCLUSTERS: u64 = 32;

/// Bits 9 to 55 of an L1 entry or a standard L2 entry, the host offset: qcow2 "Cluster mapping".
pub(super) const OFFSET_MASK: u64 = ((1 << 56) - 1) & !((1 << 9) - 1);
/// Bit 63: the refcount is exactly one.
pub(super) const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
pub(super) const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of a standard cluster descriptor: the cluster reads as zeroes.
pub(super) const ZERO: u64 = 1;

/// Cluster size and form of the L2 entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cluster_bits: u32,
    pub(super) extended_l2: bool,
}

impl Geometry {
    pub(super) fn cluster_size(self) -> u64 {
        1 << self.cluster_bits
    }

    /// 64-bit words of one L2 entry.
    pub(super) fn entry_words(self) -> u64 {
        if self.extended_l2 { 2 } else { 1 }
    }

    /// Entries of one L2 table, which is one cluster.
    pub(super) fn l2_entries(self) -> u64 {
        self.cluster_size() / ENTRY_BYTES / self.entry_words()
    }

    /// Bytes of the disk that one L2 table maps.
    pub(super) fn l2_span(self) -> u64 {
        self.l2_entries() * self.cluster_size()
    }

    pub(super) fn subcluster_size(self) -> u64 {
        self.cluster_size() / SUBCLUSTERS
    }

    /// L1 entries that a disk of `virtual_size` bytes needs.
    pub(super) fn l1_entries(self, virtual_size: u64) -> Result<u64> {
        let entries = virtual_size.div_ceil(self.l2_span());
        let max = MAX_L1_BYTES / ENTRY_BYTES;
        if entries > max {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected at most {} bytes of disk with clusters of {} bytes, found {virtual_size}",
                    u128::from(max) * u128::from(self.l2_span()),
                    self.cluster_size(),
                ),
            ));
        }
        Ok(entries)
    }
}
