//! What the server says of its zeroes: "Metadata contexts", `base:allocation`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::negotiate::violation;
use crate::Result;
use crate::nbd::proto::context::STATE_ZERO;

/// Longest range that is asked for at once: the field has 32 bits; half of that, whatever the block size.
pub(super) const MAX_QUERY: u64 = 2 << 30;
/// Payload of a block status that is accepted: an id and a million descriptors. QEMU sends up to 128 Ki.
pub(super) const MAX_PAYLOAD: usize = 4 + 8 * (1 << 20);
/// How far is gone on as data where the server gives no answer.
pub(super) const STEP_WITHOUT_ANSWER: u64 = 64 << 20;
/// Runs that are kept, about 6 MiB. With more all are forgotten; the server is asked again.
const MAX_KEPT: usize = 1 << 17;

/// Bytes that are all zero, or not known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) len: u64,
    pub(super) zero: bool,
}

/// Reads the descriptors of one chunk: "Structured reply types", `NBD_REPLY_TYPE_BLOCK_STATUS`. `None` when they
/// belong to another context. Only the last may pass the `asked` bytes; it is cut.
pub(super) fn parse(payload: &[u8], context: Option<u32>, asked: u64) -> Result<Option<Vec<Run>>> {
    let Some((id, rest)) = payload.split_first_chunk::<4>() else {
        return Err(violation("expected a context, found none".to_owned()));
    };
    if Some(u32::from_be_bytes(*id)) != context {
        return Ok(None);
    }
    let (descriptors, rest) = rest.as_chunks::<8>();
    if descriptors.is_empty() || !rest.is_empty() {
        return Err(violation(format!(
            "expected descriptors of 8 bytes, found {} bytes",
            payload.len() - 4
        )));
    }
    let mut runs: Vec<Run> = Vec::new();
    let mut covered = 0;
    for descriptor in descriptors {
        let (len, flags) = descriptor.split_at(4);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
        let len = u64::from(word(len)).min(asked.saturating_sub(covered));
        if len == 0 {
            return Err(violation(
                "expected a block status within what was asked, found an empty or extra one"
                    .to_owned(),
            ));
        }
        covered += len;
        let zero = word(flags) & STATE_ZERO != 0;
        match runs.last_mut() {
            Some(last) if last.zero == zero => last.len += len,
            _ => runs.push(Run { len, zero }),
        }
    }
    Ok(Some(runs))
}

/// The answers so far. The disk is read-only to us and not expected to change, so they stay true.
#[derive(Debug, Default)]
pub(super) struct StatusCache(Mutex<BTreeMap<u64, Run>>);

impl StatusCache {
    /// The run around `offset`, from there on: whether it is zero, and its length.
    pub(super) fn at(&self, offset: u64) -> Option<(bool, u64)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, run) = kept.range(..=offset).next_back()?;
        let left = (start + run.len)
            .checked_sub(offset)
            .filter(|&left| left > 0)?;
        Some((run.zero, left))
    }

    /// Keeps the runs from `start` on.
    pub(super) fn keep(&self, start: u64, runs: &[Run]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + runs.len() > MAX_KEPT {
            kept.clear();
        }
        let mut at = start;
        for run in runs.iter().take(MAX_KEPT) {
            kept.insert(at, *run);
            at += run.len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(id: u32, descriptors: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = id.to_be_bytes().to_vec();
        for (len, flags) in descriptors {
            bytes.extend(len.to_be_bytes());
            bytes.extend(flags.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn descriptors_become_runs_within_what_was_asked() {
        let bytes = payload(7, &[(512, 3), (512, 2), (1024, 1), (4096, 0)]);
        let runs = parse(&bytes, Some(7), 3000).unwrap().unwrap();
        let run = |len, zero| Run { len, zero };
        // A hole that is not said to be zero is data.
        assert_eq!(runs, [run(1024, true), run(1976, false)]);
        assert_eq!(parse(&bytes, Some(8), 3000).unwrap(), None);
        for (bytes, asked) in [
            (payload(7, &[]), 512),
            (payload(7, &[(0, 0)]), 512),
            (payload(7, &[(512, 0), (512, 0)]), 512),
            (bytes[..bytes.len() - 1].to_vec(), 3000),
            (vec![0; 3], 512),
        ] {
            assert!(parse(&bytes, Some(7), asked).is_err() || bytes.len() < 4);
        }
        assert!(parse(&[0; 3], Some(7), 512).is_err());
    }

    #[test]
    fn answers_are_found_again() {
        let cache = StatusCache::default();
        assert_eq!(cache.at(0), None);
        let run = |len, zero| Run { len, zero };
        cache.keep(1000, &[run(100, true), run(50, false)]);
        assert_eq!(cache.at(999), None);
        assert_eq!(cache.at(1000), Some((true, 100)));
        assert_eq!(cache.at(1099), Some((true, 1)));
        assert_eq!(cache.at(1100), Some((false, 50)));
        assert_eq!(cache.at(1150), None);
    }
}
