//! What lies where, image by image: the walk of `v2v image map`.

use std::ops::Range;

use types::CancelToken;

use crate::{BlockSource, Error, Result, Stored};

/// Walks the extents of `range` with the place of each, neighbours that go on in one place merged.
pub fn map<'a>(
    source: &'a dyn BlockSource,
    range: Range<u64>,
    cancel: &'a CancelToken,
) -> impl Iterator<Item = Result<Stored>> + 'a {
    let end = range.end.min(source.virtual_size());
    let mut next = range.start;
    let mut held: Option<Stored> = None;
    std::iter::from_fn(move || {
        while next < end {
            let stored = if cancel.is_cancelled() {
                Err(Error::cancelled())
            } else {
                one(source, next, end)
            };
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => {
                    (next, held) = (end, None);
                    return Some(Err(error));
                }
            };
            next += stored.extent.len;
            match &mut held {
                Some(run) if goes_on(run, &stored) => run.extent.len += stored.extent.len,
                _ => {
                    if let Some(done) = held.replace(stored) {
                        return Some(Ok(done));
                    }
                }
            }
        }
        held.take().map(Ok)
    })
}

/// The piece at `offset`; one that does not start there would be shown wrongly or for ever.
fn one(source: &dyn BlockSource, offset: u64, end: u64) -> Result<Stored> {
    let stored = source.stored_at(offset, end - offset)?;
    let extent = stored.extent;
    if extent.offset != offset || extent.len == 0 || extent.len > end - offset {
        return Err(Error::corrupt(format!(
            "expected an extent of at most {} bytes, found {extent:?}",
            end - offset
        ))
        .at(offset));
    }
    Ok(stored)
}

/// True when `next` is stored right behind `run`.
fn goes_on(run: &Stored, next: &Stored) -> bool {
    let host = match (run.host, next.host) {
        (None, None) => true,
        (Some(first), Some(second)) => first.checked_add(run.extent.len) == Some(second),
        _ => false,
    };
    host && (run.extent.kind, run.depth, run.compressed)
        == (next.extent.kind, next.depth, next.compressed)
}
