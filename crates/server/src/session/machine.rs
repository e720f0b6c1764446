//! The disks of one job, whether or not an agent is connected: what all threads share, and who waits for what.
//!
//! Readers are threads of the pipeline and wait on `arrived`; streams of agents are tasks. Whoever makes it possible
//! to ask for more (a reader, a finished chunk, a new stream) sends what may be sent itself; see `pump`. Locks are
//! taken in the order `State`, then the states of a disk's blocks; neither is held over a read or write of data.

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use image::{BlockSource, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use types::CancelToken;
use wire::inventory::Inventory;

use super::disk::RemoteDisk;
use super::extents::Extents;
use super::link::Link;
use super::meter::Meter;
use super::proof::Proofs;
use super::rate::RateLimit;
use super::schedule::Schedule;
use super::spool::{DiskIdentity, DiskSpool, Spool};
use crate::{Progress, ProofRange};

/// How the disks of one job are received.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// The job's own folder; made where it is missing. What an earlier run of the job left there is gone on with.
    pub spool: PathBuf,
    /// Spool of an earlier job of the same machine: blocks that the agent finds unchanged are taken from there.
    pub base: Option<PathBuf>,
    /// Bytes a second of this job.
    pub bandwidth: Option<u64>,
    /// Shared by all jobs.
    pub total_bandwidth: Arc<RateLimit>,
    /// Bytes that must stay free in the spool's file system.
    pub reserve_bytes: u64,
    /// How long a read waits for an agent that is away; `None` for ever.
    pub patience: Option<Duration>,
    /// Ask the agent to read again what an earlier run found unreadable.
    pub retry_bad: bool,
}

/// What is known of the transfer of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskTransfer {
    /// Needed bytes that are here.
    pub done_bytes: u64,
    /// Needed bytes; 0 while it is not known.
    pub total_bytes: u64,
    /// Unreadable byte ranges, ascending and apart.
    pub bad: Vec<std::ops::Range<u64>>,
}

/// Bytes that are written before they are made durable in the background.
const SYNC_BYTES: u64 = 256 << 20;
/// Time after which they are in any case.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// The disks of one job, whether or not an agent is connected.
pub struct RemoteMachine {
    pub(super) spool: Arc<Spool>,
    /// What an earlier job has of each disk.
    pub(super) base: Vec<Option<DiskSpool>>,
    pub(super) disks: Vec<DiskFacts>,
    /// Of this job, and of all.
    pub(super) limits: [Arc<RateLimit>; 2],
    pub(super) patience: Option<Duration>,
    retry_bad: bool,
    state: Mutex<State>,
    /// Something happened that a reader may wait for.
    pub(super) arrived: Condvar,
    /// The moment until which the rate limits hold requests back has changed.
    pub(super) held_back: Notify,
    syncer: SyncSender<()>,
}

/// What the inventory says of a disk.
#[derive(Clone, Debug)]
pub(super) struct DiskFacts {
    pub(super) identity: DiskIdentity,
    /// Bytes.
    pub(super) logical_sector_size: u32,
    pub(super) extents_known: bool,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) stopped: bool,
    /// Why nothing more can be read.
    pub(super) failure: Option<Failure>,
    /// Why nothing more can be read of a disk.
    pub(super) disk_failures: Vec<Option<Failure>>,
    pub(super) schedule: Schedule,
    /// A request that the rate limits allow from then on.
    pub(super) held: Option<(u64, Instant)>,
    pub(super) link: Option<Arc<Link>>,
    /// Wrong answers of a session.
    pub(super) lies: ([u8; super::SESSION_LEN], u32),
    pub(super) extents: Vec<Extents>,
    pub(super) proofs: Proofs,
    pub(super) stats: Stats,
    /// Received bytes, and settled needed bytes.
    pub(super) rates: (Meter, Meter),
    /// When the agent last answered.
    pub(super) last_answer: Instant,
}

/// Counters that outlive the server.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Stats {
    pub(super) received_bytes: u64,
    pub(super) wire_bytes: u64,
    pub(super) zero_bytes: u64,
    pub(super) same_bytes: u64,
    pub(super) first_byte_ms: u64,
}

/// An error that several readers get.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: ErrorKind,
    text: String,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    pub(super) fn of(error: &Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::new(error.kind(), text)
    }

    pub(super) fn error(&self) -> Error {
        Error::new(self.kind, self.text.clone())
    }
}

impl RemoteMachine {
    /// Opens or makes the spool. `disks` are places in the inventory.
    pub fn open(inventory: &Inventory, disks: &[u32], options: RemoteOptions) -> Result<Arc<Self>> {
        let disks = disks
            .iter()
            .map(|&place| DiskFacts::of(inventory, place))
            .collect::<Result<Vec<_>>>()?;
        let identities: Vec<_> = disks.iter().map(|disk| disk.identity.clone()).collect();
        let spool = Spool::open(
            &options.spool,
            identities.clone(),
            options.reserve_bytes,
            options.retry_bad,
        )?;
        let spool = Arc::new(spool);
        let base = identities
            .iter()
            .map(|disk| open_base(options.base.as_deref(), disk))
            .collect();
        let (syncer, wake) = sync_channel(1);
        let now = Instant::now();
        let machine = Arc::new(Self {
            state: Mutex::new(State::new(disks.len(), &spool, now)),
            spool,
            base,
            disks,
            limits: [RateLimit::new(options.bandwidth), options.total_bandwidth],
            patience: options.patience,
            retry_bad: options.retry_bad,
            arrived: Condvar::new(),
            held_back: Notify::new(),
            syncer,
        });
        machine.start_syncer(wake)?;
        Ok(machine)
    }

    /// The disks in the order of `open`. Reads block until the bytes are here.
    pub fn sources(self: &Arc<Self>) -> Vec<Arc<dyn BlockSource>> {
        (0..self.disks.len())
            .map(|disk| Arc::new(RemoteDisk::new(Arc::clone(self), disk)) as Arc<dyn BlockSource>)
            .collect()
    }

    /// How far all disks are.
    pub fn progress(&self) -> Progress {
        let now = Instant::now();
        let bad_bytes = self.spool.disks.iter().map(|disk| disk.bad().bytes()).sum();
        let mut state = self.state();
        let needed = (0..self.disks.len()).map(|disk| state.schedule.needed(disk));
        let (done_bytes, total_bytes) =
            needed.fold((0u64, 0u64), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let left = total_bytes.saturating_sub(done_bytes);
        let eta_seconds = match state.rates.1.rate(now) {
            0 => 0,
            rate => left.div_ceil(rate),
        };
        let stats = state.stats;
        Progress {
            done_bytes,
            total_bytes,
            received_bytes: stats.received_bytes,
            wire_bytes: stats.wire_bytes,
            zero_bytes: stats.zero_bytes,
            same_bytes: stats.same_bytes,
            bad_bytes,
            rate_bytes: state.rates.0.rate(now),
            eta_seconds,
            first_byte_ms: stats.first_byte_ms,
        }
    }

    /// How far each disk is.
    pub fn disks(&self) -> Vec<DiskTransfer> {
        let state = self.state();
        (0..self.disks.len())
            .map(|disk| {
                let (done_bytes, total_bytes) = state.schedule.needed(disk);
                DiskTransfer {
                    done_bytes,
                    total_bytes,
                    bad: self.spool.disks[disk].bad().ranges().to_vec(),
                }
            })
            .collect()
    }

    /// True while a control stream is attached.
    pub fn is_connected(&self) -> bool {
        self.state().link.is_some()
    }

    /// Compares what is in the spool with what the agent has, stretch by stretch. Blocks until it is done.
    pub fn prove(&self, reread: bool, cancel: &CancelToken) -> Result<Vec<ProofRange>> {
        super::proof::run(self, reread, cancel)
    }

    /// Ends every wait: reads fail as cancelled from now on.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.arrived.notify_all();
    }

    /// Ends the connection with the agent, who dials again and says hello. For a job whose disks were opened anew.
    pub fn disconnect(&self) {
        if let Some(link) = self.state().link.clone() {
            link.end(tonic::Status::unavailable("dial again"));
        }
    }

    /// What changes. Held for a moment only.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something happens, `limit` at most.
    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
    ) -> MutexGuard<'a, State> {
        self.arrived
            .wait_timeout(state, limit)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
    }

    /// Ask the agent to read bad places of this range again.
    pub(super) fn retries(&self, disk: usize, bytes: &std::ops::Range<u64>) -> bool {
        self.retry_bad && self.spool.disks[disk].bad().touches(bytes)
    }

    /// Notes bytes of messages, both ways.
    pub(super) fn count_wire(&self, bytes: usize) {
        self.state().stats.wire_bytes += bytes as u64;
    }

    /// Has the background make everything durable, when there is enough of it.
    pub(super) fn sync_soon(&self) {
        if self.spool.unsynced() >= SYNC_BYTES {
            let _ = self.syncer.try_send(());
        }
    }

    /// The thread that makes the spool durable; it ends with the machine.
    fn start_syncer(self: &Arc<Self>, wake: std::sync::mpsc::Receiver<()>) -> Result<()> {
        let spool = Arc::clone(&self.spool);
        let machine = Arc::downgrade(self);
        let work = move || {
            let mut last_failed = false;
            while wake.recv_timeout(SYNC_EVERY) != Err(RecvTimeoutError::Disconnected) {
                let result = spool.sync();
                match &result {
                    Err(error) if !last_failed => {
                        tracing::warn!(%error, "the spool cannot be made durable");
                    }
                    _ => {}
                }
                last_failed = result.is_err();
                let stats = machine.upgrade().map(|machine| machine.state().stats);
                if let Some(stats) = stats {
                    spool.save_stats(&stats);
                }
            }
        };
        thread::Builder::new()
            .name("spool-sync".into())
            .spawn(work)
            .map(drop)
            .map_err(|error| Error::io("starting the thread that syncs the spool", error))
    }
}

impl Drop for RemoteMachine {
    fn drop(&mut self) {
        let stats = self.state().stats;
        self.spool.save_stats(&stats);
    }
}

impl fmt::Debug for RemoteMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteMachine")
            .field("disks", &self.disks)
            .finish_non_exhaustive()
    }
}

impl State {
    fn new(disks: usize, spool: &Spool, now: Instant) -> Self {
        Self {
            stopped: false,
            failure: None,
            disk_failures: vec![None; disks],
            schedule: Schedule::new(disks),
            held: None,
            link: None,
            lies: ([0; super::SESSION_LEN], 0),
            extents: (0..disks).map(|_| Extents::default()).collect(),
            proofs: Proofs::default(),
            stats: spool.load_stats().unwrap_or_default(),
            rates: (Meter::new(now), Meter::new(now)),
            last_answer: now,
        }
    }

    /// Why nothing can be read.
    pub(super) fn check(&self) -> Result<()> {
        if self.stopped {
            return Err(Error::cancelled());
        }
        self.failure.as_ref().map_or(Ok(()), |f| Err(f.error()))
    }
}

impl DiskFacts {
    fn of(inventory: &Inventory, place: u32) -> Result<Self> {
        let found = usize::try_from(place)
            .ok()
            .and_then(|place| inventory.disks.get(place));
        let disk = found.ok_or_else(|| {
            let known = inventory.disks.len();
            let what = format!("expected one of {known} disks, found number {place}");
            Error::new(ErrorKind::Usage, what)
        })?;
        let sector = disk.logical_sector_size;
        Ok(Self {
            identity: DiskIdentity::of(disk),
            logical_sector_size: if matches!(sector, 512 | 1024 | 2048 | 4096) {
                sector
            } else {
                512
            },
            extents_known: disk.extents_known,
        })
    }
}

/// What an earlier job has of a disk. Without it all is sent; so its damage is no error.
fn open_base(dir: Option<&std::path::Path>, disk: &DiskIdentity) -> Option<DiskSpool> {
    let dir = dir?;
    match Spool::base(dir, disk) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, disk = disk.name, "the earlier run cannot be used; all is sent");
            None
        }
    }
}
