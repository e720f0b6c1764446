//! The threads that read, hash and compress.
//!
//! Urgent requests go before bulk, and one thread is kept for them. A disk that is failing keeps at most one thread
//! busy, so that the others go on. What is made and not yet sent is bounded by tickets; requests wait in queues that
//! are bounded by their streams.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use wire::chunk;
use wire::session::{Chunk, ExtentsReply, ExtentsRequest, ProofReply, ProofRequest, ReadRequest};

use super::compress::{CompressPolicy, Departure};
use super::memory::HashMemory;
use super::outbox::Outbox;
use super::{Disks, proof, serve, to_wire};

/// A chunk under way holds its plain bytes while it is made, and what is sent of it: 2 MiB at most. 28 tickets and a
/// buffer for each thread stay below 64 MiB.
const BULK_TICKETS: usize = 20;
/// For urgent ones on top.
const URGENT_TICKETS: usize = 8;
/// Requests that may wait, of all streams; each is below 1 KiB. More than a server needs to keep everything busy.
const MAX_WAITING: usize = 4096;
/// Proofs and questions for extents that may wait.
const MAX_QUESTIONS: usize = 64;

/// How a pool is made.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions {
    /// Threads; `None`: by the processors, 2 to 4.
    pub threads: Option<usize>,
    /// Bytes for hashes of what was sent; `None`: an eighth of the free memory.
    pub hash_bytes: Option<usize>,
    /// Lines for the log: sectors that cannot be read, disks that are gone.
    pub log: Option<UnboundedSender<String>>,
}

/// The threads; they end when it is dropped.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disks: Disks,
    pub(super) memory: HashMemory,
    queues: Mutex<Queues>,
    /// Something was put in, or a ticket came back.
    changed: Condvar,
    policy: Mutex<CompressPolicy>,
    begun: Instant,
    log: Option<UnboundedSender<String>>,
    /// No more questions are answered.
    stop: AtomicBool,
    /// For each disk: its last chunk had sectors that failed anew.
    failing: Vec<AtomicBool>,
    workers: usize,
}

#[derive(Debug, Default)]
struct Queues {
    urgent: VecDeque<Job>,
    bulk: VecDeque<Job>,
    questions: VecDeque<Question>,
    /// Tickets that are out.
    tickets: usize,
    /// Chunks made and not sent.
    ready: usize,
    bulk_busy: usize,
    /// Threads that read each disk.
    busy: Vec<usize>,
}

#[derive(Debug)]
struct Job {
    request: ReadRequest,
    outbox: Outbox,
}

/// What takes long and is not a chunk.
#[derive(Debug)]
enum Question {
    Proof(ProofRequest, UnboundedSender<ProofReply>),
    Extents(ExtentsRequest, UnboundedSender<ExtentsReply>),
}

/// The place of one chunk in memory; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    tag: u64,
    plain_bytes: u64,
    ready: bool,
}

impl Ticket {
    /// The chunk is in the buffers of the connection.
    pub(super) fn left(self) {
        let waiting = self.shared.lock().ready > 1;
        let departure = Departure {
            tag: self.tag,
            plain_bytes: self.plain_bytes,
            waiting,
            now: self.shared.begun.elapsed(),
        };
        self.shared.policy().left(departure);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut queues = self.shared.lock();
        queues.tickets -= 1;
        queues.ready -= usize::from(self.ready);
        drop(queues);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn policy(&self) -> MutexGuard<'_, CompressPolicy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn log(&self, line: String) {
        if let Some(log) = &self.log {
            let _ = log.send(line);
        }
    }

    /// Waits while somebody waits for an urgent read.
    pub(super) fn give_way(&self) {
        let mut queues = self.lock();
        while !queues.urgent.is_empty() && !self.stopped() {
            queues = self.wait(queues);
        }
    }

    fn wait<'a>(&self, queues: MutexGuard<'a, Queues>) -> MutexGuard<'a, Queues> {
        // Every change is notified; the timeout only makes a forgotten one harmless.
        const AT_MOST: Duration = Duration::from_secs(1);
        let waited = self.changed.wait_timeout(queues, AT_MOST);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The next job for a worker; `None` when the pool ends.
    fn next(self: &Arc<Self>) -> Option<(Job, bool, Ticket)> {
        let mut queues = self.lock();
        loop {
            if self.stopped() {
                return None;
            }
            let dead = closed(&mut queues);
            if !dead.is_empty() {
                // With the last sender of a channel goes what is left in it: tickets, which want the lock.
                drop(queues);
                drop(dead);
                queues = self.lock();
                continue;
            }
            if let Some((job, urgent)) = self.pick(&mut queues) {
                queues.tickets += 1;
                queues.bulk_busy += usize::from(!urgent);
                if let Some(busy) = queues.busy.get_mut(job.request.disk as usize) {
                    *busy += 1;
                }
                let ticket = Ticket {
                    shared: Arc::clone(self),
                    tag: 0,
                    plain_bytes: 0,
                    ready: false,
                };
                return Some((job, urgent, ticket));
            }
            queues = self.wait(queues);
        }
    }

    fn pick(&self, queues: &mut Queues) -> Option<(Job, bool)> {
        let Queues {
            urgent,
            bulk,
            tickets,
            bulk_busy,
            busy,
            ..
        } = queues;
        let free = |job: &Job| {
            let disk = job.request.disk as usize;
            let failing = self
                .failing
                .get(disk)
                .is_some_and(|f| f.load(Ordering::Relaxed));
            !failing || busy.get(disk).is_none_or(|&threads| threads == 0)
        };
        if *tickets < BULK_TICKETS + URGENT_TICKETS
            && let Some(at) = urgent.iter().position(free)
        {
            return urgent.remove(at).map(|job| (job, true));
        }
        if *tickets < BULK_TICKETS
            && *bulk_busy + 1 < self.workers
            && let Some(at) = bulk.iter().position(free)
        {
            return bulk.remove(at).map(|job| (job, false));
        }
        None
    }

    fn work(self: &Arc<Self>) {
        let mut buf = Vec::new();
        while let Some((job, urgent, mut ticket)) = self.next() {
            let chunk = self.chunk(&job.request, urgent, &mut buf, &mut ticket);
            let mut queues = self.lock();
            queues.bulk_busy -= usize::from(!urgent);
            if let Some(busy) = queues.busy.get_mut(job.request.disk as usize) {
                *busy -= 1;
            }
            queues.ready += 1;
            ticket.ready = true;
            drop(queues);
            self.changed.notify_all();
            job.outbox.put(urgent, (chunk, ticket));
        }
    }

    fn chunk(
        &self,
        request: &ReadRequest,
        urgent: bool,
        buf: &mut Vec<u8>,
        ticket: &mut Ticket,
    ) -> Chunk {
        let bad = match serve(&self.disks, request, buf) {
            Ok(bad) => bad,
            Err(error) => {
                self.log(error.clone());
                return chunk::failed(request, error);
            }
        };
        if let Some(failing) = self.failing.get(request.disk as usize) {
            let disk = self.disks.get(request.disk);
            let anew = !bad.is_empty() && disk.is_ok_and(|disk| disk.is_failing());
            failing.store(anew, Ordering::Relaxed);
            if anew {
                self.log_bad(request, &bad);
            }
        }
        let bad = bad.iter().map(to_wire).collect();
        let (compress, tag) = self.policy().choose();
        // Sent uncompressed, the bytes leave with the chunk; otherwise the buffer comes back for the next.
        let plain = Bytes::from(std::mem::take(buf));
        let built = chunk::build(request, &plain, bad, compress);
        if let Ok(unshared) = plain.try_into_mut() {
            *buf = unshared.into();
        }
        self.memory
            .remember(request.disk, request.offset, &built.hashes);
        // Urgent ones come at their own pace and say nothing about the line.
        if !urgent {
            ticket.tag = tag;
            let sent = built.chunk.hashes.len() / chunk::HASH_LEN;
            ticket.plain_bytes = sent as u64 * u64::from(wire::BLOCK_LEN);
        }
        built.chunk
    }

    fn log_bad(&self, request: &ReadRequest, bad: &[std::ops::Range<u64>]) {
        let bytes: u64 = bad.iter().map(|range| range.end - range.start).sum();
        let first = bad.first().map_or(0, |range| range.start);
        let name = self
            .disks
            .get(request.disk)
            .map_or("?", |disk| &disk.spec().name);
        self.log(format!(
            "disk {name}: {bytes} bytes cannot be read, the first at {first:#x}; zeroes are sent in their place"
        ));
    }

    fn answer_questions(&self) {
        loop {
            let mut queues = self.lock();
            let question = loop {
                if self.stopped() {
                    return;
                }
                match queues.questions.pop_front() {
                    Some(question) => break question,
                    None => queues = self.wait(queues),
                }
            };
            drop(queues);
            match question {
                Question::Extents(request, reply) => {
                    let _ = reply.send(self.disks.extents(&request));
                }
                Question::Proof(request, reply) => {
                    if !reply.is_closed() {
                        let _ = reply.send(proof::prove(self, &request, &reply));
                    }
                }
            }
        }
    }
}

/// Takes out what nobody can receive any more; it need not be read.
fn closed(queues: &mut Queues) -> Vec<Job> {
    let mut dead = Vec::new();
    for queue in [&mut queues.urgent, &mut queues.bulk] {
        if queue.iter().any(|job| job.outbox.is_closed()) {
            let jobs = std::mem::take(queue).into_iter();
            for job in jobs {
                if job.outbox.is_closed() {
                    dead.push(job);
                } else {
                    queue.push_back(job);
                }
            }
        }
    }
    dead
}

impl Pool {
    /// Starts the threads.
    pub fn start(disks: Disks, options: PoolOptions) -> std::io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        // One is kept for urgent reads; so many others as bring something.
        let workers = options.threads.unwrap_or(processors + 1).clamp(2, 5);
        let count = disks.len();
        let shared = Arc::new(Shared {
            memory: HashMemory::new(
                options
                    .hash_bytes
                    .unwrap_or_else(HashMemory::share_of_memory),
            ),
            queues: Mutex::new(Queues {
                busy: vec![0; count],
                ..Queues::default()
            }),
            changed: Condvar::new(),
            policy: Mutex::new(CompressPolicy::new()),
            begun: Instant::now(),
            log: options.log,
            stop: AtomicBool::new(false),
            failing: (0..count).map(|_| AtomicBool::new(false)).collect(),
            workers,
            disks,
        });
        let mut threads = Vec::new();
        for number in 0..workers {
            let shared = Arc::clone(&shared);
            let name = format!("read-{number}");
            threads.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || shared.work())?,
            );
        }
        let questions = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("proof".to_owned());
        threads.push(thread.spawn(move || questions.answer_questions())?);
        Ok(Self { shared, threads })
    }

    /// The disks that are read.
    pub fn disks(&self) -> &Disks {
        &self.shared.disks
    }

    /// Takes a request; its answer comes out of `outbox`. False when too many wait already.
    #[must_use]
    pub fn read(&self, request: ReadRequest, outbox: &Outbox) -> bool {
        let mut queues = self.shared.lock();
        if queues.urgent.len() + queues.bulk.len() >= MAX_WAITING {
            return false;
        }
        let job = Job {
            outbox: outbox.clone(),
            request,
        };
        if job.request.urgent {
            queues.urgent.push_back(job);
        } else {
            queues.bulk.push_back(job);
        }
        drop(queues);
        self.shared.changed.notify_all();
        true
    }

    /// Proves a stretch of a disk; the answer goes to `reply`.
    pub fn prove(&self, request: ProofRequest, reply: &UnboundedSender<ProofReply>) {
        let id = request.id;
        if !self.ask(Question::Proof(request, reply.clone())) {
            let _ = reply.send(ProofReply {
                id,
                root: Vec::new(),
                error: format!("more than {MAX_QUESTIONS} questions wait"),
            });
        }
    }

    /// Finds the data of a disk; the answer goes to `reply`.
    pub fn extents(&self, request: ExtentsRequest, reply: &UnboundedSender<ExtentsReply>) {
        let id = request.id;
        if !self.ask(Question::Extents(request, reply.clone())) {
            let _ = reply.send(ExtentsReply {
                id,
                data: Vec::new(),
                error: format!("more than {MAX_QUESTIONS} questions wait"),
            });
        }
    }

    /// As if a chunk of the disk had failed just now.
    #[cfg(test)]
    pub(super) fn shared_failing(&self, disk: usize) {
        self.shared.failing[disk].store(true, Ordering::Relaxed);
    }

    fn ask(&self, question: Question) -> bool {
        let mut queues = self.shared.lock();
        let room = queues.questions.len() < MAX_QUESTIONS;
        if room {
            queues.questions.push_back(question);
        }
        drop(queues);
        self.shared.changed.notify_all();
        room
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread in a read that hangs in the kernel is not waited for.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}
