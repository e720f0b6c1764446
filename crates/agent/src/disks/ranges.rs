//! A set of byte ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Byte ranges, joined where they touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start to end.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds a range.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&s, &e)) = self.ranges.range(..=end).next_back() {
            if e < start {
                break;
            }
            start = start.min(s);
            end = end.max(e);
            self.ranges.remove(&s);
        }
        self.ranges.insert(start, end);
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&s, &e)) = self.ranges.range(..range.end).next_back() {
            if e <= range.start {
                break;
            }
            self.ranges.remove(&s);
            if s < range.start {
                self.ranges.insert(s, range.start);
            }
            if e > range.end {
                self.ranges.insert(range.end, e);
            }
        }
    }

    /// What of the set is inside `range`, ascending.
    pub fn within(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let before = self.ranges.range(..range.start).next_back();
        let inside = self.ranges.range(range.start..range.end.max(range.start));
        before
            .into_iter()
            .chain(inside)
            .map(|(&s, &e)| s.max(range.start)..e.min(range.end))
            .filter(|r| !r.is_empty())
            .collect()
    }

    /// What of `range` is not in the set, ascending.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for hole in self.within(range.clone()) {
            if at < hole.start {
                gaps.push(at..hole.start);
            }
            at = hole.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Bytes in the set.
    pub fn total(&self) -> u64 {
        self.ranges.iter().map(|(s, e)| e - s).sum()
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_a_set_of_bytes() {
        let mut set = RangeSet::default();
        let mut model = [false; 64];
        let mut seed = 1u64;
        for step in 0..4000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (a, b) = ((seed >> 33) % 64, (seed >> 43) % 64);
            let range = a.min(b)..a.max(b);
            let add = step % 3 != 0;
            if add {
                set.insert(range.clone());
            } else {
                set.remove(range.clone());
            }
            for at in range.clone() {
                model[usize::try_from(at).unwrap()] = add;
            }
            let flat = |ranges: Vec<Range<u64>>| ranges.into_iter().flatten().collect::<Vec<_>>();
            let bytes = |want: bool| {
                range
                    .clone()
                    .filter(|&at| model[usize::try_from(at).unwrap()] == want)
                    .collect::<Vec<_>>()
            };
            assert_eq!(flat(set.within(range.clone())), bytes(true));
            assert_eq!(flat(set.gaps(range.clone())), bytes(false));
            assert_eq!(set.total(), model.iter().filter(|&&b| b).count() as u64);
        }
    }

    #[test]
    fn neighbours_are_joined() {
        let mut set = RangeSet::default();
        set.insert(0..4);
        set.insert(8..12);
        set.insert(4..8);
        assert_eq!(set.within(0..100), [0..12]);
    }
}
