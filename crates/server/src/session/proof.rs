//! The proof that both sides have the same bytes: a hash over each stretch of a disk, made on both sides.
//!
//! This side reads its spool once more and hashes what it reads. Blocks with unreadable places are left out: what
//! stands in for them is nobody's data.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use image::{Error, ErrorKind, Result};
use types::CancelToken;
use wire::session::{ProofReply, ProofRequest, Range as WireRange, server_message};

use super::machine::RemoteMachine;
use super::one_line;
use super::spool::{BLOCK, BlockState};
use crate::ProofRange;

/// Blocks of a stretch: 64 MiB, so its ranges are far below `wire::MAX_PROOF_RANGES` however scattered.
const STRETCH_BLOCKS: u64 = 1024;
const _: () = assert!(STRETCH_BLOCKS.div_ceil(2) <= wire::MAX_PROOF_RANGES as u64);
/// Requests under way: the agent hashes one while this side hashes the next.
const IN_FLIGHT: usize = 4;
const TICK: Duration = Duration::from_millis(100);

/// Proofs under way.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    /// Requests that were sent, and their answers.
    answers: HashMap<u64, Option<ProofReply>>,
    /// Counts connections: after a new one all is sent again.
    pub(super) connections: u64,
}

/// One stretch as this side has it.
#[derive(Debug)]
struct Stretch {
    id: u64,
    disk: usize,
    ranges: Vec<WireRange>,
    proved: ProofRange,
    /// The connection on which it was asked.
    sent: Option<u64>,
}

/// Proves all disks.
pub(super) fn run(
    machine: &RemoteMachine,
    reread: bool,
    cancel: &CancelToken,
) -> Result<Vec<ProofRange>> {
    let mut prover = Prover {
        machine,
        reread,
        open: VecDeque::new(),
        last_answer: Instant::now(),
    };
    let result = prover.run(cancel);
    let mut state = machine.state();
    for stretch in &prover.open {
        state.proofs.answers.remove(&stretch.id);
    }
    result
}

struct Prover<'a> {
    machine: &'a RemoteMachine,
    reread: bool,
    open: VecDeque<Stretch>,
    last_answer: Instant,
}

impl Prover<'_> {
    fn run(&mut self, cancel: &CancelToken) -> Result<Vec<ProofRange>> {
        let machine = self.machine;
        let mut proved = Vec::new();
        let mut next = (0, 0);
        let mut more = true;
        while more || !self.open.is_empty() {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            if more && self.open.len() < IN_FLIGHT {
                match self.stretch(&mut next)? {
                    Some(stretch) => self.open.push_back(stretch),
                    None => more = false,
                }
                self.last_answer = Instant::now();
                self.send()?;
                continue;
            }
            self.send()?;
            self.collect(&mut proved)?;
            if !more && self.open.is_empty() {
                break;
            }
            if let Some(patience) = machine.patience
                && self.last_answer.elapsed() >= patience
            {
                let what = format!(
                    "the agent has not answered the proof for {} s",
                    patience.as_secs_f32()
                );
                return Err(Error::new(ErrorKind::Io, what));
            }
        }
        Ok(proved)
    }

    /// The next stretch of which something is here, hashed.
    fn stretch(&self, next: &mut (usize, u64)) -> Result<Option<Stretch>> {
        let machine = self.machine;
        while let Some(spool) = machine.spool.disks.get(next.0) {
            let (disk, first) = *next;
            if first >= spool.blocks() {
                *next = (disk + 1, 0);
                continue;
            }
            let blocks = first..(first + STRETCH_BLOCKS).min(spool.blocks());
            next.1 = blocks.end;
            let covered = self.covered(disk, &blocks)?;
            if covered.is_empty() {
                continue;
            }
            let mut root = blake3::Hasher::new();
            let (mut ranges, mut covered_bytes) = (Vec::new(), 0);
            for run in covered {
                spool.rehash(&run, &mut root)?;
                let bytes = spool.bytes_of(&run);
                let len = bytes.end - bytes.start;
                covered_bytes += len;
                ranges.push(WireRange {
                    offset: bytes.start,
                    len,
                });
            }
            let bytes = spool.bytes_of(&blocks);
            return Ok(Some(Stretch {
                id: machine.state().schedule.next_id(),
                disk,
                ranges,
                proved: ProofRange {
                    disk: u32::try_from(disk).unwrap_or(u32::MAX),
                    offset: bytes.start,
                    len: bytes.end - bytes.start,
                    covered_bytes,
                    root: root.finalize().to_hex().to_string(),
                },
                sent: None,
            }));
        }
        Ok(None)
    }

    /// Runs of blocks that are here and have no unreadable places.
    fn covered(&self, disk: usize, blocks: &Range<u64>) -> Result<Vec<Range<u64>>> {
        let spool = &self.machine.spool.disks[disk];
        let mut runs: Vec<Range<u64>> = Vec::new();
        for block in blocks.clone() {
            let state = spool.states().get(block);
            let here = match state {
                BlockState::Absent => false,
                BlockState::Claimed => spool.check_claim(block)?,
                BlockState::Trusted | BlockState::Zero => true,
            };
            let bytes = block * BLOCK..(block + 1) * BLOCK;
            if !here || spool.bad().touches(&bytes) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        Ok(runs)
    }

    /// Asks for what was not asked for on this connection.
    fn send(&mut self) -> Result<()> {
        let mut state = self.machine.state();
        state.check()?;
        let Some(link) = state.link.clone() else {
            return Ok(());
        };
        let connection = state.proofs.connections;
        for stretch in &mut self.open {
            if stretch.sent == Some(connection) {
                continue;
            }
            let request = ProofRequest {
                id: stretch.id,
                disk: link.numbers[stretch.disk],
                ranges: stretch.ranges.clone(),
                reread: self.reread,
            };
            if let Some(len) = link.send(server_message::Message::Proof(request)) {
                stretch.sent = Some(connection);
                state.proofs.answers.insert(stretch.id, None);
                state.stats.wire_bytes += len as u64;
            }
        }
        Ok(())
    }

    /// Takes answers, in the order of the disk; waits a little when there is none.
    fn collect(&mut self, proved: &mut Vec<ProofRange>) -> Result<()> {
        let machine = self.machine;
        let Some(id) = self.open.front().map(|stretch| stretch.id) else {
            return Ok(());
        };
        let mut state = machine.state();
        if !matches!(state.proofs.answers.get(&id), Some(Some(_))) {
            state = machine.wait(state, TICK);
        }
        let Some(Some(reply)) = state.proofs.answers.remove(&id) else {
            if self
                .open
                .front()
                .is_some_and(|stretch| stretch.sent.is_some())
            {
                state.proofs.answers.entry(id).or_insert(None);
            }
            return Ok(());
        };
        drop(state);
        self.last_answer = Instant::now();
        if let Some(stretch) = self.open.pop_front() {
            proved.push(compare(machine, stretch, &reply)?);
        }
        Ok(())
    }
}

fn compare(machine: &RemoteMachine, stretch: Stretch, reply: &ProofReply) -> Result<ProofRange> {
    let name = &machine.disks[stretch.disk].identity.name;
    let proved = stretch.proved;
    let fail = |what: String| {
        let error = Error::new(ErrorKind::Corrupt, what);
        Err(error.in_file(format!("disk {name}")).at(proved.offset))
    };
    if !reply.error.is_empty() {
        return fail(format!(
            "the agent cannot prove these {} bytes: {}",
            proved.len,
            one_line(&reply.error)
        ));
    }
    let found = data_encoding::HEXLOWER.encode(reply.root.get(..64).unwrap_or(&reply.root));
    if found != proved.root {
        return fail(format!(
            "these {} bytes differ from the machine's: expected root {}, found {found}; its disk changed, or what was sent is damaged",
            proved.len, proved.root
        ));
    }
    Ok(proved)
}

impl RemoteMachine {
    /// Takes an answer in; one that was not asked for is dropped.
    pub(super) fn proof_answered(&self, reply: ProofReply) {
        let mut state = self.state();
        match state.proofs.answers.get_mut(&reply.id) {
            Some(answer) => *answer = Some(reply),
            None => tracing::warn!(id = reply.id, "a proof came that was not asked for"),
        }
        drop(state);
        self.arrived.notify_all();
    }
}
