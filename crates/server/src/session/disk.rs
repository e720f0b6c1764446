//! A disk at the other end of the network, as a source like any other.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::{BlockSource, Error, ErrorKind, Extent, ExtentKind, Result};

use super::machine::{Failure, RemoteMachine};
use super::pump::MAX_BLOCKS;
use super::spool::{BLOCK, BlockState, DiskSpool};

/// Bytes that one read asks for at a time: what it queues stays small however large it is.
const READ_PART: usize = 4 << 20;
/// A waiting reader looks around so often at least, in case that nobody wakes it.
const TICK: Duration = Duration::from_millis(500);

/// One disk of a machine.
pub(super) struct RemoteDisk {
    machine: Arc<RemoteMachine>,
    disk: usize,
    ahead: Mutex<Ahead>,
}

/// Reads that follow each other are asked for in growing pieces.
#[derive(Debug, Default)]
struct Ahead {
    /// Block after what was asked for last.
    next: u64,
    /// Blocks to ask for beyond what is read.
    more: u64,
}

impl Ahead {
    /// How far to ask when these blocks are missing.
    fn extend(&mut self, missing: &Range<u64>, blocks: u64) -> u64 {
        self.more = if missing.start == self.next {
            (self.more * 2).clamp(1, MAX_BLOCKS)
        } else {
            0
        };
        let wanted = missing.end.saturating_add(self.more).min(blocks);
        // A sequence is asked for in whole chunks at most; what is larger is large enough.
        let end = wanted.min(missing.start + MAX_BLOCKS).max(missing.end);
        self.next = end;
        end
    }
}

impl RemoteDisk {
    pub(super) fn new(machine: Arc<RemoteMachine>, disk: usize) -> Self {
        Self {
            machine,
            disk,
            ahead: Mutex::default(),
        }
    }

    fn spool(&self) -> &DiskSpool {
        &self.machine.spool.disks[self.disk]
    }

    /// Waits until all of these blocks are in the spool.
    fn fetch(&self, blocks: &Range<u64>) -> Result<()> {
        let spool = self.spool();
        self.check_claims(blocks)?;
        let Some(first) = spool.states().first(blocks.clone(), BlockState::Absent) else {
            return Ok(());
        };
        let end = {
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            ahead.extend(&(first..blocks.end), spool.blocks())
        };
        let machine = &self.machine;
        let started = Instant::now();
        let mut state = machine.state();
        loop {
            state.check()?;
            if let Some(failure) = &state.disk_failures[self.disk] {
                return Err(failure.error());
            }
            if spool
                .states()
                .first(blocks.clone(), BlockState::Absent)
                .is_none()
            {
                return Ok(());
            }
            state
                .schedule
                .want(self.disk, spool, first..end, machine.chunk_blocks());
            machine.pump(&mut state);
            let connected = state.link.is_some();
            let since = started.max(state.last_answer);
            let tick = match machine.patience {
                None => TICK,
                Some(patience) => match patience.checked_sub(since.elapsed()) {
                    None | Some(Duration::ZERO) => return Err(self.gave_up(patience, connected)),
                    Some(left) => left.min(TICK),
                },
            };
            state = machine.wait(state, tick);
        }
    }

    fn gave_up(&self, patience: Duration, connected: bool) -> Error {
        let what = if connected {
            "has not answered"
        } else {
            "has been away"
        };
        let text = format!(
            "the agent {what} for {} s; see that the machine runs and reaches this server, and try the job again",
            patience.as_secs_f32()
        );
        Failure::new(ErrorKind::Io, text)
            .error()
            .in_file(&self.spool().name)
    }

    /// Checks what an earlier run left, once.
    fn check_claims(&self, blocks: &Range<u64>) -> Result<()> {
        let spool = self.spool();
        let mut next = blocks.start;
        loop {
            let claimed = spool.states().first(next..blocks.end, BlockState::Claimed);
            let Some(block) = claimed else {
                return Ok(());
            };
            if !spool.check_claim(block)? {
                let schedule = &mut self.machine.state().schedule;
                schedule.count_lost(self.disk, spool, block);
            }
            next = block + 1;
        }
    }

    /// What a block's records say from here on: whether it is zero, and up to where.
    fn known_zero(&self, offset: u64, end: u64) -> (bool, u64) {
        let blocks = offset / BLOCK..end.div_ceil(BLOCK);
        let states = self.spool().states();
        let zero = states.get(blocks.start) == BlockState::Zero;
        let change = if zero {
            states.first_not(blocks, BlockState::Zero)
        } else {
            states.first(blocks, BlockState::Zero)
        };
        (zero, change.map_or(end, |block| (block * BLOCK).min(end)))
    }
}

impl BlockSource for RemoteDisk {
    fn virtual_size(&self) -> u64 {
        self.spool().virtual_size()
    }

    fn logical_sector_size(&self) -> u32 {
        self.machine.disks[self.disk].logical_sector_size
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let size = self.virtual_size();
        if offset
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > size)
        {
            let what = format!(
                "read of {} bytes passes the end of the disk at {size:#x}",
                buf.len()
            );
            return Err(Error::new(ErrorKind::Usage, what)
                .in_file(&self.spool().name)
                .at(offset));
        }
        let mut at = offset;
        for part in buf.chunks_mut(READ_PART) {
            let end = at + part.len() as u64;
            self.fetch(&(at / BLOCK..end.div_ceil(BLOCK)))?;
            self.spool().read(part, at)?;
            at = end;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let end = self
            .virtual_size()
            .min(offset.saturating_add(max_len))
            .max(offset + 1);
        let (zero, end) = self.known_zero(offset, end);
        let (zero, end) = if zero {
            (true, end)
        } else {
            let (data, change) = self.machine.state().extents[self.disk].at(offset);
            (!data, end.min(change))
        };
        Ok(Extent {
            offset,
            len: end - offset,
            kind: if zero {
                ExtentKind::Zero
            } else {
                ExtentKind::Data
            },
        })
    }

    fn will_need(&self, ranges: &[Range<u64>]) {
        let mut state = self.machine.state();
        state.schedule.set_needed(self.disk, self.spool(), ranges);
        self.machine.pump(&mut state);
    }

    fn read_granularity(&self) -> u64 {
        BLOCK
    }
}

impl fmt::Debug for RemoteDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteDisk")
            .field("disk", &self.machine.disks[self.disk])
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_asked_for_ahead_and_others_are_not() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.extend(&(100..101), 1000), 101);
        assert_eq!(ahead.extend(&(500..501), 1000), 501);
        // One block more, then two, four, eight, and a chunk at most.
        let mut next = 501;
        for expected in [2, 3, 5, 9, 16, 16] {
            let end = ahead.extend(&(next..next + 1), 10_000);
            assert_eq!(end - next, expected);
            next = end;
        }
        assert_eq!(ahead.extend(&(next..next + 64), 10_000), next + 64);
        assert_eq!(ahead.extend(&(9..10), 10), 10);
    }
}
