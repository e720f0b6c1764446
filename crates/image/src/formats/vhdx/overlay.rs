//! What a replayed log puts over the file: ranges of zeroes and pages of 4 KiB, by file offset. The bytes of a page
//! stay in the log, so the overlay is small whatever the log holds.

use std::collections::BTreeMap;

use super::log::PAGE;

/// What lies over a range of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Zero,
    /// One page. Its first 8 and last 4 bytes come from the descriptor, the others from the data sector in the log:
    /// MS-VHDX 2.3.1.3, 2.3.1.4.
    Page {
        /// File offset of the data sector in the log.
        data_sector: u64,
        leading: [u8; 8],
        trailing: [u8; 4],
    },
}

/// Ranges that do not overlap. All offsets are multiples of [`PAGE`], so a page is never cut.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Start to end and fill.
    ranges: BTreeMap<u64, (u64, Fill)>,
}

impl Overlay {
    /// Puts `fill` over what is there.
    pub(super) fn put(&mut self, start: u64, end: u64, fill: Fill) {
        debug_assert!(start < end && start.is_multiple_of(PAGE) && end.is_multiple_of(PAGE));
        if let Some((&before, &(before_end, old))) = self.ranges.range(..start).next_back()
            && before_end > start
        {
            self.ranges.insert(before, (start, old));
            if before_end > end {
                self.ranges.insert(end, (before_end, old));
            }
        }
        while let Some((&next, &(next_end, old))) = self.ranges.range(start..end).next() {
            self.ranges.remove(&next);
            if next_end > end {
                self.ranges.insert(end, (next_end, old));
            }
        }
        self.ranges.insert(start, (end, fill));
    }

    /// The ranges that overlap `start..end`, in order.
    pub(super) fn overlapping(
        &self,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = (u64, u64, Fill)> + '_ {
        let first = self
            .ranges
            .range(..=start)
            .next_back()
            .filter(|(_, (first_end, _))| *first_end > start)
            .map_or(start, |(&first, _)| first);
        self.ranges
            .range(first..end.max(first))
            .map(|(&start, &(end, fill))| (start, end, fill))
    }

    /// End of the last range.
    pub(super) fn end(&self) -> u64 {
        self.ranges.values().next_back().map_or(0, |(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::vhdx::to_usize;

    #[test]
    fn later_ranges_cover_earlier_ones() {
        let page = |n: u64| Fill::Page {
            data_sector: n,
            leading: [0; 8],
            trailing: [0; 4],
        };
        // A model of single pages.
        let mut model = [None; 64];
        let mut overlay = Overlay::default();
        let mut seed = 7u64;
        for turn in 0..2000u64 {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let start = (seed >> 33) % 60;
            let (end, fill) = if seed >> 63 == 0 {
                (start + 1, page(turn))
            } else {
                (start + 1 + (seed >> 40) % 4, Fill::Zero)
            };
            overlay.put(start * PAGE, end * PAGE, fill);
            (start..end).for_each(|at| model[to_usize(at)] = Some(fill));
            let low = (seed >> 20) % 60;
            let mut seen = [None; 64];
            for (start, end, fill) in overlay.overlapping(low * PAGE, 64 * PAGE) {
                for at in (start / PAGE..end / PAGE).filter(|at| *at >= low) {
                    assert!(seen[to_usize(at)].replace(fill).is_none());
                }
            }
            assert_eq!(seen[to_usize(low)..], model[to_usize(low)..]);
        }
        assert!(overlay.end() <= 64 * PAGE);
        assert_eq!(overlay.overlapping(0, 0).count(), 0);
    }
}
