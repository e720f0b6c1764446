//! Free cells by place and by size.

use std::collections::{BTreeMap, BTreeSet};

/// What is free. The smallest cell that is large enough is taken, of equal ones the first.
#[derive(Clone, Debug, Default)]
pub(super) struct FreeSpace {
    /// Size of each.
    sizes: BTreeMap<u32, u32>,
    /// Size and place of each.
    by_size: BTreeSet<(u32, u32)>,
}

impl FreeSpace {
    /// Takes one up as it is.
    pub(super) fn add(&mut self, cell: u32, size: u32) {
        self.sizes.insert(cell, size);
        self.by_size.insert((size, cell));
    }

    fn remove(&mut self, cell: u32, size: u32) {
        self.sizes.remove(&cell);
        self.by_size.remove(&(size, cell));
    }

    /// A cell of at least this size, and its size; it is no longer free.
    pub(super) fn take(&mut self, size: u32) -> Option<(u32, u32)> {
        let (found, cell) = *self.by_size.range((size, 0)..).next()?;
        self.remove(cell, found);
        Some((cell, found))
    }

    /// Takes one up together with those right before and behind it; what it has become. Cells of different bins never
    /// touch: there is a header between.
    pub(super) fn merge(&mut self, mut cell: u32, mut size: u32) -> (u32, u32) {
        if let Some(&next) = self.sizes.get(&(cell + size)) {
            self.remove(cell + size, next);
            size += next;
        }
        let before = self.sizes.range(..cell).next_back();
        if let Some((place, len)) = before.map(|(place, len)| (*place, *len))
            && place + len == cell
        {
            self.remove(place, len);
            cell = place;
            size += len;
        }
        self.add(cell, size);
        (cell, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_and_the_best_fit_is_taken() {
        let mut free = FreeSpace::default();
        assert_eq!(free.merge(32, 64), (32, 64));
        assert_eq!(free.merge(160, 32), (160, 32));
        assert_eq!(free.take(40), Some((32, 64)));
        assert_eq!(free.take(40), None);
        assert_eq!(free.merge(32, 64), (32, 64));
        assert_eq!(free.merge(96, 64), (32, 160));
        assert_eq!(free.take(160), Some((32, 160)));
        assert_eq!(free.take(8), None);
    }
}
