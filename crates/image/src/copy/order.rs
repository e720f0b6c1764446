//! Keeps a copy to an ordered sink in order enough: says how far everything is written, and holds back workers that
//! are far ahead of the slowest, so that what the sink must keep in memory is bounded.
//!
//! Cells are numbered as they are taken. The *mark* is the start of the first cell that is not done; no cell is begun
//! that is [`Order::most`] numbers or more ahead of the one at the mark. The worker at the mark never waits, so the
//! mark moves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{BlockSink, Result};

/// Cells that each worker may be ahead.
const CELLS_AHEAD: u64 = 4;

/// The order of one copy.
pub(super) struct Order<'a> {
    sink: &'a dyn BlockSink,
    most: u64,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Numbers and starts of cells that are begun and not done.
    open: BTreeMap<u64, u64>,
    /// Number of the next cell.
    next: u64,
    /// End of the last cell.
    end: u64,
    /// What the sink was told, and the number of the cell there.
    passed: u64,
    passed_number: u64,
    /// Somebody tells the sink right now.
    telling: bool,
}

impl State {
    /// The mark, and the number of the cell there.
    fn mark(&self) -> (u64, u64) {
        let first = self.open.first_key_value();
        first.map_or((self.end, self.next), |(number, start)| (*start, *number))
    }
}

impl<'a> Order<'a> {
    /// For so many workers.
    pub(super) fn new(sink: &'a dyn BlockSink, threads: usize) -> Self {
        Self {
            sink,
            most: CELLS_AHEAD.saturating_mul(threads as u64).max(1),
            state: Mutex::default(),
            moved: Condvar::new(),
        }
    }

    /// Notes a cell from `start` to `end`; called in the order of the disk. Its number.
    pub(super) fn take(&self, start: u64, end: u64) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.open.insert(number, start);
        state.next += 1;
        state.end = end;
        number
    }

    /// Waits until the cell of that number may be begun, or the copy stops.
    pub(super) fn wait(&self, number: u64, stop: &AtomicBool) {
        let mut state = self.state();
        while number >= state.passed_number.saturating_add(self.most)
            && !stop.load(Ordering::Acquire)
        {
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that a cell is done, and tells the sink unless somebody else is at it, who will see this one too.
    pub(super) fn done(&self, number: u64) -> Result<()> {
        let mut state = self.state();
        state.open.remove(&number);
        if state.telling {
            return Ok(());
        }
        loop {
            let (mark, number) = state.mark();
            if mark <= state.passed {
                state.passed_number = number;
                self.moved.notify_all();
                return Ok(());
            }
            state.telling = true;
            drop(state);
            let told = self.sink.passed(mark);
            state = self.state();
            state.telling = false;
            told?;
            // Not before: what the sink has not heard of is still in its memory.
            state.passed = mark;
            state.passed_number = number;
            self.moved.notify_all();
        }
    }

    /// Lets everybody look whether the copy stops.
    pub(super) fn wake(&self) {
        let _state = self.state();
        self.moved.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
