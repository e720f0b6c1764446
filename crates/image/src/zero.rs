//! The zero scan. It runs over every byte that is copied, so its speed is the copy's speed: an OR-fold over
//! `u128` compiles to vector loads, where a byte-wise `iter().all()` stays a loop of compares.

use std::ops::Range;

/// Bytes folded between two looks at the result: long enough for the vector loop, short enough to stop early
/// in data.
const BLOCK: usize = 512;

/// True when every byte of `buf` is zero (and so for an empty one).
pub fn is_zero(buf: &[u8]) -> bool {
    let (blocks, tail) = buf.as_chunks::<BLOCK>();
    let (words, rest) = tail.as_chunks::<16>();
    blocks
        .iter()
        .all(|block| fold(block.as_chunks::<16>().0) == 0)
        && fold(words) == 0
        && rest.iter().all(|&byte| byte == 0)
}

fn fold(words: &[[u8; 16]]) -> u128 {
    words
        .iter()
        .fold(0, |seen, word| seen | u128::from_ne_bytes(*word))
}

/// The byte ranges of `buf` that must be stored when it is cut in units of `unit` bytes (the last may be short)
/// and all-zero units are left out. Neighbouring units come as one range. `unit` is not 0.
pub fn data_runs(buf: &[u8], unit: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut next = 0;
    std::iter::from_fn(move || {
        let unit_end = |start: usize| start.saturating_add(unit).min(buf.len());
        while next < buf.len() && is_zero(&buf[next..unit_end(next)]) {
            next = unit_end(next);
        }
        let start = next;
        while next < buf.len() && !is_zero(&buf[next..unit_end(next)]) {
            next = unit_end(next);
        }
        let run = start..next;
        // The unit that ended the run is known to be zero.
        next = unit_end(next);
        (!run.is_empty()).then_some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_bit_is_seen_at_every_place_and_length() {
        for len in [0, 1, 15, 16, 17, 511, 512, 513, 1024, 1537] {
            let mut buf = vec![0; len];
            assert!(is_zero(&buf), "{len}");
            for at in 0..len {
                buf[at] = 0x80;
                assert!(!is_zero(&buf), "{at} of {len}");
                buf[at] = 0;
            }
        }
    }

    #[test]
    fn runs_cover_exactly_the_units_with_data() {
        let runs = |set: &[usize], len: usize| {
            let mut buf = vec![0; len];
            set.iter().for_each(|&at| buf[at] = 1);
            data_runs(&buf, 512)
                .map(|run| (run.start, run.end))
                .collect::<Vec<_>>()
        };
        assert!(runs(&[], 0).is_empty());
        assert!(runs(&[], 2048).is_empty());
        assert_eq!(runs(&[0], 2048), [(0, 512)]);
        assert_eq!(runs(&[511, 512], 2048), [(0, 1024)]);
        assert_eq!(runs(&[0, 1024, 2047], 2048), [(0, 512), (1024, 2048)]);
        assert_eq!(runs(&[1024], 1100), [(1024, 1100)]);
        assert_eq!(runs(&[600], 1100), [(512, 1024)]);
    }
}
