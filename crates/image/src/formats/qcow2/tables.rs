//! The L1 and L2 tables of an image being written: L2 tables exist only where something was stored, and only a
//! bounded number of them is held in memory.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::U64;

use crate::Result;

use super::geometry::{COPIED, ENTRY_BYTES, Geometry, SUBCLUSTERS};
use super::store::Store;
use super::to_usize;

/// Bytes of L2 tables held in memory. A disk that is written front to back needs one table or two at a time;
/// this allows 256 GiB of disk to be written in any order without reading a table back.
const RESIDENT_BYTES: u64 = 32 << 20;
/// Tables held in memory however large they are.
const MIN_RESIDENT: u64 = 8;
/// Tables held in memory however small they are: 512-byte tables cost more in bookkeeping than in content.
const MAX_RESIDENT: u64 = 16 << 10;

/// A table leaves memory when it is full, or when it is the one loaded longest ago and room is needed; in the
/// latter case it is read back if one of its clusters is written after all.
#[derive(Debug)]
pub(super) struct Tables {
    geometry: Geometry,
    /// Entries of the L1 table: 0, or the place of an L2 table that has been in the file.
    l1: Vec<u64>,
    resident: HashMap<usize, Table>,
    /// Loaded tables, oldest first; may name tables that left since.
    order: VecDeque<usize>,
    max_resident: usize,
}

#[derive(Debug)]
struct Table {
    entries: Vec<U64>,
    set: u64,
}

/// An L2 entry: the cluster descriptor, and the subcluster bitmap where entries are extended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct L2Entry {
    pub(super) word: u64,
    pub(super) bitmap: u64,
}

fn is_unset(entry: &[U64]) -> bool {
    entry.iter().all(|word| word.get() == 0)
}

impl Tables {
    /// Tables for an L1 table of `l1_entries` entries, which the caller has capped.
    pub(super) fn new(geometry: Geometry, l1_entries: u64) -> Self {
        let max_resident =
            (RESIDENT_BYTES / geometry.cluster_size()).clamp(MIN_RESIDENT, MAX_RESIDENT);
        Self {
            geometry,
            l1: vec![0; to_usize(l1_entries)],
            resident: HashMap::new(),
            order: VecDeque::new(),
            max_resident: to_usize(max_resident),
        }
    }

    /// Sets the entries of the guest clusters from `cluster` on; one that is all zero is left as it is.
    pub(super) fn set(&mut self, store: &Store, cluster: u64, entries: &[L2Entry]) -> Result<()> {
        let (per_table, words) = (self.geometry.l2_entries(), self.geometry.entry_words());
        let (mut cluster, mut entries) = (cluster, entries);
        while !entries.is_empty() {
            let (index, first) = (to_usize(cluster / per_table), cluster % per_table);
            let part = to_usize(per_table - first).min(entries.len());
            let (now, later) = entries.split_at(part);
            if now.iter().any(|entry| *entry != L2Entry::default()) {
                let table = self.load(store, index)?;
                let places = table.entries.chunks_exact_mut(to_usize(words));
                for (place, entry) in places.skip(to_usize(first)).zip(now) {
                    if *entry == L2Entry::default() {
                        continue;
                    }
                    table.set += u64::from(is_unset(place));
                    if let [word, rest @ ..] = place {
                        *word = U64::new(entry.word);
                        rest.iter_mut()
                            .for_each(|bitmap| *bitmap = U64::new(entry.bitmap));
                    }
                }
                if table.set == per_table {
                    self.evict(store, index)?;
                }
            }
            cluster += part as u64;
            entries = later;
        }
        Ok(())
    }

    /// Writes all tables that are still in memory, then the L1 table, and returns its host offset.
    pub(super) fn finish(mut self, store: &Store) -> Result<u64> {
        let mut left: Vec<usize> = self.resident.keys().copied().collect();
        left.sort_unstable();
        for index in left {
            self.evict(store, index)?;
        }
        write_l1(store, &self.l1)
    }

    fn load(&mut self, store: &Store, index: usize) -> Result<&mut Table> {
        if !self.resident.contains_key(&index) {
            while self.resident.len() >= self.max_resident {
                let Some(oldest) = self.order.pop_front() else {
                    break;
                };
                self.evict(store, oldest)?;
            }
            self.order.push_back(index);
        }
        let table = match self.resident.entry(index) {
            Entry::Occupied(table) => return Ok(table.into_mut()),
            Entry::Vacant(table) => table,
        };
        let words = self.geometry.entry_words();
        let mut entries = vec![U64::ZERO; to_usize(self.geometry.l2_entries() * words)];
        let mut set = 0;
        if self.l1[index] != 0 {
            store
                .file
                .read(entries.as_mut_bytes(), self.l1[index] & !COPIED)?;
            let entries = entries.chunks_exact(to_usize(words));
            set = entries.filter(|entry| !is_unset(entry)).count() as u64;
        }
        Ok(table.insert(Table { entries, set }))
    }

    fn evict(&mut self, store: &Store, index: usize) -> Result<()> {
        let Some(table) = self.resident.remove(&index) else {
            return Ok(());
        };
        if self.l1[index] == 0 {
            self.l1[index] = store.allocate(1) | COPIED;
        }
        while self
            .order
            .front()
            .is_some_and(|oldest| !self.resident.contains_key(oldest))
        {
            self.order.pop_front();
        }
        store
            .file
            .write(table.entries.as_bytes(), self.l1[index] & !COPIED)
    }
}

/// Writes L2 and L1 tables that map every cluster of a disk to the host clusters from `data` on, in order, and
/// returns the host offset of the L1 table.
pub(super) fn write_mapped(
    store: &Store,
    geometry: Geometry,
    data: u64,
    clusters: u64,
) -> Result<u64> {
    /// Entries of one write.
    const BATCH: u64 = 64 << 10;
    /// All subclusters are in use.
    const ALL: u64 = (1 << SUBCLUSTERS) - 1;
    let l2_tables = clusters.div_ceil(geometry.l2_entries());
    let l2 = store.allocate(l2_tables);
    let words = geometry.entry_words();
    let mut batch: Vec<U64> = Vec::new();
    let mut first = 0;
    while first < clusters {
        let end = clusters.min(first + BATCH);
        batch.clear();
        for cluster in first..end {
            batch.push(U64::new(
                (data + cluster * geometry.cluster_size()) | COPIED,
            ));
            if words == 2 {
                batch.push(U64::new(ALL));
            }
        }
        store
            .file
            .write(batch.as_bytes(), l2 + first * words * ENTRY_BYTES)?;
        first = end;
    }
    let l1: Vec<u64> = (0..l2_tables)
        .map(|table| (l2 + table * geometry.cluster_size()) | COPIED)
        .collect();
    write_l1(store, &l1)
}

/// Writes the L1 table. It has at least one cluster, which is a hole for an empty disk.
fn write_l1(store: &Store, l1: &[u64]) -> Result<u64> {
    let bytes: Vec<U64> = l1.iter().map(|&entry| U64::new(entry)).collect();
    let clusters = (l1.len() as u64 * ENTRY_BYTES)
        .div_ceil(store.cluster_size)
        .max(1);
    let offset = store.allocate(clusters);
    store.file.write(bytes.as_bytes(), offset)?;
    Ok(offset)
}
