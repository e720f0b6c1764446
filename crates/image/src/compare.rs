//! Compares what two disks hold, without reading what both know to be zero: `v2v image compare`.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use types::CancelToken;

use crate::copy::CopyProgress;
use crate::{BlockSource, Error, Extent, ExtentKind, Result, is_zero, workers};

/// Bytes that are compared at once, on a grid of this.
const CHUNK: u64 = 1 << 20;

/// How to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompareOptions {
    /// Sizes must be the same, and so must be what is allocated.
    pub strict: bool,
    /// Worker threads; 0 is one a processor, at least two.
    pub threads: usize,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The disks are of different sizes. Unless strict that alone is no difference: the rest must be zero.
    pub sizes_differ: bool,
    /// The first difference.
    pub difference: Option<Difference>,
}

/// A difference, at its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Strict: the sizes.
    Size,
    /// Strict: from this offset on one has data, zeroes or nothing, and the other something else of the three.
    Status(u64),
    /// The byte at this offset.
    Content(u64),
}

/// A stretch of which at least one disk may hold something.
struct Piece {
    range: Range<u64>,
    /// Which of the two are known to be zero here.
    zero: [bool; 2],
}

/// Compares two disks; finds the first difference.
pub fn compare(
    a: &dyn BlockSource,
    b: &dyn BlockSource,
    options: &CompareOptions,
    cancel: &CancelToken,
    progress: &(dyn Fn(CopyProgress) + Sync),
) -> Result<Comparison> {
    let sizes = [a, b].map(BlockSource::virtual_size);
    let sizes_differ = sizes[0] != sizes[1];
    if sizes_differ && options.strict {
        return Ok(Comparison {
            sizes_differ,
            difference: Some(Difference::Size),
        });
    }
    // The first byte that differs, as far as is known; pieces behind it need no look.
    let first = AtomicU64::new(u64::MAX);
    let mut walk = Walk {
        disks: [a, b],
        next: 0,
        end: sizes[0].max(sizes[1]),
        strict: options.strict,
        status: None,
        cancel,
    };
    let total_bytes = walk.end;
    let done = Mutex::new(0);
    workers::run(
        options.threads,
        || walk.piece(first.load(Ordering::Acquire)),
        |piece: Piece, buffers: &mut [Vec<u8>; 2]| {
            if let Some(offset) = differs([a, b], &piece, buffers)? {
                first.fetch_min(offset, Ordering::AcqRel);
            }
            if let Ok(mut furthest) = done.try_lock() {
                *furthest = piece.range.end.max(*furthest);
                progress(CopyProgress {
                    copied_bytes: *furthest,
                    total_bytes,
                });
            }
            Ok(())
        },
    )?;
    let content = Some(first.into_inner()).filter(|&offset| offset != u64::MAX);
    let difference = match (walk.status, content) {
        (Some(status), Some(content)) if content < status => Some(Difference::Content(content)),
        (Some(status), _) => Some(Difference::Status(status)),
        (None, content) => content.map(Difference::Content),
    };
    Ok(Comparison {
        sizes_differ,
        difference,
    })
}

/// The cursor over both disks.
struct Walk<'a> {
    disks: [&'a dyn BlockSource; 2],
    next: u64,
    end: u64,
    strict: bool,
    /// Where the kinds of extents differ first, when strict.
    status: Option<u64>,
    cancel: &'a CancelToken,
}

impl Walk<'_> {
    /// The next piece that has to be read; none behind `limit`.
    fn piece(&mut self, limit: u64) -> Result<Option<Piece>> {
        while self.next < self.end.min(limit) && self.status.is_none() {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let start = self.next;
            let extents = [
                extent(self.disks[0], start, self.end)?,
                extent(self.disks[1], start, self.end)?,
            ];
            if self.strict && extents[0].kind != extents[1].kind {
                self.status = Some(start);
                return Ok(None);
            }
            let both = extents[0].len.min(extents[1].len);
            let zero = extents.map(|extent| extent.kind.reads_zero());
            if zero == [true, true] {
                self.next = start + both;
                continue;
            }
            let grid = start - start % CHUNK + CHUNK;
            // Strict looks at every extent; otherwise a stretch of small ones is read as one.
            let end = if self.strict || zero[0] || zero[1] {
                grid.min(start + both)
            } else {
                grid.min(self.end)
            };
            let end = if end - start < CHUNK / 8 && !self.strict {
                grid.min(self.end)
            } else {
                end
            };
            let whole = |which: usize| zero[which] && extents[which].len >= end - start;
            self.next = end;
            return Ok(Some(Piece {
                range: start..end,
                zero: [whole(0), whole(1)],
            }));
        }
        Ok(None)
    }
}

/// The extent at `offset`; past its end a disk is zero.
fn extent(disk: &dyn BlockSource, offset: u64, end: u64) -> Result<Extent> {
    let size = disk.virtual_size();
    if offset >= size {
        return Ok(Extent {
            offset,
            len: end - offset,
            kind: ExtentKind::Unallocated,
        });
    }
    let extent = disk.extent_at(offset, size - offset)?;
    if extent.offset != offset || extent.len == 0 {
        return Err(Error::corrupt(format!(
            "expected an extent that begins here, found {extent:?}"
        ))
        .at(offset));
    }
    Ok(extent)
}

/// The first byte of the piece in which the disks differ.
fn differs(
    disks: [&dyn BlockSource; 2],
    piece: &Piece,
    buffers: &mut [Vec<u8>; 2],
) -> Result<Option<u64>> {
    let start = piece.range.start;
    let len = usize::try_from(piece.range.end - start).unwrap_or(usize::MAX);
    for ((disk, buf), zero) in disks.iter().zip(buffers.iter_mut()).zip(piece.zero) {
        if zero {
            continue;
        }
        buf.resize(len, 0);
        let inside = usize::try_from(disk.virtual_size().saturating_sub(start))
            .map_or(len, |inside| inside.min(len));
        let (inside, past_end) = buf.split_at_mut(inside);
        if !inside.is_empty() {
            disk.read_at(inside, start)?;
        }
        past_end.fill(0);
    }
    let [a, b] = buffers;
    let at = match piece.zero {
        [true, true] => None,
        [true, false] => first_set(b),
        [false, true] => first_set(a),
        [false, false] if a == b => None,
        [false, false] => a.iter().zip(b.iter()).position(|(a, b)| a != b),
    };
    Ok(at.map(|at| start + at as u64))
}

/// The first byte that is not zero.
fn first_set(buf: &[u8]) -> Option<usize> {
    if is_zero(buf) {
        return None;
    }
    buf.iter().position(|&byte| byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileRange;
    use crate::formats::raw;

    fn disk(bytes: Vec<u8>) -> raw::Reader {
        raw::Reader::open(FileRange::from_store(std::sync::Arc::new(bytes), "disk")).unwrap()
    }

    fn run(a: Vec<u8>, b: Vec<u8>, strict: bool) -> Comparison {
        let options = CompareOptions { strict, threads: 3 };
        compare(&disk(a), &disk(b), &options, &CancelToken::new(), &|_| {}).unwrap()
    }

    #[test]
    fn the_first_differing_byte_is_found() {
        let len = 5 * (1 << 20) + 1536;
        for at in [0, 511, (1 << 20) - 1, 1 << 20, len - 1] {
            let mut other = vec![7; len];
            other[at] = 8;
            *other.last_mut().unwrap() = 8;
            let found = run(vec![7; len], other, false);
            assert_eq!(found.difference, Some(Difference::Content(at as u64)));
        }
        assert_eq!(run(vec![7; len], vec![7; len], true).difference, None);
    }

    #[test]
    fn what_is_longer_must_be_zero_unless_strict() {
        let long = |byte: u8| [vec![1; 1024], vec![0; 3 << 20], vec![byte; 512]].concat();
        let found = run(vec![1; 1024], long(0), false);
        assert_eq!((found.sizes_differ, found.difference), (true, None));
        let found = run(long(9), vec![1; 1024], false);
        assert_eq!(
            found.difference,
            Some(Difference::Content(1024 + (3 << 20)))
        );
        assert_eq!(
            run(vec![1; 1024], long(0), true).difference,
            Some(Difference::Size)
        );
    }
}
