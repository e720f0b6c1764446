//! What was sent, as hashes: a proof need not read those blocks again.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use wire::chunk::{BlockHash, block_hash};
use wire::{BLOCK_LEN, MAX_CHUNK_BLOCKS};

/// Disk bytes of one page: as many blocks as a chunk.
const PAGE_LEN: u64 = (MAX_CHUNK_BLOCKS * BLOCK_LEN) as u64;
/// Bytes of memory for a page beside its hashes.
const PAGE_OVERHEAD: usize = 64;
const HASH_LEN: usize = size_of::<BlockHash>();
/// Share of the machine's memory, and what is taken where that is not known, in bytes.
const SHARE: u64 = 8;
const UNKNOWN_LIMIT: u64 = 64 << 20;

/// Hashes by disk and block; no more than fit in its share of memory, what is beyond is forgotten.
#[derive(Debug)]
pub(super) struct HashMemory {
    state: Mutex<State>,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<(u32, u64), Page>,
    used: usize,
}

#[derive(Debug, Default)]
struct Page {
    /// Bit n: block n is known. `zero`: to be zeroes.
    known: u32,
    zero: u32,
    /// Of the known ones that are not zero, in order.
    hashes: Vec<BlockHash>,
}

impl HashMemory {
    /// Keeps at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            limit,
        }
    }

    /// An eighth of the memory that is free now.
    pub(super) fn share_of_memory() -> usize {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        let share = kib.map_or(UNKNOWN_LIMIT, |kib| kib.saturating_mul(1024) / SHARE);
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// Remembers the blocks from `offset` on, which lies on a block; `None` stands for zeroes.
    pub(super) fn remember(&self, disk: u32, offset: u64, hashes: &[Option<BlockHash>]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { pages, used } = &mut *state;
        let mut at = offset;
        for hash in hashes {
            let (page, bit) = place(at);
            at = at.saturating_add(u64::from(BLOCK_LEN));
            let cost = PAGE_OVERHEAD + HASH_LEN;
            if !pages.contains_key(&(disk, page)) {
                if *used + cost > self.limit {
                    continue;
                }
                *used += PAGE_OVERHEAD;
            }
            let page = pages.entry((disk, page)).or_default();
            let before = page.hashes.len();
            page.forget(bit);
            if hash.is_none() || *used + HASH_LEN <= self.limit {
                page.set(bit, *hash);
            }
            *used = (*used + page.hashes.len() * HASH_LEN).saturating_sub(before * HASH_LEN);
        }
    }

    /// The hash of the block of `len` bytes at `offset`, if it is remembered.
    pub(super) fn recall(&self, disk: u32, offset: u64, len: u64) -> Option<BlockHash> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (page, bit) = place(offset);
        match state.pages.get(&(disk, page))?.get(bit)? {
            Some(hash) => Some(hash),
            None => Some(zero_hash(len)),
        }
    }
}

/// Page and bit in it.
fn place(offset: u64) -> (u64, u32) {
    (
        offset / PAGE_LEN,
        1 << (offset % PAGE_LEN / u64::from(BLOCK_LEN)),
    )
}

impl Page {
    fn index(&self, bit: u32) -> usize {
        (self.known & !self.zero & (bit - 1)).count_ones() as usize
    }

    fn get(&self, bit: u32) -> Option<Option<BlockHash>> {
        if self.known & bit == 0 {
            None
        } else if self.zero & bit != 0 {
            Some(None)
        } else {
            self.hashes.get(self.index(bit)).copied().map(Some)
        }
    }

    fn forget(&mut self, bit: u32) {
        if self.known & !self.zero & bit != 0 {
            self.hashes.remove(self.index(bit));
        }
        self.known &= !bit;
        self.zero &= !bit;
    }

    fn set(&mut self, bit: u32, hash: Option<BlockHash>) {
        match hash {
            Some(hash) => self.hashes.insert(self.index(bit), hash),
            None => self.zero |= bit,
        }
        self.known |= bit;
    }
}

/// Hash of a block of zeroes.
pub(super) fn zero_hash(len: u64) -> BlockHash {
    static WHOLE: OnceLock<BlockHash> = OnceLock::new();
    let len = usize::try_from(len).unwrap_or(0).min(BLOCK_LEN as usize);
    if len == BLOCK_LEN as usize {
        *WHOLE.get_or_init(|| block_hash(&[0; BLOCK_LEN as usize]))
    } else {
        block_hash(&vec![0; len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_LEN as u64;

    #[test]
    fn it_remembers_what_it_was_told_and_the_newest_of_it() {
        let memory = HashMemory::new(1 << 20);
        let hash = |n: u8| Some([n; 32]);
        memory.remember(0, 0, &[hash(1), None, hash(3)]);
        memory.remember(0, 15 * BLOCK, &[hash(15), hash(16)]);
        memory.remember(0, 2 * BLOCK, &[hash(9)]);
        memory.remember(0, BLOCK, &[hash(2)]);
        memory.remember(0, 0, &[None]);
        let recall = |at: u64| memory.recall(0, at * BLOCK, BLOCK);
        assert_eq!(recall(0), Some(zero_hash(BLOCK)));
        assert_eq!([1, 2, 15, 16].map(recall), [2, 9, 15, 16].map(hash));
        assert_eq!(recall(3), None);
        assert_eq!(memory.recall(1, 0, BLOCK), None);
        assert_eq!(memory.recall(0, 0, 512), Some(block_hash(&[0; 512])));
    }

    #[test]
    fn it_stays_within_its_limit() {
        let memory = HashMemory::new(10_000);
        for block in 0..100_000u64 {
            memory.remember(0, block * BLOCK, &[Some([7; 32])]);
        }
        let state = memory.state.lock().unwrap();
        let used: usize = state
            .pages
            .values()
            .map(|p| p.hashes.len() * 32 + PAGE_OVERHEAD)
            .sum();
        assert!(used <= 10_000 && used > 5_000, "{used}");
        assert_eq!(used, state.used);
        drop(state);
        assert_eq!(memory.recall(0, 0, BLOCK), Some([7; 32]));
    }
}
