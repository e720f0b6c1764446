//! What is asked of the agent, in which order, on which stream.
//!
//! ```text
//! reader ──> urgent ──┐
//! lost ────> again ───┼──> a stream with room ──> in flight ──> finished
//! needed ranges ──────┘                              └── stream lost: urgent or again
//! ```
//!
//! A block belongs to at most one request at a time, so nothing is asked twice; whoever wants it waits for that one.
//! Requests of the bulk are made when a stream has room, so what is queued stays small whatever the disk's size.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tonic::Status;
use wire::session::ReadRequest;

use super::spool::{BLOCK, BlockState, DiskSpool};

/// Bytes asked for and not answered, over all streams of a job: keeps a 1 Gbit/s line of 200 ms full.
const WINDOW: u64 = 32 << 20;
/// Requests on one stream, urgent ones included; its queue has as many places, so that it is never full.
pub(super) const MAX_ON_STREAM: usize = 256;

/// Whole blocks of one disk.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) disk: usize,
    pub(super) blocks: Range<u64>,
    /// Bytes of disk data.
    pub(super) len: u64,
    pub(super) urgent: bool,
    /// The earlier spool's data proved to be damaged: ask without its hashes.
    pub(super) without_base: bool,
    /// Times that the agent said that it cannot.
    pub(super) failures: u32,
    /// Granted by the rate limits, to be settled.
    pub(super) granted: u64,
    sent: Option<(u64, Arc<ReadRequest>)>,
}

/// One data stream.
#[derive(Debug)]
struct Lane {
    queue: mpsc::Sender<Result<ReadRequest, Status>>,
    /// Tells its task to end.
    kill: Arc<Notify>,
    on_it: BTreeSet<u64>,
    /// Bytes asked for on it.
    bytes: u64,
    /// Its other end is gone; its task will say so.
    dead: bool,
}

/// What the target needs of a disk.
#[derive(Debug, Default)]
struct Needed {
    /// Blocks, ascending and apart.
    blocks: Vec<Range<u64>>,
    total_bytes: u64,
    done_bytes: u64,
    /// Index of the range and the block where the bulk goes on.
    next: (usize, u64),
}

/// The queues.
#[derive(Debug)]
pub(super) struct Schedule {
    next_id: u64,
    requests: HashMap<u64, Request>,
    /// Which request brings a block of a disk.
    owners: HashMap<(usize, u64), u64>,
    urgent: VecDeque<u64>,
    again: VecDeque<u64>,
    needed: Vec<Needed>,
    /// Disks with needed blocks, in the order in which they were asked for.
    bulk: VecDeque<usize>,
    lanes: BTreeMap<u64, Lane>,
}

impl Schedule {
    pub(super) fn new(disks: usize) -> Self {
        Self {
            next_id: 1,
            requests: HashMap::new(),
            owners: HashMap::new(),
            urgent: VecDeque::new(),
            again: VecDeque::new(),
            needed: (0..disks).map(|_| Needed::default()).collect(),
            bulk: VecDeque::new(),
            lanes: BTreeMap::new(),
        }
    }

    /// A number that was not used before.
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes a stream in; `most` of them are kept, the oldest goes first. Its number, and how its task is told to end.
    pub(super) fn add_lane(
        &mut self,
        queue: mpsc::Sender<Result<ReadRequest, Status>>,
        most: usize,
    ) -> (u64, Arc<Notify>) {
        let live = self.lanes.values().filter(|lane| !lane.dead).count();
        if live >= most
            && let Some(oldest) = self.lanes.values_mut().find(|lane| !lane.dead)
        {
            oldest.dead = true;
            oldest.kill.notify_one();
        }
        let id = self.next_id();
        let kill = Arc::new(Notify::new());
        self.lanes.insert(
            id,
            Lane {
                queue,
                kill: Arc::clone(&kill),
                on_it: BTreeSet::new(),
                bytes: 0,
                dead: false,
            },
        );
        (id, kill)
    }

    /// Forgets a stream; what was not answered on it is asked for again.
    pub(super) fn remove_lane(&mut self, lane: u64) {
        let Some(lane) = self.lanes.remove(&lane) else {
            return;
        };
        for id in lane.on_it.into_iter().rev() {
            self.requeue(id);
        }
    }

    /// Puts a request back at the front of its queue.
    pub(super) fn requeue(&mut self, id: u64) {
        if let Some(request) = self.requests.get_mut(&id) {
            if let Some((lane, _)) = request.sent.take()
                && let Some(lane) = self.lanes.get_mut(&lane)
                && lane.on_it.remove(&id)
            {
                lane.bytes -= request.len;
            }
            if request.urgent {
                self.urgent.push_front(id);
            } else {
                self.again.push_front(id);
            }
        }
    }

    /// Asks for the absent blocks of a range for which nobody has asked yet, in runs of at most `most` blocks.
    pub(super) fn want(&mut self, disk: usize, spool: &DiskSpool, blocks: Range<u64>, most: u64) {
        let mut next = blocks.start;
        while let Some(run) = self.unasked(disk, spool, next..blocks.end, most) {
            next = run.end;
            let id = self.add(disk, spool, run, true);
            self.urgent.push_back(id);
        }
    }

    /// The first run of absent blocks that belong to no request.
    fn unasked(
        &self,
        disk: usize,
        spool: &DiskSpool,
        within: Range<u64>,
        most: u64,
    ) -> Option<Range<u64>> {
        let states = spool.states();
        let mut from = within.start;
        let start = loop {
            let block = states.first(from..within.end, BlockState::Absent)?;
            if !self.owners.contains_key(&(disk, block)) {
                break block;
            }
            from = block + 1;
        };
        let limit = within.end.min(start.saturating_add(most.max(1)));
        let end = states
            .first_not(start..limit, BlockState::Absent)
            .unwrap_or(limit);
        let end = (start + 1..end)
            .find(|block| self.owners.contains_key(&(disk, *block)))
            .unwrap_or(end);
        Some(start..end)
    }

    fn add(&mut self, disk: usize, spool: &DiskSpool, blocks: Range<u64>, urgent: bool) -> u64 {
        let id = self.next_id();
        for block in blocks.clone() {
            self.owners.insert((disk, block), id);
        }
        let bytes = spool.bytes_of(&blocks);
        let request = Request {
            disk,
            blocks,
            len: bytes.end - bytes.start,
            urgent,
            without_base: false,
            failures: 0,
            granted: 0,
            sent: None,
        };
        self.requests.insert(id, request);
        id
    }

    /// The next request to send, taken out of its queue; at most `most` blocks of the bulk.
    pub(super) fn next(&mut self, disks: &[DiskSpool], most: u64) -> Option<u64> {
        if let Some(id) = self.urgent.pop_front().or_else(|| self.again.pop_front()) {
            return Some(id);
        }
        while let Some(&disk) = self.bulk.front() {
            let needed = &self.needed[disk];
            let (index, block) = needed.next;
            let Some(range) = needed.blocks.get(index) else {
                self.bulk.pop_front();
                continue;
            };
            let range = block.max(range.start)..range.end;
            match self.unasked(disk, &disks[disk], range, most) {
                Some(run) => {
                    self.needed[disk].next = (index, run.end);
                    return Some(self.add(disk, &disks[disk], run, false));
                }
                None => self.needed[disk].next = (index + 1, 0),
            }
        }
        None
    }

    pub(super) fn urgent_waits(&self) -> bool {
        !self.urgent.is_empty()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Request> {
        self.requests.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Request> {
        self.requests.get_mut(&id)
    }

    /// The stream with the least on it that has room.
    pub(super) fn room(&self, urgent: bool) -> Option<u64> {
        let live = self.lanes.iter().filter(|(_, lane)| !lane.dead);
        let window = WINDOW / (live.clone().count().max(1) as u64);
        live.filter(|(_, lane)| lane.on_it.len() < MAX_ON_STREAM)
            .filter(|(_, lane)| urgent || lane.bytes < window)
            .min_by_key(|(_, lane)| lane.bytes)
            .map(|(id, _)| *id)
    }

    /// Sends a request on a stream. False when that stream proved to be dead.
    pub(super) fn send(&mut self, id: u64, lane_id: u64, request: ReadRequest) -> bool {
        let (Some(asked), Some(lane)) = (self.requests.get_mut(&id), self.lanes.get_mut(&lane_id))
        else {
            return false;
        };
        if lane.queue.try_send(Ok(request.clone())).is_err() {
            lane.dead = true;
            lane.kill.notify_one();
            return false;
        }
        lane.on_it.insert(id);
        lane.bytes += asked.len;
        asked.sent = Some((lane_id, Arc::new(request)));
        true
    }

    /// The request of this number that is in flight on this stream.
    pub(super) fn in_flight(&self, lane: u64, id: u64) -> Option<(&Request, Arc<ReadRequest>)> {
        let request = self.requests.get(&id)?;
        match &request.sent {
            Some((on, wire)) if *on == lane => Some((request, Arc::clone(wire))),
            _ => None,
        }
    }

    /// Ends a request: its blocks belong to nobody again.
    pub(super) fn remove(&mut self, id: u64) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        if let Some((lane, _)) = &request.sent
            && let Some(lane) = self.lanes.get_mut(lane)
            && lane.on_it.remove(&id)
        {
            lane.bytes -= request.len;
        }
        for block in request.blocks.clone() {
            self.owners.remove(&(request.disk, block));
        }
        Some(request)
    }

    /// Sets what the target needs of a disk: the bulk begins to fetch it.
    pub(super) fn set_needed(&mut self, disk: usize, spool: &DiskSpool, ranges: &[Range<u64>]) {
        let mut needed = Needed::default();
        for range in ranges {
            let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK).min(spool.blocks());
            match needed.blocks.last_mut() {
                _ if blocks.start >= blocks.end => {}
                Some(last) if blocks.start <= last.end => last.end = last.end.max(blocks.end),
                _ => needed.blocks.push(blocks),
            }
        }
        for blocks in &needed.blocks {
            let bytes = spool.bytes_of(blocks);
            needed.total_bytes += bytes.end - bytes.start;
            needed.done_bytes += present_bytes(spool, blocks);
        }
        // What has arrived and is not finished will be counted when it is.
        let arrived: u64 = self
            .owners
            .keys()
            .filter(|(of, block)| *of == disk && needed.overlap(spool, &(*block..*block + 1)) > 0)
            .map(|(_, block)| present_bytes(spool, &(*block..*block + 1)))
            .sum();
        needed.done_bytes = needed.done_bytes.saturating_sub(arrived);
        self.needed[disk] = needed;
        if !self.bulk.contains(&disk) {
            self.bulk.push_back(disk);
        }
    }

    /// Counts blocks as received; how many bytes of them are needed.
    pub(super) fn count_done(
        &mut self,
        disk: usize,
        spool: &DiskSpool,
        blocks: &Range<u64>,
    ) -> u64 {
        let needed = &mut self.needed[disk];
        let bytes = needed.overlap(spool, blocks);
        needed.done_bytes = (needed.done_bytes + bytes).min(needed.total_bytes);
        bytes
    }

    /// Counts a block as lost.
    pub(super) fn count_lost(&mut self, disk: usize, spool: &DiskSpool, block: u64) {
        let needed = &mut self.needed[disk];
        let bytes = needed.overlap(spool, &(block..block + 1));
        needed.done_bytes = needed.done_bytes.saturating_sub(bytes);
    }

    /// Needed bytes of a disk: received, and all.
    pub(super) fn needed(&self, disk: usize) -> (u64, u64) {
        let needed = &self.needed[disk];
        (needed.done_bytes, needed.total_bytes)
    }
}

impl Needed {
    /// Needed bytes in these blocks.
    fn overlap(&self, spool: &DiskSpool, blocks: &Range<u64>) -> u64 {
        let first = self.blocks.partition_point(|r| r.end <= blocks.start);
        self.blocks[first..]
            .iter()
            .take_while(|r| r.start < blocks.end)
            .map(|r| {
                let both = r.start.max(blocks.start)..r.end.min(blocks.end);
                let bytes = spool.bytes_of(&both);
                bytes.end - bytes.start
            })
            .sum()
    }
}

/// Bytes of these blocks that are in the spool.
fn present_bytes(spool: &DiskSpool, blocks: &Range<u64>) -> u64 {
    let states = spool.states();
    let absent = states.count(blocks.clone(), BlockState::Absent);
    let all = spool.bytes_of(blocks);
    let mut missing = absent * BLOCK;
    // The disk's last block may be short.
    let last = blocks.end.saturating_sub(1);
    if blocks.contains(&last) && states.get(last) == BlockState::Absent {
        missing -= blocks.end * BLOCK - all.end;
    }
    (all.end - all.start).saturating_sub(missing)
}
