//! The one place where the screens, the session and the network meet: screens draw a [`View`] and send [`Command`]s.

mod controller;
mod running;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use wire::inventory::Inventory;
use wire::join::Fingerprint;
use wire::session::JobStatus;

use crate::config::{Config, InterfaceConfig};
pub use controller::{AppOptions, Controller, Detected, End, Host};

/// Log lines that are kept.
pub const LOG_LINES: usize = 1000;

/// What the screens show. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Where the agent is.
    pub phase: Phase,
    /// What was found; `None` while it is being found.
    pub inventory: Option<Arc<Inventory>>,
    /// What will be sent, to whom; screens edit a copy and send it back.
    pub config: Config,
    /// Interfaces of the agent's system.
    pub network: NetworkView,
    /// Fingerprint that the server at `config.server` showed, to be compared by a person.
    pub shown_fingerprint: Option<Fingerprint>,
    /// Number of the job, once there is one.
    pub job: Option<u64>,
    /// What the server says of the job.
    pub status: Option<JobStatus>,
    /// The connection.
    pub connection: Connection,
    /// The last thing that went wrong, one line.
    pub error: Option<String>,
    /// Log, oldest first.
    pub log: Arc<VecDeque<String>>,
}

/// Where the agent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Hardware is being detected.
    #[default]
    Detecting,
    /// Somebody decides what is sent; unattended runs pass through.
    Setup,
    /// The server is asked for a job, or has one.
    Running,
    /// The job has ended; `status` says how.
    Ended,
}

/// State of the connection to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Not wanted yet.
    #[default]
    Idle,
    /// Being made; the text says why the last attempt failed, if it did.
    Connecting(Option<String>),
    /// It stands, to this address.
    Up(String),
}

/// Interfaces of the agent's system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// One each: kernel name, link, addresses with prefix length.
    pub interfaces: Vec<InterfaceView>,
    /// It is being set up.
    pub busy: bool,
    /// Why the last set-up failed.
    pub error: Option<String>,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceView {
    /// Kernel name.
    pub name: String,
    /// A cable is there.
    pub link: bool,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
}

/// What a screen can ask for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take this configuration.
    Configure(Box<Config>),
    /// Set up the network so.
    Network(Vec<InterfaceConfig>),
    /// Look at the server's fingerprint, and whether it answers.
    TestConnection,
    /// Enrol and begin.
    Start,
    /// Give the job up.
    Cancel,
    /// Try the failed job again.
    Retry,
    /// Look for disks and interfaces again.
    Rescan,
    /// Power off.
    Poweroff,
    /// Reboot.
    Reboot,
}

/// What every screen is given.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The newest view.
    pub view: watch::Receiver<View>,
    /// Where wishes go.
    pub commands: mpsc::UnboundedSender<Command>,
}
