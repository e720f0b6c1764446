//! A small bounded cache with two generations: what is used moves to the young one, and when that is full the old
//! one is dropped. It forgets in about the order of last use, and nothing is ever searched.

use std::collections::HashMap;

/// Values by number; at most twice `half` of them.
#[derive(Debug)]
pub(super) struct Generations<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
    half: usize,
}

impl<V: Clone> Generations<V> {
    pub(super) fn new(half: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: half.max(1),
        }
    }

    pub(super) fn get(&mut self, key: u64) -> Option<V> {
        if let Some(value) = self.young.get(&key) {
            return Some(value.clone());
        }
        let value = self.old.remove(&key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: u64, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let mut cache = Generations::new(4);
        for key in 0..100 {
            cache.insert(key, key * 10);
            assert_eq!(cache.get(0), Some(0), "used after each insertion");
            assert!(cache.young.len() + cache.old.len() <= 8);
        }
        assert_eq!(cache.get(99), Some(990));
        assert_eq!(cache.get(50), None);
    }
}
