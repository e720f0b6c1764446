//! Sessions with agents: their streams, their disks as block sources, the spool that keeps what was received.
//!
//! ```text
//! Control/Data streams ──> Link (one connection's life)
//!                            │ attach / detach
//!                            v
//!                      RemoteMachine (a job's life) ──> RemoteDisk: BlockSource ──> overlay, copy engine
//!                            └── Spool: STATE/spool/JOB/diskN.{data,map}
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image::BlockSource;
use tokio::sync::watch;
use types::CancelToken;
use wire::inventory::Inventory;
use wire::session::{Hello, JobStatus, LogLine, UserAction};

use crate::{JobId, Progress, ProofRange};

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

/// Bytes a second over several users; see `rate`.
#[derive(Debug)]
pub struct RateLimit {}

/// The disks of one job, whether or not an agent is connected.
#[derive(Debug)]
pub struct RemoteMachine {}

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

impl RateLimit {
    /// `None` limits nothing.
    pub fn new(bytes_a_second: Option<u64>) -> Arc<Self> {
        let _ = bytes_a_second;
        unimplemented!("skeleton")
    }
}

impl RemoteMachine {
    /// Opens or makes the spool. `disks` are places in the inventory.
    pub fn open(
        inventory: &Inventory,
        disks: &[u32],
        options: RemoteOptions,
    ) -> image::Result<Arc<Self>> {
        let _ = (inventory, disks, options);
        unimplemented!("skeleton")
    }

    /// The disks in the order of `open`. Reads block until the bytes are here.
    pub fn sources(self: &Arc<Self>) -> Vec<Arc<dyn BlockSource>> {
        unimplemented!("skeleton")
    }

    /// How far all disks are.
    pub fn progress(&self) -> Progress {
        unimplemented!("skeleton")
    }

    /// How far each disk is.
    pub fn disks(&self) -> Vec<DiskTransfer> {
        unimplemented!("skeleton")
    }

    /// True while a control stream is attached.
    pub fn is_connected(&self) -> bool {
        unimplemented!("skeleton")
    }

    /// Compares what is in the spool with what the agent has, stretch by stretch. Blocks until it is done.
    pub fn prove(&self, reread: bool, cancel: &CancelToken) -> image::Result<Vec<ProofRange>> {
        let _ = (reread, cancel);
        unimplemented!("skeleton")
    }

    /// Ends every wait: reads fail as cancelled from now on.
    pub fn stop(&self) {
        unimplemented!("skeleton")
    }
}

/// Name of an agent: the common name of its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentId(pub String);

/// What an agent is admitted to.
#[derive(Debug)]
pub struct Admitted {
    /// Its job.
    pub job: JobId,
    /// The disks; the session attaches its streams.
    pub machine: Arc<RemoteMachine>,
    /// The job existed before.
    pub resumed: bool,
    /// What the agent's screen shows.
    pub status: watch::Receiver<JobStatus>,
}

/// What sessions ask of the jobs. All calls return soon.
pub trait Agents: Send + Sync {
    /// The agent that this certificate (DER) was issued to, unless it was withdrawn.
    fn identify(&self, certificate: &[u8]) -> Option<AgentId>;
    /// An agent says hello: its unfinished job, or a new one. The error is what it is told.
    fn hello(
        &self,
        agent: &AgentId,
        from: Option<SocketAddr>,
        hello: &Hello,
    ) -> Result<Admitted, tonic::Status>;
    /// Its control stream ended.
    fn gone(&self, job: JobId);
    /// A line for the job's log.
    fn log(&self, job: JobId, line: &LogLine);
    /// Somebody at the machine wants something.
    fn user_action(&self, job: JobId, action: UserAction);
}
