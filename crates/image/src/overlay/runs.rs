//! Which bytes of a disk were written or zeroed, as a sorted map of runs.
//!
//! A byte in no run still belongs to the base. Runs never overlap, and two runs that touch differ in their state,
//! so that a disk of any size whose free space is discarded in one go costs one run. Bounds are bytes: nothing is
//! ever rounded, hence nothing needs to be read before it is written.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{Error, ErrorKind, Result};

/// Runs that one map may hold: some 75 MB. Only a client that discards every other sector of a huge disk gets
/// near; it is refused rather than the host's memory used up.
pub(super) const MAX_RUNS: usize = 2 << 20;

/// What happened to a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The scratch file holds them.
    Written,
    /// They read as zero.
    Zeroed,
}

/// A run of bytes of one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where on the disk.
    pub(super) range: Range<u64>,
    /// What happened to it.
    pub(super) state: State,
}

/// Sorted, disjoint runs.
#[derive(Debug)]
pub(super) struct RunMap {
    /// First byte of a run, to the byte after its last and its state.
    runs: BTreeMap<u64, (u64, State)>,
    written: u64,
    zeroed: u64,
    max_runs: usize,
}

impl RunMap {
    /// A map in which all is base, that never holds more than `max_runs`.
    pub(super) fn new(max_runs: usize) -> Self {
        Self {
            runs: BTreeMap::new(),
            written: 0,
            zeroed: 0,
            max_runs,
        }
    }

    /// Bytes in runs of this state.
    pub(super) fn bytes(&self, state: State) -> u64 {
        match state {
            State::Written => self.written,
            State::Zeroed => self.zeroed,
        }
    }

    /// The state at `offset` (none is base), and the offset at which it ends, if it ever does.
    pub(super) fn at(&self, offset: u64) -> (Option<State>, Option<u64>) {
        if let Some((_, &(end, state))) = self.runs.range(..=offset).next_back()
            && end > offset
        {
            return (Some(state), Some(end));
        }
        (
            None,
            self.runs.range(offset..).next().map(|(&start, _)| start),
        )
    }

    /// The runs within `range`, clipped to it, in order.
    pub(super) fn within(&self, range: Range<u64>) -> impl Iterator<Item = Run> + '_ {
        let first = self
            .runs
            .range(..range.start)
            .next_back()
            .filter(|&(_, &(end, _))| end > range.start);
        first.into_iter().chain(self.runs.range(range.clone())).map(
            move |(&start, &(end, state))| Run {
                range: start.max(range.start)..end.min(range.end),
                state,
            },
        )
    }

    /// Puts the whole of `range` (not empty) into `state`. Gives back the smallest range that holds all the bytes
    /// that were written before, if there were any.
    pub(super) fn set(&mut self, range: Range<u64>, state: State) -> Result<Option<Range<u64>>> {
        debug_assert!(range.start < range.end);
        if let (Some(now), Some(end)) = self.at(range.start)
            && now == state
            && end >= range.end
        {
            return Ok((now == State::Written).then_some(range));
        }
        self.check_room(&range, state)?;

        let mut was_written: Option<Range<u64>> = None;
        let mut note = |part: Range<u64>, of: State| {
            if of == State::Written {
                was_written = Some(was_written.take().map_or(part.start, |w| w.start)..part.end);
            }
        };
        let mut merged = range.clone();
        // The run that begins before the range and reaches or touches it.
        if let Some((&start, &(end, of))) = self.runs.range(..range.start).next_back()
            && end >= range.start
            && (of == state || end > range.start)
        {
            if end > range.start {
                note(range.start..end.min(range.end), of);
            }
            self.remove(start);
            if of == state {
                merged = start..merged.end.max(end);
            } else {
                self.insert(start..range.start, of);
                if end > range.end {
                    self.insert(range.end..end, of);
                }
            }
        }
        // The runs that begin within the range, and one that begins where it ends.
        while let Some((&start, &(end, of))) = self.runs.range(range.start..=range.end).next() {
            if start < range.end {
                note(start..end.min(range.end), of);
            } else if of != state {
                break;
            }
            self.remove(start);
            if of == state {
                merged.end = merged.end.max(end);
            } else if end > range.end {
                self.insert(range.end..end, of);
                break;
            }
        }
        self.insert(merged, state);
        Ok(was_written)
    }

    /// Refuses a change that would leave the map with more runs than it may hold.
    fn check_room(&self, range: &Range<u64>, state: State) -> Result<()> {
        if self.runs.len() + 2 <= self.max_runs {
            return Ok(());
        }
        let begun = self.runs.range(range.clone()).count();
        let merges = |offset: u64| self.at(offset).0 == Some(state);
        // A run that goes on behind the range is either merged or stays, then cut off, as a run of its own.
        let behind = match self.at(range.end - 1) {
            (Some(of), Some(end)) => usize::from(of != state && end > range.end),
            _ => 0,
        };
        let touching = usize::from(
            self.runs
                .get(&range.end)
                .is_some_and(|&(_, of)| of == state),
        );
        let before = usize::from(range.start > 0 && merges(range.start - 1));
        let after = (self.runs.len() + 1 + behind).saturating_sub(begun + touching + before);
        if after > self.max_runs && after > self.runs.len() {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected at most {} runs of written or zeroed bytes",
                    self.max_runs
                ),
            )
            .at(range.start));
        }
        Ok(())
    }

    fn counter(&mut self, state: State) -> &mut u64 {
        match state {
            State::Written => &mut self.written,
            State::Zeroed => &mut self.zeroed,
        }
    }

    fn insert(&mut self, range: Range<u64>, state: State) {
        *self.counter(state) += range.end - range.start;
        self.runs.insert(range.start, (range.end, state));
    }

    fn remove(&mut self, start: u64) {
        if let Some((end, state)) = self.runs.remove(&start) {
            *self.counter(state) -= end - start;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One state a byte, the plain way.
    const LEN: usize = 64;

    fn check(map: &RunMap, model: &[Option<State>; LEN]) {
        for state in [State::Written, State::Zeroed] {
            let want = model.iter().filter(|&&s| s == Some(state)).count() as u64;
            assert_eq!(map.bytes(state), want);
        }
        let mut last: Option<Run> = None;
        for run in map.within(0..LEN as u64) {
            assert!(run.range.start < run.range.end);
            if let Some(last) = last {
                assert!(
                    last.range.end <= run.range.start,
                    "{last:?} overlaps {run:?}"
                );
                assert!(
                    last.range.end < run.range.start || last.state != run.state,
                    "not merged"
                );
            }
            last = Some(run);
        }
        for (offset, &want) in model.iter().enumerate() {
            let (state, end) = map.at(offset as u64);
            assert_eq!(state, want, "at {offset}");
            let run = model[offset..].iter().take_while(|&&s| s == want).count() + offset;
            assert_eq!(
                end,
                (run < LEN || want.is_some()).then_some(run as u64),
                "end of {offset}"
            );
        }
    }

    proptest! {
        #[test]
        fn runs_match_a_byte_map(ops in prop::collection::vec((0..LEN, 1..=LEN, any::<bool>()), 1..60), max in 3..80usize) {
            let mut map = RunMap::new(max);
            let mut model = [None; LEN];
            for (start, len, write) in ops {
                let end = (start + len).min(LEN);
                let state = if write { State::Written } else { State::Zeroed };
                let written = |i: &usize| model[*i] == Some(State::Written);
                let first = (start..end).find(written);
                let last = (start..end).rfind(written);
                match map.set(start as u64..end as u64, state) {
                    Ok(hull) => {
                        prop_assert_eq!(hull, first.zip(last).map(|(a, b)| a as u64..b as u64 + 1));
                        model[start..end].fill(Some(state));
                    }
                    Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Limit),
                }
                prop_assert!(map.runs.len() <= max);
                check(&map, &model);
                let within: Vec<_> = map.within(start as u64..end as u64).collect();
                for run in &within {
                    prop_assert!(run.range.start >= start as u64 && run.range.end <= end as u64);
                }
            }
        }
    }

    #[test]
    fn the_limit_holds_and_merging_is_still_allowed() {
        let mut map = RunMap::new(4);
        for i in 0..4 {
            map.set(i * 10..i * 10 + 5, State::Zeroed).unwrap();
        }
        assert_eq!(
            map.set(50..51, State::Zeroed).unwrap_err().kind(),
            ErrorKind::Limit
        );
        assert_eq!(
            map.set(1..2, State::Written).unwrap_err().kind(),
            ErrorKind::Limit
        );
        map.set(5..10, State::Zeroed).unwrap();
        map.set(50..51, State::Written).unwrap();
        assert_eq!(map.bytes(State::Zeroed), 25);
    }
}
