//! Which bytes of a read have come.

use std::collections::BTreeMap;
use std::ops::Range;

/// Pieces that lie apart at a time. Servers send in order, or nearly so.
const MAX_PIECES: usize = 4096;

/// The range of a read, and the parts of it that chunks have filled.
#[derive(Debug)]
pub(super) struct Coverage {
    offset: u64,
    len: u64,
    /// Filled pieces: start to end, relative to `offset`, neighbours merged.
    pieces: BTreeMap<u64, u64>,
}

impl Coverage {
    pub(super) fn new(offset: u64, len: u64) -> Self {
        Self {
            offset,
            len,
            pieces: BTreeMap::new(),
        }
    }

    /// Notes a chunk and returns its place in the buffer; `None` when it is empty, passes the range, or overlaps
    /// another.
    pub(super) fn add(&mut self, at: u64, len: u64) -> Option<Range<usize>> {
        let start = at.checked_sub(self.offset)?;
        let end = start.checked_add(len).filter(|&end| end <= self.len)?;
        if len == 0 || self.pieces.len() >= MAX_PIECES {
            return None;
        }
        let before = self.pieces.range(..=start).next_back();
        let before = before.map(|(&start, &end)| (start, end));
        if before.is_some_and(|(_, stop)| stop > start) {
            return None;
        }
        let after = self.pieces.range(start..).next();
        let after = after.map(|(&start, &end)| (start, end));
        if after.is_some_and(|(begin, _)| begin < end) {
            return None;
        }
        let merged_start = match before {
            Some((begin, stop)) if stop == start => begin,
            _ => start,
        };
        let merged_end = match after {
            Some((begin, stop)) if begin == end => {
                self.pieces.remove(&begin);
                stop
            }
            _ => end,
        };
        self.pieces.insert(merged_start, merged_end);
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// True when every byte has come.
    pub(super) fn is_whole(&self) -> bool {
        self.len == 0 || self.pieces.get(&0) == Some(&self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_order_cover_once() {
        let mut coverage = Coverage::new(100, 40);
        assert_eq!(coverage.add(120, 10), Some(20..30));
        assert_eq!(coverage.add(100, 10), Some(0..10));
        assert_eq!(coverage.add(105, 1), None, "twice");
        assert_eq!(coverage.add(115, 10), None, "into the next");
        assert_eq!(coverage.add(99, 2), None, "before");
        assert_eq!(coverage.add(130, 11), None, "past the end");
        assert_eq!(coverage.add(110, 0), None, "empty");
        assert_eq!(coverage.add(u64::MAX, 2), None);
        assert!(!coverage.is_whole());
        assert_eq!(coverage.add(110, 10), Some(10..20));
        assert_eq!(coverage.add(130, 10), Some(30..40));
        assert!(coverage.is_whole());
        assert_eq!(coverage.pieces.len(), 1);
    }
}
