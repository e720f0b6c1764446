//! Takes chunks in: nothing of them is used before all of it was checked.

use std::time::Instant;

use image::ErrorKind;
use wire::chunk::{self, BlockContent, HASH_LEN, Verified};
use wire::session::{Chunk, ReadRequest};

use super::machine::{Failure, RemoteMachine, State};
use super::spool::Piece;
use super::{message_len, one_line};

/// Wrong answers after which a session is refused.
const MAX_LIES: u32 = 3;
/// Times that a range is asked for before its disk counts as unreadable.
const MAX_FAILURES: u32 = 3;

/// An answer that contradicts its request: the stream is to be closed.
#[derive(Debug)]
pub(super) struct Lie(pub(super) String);

/// What became of an answer.
enum Outcome {
    /// It is in the spool.
    Stored(Vec<Piece>),
    /// The earlier spool does not have what the agent found the same.
    BaseDamaged,
    /// The spool cannot take it.
    Failed(Failure),
}

impl RemoteMachine {
    /// Checks an answer that came on stream `lane` and stores it. It blocks on the file system.
    pub(super) fn receive(&self, lane: u64, chunk: &Chunk) -> Result<(), Lie> {
        let wire_len = message_len(chunk) as u64;
        let (disk, first, request) = {
            let mut state = self.state();
            state.stats.wire_bytes += wire_len;
            if state.stopped {
                return Ok(());
            }
            match state.schedule.in_flight(lane, chunk.id) {
                Some((asked, request)) => (asked.disk, asked.blocks.start, request),
                None => {
                    let what = format!("the agent's answer {} was not asked for", chunk.id);
                    return Err(self.lie(&mut state, what));
                }
            }
        };
        if !chunk.error.is_empty() {
            self.unreadable(disk, chunk, wire_len);
            return Ok(());
        }
        let verified = chunk::verify(&request, chunk)
            .map_err(|error| error.to_string())
            .and_then(|verified| check_same(&request, &verified).map(|()| verified));
        let verified = verified.map_err(|what| self.lie(&mut self.state(), what))?;
        let outcome = self.store(disk, first, &request, &verified);
        self.finish(chunk.id, wire_len, outcome);
        self.sync_soon();
        Ok(())
    }

    fn store(
        &self,
        disk: usize,
        first: u64,
        request: &ReadRequest,
        verified: &Verified,
    ) -> Outcome {
        let mut pieces = Vec::with_capacity(verified.blocks.len());
        let known = request.known_hashes.chunks_exact(HASH_LEN).map(Some);
        let known = known.chain(std::iter::repeat(None));
        for ((block, content), known) in (first..).zip(&verified.blocks).zip(known) {
            pieces.push(match content {
                BlockContent::Zero => Piece::Zero,
                BlockContent::Data { hash, at } => Piece::Data(*hash, at.clone()),
                BlockContent::Same => {
                    let base = self.base[disk].as_ref();
                    let bytes = base
                        .zip(known)
                        .and_then(|(b, hash)| b.read_known(block, hash));
                    match (bytes, known.and_then(|hash| hash.try_into().ok())) {
                        (Some(bytes), Some(hash)) => Piece::Copied(hash, bytes),
                        _ => return Outcome::BaseDamaged,
                    }
                }
            });
        }
        let within = request.offset..request.offset + u64::from(request.len);
        let spool = &self.spool;
        let stored = spool.disks[disk]
            .set_bad(&within, &verified.bad)
            .and_then(|()| spool.store(disk, first, &verified.plain, &pieces));
        match stored {
            Ok(()) => Outcome::Stored(pieces),
            Err(error) => Outcome::Failed(Failure::of(&error)),
        }
    }

    /// Settles a request that was answered.
    fn finish(&self, id: u64, wire_len: u64, outcome: Outcome) {
        let now = Instant::now();
        let mut state = self.state();
        state.last_answer = now;
        match outcome {
            Outcome::Stored(pieces) => {
                if let Some(request) = state.schedule.remove(id) {
                    self.settle(request.granted, wire_len);
                    let spool = &self.spool.disks[request.disk];
                    let blocks = &request.blocks;
                    let needed = state.schedule.count_done(request.disk, spool, blocks);
                    state.rates.1.add(needed, now);
                    self.count(&mut state, request.len, &pieces, now);
                }
            }
            Outcome::BaseDamaged => {
                if let Some(request) = state.schedule.get_mut(id) {
                    request.without_base = true;
                    self.settle(std::mem::take(&mut request.granted), wire_len);
                }
                state.schedule.requeue(id);
            }
            Outcome::Failed(failure) => {
                if let Some(request) = state.schedule.remove(id) {
                    self.settle(request.granted, wire_len);
                }
                state.failure.get_or_insert(failure);
            }
        }
        self.pump(&mut state);
        drop(state);
        self.arrived.notify_all();
    }

    fn count(&self, state: &mut State, len: u64, pieces: &[Piece], now: Instant) {
        let (mut data, mut same) = (0, 0);
        for piece in pieces {
            match piece {
                Piece::Zero => {}
                Piece::Data(..) => data += piece.len(),
                Piece::Copied(..) => same += piece.len(),
            }
        }
        let stats = &mut state.stats;
        stats.received_bytes += data;
        stats.same_bytes += same;
        stats.zero_bytes += len.saturating_sub(data + same);
        if stats.first_byte_ms == 0
            && let Some(link) = &state.link
        {
            let waited = now.saturating_duration_since(link.since).as_millis();
            stats.first_byte_ms = u64::try_from(waited).unwrap_or(u64::MAX).max(1);
        }
        state.rates.0.add(data, now);
    }

    /// The agent says that it could read nothing of a range.
    fn unreadable(&self, disk: usize, chunk: &Chunk, wire_len: u64) {
        let mut state = self.state();
        state.last_answer = Instant::now();
        let Some(request) = state.schedule.get_mut(chunk.id) else {
            return;
        };
        request.failures += 1;
        let failures = request.failures;
        self.settle(std::mem::take(&mut request.granted), wire_len);
        if failures < MAX_FAILURES {
            state.schedule.requeue(chunk.id);
        } else {
            state.schedule.remove(chunk.id);
            let text = format!(
                "disk {}: at {:#x}: the agent cannot read it: {}",
                self.disks[disk].identity.name,
                chunk.offset,
                one_line(&chunk.error)
            );
            state.disk_failures[disk].get_or_insert(Failure::new(ErrorKind::Io, text));
        }
        self.pump(&mut state);
        drop(state);
        self.arrived.notify_all();
    }

    fn settle(&self, granted: u64, used: u64) {
        for limit in &self.limits {
            limit.settle(granted, used);
        }
    }

    /// Counts a wrong answer; one too many ends the session and every read.
    pub(super) fn lie(&self, state: &mut State, what: String) -> Lie {
        tracing::warn!(what, "an agent's answer was refused");
        let Some(link) = state.link.clone() else {
            return Lie(what);
        };
        if state.lies.0 != link.session {
            state.lies = (link.session, 0);
        }
        state.lies.1 += 1;
        if state.lies.1 >= MAX_LIES {
            let text = format!("{what}; its session was refused after {MAX_LIES} such answers");
            link.end(tonic::Status::permission_denied(&text));
            let failure = Failure::new(ErrorKind::Corrupt, text);
            state.failure.get_or_insert(failure);
            self.arrived.notify_all();
        }
        Lie(what)
    }

    /// True when this session gave too many wrong answers.
    pub(super) fn is_refused(state: &State, session: &[u8; super::SESSION_LEN]) -> bool {
        state.lies.0 == *session && state.lies.1 >= MAX_LIES
    }
}

/// A block can be the same only as one of which a hash was named.
fn check_same(request: &ReadRequest, verified: &Verified) -> Result<(), String> {
    let known = request.known_hashes.chunks(HASH_LEN);
    let mut named = known.map(|hash| hash.iter().any(|&byte| byte != 0));
    for content in &verified.blocks {
        let named = named.next().unwrap_or(false);
        if *content == BlockContent::Same && !named {
            return Err(format!(
                "the agent's answer for disk {} at {:#x} is malformed: it leaves out a block of which no hash was named",
                request.disk, request.offset
            ));
        }
    }
    Ok(())
}
