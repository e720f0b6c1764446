//! Copy-on-write over a source that is never written.
//!
//! ```text
//! reads   ──> [ written | zeroed | base | written | base … ]   the run map, see `runs`
//!                 │          │      │
//!              scratch      none   base
//! ```
//!
//! The map is locked for look-ups only, all I/O is done outside of the lock, and the order of the steps keeps it
//! right. A write fills the scratch file before it marks the run, so a run that is marked always has its bytes; a
//! zeroing marks the run before it gives the scratch space back, so a byte whose space is gone reads as zero in
//! either state. Requests that overlap in time and place may take effect in any order, as on any disk; a request
//! that has been answered is seen by every later one.

mod runs;
mod scratch;

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use runs::{MAX_RUNS, RunMap, State};
use scratch::Scratch;

use crate::{BlockSource, Error, ErrorKind, Extent, ExtentKind, Result};

/// A disk that takes writes and keeps them apart from its base.
pub struct Overlay {
    base: Arc<dyn BlockSource>,
    scratch: Scratch,
    runs: RwLock<RunMap>,
}

/// What an overlay holds apart from its base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayStats {
    /// Bytes that were written and are not zeroed since.
    pub written_bytes: u64,
    /// Bytes that were zeroed or discarded and are not written since.
    pub zeroed_bytes: u64,
}

impl Overlay {
    /// An overlay that hides nothing of `base` yet. What is written goes to an unnamed sparse file in `scratch_dir`.
    pub fn new(base: Arc<dyn BlockSource>, scratch_dir: &Path) -> Result<Self> {
        Ok(Self::build(base, Scratch::create(scratch_dir)?))
    }

    /// An overlay whose scratch file the caller has opened, for reading and writing.
    pub fn with_scratch(base: Arc<dyn BlockSource>, scratch: File) -> Self {
        Self::build(base, Scratch::new(scratch))
    }

    fn build(base: Arc<dyn BlockSource>, scratch: Scratch) -> Self {
        Self {
            base,
            scratch,
            runs: RwLock::new(RunMap::new(MAX_RUNS)),
        }
    }

    /// Writes `buf` at byte `offset`. A full scratch file is [`ErrorKind::NoSpace`].
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let range = self.check("write", offset, buf.len() as u64)?;
        if range.is_empty() {
            return Ok(());
        }
        self.scratch.write_at(buf, offset)?;
        self.change().set(range, State::Written)?;
        Ok(())
    }

    /// Makes `len` bytes from `offset` read as zero and gives back what scratch space they had. The error is of kind
    /// [`ErrorKind::Limit`] when zeroes and data are too finely interleaved to be kept track of.
    pub fn zero(&self, offset: u64, len: u64) -> Result<()> {
        let range = self.check("zero", offset, len)?;
        if range.is_empty() {
            return Ok(());
        }
        let was_written = self.change().set(range, State::Zeroed)?;
        if let Some(hole) = was_written {
            self.scratch.punch(hole.start, hole.end - hole.start);
        }
        Ok(())
    }

    /// Reports writes that were accepted and have failed since. The overlay lives no longer than the process, so
    /// there is nothing to make durable.
    pub fn flush(&self) -> Result<()> {
        self.scratch.flush()
    }

    /// How much was written and zeroed.
    pub fn stats(&self) -> OverlayStats {
        let runs = self.look();
        OverlayStats {
            written_bytes: runs.bytes(State::Written),
            zeroed_bytes: runs.bytes(State::Zeroed),
        }
    }

    /// The map, even if a thread died while it held it: it is never left between two states by anything that panics.
    fn look(&self) -> RwLockReadGuard<'_, RunMap> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, RunMap> {
        self.runs.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, what: &str, offset: u64, len: u64) -> Result<Range<u64>> {
        let size = self.virtual_size();
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(offset..end),
            _ => Err(Error::new(
                ErrorKind::Usage,
                format!("{what} of {len} bytes passes the end of the disk at {size:#x}"),
            )
            .at(offset)),
        }
    }

    /// Reads what the base has in the gaps between `runs`. Gaps that share a granule of the base are read at once,
    /// with the written bytes between them, so that no granule is inflated twice.
    fn read_base(&self, buf: &mut [u8], offset: u64, runs: &[runs::Run]) -> Result<()> {
        let end = offset + buf.len() as u64;
        let granule = self.base.read_granularity().max(1);
        let mut pending: Option<Range<u64>> = None;
        let mut next = offset;
        let starts = runs
            .iter()
            .map(|run| (run.range.start, run.range.end))
            .chain([(end, end)]);
        for (start, stop) in starts {
            if start > next {
                pending = Some(match pending.take() {
                    Some(held) if (held.end - 1) / granule == next / granule => held.start..start,
                    Some(held) => {
                        self.base.read_at(part(buf, offset, &held)?, held.start)?;
                        next..start
                    }
                    None => next..start,
                });
            }
            next = stop;
        }
        match pending {
            Some(held) => self.base.read_at(part(buf, offset, &held)?, held.start),
            None => Ok(()),
        }
    }
}

impl BlockSource for Overlay {
    fn virtual_size(&self) -> u64 {
        self.base.virtual_size()
    }

    fn logical_sector_size(&self) -> u32 {
        self.base.logical_sector_size()
    }

    fn format(&self) -> &'static str {
        self.base.format()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let range = self.check("read", offset, buf.len() as u64)?;
        let runs: Vec<_> = self.look().within(range).collect();
        self.read_base(buf, offset, &runs)?;
        for run in &runs {
            let part = part(buf, offset, &run.range)?;
            match run.state {
                State::Written => self.scratch.read_at(part, run.range.start)?,
                State::Zeroed => part.fill(0),
            }
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let (state, end) = self.look().at(offset);
        let left = self.virtual_size().saturating_sub(offset).min(max_len);
        let len = end.map_or(left, |end| left.min(end - offset));
        let kind = match state {
            None => return self.base.extent_at(offset, len),
            Some(State::Written) => ExtentKind::Data,
            Some(State::Zeroed) => ExtentKind::Zero,
        };
        Ok(Extent { offset, len, kind })
    }

    fn will_need(&self, ranges: &[Range<u64>]) {
        let mut of_base = Vec::new();
        for range in ranges {
            let mut next = range.start;
            while next < range.end {
                let (state, end) = self.look().at(next);
                let end = end.map_or(range.end, |end| end.min(range.end));
                if state.is_none() {
                    of_base.push(next..end);
                }
                next = end;
            }
        }
        self.base.will_need(&of_base);
    }

    fn read_granularity(&self) -> u64 {
        self.base.read_granularity()
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay")
            .field("base", &self.base)
            .field("stats", &self.stats())
            .finish()
    }
}

/// The bytes of `range` in a buffer that begins at `offset`.
fn part<'a>(buf: &'a mut [u8], offset: u64, range: &Range<u64>) -> Result<&'a mut [u8]> {
    let index = |at: u64| usize::try_from(at - offset).ok();
    match (index(range.start), index(range.end)) {
        (Some(start), Some(end)) => buf.get_mut(start..end),
        _ => None,
    }
    .ok_or_else(|| Error::new(ErrorKind::Usage, "run outside of the buffer").at(range.start))
}
