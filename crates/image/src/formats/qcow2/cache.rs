//! A small cache, bounded in bytes, that keeps what was used last. One is shared by an image and its backing
//! files, so a long chain costs no more memory than one image.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared slices of `T` by key.
#[derive(Debug)]
pub(in crate::formats) struct Cache<K, T> {
    max_bytes: usize,
    state: Mutex<State<K, T>>,
}

#[derive(Debug)]
struct State<K, T> {
    entries: HashMap<K, Entry<T>>,
    bytes: usize,
    /// Counts uses; an entry holds its value at its last use.
    clock: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: Arc<[T]>,
    used: u64,
}

impl<K: Copy + Eq + Hash, T> Cache<K, T> {
    pub(in crate::formats) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            state: Mutex::new(State {
                entries: HashMap::new(),
                bytes: 0,
                clock: 0,
            }),
        }
    }

    pub(in crate::formats) fn get(&self, key: K) -> Option<Arc<[T]>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let clock = state.clock;
        let entry = state.entries.get_mut(&key)?;
        entry.used = clock;
        Some(Arc::clone(&entry.value))
    }

    /// Keeps `value`. When the bound is passed, the older half of the entries goes in one sweep, so a sweep is
    /// rare however small the entries are. The newest stays even if it is larger than the bound.
    pub(in crate::formats) fn insert(&self, key: K, value: Arc<[T]>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clock += 1;
        let used = state.clock;
        state.bytes += size_of_val(&*value);
        if let Some(old) = state.entries.insert(key, Entry { value, used }) {
            state.bytes -= size_of_val(&*old.value);
        }
        if state.bytes > self.max_bytes {
            let mut uses: Vec<u64> = state.entries.values().map(|entry| entry.used).collect();
            let middle = uses.len() / 2;
            let (_, &mut median, _) = uses.select_nth_unstable(middle);
            state.entries.retain(|_, entry| entry.used >= median);
            state.bytes = state
                .entries
                .values()
                .map(|entry| size_of_val(&*entry.value))
                .sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays_within_the_bound() {
        let cache = Cache::new(8 * 10);
        for key in 0..1000u64 {
            cache.insert(key, Arc::from(vec![key]));
            assert_eq!(cache.get(key).as_deref(), Some(&[key][..]));
            if key > 0 {
                assert!(cache.get(0).is_some(), "used each time, so it stays");
            }
            assert!(cache.state.lock().unwrap().bytes <= 80);
        }
        assert!(cache.get(1).is_none());
        cache.insert(7, Arc::from(vec![0; 1000]));
        assert!(cache.get(7).is_some());
    }
}
