//! Sessions with agents: their streams, their disks as block sources, the spool that keeps what was received.
//!
//! ```text
//! Control/Data streams ──> Link (one connection's life)
//!                            │ attach / detach
//!                            v
//!                      RemoteMachine (a job's life) ──> RemoteDisk: BlockSource ──> overlay, copy engine
//!                            └── Spool: STATE/spool/JOB/diskN.{data,map}
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `service/` | the gRPC service: who may open a stream; control and data streams |
//! | `link` | one connection's life |
//! | `machine` | what all threads of a job share |
//! | `schedule`, `pump`, `rate` | what is asked for, in which order, when |
//! | `receive` | checks what came and stores it |
//! | `disk` | a disk as a source: reads wait for what they need |
//! | `spool/` | what was received, on disk |
//! | `proof` | both sides have the same bytes |

mod disk;
mod extents;
mod link;
mod machine;
mod meter;
mod proof;
mod pump;
mod rate;
mod receive;
mod schedule;
mod service;
mod spool;

pub use machine::{DiskTransfer, RemoteMachine, RemoteOptions};
pub use rate::RateLimit;
pub use service::{SessionService, service, transport};

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use wire::session::{Hello, JobStatus, LogLine, UserAction};

use crate::JobId;

/// Bytes of a session's id.
const SESSION_LEN: usize = 16;
/// Bytes of a message's prefix (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_LEN: usize = 5;
/// Characters of a text of an agent that are shown or kept.
const MAX_TEXT: usize = 1000;

/// Bytes that a message takes on its stream.
fn message_len(message: &impl prost::Message) -> usize {
    message.encoded_len() + PREFIX_LEN
}

/// An agent's text as one line that does no harm in a log.
fn one_line(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
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

#[cfg(test)]
mod tests;
