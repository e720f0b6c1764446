//! The converter server behind `v2v serve`: enrols agents, keeps their sessions, runs their jobs through the same
//! stages as the command line, shows all of it on a web page.
//!
//! ```text
//! agent ──mTLS──> enrol/    token -> certificate
//!             └─> session/  Control + Data streams ──> RemoteMachine: disks as BlockSources, kept in a spool
//!                                                         │
//! v2v jobs ──unix socket──> admin/ ──> jobs/ ─────────────┴──> convert::run_opened ──> target
//! browser ────────────────> web/  ───┘   └── store/ (SQLite)
//! ```
//!
//! | module | what it keeps |
//! |---|---|
//! | `store` | tokens, agents, jobs and their logs, in SQLite |
//! | `state` | the state folder: modes, lock |
//! | `pki` | the authority, the server's certificate, the certificates of agents |
//! | `tokens`, `enrol` | one-time secrets, and how they are traded for a certificate |
//! | `admin` | the service on the unix socket, and its client |
//! | `run` | listeners, start and end |
//! | `jobs` | the state machine of a job, the queue, limits, restart |
//! | `session` | connections of agents, remote disks, the spool, proofs |
//! | `web` | the web page: jobs and tokens for browsers, JSON for programs |
//! | `machine` | an agent's inventory as a [`types::Machine`] |

pub mod admin;
mod config;
mod enrol;
mod error;
mod jobs;
mod machine;
mod model;
mod pki;
mod run;
pub mod session;
mod state;
mod store;
mod tokens;
pub mod web;

pub use config::{ParseOptions, ServerConfig};
pub use error::{Error, Result};
pub use machine::{chosen_disks, machine};
pub use model::*;
pub use run::{Started, run};
