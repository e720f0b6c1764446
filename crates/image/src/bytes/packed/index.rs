//! The index pass: everything is decoded once; what is kept is small.

use types::CancelToken;

use super::scratch::Scratch;
use super::{CHUNK, Codec, MAX_GAP, Restart};
use crate::{Error, ErrorKind, Result, is_zero};

/// Distance of restart points at first, in bytes of output: a copy worker's piece.
const FIRST_SPACING: u64 = 1 << 20;
/// Most restart points that hold a decoder's state, 43 KiB each.
const MAX_SAVED: usize = 768;
/// Most restart points that are only a place.
const MAX_PLACES: usize = 1 << 16;
/// Most runs of data that are told apart, 16 bytes each.
const MAX_RUNS: usize = 1 << 19;

/// A place where decoding can begin.
pub(super) struct Point {
    /// Offset of the unpacked file.
    pub(super) offset: u64,
    pub(super) restart: Restart,
}

/// What the pass found.
pub(super) struct Index {
    /// Length of the unpacked file.
    pub(super) len: u64,
    pub(super) data: Runs,
    /// By offset; the first is at 0, unless the file is empty.
    pub(super) points: Vec<Point>,
    pub(super) scratch: Scratch,
}

/// Runs of data, ascending, at least one zero chunk between each two.
#[derive(Debug, Default)]
pub(super) struct Runs {
    list: Vec<(u64, u64)>,
    /// Gaps shorter than this are not kept.
    min_gap: u64,
}

impl Runs {
    /// Appends a run of data.
    fn push(&mut self, start: u64, end: u64) {
        match self.list.last_mut() {
            Some((_, last)) if start - *last <= self.min_gap => *last = end,
            _ => self.list.push((start, end)),
        }
        while self.list.len() > MAX_RUNS {
            self.min_gap = (self.min_gap * 2).max(CHUNK);
            let gap = self.min_gap;
            self.list.dedup_by(|next, run| {
                let near = next.0 - run.1 <= gap;
                if near {
                    run.1 = next.1;
                }
                near
            });
        }
    }

    /// Data or zeroes at `offset`, and for how many bytes.
    pub(super) fn at(&self, offset: u64) -> (bool, u64) {
        let next = self.list.partition_point(|(_, end)| *end <= offset);
        match self.list.get(next) {
            Some((start, end)) if *start <= offset => (true, end - offset),
            Some((start, _)) => (false, start - offset),
            None => (false, u64::MAX - offset),
        }
    }

    #[cfg(test)]
    pub(super) fn push_for_test(&mut self, start: u64, end: u64) {
        self.push(start, end);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// True when all of `len` bytes are one run of data.
    pub(super) fn is_dense(&self, len: u64) -> bool {
        len == 0 || self.list.as_slice() == [(0, len)]
    }
}

/// Restart points with a distance that grows as they become many.
struct Points {
    list: Vec<Point>,
    spacing: u64,
}

impl Points {
    /// True when a point at `offset` is wanted.
    fn wants(&self, offset: u64) -> bool {
        self.list
            .last()
            .is_none_or(|last| offset - last.offset >= self.spacing)
    }

    fn push(&mut self, offset: u64, restart: Restart) {
        let most = match restart {
            Restart::Gzip(_) => MAX_SAVED,
            _ => MAX_PLACES,
        };
        self.list.push(Point { offset, restart });
        while self.list.len() > most {
            self.spacing *= 2;
            let mut kept = None;
            let spacing = self.spacing;
            self.list.retain(|point| {
                let keep = kept.is_none_or(|last| point.offset - last >= spacing);
                if keep {
                    kept = Some(point.offset);
                }
                keep
            });
        }
    }
}

impl Index {
    /// Decodes the whole file.
    pub(super) fn build(codec: &Codec, max_len: u64, cancel: &CancelToken) -> Result<Self> {
        let mut decoder = codec.start()?;
        let mut points = Points {
            list: vec![Point {
                offset: 0,
                restart: Restart::Start,
            }],
            spacing: FIRST_SPACING,
        };
        let mut data = Runs::default();
        let mut scratch = Scratch::default();
        let mut buf = vec![0; usize::try_from(CHUNK).unwrap_or(0)];
        let mut offset = 0u64;
        loop {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let mut filled = 0;
            while filled < buf.len() {
                let here = offset + filled as u64;
                if points.wants(here)
                    && let Some(restart) = decoder.restart()
                {
                    points.push(here, restart);
                }
                match decoder.fill(&mut buf[filled..])? {
                    0 => break,
                    len => filled += len,
                }
            }
            let chunk = &buf[..filled];
            let end = offset + filled as u64;
            if end > max_len {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("expected at most {max_len} unpacked bytes, found more"),
                ));
            }
            let zero = is_zero(chunk);
            if !zero {
                data.push(offset, end);
            }
            // A point within this chunk does not help to read its beginning.
            let mut before = points.list.iter().rev();
            let near = before
                .find(|point| point.offset <= offset)
                .is_some_and(|point| end - point.offset <= MAX_GAP);
            if !near && filled > 0 {
                scratch.put(chunk, offset, zero)?;
            }
            offset = end;
            if filled < buf.len() {
                break;
            }
        }
        Ok(Self {
            len: offset,
            data,
            points: points.list,
            scratch,
        })
    }
}
