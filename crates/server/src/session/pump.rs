//! Sends what may be sent: the streams' windows and the rate limits decide how much, the schedule decides what.

use std::time::Instant;

use wire::session::ReadRequest;
use wire::{BLOCK_LEN, MAX_CHUNK_LEN};

use super::link::Link;
use super::machine::{RemoteMachine, State};
use super::message_len;

/// Blocks of the largest chunk.
pub(super) const MAX_BLOCKS: u64 = (MAX_CHUNK_LEN / BLOCK_LEN) as u64;
/// A chunk takes at most one part of so many of a second where the rate is limited, so that urgent reads wait little.
const CHUNKS_A_SECOND: u64 = 8;

impl RemoteMachine {
    /// Sends requests until no stream has room, nothing is to be asked, or the rate limits say to wait.
    pub(super) fn pump(&self, state: &mut State) {
        while !state.stopped && state.failure.is_none() {
            let Some(link) = state.link.clone() else {
                return;
            };
            let Some(lane) = state.schedule.room(true) else {
                return;
            };
            if state.schedule.room(false).is_none() && !state.schedule.urgent_waits() {
                return;
            }
            let Some(id) = self.next_request(state) else {
                return;
            };
            let sent = self.wire_request(state, id, &link).is_some_and(|request| {
                let len = message_len(&request);
                let sent = state.schedule.send(id, lane, request);
                state.stats.wire_bytes += if sent { len as u64 } else { 0 };
                sent
            });
            if !sent {
                state.schedule.requeue(id);
            }
        }
    }

    /// The moment from which the rate limits allow more.
    pub(super) fn resumes_at(&self) -> Option<Instant> {
        self.state().held.map(|(_, at)| at)
    }

    /// The next request that the rate limits allow now.
    fn next_request(&self, state: &mut State) -> Option<u64> {
        let now = Instant::now();
        if let Some((held, at)) = state.held {
            if at > now {
                return None;
            }
            state.held = None;
            if !state.schedule.urgent_waits() {
                return Some(held);
            }
            // What was granted goes to the urgent one; the difference is settled with its answer.
            let granted = state
                .schedule
                .get_mut(held)
                .map_or(0, |request| std::mem::take(&mut request.granted));
            state.schedule.requeue(held);
            let id = state.schedule.next(&self.spool.disks, MAX_BLOCKS)?;
            state.schedule.get_mut(id)?.granted += granted;
            return Some(id);
        }
        let id = state
            .schedule
            .next(&self.spool.disks, self.chunk_blocks())?;
        let request = state.schedule.get_mut(id)?;
        if request.granted > 0 {
            // It was granted when it went to a stream that proved to be dead.
            return Some(id);
        }
        request.granted = request.len;
        let due = self
            .limits
            .iter()
            .filter_map(|limit| limit.grant(request.len, now))
            .max();
        match due {
            None => Some(id),
            Some(at) => {
                state.held = Some((id, at));
                self.held_back.notify_one();
                None
            }
        }
    }

    /// Blocks of a chunk of the bulk.
    pub(super) fn chunk_blocks(&self) -> u64 {
        let rates = self
            .limits
            .iter()
            .filter_map(|limit| limit.bytes_a_second());
        let slowest = rates.min().unwrap_or(u64::MAX);
        (slowest / CHUNKS_A_SECOND / u64::from(BLOCK_LEN)).clamp(1, MAX_BLOCKS)
    }

    fn wire_request(&self, state: &State, id: u64, link: &Link) -> Option<ReadRequest> {
        let request = state.schedule.get(id)?;
        let bytes = self.spool.disks[request.disk].bytes_of(&request.blocks);
        let base = self.base[request.disk].as_ref();
        let known = base.filter(|_| !request.without_base);
        Some(ReadRequest {
            id,
            disk: *link.numbers.get(request.disk)?,
            offset: bytes.start,
            len: u32::try_from(request.len).ok()?,
            urgent: request.urgent,
            known_hashes: known
                .and_then(|base| base.known_hashes(&request.blocks))
                .unwrap_or_default(),
            retry_bad: self.retries(request.disk, &bytes),
        })
    }
}
