//! The file of an image being written, and who gets which place in it.
//!
//! Whole clusters are handed out by adding to one number, so a write of neighbouring guest clusters is one contiguous
//! write. Compressed clusters are packed end to end, in stretches of their own: when whole clusters are handed out in
//! between, the stretch is continued, and only its last bytes are lost.

use std::sync::{Mutex, PoisonError};

use crate::formats::raw::OutputFile;

use super::to_usize;

/// Bytes of a stretch for compressed clusters. What does not fit its end, half a cluster on average, is lost: 1 %.
const STRETCH: u64 = 2 << 20;

/// The file and its allocator.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) file: OutputFile,
    pub(super) cluster_size: u64,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// End of all that was handed out; a multiple of the cluster size.
    next: u64,
    /// The rest of the stretch for compressed clusters.
    packed: Option<(u64, u64)>,
    /// Clusters that were left over.
    free: Vec<u64>,
    /// Refcounts of the host clusters, where they are not all one.
    counts: Option<Vec<u16>>,
}

impl Store {
    /// An allocator that leaves the header's cluster out. With `packed` it counts references.
    pub(super) fn new(file: OutputFile, cluster_size: u64, packed: bool) -> Self {
        Self {
            file,
            cluster_size,
            places: Mutex::new(Places {
                next: cluster_size,
                counts: packed.then(|| vec![1]),
                ..Places::default()
            }),
        }
    }

    /// Host offset of `clusters` new contiguous clusters.
    pub(super) fn allocate(&self, clusters: u64) -> u64 {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if clusters == 1
            && let Some(place) = places.free.pop()
        {
            places.count(place / self.cluster_size, 1);
            return place;
        }
        let place = places.next;
        places.extend(clusters, self.cluster_size);
        for cluster in 0..clusters {
            places.count(place / self.cluster_size + cluster, 1);
        }
        place
    }

    /// Host offsets of compressed clusters of these lengths, each at most a cluster and not 0.
    pub(super) fn pack(&self, lens: impl Iterator<Item = usize>) -> Vec<u64> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        lens.map(|len| places.pack(len as u64, self.cluster_size))
            .collect()
    }

    /// Gives back the clusters that the stretch for compressed ones has not touched.
    pub(super) fn end_packing(&self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, end)) = places.packed.take() else {
            return;
        };
        let mut untouched = at.next_multiple_of(self.cluster_size);
        if end == places.next {
            let clusters = to_usize(untouched / self.cluster_size);
            places.next = untouched;
            if let Some(counts) = &mut places.counts {
                counts.truncate(clusters);
            }
            return;
        }
        while untouched < end {
            places.free.push(untouched);
            untouched += self.cluster_size;
        }
        places.free.reverse();
    }

    /// Clusters handed out, and the refcounts of those where they are not all one.
    pub(super) fn into_parts(self) -> (OutputFile, u64, Option<Vec<u16>>) {
        let places = self
            .places
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (self.file, places.next / self.cluster_size, places.counts)
    }
}

impl Places {
    fn extend(&mut self, clusters: u64, cluster_size: u64) {
        self.next += clusters * cluster_size;
        if let Some(counts) = &mut self.counts {
            counts.resize(to_usize(self.next / cluster_size), 0);
        }
    }

    fn count(&mut self, cluster: u64, more: u16) {
        let counts = self.counts.as_mut();
        if let Some(count) = counts.and_then(|counts| counts.get_mut(to_usize(cluster))) {
            *count = count.saturating_add(more);
        }
    }

    fn is_full(&self, cluster: u64) -> bool {
        let counts = self.counts.as_ref();
        counts.and_then(|counts| counts.get(to_usize(cluster))) == Some(&u16::MAX)
    }

    fn pack(&mut self, len: u64, cluster_size: u64) -> u64 {
        let (mut at, mut end) = self.packed.unwrap_or((self.next, self.next));
        // A cluster can be referred to only so often.
        if self.is_full(at / cluster_size) {
            at = (at + 1).next_multiple_of(cluster_size);
        }
        if at + len > end {
            if end != self.next {
                at = self.next;
            }
            let clusters = (STRETCH / cluster_size).max((len - 1) / cluster_size + 2);
            self.extend(clusters, cluster_size);
            end = self.next;
        }
        self.packed = Some((at + len, end));
        for cluster in at / cluster_size..=(at + len - 1) / cluster_size {
            self.count(cluster, 1);
        }
        at
    }
}
