//! References to the host clusters of a window.

use crate::FindingKind;

use super::{Check, to_usize};

/// Low bits of a counter: the references, saturating.
const COUNT: u32 = (1 << 30) - 1;

/// What uses a cluster, in the high bits of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// Data, plain or compressed, of the disk or of a snapshot.
    Data = 1 << 30,
    /// An L2 table, which snapshots may share.
    L2 = 2 << 30,
    /// Anything that is used once.
    Other = 3 << 30,
}

/// The counters.
pub(super) struct Counts {
    first: u64,
    counters: Vec<u32>,
}

impl Counts {
    pub(super) fn new(first: u64, clusters: u64) -> Self {
        Self {
            first,
            counters: vec![0; to_usize(clusters)],
        }
    }

    /// First cluster of the window.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Number of clusters.
    pub(super) fn len(&self) -> u64 {
        self.counters.len() as u64
    }

    /// References to a cluster of the window.
    pub(super) fn get(&self, cluster: u64) -> u64 {
        let counter = self.counters.get(to_usize(cluster - self.first));
        counter.map_or(0, |counter| u64::from(counter & COUNT))
    }

    /// True when none of these clusters of the window is used.
    pub(super) fn unused(&self, first: u64, clusters: u64) -> bool {
        let start = to_usize(first - self.first);
        self.counters
            .get(start..start + to_usize(clusters))
            .is_some_and(|counters| counters.iter().fold(0, |seen, counter| seen | counter) == 0)
    }

    /// Counts `weight` references to each of `clusters` clusters from `first` on, those outside the window left out.
    pub(super) fn add(
        &mut self,
        check: &mut Check<'_>,
        first: u64,
        clusters: u64,
        weight: u32,
        kind: Kind,
    ) {
        let start = first.max(self.first);
        let end = first
            .saturating_add(clusters)
            .min(self.first + self.counters.len() as u64);
        let mut overlaps = 0;
        let mut overlap = 0;
        for cluster in start..end {
            let counter = &mut self.counters[to_usize(cluster - self.first)];
            let before = *counter & !COUNT;
            if before != 0 && (before != kind as u32 || kind == Kind::Other) {
                overlaps += 1;
                overlap = cluster;
            }
            *counter =
                (kind as u32).max(before) | (*counter & COUNT).saturating_add(weight).min(COUNT);
        }
        if overlaps > 0 {
            check.report.note(
                FindingKind::Corruption,
                overlaps,
                format!(
                    "expected each cluster to have one purpose, but {kind:?} at {:#x} overlaps other metadata or data",
                    overlap * check.cluster_size
                ),
            );
        }
    }
}
