//! Reading a disk that has bad sectors: nothing readable is given up, and a dying disk still moves.
//!
//! ```text
//! whole range ──ok──> done
//!     │ 3 tries
//!     v
//! pieces of 64 KiB, once each ──> those that fail are trimmed by sectors from both ends up to the first that fails,
//!                                 and what is between is read sector by sector, 3 tries each
//! ```
//!
//! A sector that cannot be read may take the disk seconds. So each chunk has a time budget that begins at its first
//! failure: once it is used up, what failed is not cut any finer and what was not tried is given up (`retry_bad` comes
//! back to it). The budget shrinks while chunk after chunk fails. Many failures in a row are not tried twice, and where
//! each takes long, larger steps come to readable ground sooner. A single read is bounded by the kernel's timeouts.

use std::io;
use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Disk, ReadError};

/// Piece that is given up only in part, in bytes.
const PIECE: u64 = 64 << 10;
/// Larger sectors are read in steps of this, in bytes.
const MAX_SECTOR: u64 = 4096;
/// Sectors that fail one after the other before the rest of the piece is tried in larger steps.
const PATIENT_FAILURES: u32 = 32;
/// Larger step then, in sectors, where each failure takes longer than `TEDIOUS`.
const STRIDE: usize = 8;
const TEDIOUS: Duration = Duration::from_millis(50);
/// Failing chunks in a row that halve the budget, and how often it is halved at most.
const STREAK: u32 = 4;
const MAX_HALVINGS: u32 = 4;

/// How hard it is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Reads of a range or a sector before it counts as failed.
    pub tries: u32,
    /// Pause before the second read; doubled before each further one.
    pub pause: Duration,
    /// Time for one chunk after its first failure; then it is not cut any finer.
    pub budget: Duration,
    /// A failure that took longer than this is not worth a second try of the same kind.
    pub slow: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 3,
            pause: Duration::from_millis(20),
            budget: Duration::from_secs(30),
            slow: Duration::from_secs(2),
        }
    }
}

enum Failure {
    Gone(io::Error),
    Bad,
}

/// ENXIO, ENODEV, ENOMEDIUM: the device was pulled or its driver gave it up. The end of the data inside of the
/// capacity: it shrank.
fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::NXIO, Errno::NODEV, Errno::NOMEDIUM];
    error.kind() == io::ErrorKind::UnexpectedEof
        || error
            .raw_os_error()
            .is_some_and(|code| gone.iter().any(|e| e.raw_os_error() == code))
}

struct Careful<'a> {
    disk: &'a Disk,
    start: u64,
    buf: &'a mut [u8],
    bad: Vec<Range<u64>>,
    deadline: Option<Instant>,
    budget: Duration,
    /// Sectors that failed one after the other, and how long the last of them took.
    failures: u32,
    last_failure: Duration,
}

/// Reads `range` of `disk` into `buf`, which is as long and all zero.
pub(super) fn read(
    disk: &Disk,
    range: Range<u64>,
    retry_bad: bool,
    buf: &mut [u8],
) -> Result<Vec<Range<u64>>, ReadError> {
    let known = {
        let map = disk.bad.lock().unwrap_or_else(PoisonError::into_inner);
        if retry_bad {
            Vec::new()
        } else {
            map.within(range.clone())
        }
    };
    let mut careful = Careful {
        disk,
        start: range.start,
        buf,
        bad: Vec::new(),
        deadline: None,
        budget: disk.patience.budget
            / (1 << (disk.streak.load(Relaxed) / STREAK).min(MAX_HALVINGS)),
        failures: 0,
        last_failure: Duration::ZERO,
    };
    let mut skip = super::RangeSet::default();
    known.into_iter().for_each(|bad| skip.insert(bad));
    for part in skip.gaps(range.clone()) {
        careful.part(part)?;
    }
    let found = std::mem::take(&mut careful.bad);
    if found.is_empty() {
        disk.streak.store(0, Relaxed);
    } else {
        disk.streak.fetch_add(1, Relaxed);
    }
    let mut map = disk.bad.lock().unwrap_or_else(PoisonError::into_inner);
    if retry_bad {
        map.remove(range.clone());
    }
    for bad in found {
        map.insert(bad);
    }
    Ok(map.within(range))
}

impl Careful<'_> {
    fn slice(&mut self, range: &Range<u64>) -> &mut [u8] {
        let at = |offset: u64| usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let (from, to) = (at(range.start), at(range.end));
        self.buf.get_mut(from..to).unwrap_or_default()
    }

    /// Tries a range up to `tries` times. `sectors`: past the caches.
    fn attempt(&mut self, range: &Range<u64>, sectors: bool, tries: u32) -> Result<(), Failure> {
        let patience = self.disk.patience;
        let disk = self.disk;
        let mut pause = patience.pause;
        for left in (0..tries.max(1)).rev() {
            let begun = Instant::now();
            let slice = self.slice(range);
            let result = if sectors {
                disk.medium.read_sectors(slice, range.start)
            } else {
                disk.medium.read_at(slice, range.start)
            };
            match result {
                Ok(()) => {
                    self.failures = 0;
                    return Ok(());
                }
                Err(error) => {
                    // What came before the failure is not to be trusted.
                    slice.fill(0);
                    if is_gone(&error) {
                        return Err(Failure::Gone(error));
                    }
                }
            }
            self.deadline.get_or_insert(begun + self.budget);
            self.last_failure = begun.elapsed();
            if left == 0 || self.last_failure > patience.slow || self.late() {
                break;
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        self.failures = self.failures.saturating_add(1);
        Err(Failure::Bad)
    }

    fn late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() > deadline)
    }

    /// Whether it could be read; an error only if the disk is gone.
    fn readable(
        &mut self,
        range: &Range<u64>,
        sectors: bool,
        tries: u32,
    ) -> Result<bool, ReadError> {
        match self.attempt(range, sectors, tries) {
            Ok(()) => Ok(true),
            Err(Failure::Bad) => Ok(false),
            Err(Failure::Gone(source)) => Err(ReadError::Gone {
                name: self.disk.spec.name.clone(),
                offset: range.start,
                source,
            }),
        }
    }

    fn part(&mut self, range: Range<u64>) -> Result<(), ReadError> {
        if self.readable(&range, false, self.disk.patience.tries)? {
            return Ok(());
        }
        let mut failed = Vec::new();
        for piece in steps(range, PIECE) {
            if self.late() {
                self.bad.push(piece);
            } else if !self.readable(&piece, true, 1)? {
                failed.push(piece);
            }
        }
        failed.into_iter().try_for_each(|piece| self.piece(piece))
    }

    /// A piece that failed as a whole.
    fn piece(&mut self, piece: Range<u64>) -> Result<(), ReadError> {
        let sectors = steps(piece.clone(), self.sector());
        let mut done = 0;
        // From the front up to the first that fails …
        while let Some(sector) = sectors.get(done) {
            if self.late() || !self.readable(sector, true, self.disk.patience.tries)? {
                break;
            }
            done += 1;
        }
        // … and from the back.
        let mut end = sectors.len();
        while end > done + 1 {
            let Some(sector) = sectors.get(end - 1) else {
                break;
            };
            if self.late() || !self.readable(sector, true, self.disk.patience.tries)? {
                break;
            }
            end -= 1;
        }
        // The first and the last of these have failed by now, unless time is up.
        let between = sectors.get(done..end).unwrap_or_default();
        self.between(between)
    }

    fn between(&mut self, sectors: &[Range<u64>]) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (sectors.first(), sectors.last()) else {
            return Ok(());
        };
        self.bad.push(first.clone());
        if sectors.len() > 1 {
            self.bad.push(last.clone());
        }
        let inner = sectors.get(1..sectors.len() - 1).unwrap_or_default();
        let mut at = 0;
        while let Some(sector) = inner.get(at) {
            if self.late() {
                self.bad.push(sector.start..last.start);
                break;
            }
            let hasty = self.failures > PATIENT_FAILURES;
            let tries = if hasty { 1 } else { self.disk.patience.tries };
            let stride = if hasty && self.last_failure > TEDIOUS {
                STRIDE
            } else {
                1
            };
            let Some(step) = inner.get(at..inner.len().min(at + stride)) else {
                break;
            };
            let whole = sector.start..step.last().map_or(sector.end, |s| s.end);
            if self.readable(&whole, true, tries)? {
                at += step.len();
            } else if let Some(end) = step.last().filter(|_| step.len() > 1)
                && self.readable(end, true, 1)?
            {
                // Readable ground: the same once more in small steps.
            } else {
                self.bad.push(whole);
                at += step.len();
            }
        }
        Ok(())
    }

    /// Step of the finest reading, in bytes: the logical sector; a physical sector is lost as a whole, but firmware is
    /// not always honest about its size.
    fn sector(&self) -> u64 {
        let spec = &self.disk.spec;
        let logical = u64::from(spec.logical_sector_size);
        if logical.is_power_of_two() && (512..=MAX_SECTOR).contains(&logical) {
            logical
        } else {
            512
        }
    }
}

/// `range` cut at multiples of `step`.
fn steps(range: Range<u64>, step: u64) -> Vec<Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(|| {
        let end = (at / step + 1).saturating_mul(step).min(range.end);
        let found = (at < range.end).then_some(at..end);
        at = end;
        found
    })
    .collect()
}
