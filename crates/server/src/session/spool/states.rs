//! What is known of every block, two bits each.

use std::ops::Range;

/// What the spool has of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::session) enum BlockState {
    /// Nothing.
    Absent = 0,
    /// An earlier run wrote its record; whether its data reached the disk shows at its first read.
    Claimed = 1,
    /// Its data, checked.
    Trusted = 2,
    /// It is zero; nothing is stored.
    Zero = 3,
}

const PER_WORD: u64 = 32;
/// The lower bit of every pair.
const LOWER: u64 = 0x5555_5555_5555_5555;

/// States of the blocks of a disk. Memory that was never touched stays with the system.
#[derive(Debug)]
pub(in crate::session) struct States {
    words: Vec<u64>,
    blocks: u64,
}

impl States {
    /// All absent.
    pub(super) fn new(blocks: u64) -> Self {
        let words = usize::try_from(blocks.div_ceil(PER_WORD)).unwrap_or(usize::MAX);
        Self {
            words: vec![0; words],
            blocks,
        }
    }

    /// State of a block; one past the end is absent.
    pub(in crate::session) fn get(&self, block: u64) -> BlockState {
        let (word, shift) = place(block);
        match self.words.get(word).map_or(0, |word| (word >> shift) & 3) {
            0 => BlockState::Absent,
            1 => BlockState::Claimed,
            2 => BlockState::Trusted,
            _ => BlockState::Zero,
        }
    }

    pub(super) fn set(&mut self, block: u64, state: BlockState) {
        let (word, shift) = place(block);
        if let Some(word) = self.words.get_mut(word) {
            *word = (*word & !(3 << shift)) | ((state as u64) << shift);
        }
    }

    /// First block of `range` in this state.
    pub(in crate::session) fn first(&self, range: Range<u64>, state: BlockState) -> Option<u64> {
        self.find(range, |word| matching(word, state))
    }

    /// First block of `range` in another state.
    pub(in crate::session) fn first_not(
        &self,
        range: Range<u64>,
        state: BlockState,
    ) -> Option<u64> {
        self.find(range, |word| !matching(word, state) & LOWER)
    }

    /// Blocks of `range` in this state.
    pub(in crate::session) fn count(&self, range: Range<u64>, state: BlockState) -> u64 {
        let mut sum = 0;
        let mut next = range.start;
        let end = range.end.min(self.blocks);
        while next < end {
            let (word, _) = place(next);
            let stop = (next - next % PER_WORD + PER_WORD).min(end);
            let found = matching(self.words.get(word).copied().unwrap_or(0), state)
                & between(next % PER_WORD, stop - (next - next % PER_WORD));
            sum += u64::from(found.count_ones());
            next = stop;
        }
        sum
    }

    fn find(&self, range: Range<u64>, mask: impl Fn(u64) -> u64) -> Option<u64> {
        let mut next = range.start;
        let end = range.end.min(self.blocks);
        while next < end {
            let base = next - next % PER_WORD;
            let stop = (base + PER_WORD).min(end);
            let word = self.words.get(place(next).0).copied().unwrap_or(0);
            let found = mask(word) & between(next - base, stop - base);
            if found != 0 {
                return Some(base + u64::from(found.trailing_zeros() / 2));
            }
            next = stop;
        }
        None
    }
}

fn place(block: u64) -> (usize, u64) {
    (
        usize::try_from(block / PER_WORD).unwrap_or(usize::MAX),
        block % PER_WORD * 2,
    )
}

/// The lower bit of each pair that is in this state.
fn matching(word: u64, state: BlockState) -> u64 {
    let differs = word ^ (LOWER * state as u64);
    !(differs | (differs >> 1)) & LOWER
}

/// Pairs `from` to `to` of a word.
fn between(from: u64, to: u64) -> u64 {
    let below = |n: u64| match n {
        PER_WORD.. => u64::MAX,
        n => (1 << (2 * n)) - 1,
    };
    below(to) & !below(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searching_by_words_finds_what_searching_by_blocks_finds() {
        let all = [
            BlockState::Absent,
            BlockState::Claimed,
            BlockState::Trusted,
            BlockState::Zero,
        ];
        let mut states = States::new(101);
        // Long runs and single blocks.
        for block in 0..101u64 {
            let nth = if block < 70 {
                block / 35
            } else {
                block * 7 % 11 % 4
            };
            states.set(block, all[usize::try_from(nth).unwrap()]);
        }
        for state in all {
            for start in 0..101 {
                for end in start..=101 {
                    let is = |block: &u64| states.get(*block) == state;
                    let range = start..end;
                    assert_eq!(
                        states.first(range.clone(), state),
                        range.clone().find(is),
                        "{state:?} in {range:?}"
                    );
                    assert_eq!(
                        states.first_not(range.clone(), state),
                        range.clone().find(|block| !is(block))
                    );
                    assert_eq!(
                        states.count(range.clone(), state),
                        range.filter(is).count() as u64
                    );
                }
            }
        }
    }

    #[test]
    fn past_the_end_there_is_nothing() {
        let states = States::new(33);
        assert_eq!(states.get(1 << 50), BlockState::Absent);
        assert_eq!(states.first(33..1 << 60, BlockState::Absent), None);
        assert_eq!(states.count(0..1 << 60, BlockState::Absent), 33);
    }
}
