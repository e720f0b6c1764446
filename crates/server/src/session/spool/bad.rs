//! Byte ranges of a disk that could not be read, kept in `diskN.bad` as JSON.

use std::ops::Range;
use std::path::Path;

use image::{Error, ErrorKind, Result};

/// Most ranges kept of one disk; a disk that is worse than this cannot be converted usefully.
const MAX_RANGES: usize = 64 << 10;
/// Largest file that is read: each range is at most two numbers of 20 digits and punctuation.
const MAX_FILE_LEN: u64 = MAX_RANGES as u64 * 48;

/// Ascending and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct BadRanges(Vec<Range<u64>>);

impl BadRanges {
    /// Reads the file; one that is not there is empty.
    pub(super) fn load(path: &Path, virtual_size: u64) -> Result<Self> {
        let text = match super::read_small(path, MAX_FILE_LEN)? {
            Some(text) => text,
            None => return Ok(Self::default()),
        };
        let pairs: Vec<(u64, u64)> = serde_json::from_slice(&text).map_err(|error| {
            Error::corrupt(format!("expected a list of byte ranges: {error}")).in_path(path)
        })?;
        let mut last = 0;
        for &(start, end) in &pairs {
            if start < last || end <= start || end > virtual_size {
                return Err(Error::corrupt(format!(
                    "expected ascending byte ranges on {virtual_size} bytes, found {start} to {end}"
                ))
                .in_path(path));
            }
            last = end;
        }
        Ok(Self(pairs.into_iter().map(|(s, e)| s..e).collect()))
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let pairs: Vec<(u64, u64)> = self.0.iter().map(|r| (r.start, r.end)).collect();
        let text = serde_json::to_vec(&pairs)
            .map_err(|error| Error::new(ErrorKind::Io, error.to_string()))?;
        super::write_whole(path, &text)
    }

    /// Sets what is bad inside of `within`. True when that changed anything.
    pub(super) fn replace(&mut self, within: &Range<u64>, bad: &[Range<u64>]) -> Result<bool> {
        if bad.is_empty() && !self.touches(within) {
            return Ok(false);
        }
        let mut all = Vec::with_capacity(self.0.len() + bad.len() + 1);
        for range in &self.0 {
            let before = range.start..range.end.min(within.start);
            let after = range.start.max(within.end)..range.end;
            all.extend([before, after].into_iter().filter(|r| r.start < r.end));
        }
        all.extend(bad.iter().cloned());
        all.sort_by_key(|range| range.start);
        all.dedup_by(|next, held| {
            let joins = next.start <= held.end;
            if joins {
                held.end = held.end.max(next.end);
            }
            joins
        });
        if all.len() > MAX_RANGES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the disk has more than {MAX_RANGES} unreadable places"),
            ));
        }
        let changed = all != self.0;
        self.0 = all;
        Ok(changed)
    }

    /// True when some of `range` is bad.
    pub(in crate::session) fn touches(&self, range: &Range<u64>) -> bool {
        let after = self.0.partition_point(|bad| bad.end <= range.start);
        self.0.get(after).is_some_and(|bad| bad.start < range.end)
    }

    pub(in crate::session) fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    pub(in crate::session) fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::single_range_in_vec_init,
        reason = "lists of ranges are compared"
    )]
    fn ranges_are_merged_cut_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk0.bad");
        let mut bad = BadRanges::load(&path, 1000).unwrap();
        assert!(!bad.replace(&(0..100), &[]).unwrap());
        assert!(bad.replace(&(0..100), &[10..20, 90..100]).unwrap());
        assert!(bad.replace(&(100..200), &[100..110]).unwrap());
        assert_eq!(bad.ranges(), [10..20, 90..110]);
        assert!(bad.touches(&(109..300)) && !bad.touches(&(110..300)) && !bad.touches(&(0..10)));
        // Read again without errors.
        assert!(bad.replace(&(0..95), &[]).unwrap());
        assert_eq!(bad.ranges(), [95..110]);
        assert_eq!(bad.bytes(), 15);
        bad.save(&path).unwrap();
        assert_eq!(BadRanges::load(&path, 1000).unwrap(), bad);
        assert!(BadRanges::load(&path, 100).is_err());
        for damaged in ["[", "[[5,5]]", "[[1,5],[4,6]]", "[[9,2]]", "{}"] {
            std::fs::write(&path, damaged).unwrap();
            let error = BadRanges::load(&path, 1000).unwrap_err().to_string();
            assert!(error.contains("disk0.bad"), "{error}");
        }
    }
}
