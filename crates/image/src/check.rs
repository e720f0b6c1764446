//! Reads everything that a disk holds, to know that it can be read: the data side of `v2v image check`.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use types::CancelToken;

use crate::copy::CopyProgress;
use crate::{BlockSource, Error, ErrorKind, ExtentKind, MAX_FINDINGS, Result, workers};

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// What reading found.
#[derive(Debug, Default)]
pub struct DataCheck {
    /// Bytes of data that could be read.
    pub read_bytes: u64,
    /// What could not, in no order; at most [`MAX_FINDINGS`], after which reading stops.
    pub errors: Vec<Error>,
}

/// Reads all data of `source` in parallel. What cannot be read is noted and passed over; an error is returned only
/// for a cancellation. `progress` may be called from any thread, never twice at a time.
pub fn check_data(
    source: &dyn BlockSource,
    cancel: &CancelToken,
    progress: &(dyn Fn(CopyProgress) + Sync),
) -> Result<DataCheck> {
    let size = source.virtual_size();
    let errors: Mutex<Vec<Error>> = Mutex::new(Vec::new());
    let note = |error: Error| -> Result<()> {
        if error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        lock(&errors).push(error);
        Ok(())
    };
    let read = AtomicU64::new(0);
    let done = Mutex::new(0);
    let mut at = 0;
    let next = || -> Result<Option<Range<u64>>> {
        while at < size {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            if lock(&errors).len() >= MAX_FINDINGS {
                return Ok(None);
            }
            let left = size - at;
            match source.extent_at(at, left) {
                Ok(extent) if extent.kind == ExtentKind::Data && extent.len > 0 => {
                    let start = at;
                    at = (start - start % CHUNK + CHUNK)
                        .min(start + extent.len)
                        .min(size);
                    return Ok(Some(start..at));
                }
                Ok(extent) => at += extent.len.clamp(1, left),
                // The tables of this stretch cannot be read: note it once, and go on behind it.
                Err(error) => {
                    note(error)?;
                    at += source.read_granularity().max(CHUNK).min(left);
                }
            }
        }
        Ok(None)
    };
    workers::run(0, next, |range: Range<u64>, buf: &mut Vec<u8>| {
        let len = range.end - range.start;
        buf.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        match source.read_at(buf, range.start) {
            Ok(()) => {
                read.fetch_add(len, Ordering::Relaxed);
            }
            Err(error) => note(error)?,
        }
        if let Ok(mut furthest) = done.try_lock() {
            *furthest = range.end.max(*furthest);
            progress(CopyProgress {
                copied_bytes: *furthest,
                total_bytes: size,
            });
        }
        Ok(())
    })?;
    Ok(DataCheck {
        read_bytes: read.into_inner(),
        errors: errors.into_inner().unwrap_or_else(PoisonError::into_inner),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
