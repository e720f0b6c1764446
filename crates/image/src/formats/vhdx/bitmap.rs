//! Runs of equal bits: sector bitmaps (MS-VHDX 2.4, bit 0 of byte 0 first), and sets of MiB of a file.

/// How many of the bits from `first` are like the first, at most `max`. `bytes` holds bit `first`.
pub(super) fn run(bytes: &[u8], first: usize, max: usize) -> (bool, usize) {
    let value = bytes[first / 8] >> (first % 8) & 1 != 0;
    let flip = if value { 0xff } else { 0 };
    let end = max.min(bytes.len() * 8 - first) + first;
    let mut at = first;
    while at < end {
        // Differing bits are set after the flip.
        let differs = (bytes[at / 8] ^ flip) >> (at % 8);
        if differs != 0 {
            return (
                value,
                (at + differs.trailing_zeros() as usize).min(end) - first,
            );
        }
        at = (at / 8 + 1) * 8;
        // Whole words that do not differ.
        if at.is_multiple_of(64) {
            let words = bytes[at / 8..].as_chunks::<8>().0;
            let word = u64::from_ne_bytes([flip; 8]);
            let same = words
                .iter()
                .take_while(|bytes| u64::from_ne_bytes(**bytes) == word)
                .count();
            at += same * 64;
        }
    }
    (value, end - first)
}

/// A set of numbers below a bound.
#[derive(Debug)]
pub(super) struct BitSet(Vec<u64>);

impl BitSet {
    /// An empty set of numbers below `len`.
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// Adds a number; false when it was there, or is beyond the bound.
    pub(super) fn insert(&mut self, at: usize) -> bool {
        let Some(word) = self.0.get_mut(at / 64) else {
            return false;
        };
        let bit = 1 << (at % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Whether a number is in the set.
    pub(super) fn contains(&self, at: usize) -> bool {
        self.0
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_at_the_first_other_bit() {
        let mut bytes = vec![0u8; 64];
        for at in [3, 64, 65, 66, 200].into_iter().chain(256..448) {
            bytes[at / 8] |= 1 << (at % 8);
        }
        let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1 != 0;
        for first in 0..512 {
            for max in [1, 2, 7, 63, 64, 65, 150, 512, 4096] {
                let expected = (first..512.min(first + max))
                    .take_while(|&at| bit(at) == bit(first))
                    .count();
                assert_eq!(
                    run(&bytes, first, max),
                    (bit(first), expected),
                    "{first} {max}"
                );
            }
        }
    }

    #[test]
    fn a_set_knows_its_numbers() {
        let mut set = BitSet::new(70);
        assert!(set.insert(69) && !set.insert(69) && set.contains(69));
        assert!(!set.contains(68) && !set.insert(1000) && !set.contains(1000));
    }
}
