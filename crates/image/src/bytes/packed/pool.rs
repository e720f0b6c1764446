//! Live decoders and decoded chunks of one packed file.
//!
//! Several threads read pieces that lie near each other. A decoder that stopped before the wanted chunk goes on from
//! there; one that another thread is using and that will come by soon is waited for; else a new one starts at the
//! nearest restart point. Whatever costs the fewest bytes of decoding is done. The lock is held to choose, not to decode.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::CHUNK;

/// Decoded chunks that are kept: 16 MiB.
const MAX_CHUNKS: usize = 128;
/// Live decoders at most.
const MAX_DECODERS: u64 = 8;
/// Memory of all live decoders, but there is always one.
const MAX_DECODER_MEMORY: u64 = 64 << 20;
/// What starting anew costs beyond the decoding, in bytes of decoding.
const START_COST: u64 = 64 << 10;

/// A decoder that nobody uses.
struct Idle<D> {
    decoder: D,
    /// Offset of the next byte that it gives.
    at: u64,
    used: u64,
}

/// What a decoder in use will give.
struct Busy {
    ticket: u64,
    from: u64,
    until: u64,
}

/// Decoders of type `D`.
pub(super) struct Pool<D> {
    state: Mutex<State<D>>,
    changed: Condvar,
}

struct State<D> {
    idle: Vec<Idle<D>>,
    busy: Vec<Busy>,
    chunks: HashMap<u64, (Arc<[u8]>, u64)>,
    /// Counts uses, to know what was used least recently.
    clock: u64,
    max_decoders: usize,
}

/// What to do for a chunk.
pub(super) enum Turn<'a, D> {
    /// It is here.
    Chunk(Arc<[u8]>),
    /// Decode from there.
    Decode(Lease<'a, D>),
}

/// The right to decode; given back when dropped.
pub(super) struct Lease<'a, D> {
    pool: &'a Pool<D>,
    ticket: u64,
    /// The decoder to go on with and where it is; none: start at the nearest point.
    pub(super) decoder: Option<(D, u64)>,
}

impl<D> Pool<D> {
    /// For decoders of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        let most = (MAX_DECODER_MEMORY / size.max(1)).clamp(1, MAX_DECODERS);
        Self {
            state: Mutex::new(State {
                idle: Vec::new(),
                busy: Vec::new(),
                chunks: HashMap::new(),
                clock: 0,
                max_decoders: usize::try_from(most).unwrap_or(1),
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        // Nothing that can panic runs under the lock, so what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chunk at `offset`, a multiple of [`CHUNK`], or the right to decode it; `point` is the nearest restart
    /// point at or before it.
    pub(super) fn turn(&self, offset: u64, point: u64) -> Turn<'_, D> {
        let mut state = self.lock();
        loop {
            state.clock += 1;
            let clock = state.clock;
            if let Some((chunk, used)) = state.chunks.get_mut(&offset) {
                *used = clock;
                return Turn::Chunk(Arc::clone(chunk));
            }
            if let Some(decoder) = state.choose(offset, point) {
                let from = decoder.as_ref().map_or(point, |(_, at)| *at);
                state.busy.push(Busy {
                    ticket: clock,
                    from,
                    until: offset + CHUNK,
                });
                return Turn::Decode(Lease {
                    pool: self,
                    ticket: clock,
                    decoder,
                });
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Keeps a decoded chunk.
    pub(super) fn keep(&self, offset: u64, chunk: Arc<[u8]>) {
        let mut state = self.lock();
        if state.chunks.len() >= MAX_CHUNKS {
            let oldest = state.chunks.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(offset, _)| *offset) {
                state.chunks.remove(&oldest);
            }
        }
        state.clock += 1;
        let clock = state.clock;
        state.chunks.insert(offset, (chunk, clock));
    }
}

impl<D> State<D> {
    /// The decoder to use, `Some(None)` for a new one, `None` to wait for one in use.
    fn choose(&mut self, offset: u64, point: u64) -> Option<Option<(D, u64)>> {
        let restart = offset - point + START_COST;
        let idle = self
            .idle
            .iter()
            .enumerate()
            .filter(|(_, idle)| idle.at <= offset)
            .map(|(index, idle)| (offset - idle.at, index))
            .min();
        let own = idle.map_or(restart, |(cost, _)| cost.min(restart));
        let busy = self
            .busy
            .iter()
            .filter(|busy| busy.from <= offset)
            .map(|busy| offset.saturating_sub(busy.until))
            .min();
        let live = self.idle.len() + self.busy.len();
        let must_wait = self.idle.is_empty() && live >= self.max_decoders;
        if must_wait || busy.is_some_and(|cost| cost < own) {
            return None;
        }
        match idle {
            Some((cost, index)) if cost <= restart => {
                let idle = self.idle.swap_remove(index);
                Some(Some((idle.decoder, idle.at)))
            }
            _ => {
                if live >= self.max_decoders {
                    let oldest = self
                        .idle
                        .iter()
                        .enumerate()
                        .min_by_key(|(_, idle)| idle.used);
                    if let Some(index) = oldest.map(|(index, _)| index) {
                        self.idle.swap_remove(index);
                    }
                }
                Some(None)
            }
        }
    }
}

impl<D> Lease<'_, D> {
    /// Gives a decoder back that is good for more.
    pub(super) fn finish(self, decoder: D, at: u64) {
        let mut state = self.pool.lock();
        state.clock += 1;
        let used = state.clock;
        state.idle.push(Idle { decoder, at, used });
    }
}

impl<D> Drop for Lease<'_, D> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.busy.retain(|busy| busy.ticket != self.ticket);
        drop(state);
        self.pool.changed.notify_all();
    }
}
