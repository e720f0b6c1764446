//! What the command line and the web page see of the server. Serialised as JSON by `v2v jobs --json`: fields are added,
//! never renamed.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Number of a job, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a job is.
///
/// ```text
/// queued ──> waiting-for-approval ──> inspecting ──> converting ──> copying ──> done | done-with-errors
///    │              │                    └── waiting-for-agent ──┘      │
///    └──────────────┴────────────────────────────┴─────────────────────┴──> failed | cancelled
/// ```
///
/// A job whose agent is away shows `waiting-for-agent` and goes on where it was. After a restart of the server an
/// unfinished job begins its stages again over what the spool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It may run, but others are before it.
    Queued,
    /// An administrator has to say yes.
    WaitingForApproval,
    /// The agent is away.
    WaitingForAgent,
    /// The appliance looks at the disks.
    Inspecting,
    /// The guest is changed, in the overlay.
    Converting,
    /// Disks are received and written.
    Copying,
    /// The guest is in its place.
    Done,
    /// So it is, but some sectors could not be read and are zero.
    DoneWithErrors,
    /// It ended with an error; nothing was left in the target. It can be tried again.
    Failed,
    /// An administrator, or somebody at the machine, gave it up.
    Cancelled,
}

impl JobState {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::WaitingForApproval,
        Self::WaitingForAgent,
        Self::Inspecting,
        Self::Converting,
        Self::Copying,
        Self::Done,
        Self::DoneWithErrors,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word that is stored, printed and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::WaitingForApproval => "waiting-for-approval",
            Self::WaitingForAgent => "waiting-for-agent",
            Self::Inspecting => "inspecting",
            Self::Converting => "converting",
            Self::Copying => "copying",
            Self::Done => "done",
            Self::DoneWithErrors => "done-with-errors",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// True when nothing more will happen by itself.
    pub fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Done | Self::DoneWithErrors | Self::Failed | Self::Cancelled
        )
    }
}

/// How far the transfer of a job is. All in bytes of disk data unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Needed by the target and received and verified, now or in an earlier run.
    pub done_bytes: u64,
    /// Needed by the target; 0 while it is not known.
    pub total_bytes: u64,
    /// Received over the network in this job, zero and same blocks not counted.
    pub received_bytes: u64,
    /// Bytes of messages that crossed the network both ways, without TLS and TCP.
    pub wire_bytes: u64,
    /// Known to be zero from the agent, not sent.
    pub zero_bytes: u64,
    /// Found the same as in an earlier run, not sent.
    pub same_bytes: u64,
    /// Unreadable, zero in the result.
    pub bad_bytes: u64,
    /// Bytes a second over the last few seconds.
    pub rate_bytes: u64,
    /// Seconds left; 0 while it is not known.
    pub eta_seconds: u64,
    /// Milliseconds from the agent's hello to the first verified chunk; 0 before that.
    pub first_byte_ms: u64,
}

/// One job in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its number.
    pub id: JobId,
    /// Name of the guest that it makes.
    pub name: String,
    /// Where it is.
    pub state: JobState,
    /// What is being done, for people; the error of a failed job.
    pub text: String,
    /// Vendor, product, serial of the machine.
    pub machine: String,
    /// Address that the agent came from last.
    pub address: String,
    /// The agent is connected now.
    pub connected: bool,
    /// How far the transfer is.
    pub progress: Progress,
    /// Milliseconds since 1970 when it was made.
    pub created_unix_ms: u64,
    /// Milliseconds since 1970 when it ended; 0 before.
    pub ended_unix_ms: u64,
    /// What it was told: the server's options and its own over them, in v2v's words; no secrets.
    pub options: Vec<String>,
}

/// One job with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobDetail {
    /// As in the list.
    pub job: JobView,
    /// The disks that it sends.
    pub disks: Vec<DiskView>,
    /// The inventory as it came, for people: label and value.
    pub inventory: Vec<(String, String)>,
    /// Network interfaces that the guest gets: name, MAC, network.
    pub nics: Vec<(String, String, String)>,
    /// What the administrator should look at.
    pub concerns: Vec<String>,
    /// What inspection found, for people.
    pub guest: Option<String>,
    /// Changes made in the guest; empty before the conversion.
    pub changes: Vec<types::Change>,
    /// Files and domain of a done job.
    pub placed: Vec<String>,
    /// The proof that both sides have the same bytes; empty before it was made.
    pub proof: Vec<ProofRange>,
}

/// One disk of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskView {
    /// Name at the machine: sda, nvme0n1, md126.
    pub name: String,
    /// Vendor, model, serial.
    pub model: String,
    /// Capacity in bytes.
    pub virtual_size: u64,
    /// Needed bytes that are here.
    pub done_bytes: u64,
    /// Needed bytes; 0 while it is not known.
    pub total_bytes: u64,
    /// Byte ranges that could not be read and are zero in the result.
    pub bad: Vec<Range<u64>>,
    /// One line of its health, empty if not known.
    pub health: String,
}

/// One stretch of a disk, proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofRange {
    /// Place of the disk among the job's.
    pub disk: u32,
    /// First byte of the stretch.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Bytes of it that were sent and are covered by the hash.
    pub covered_bytes: u64,
    /// BLAKE3 over the hashes of the covered blocks, hexadecimal, the same on both sides.
    pub root: String,
}

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Number within the job, from 1, without gaps.
    pub number: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// info, note, warning, error, agent.
    pub level: String,
    /// One line.
    pub text: String,
}

/// One token in a list; its secret is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its number.
    pub id: u64,
    /// For people.
    pub note: String,
    /// Milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Milliseconds since 1970.
    pub expires_unix_ms: u64,
    /// Machines that may use it.
    pub uses: u32,
    /// Machines that have used it.
    pub used: u32,
    /// It was withdrawn.
    pub revoked: bool,
    /// Its jobs need no approval.
    pub auto_approve: bool,
}

/// What a new token is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// Addresses for the join string; empty: those that the server listens on.
    pub servers: Vec<String>,
    /// Seconds until it expires; 0 is a day.
    pub ttl_seconds: u64,
    /// Machines that may use it; 0 is one.
    pub uses: u32,
    /// Its jobs need no approval.
    pub auto_approve: bool,
    /// For people.
    pub note: String,
}

/// A token just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedToken {
    /// Its number.
    pub id: u64,
    /// What an agent is given.
    pub join: wire::join::JoinString,
    /// Milliseconds since 1970.
    pub expires_unix_ms: u64,
}

/// A yes to a job.
#[derive(Clone, Default)]
pub struct Approval {
    /// Options over the server's, as on v2v's command line.
    pub options: Vec<String>,
    /// Keys of encrypted volumes: id and secret. Never stored.
    pub keys: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Approval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|(id, _)| id).collect();
        f.debug_struct("Approval")
            .field("options", &self.options)
            .field("keys", &ids)
            .finish()
    }
}

/// Why an administrator's wish was not followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no such job or token.
    #[error("there is no {0}")]
    NotFound(String),
    /// It cannot be done in the state that it is in, or the options are wrong.
    #[error("{0}")]
    Refused(String),
    /// The server failed.
    #[error("{0}")]
    Internal(String),
}

/// What an administrator can see and do. Implemented by the jobs; used by the admin service and the web page.
pub trait Control: Send + Sync {
    /// Every job, oldest first.
    fn jobs(&self) -> Result<Vec<JobView>, ControlError>;
    /// One job.
    fn job(&self, id: JobId) -> Result<JobDetail, ControlError>;
    /// Says yes to a job that waits for it; also gives keys to one that waits for them.
    fn approve(&self, id: JobId, approval: Approval) -> Result<(), ControlError>;
    /// Gives a job up.
    fn cancel(&self, id: JobId) -> Result<(), ControlError>;
    /// Starts a failed or cancelled job again, over what it has received.
    fn retry(&self, id: JobId) -> Result<(), ControlError>;
    /// Log lines with a number above `after`, at most `limit`.
    fn logs(&self, id: JobId, after: u64, limit: usize) -> Result<Vec<LogLine>, ControlError>;
    /// Every token, oldest first.
    fn tokens(&self) -> Result<Vec<TokenView>, ControlError>;
    /// Makes a token.
    fn create_token(&self, new: NewToken) -> Result<CreatedToken, ControlError>;
    /// Withdraws a token; agents that used it stay.
    fn revoke_token(&self, id: u64) -> Result<(), ControlError>;
    /// Wakes whenever any job changed: the number counts changes.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
