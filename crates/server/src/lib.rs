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
//! | `pki` | the authority, the server's certificate, the certificates of agents |
//! | `jobs` | the state machine of a job, the queue, limits, restart |
//! | `session` | connections of agents, remote disks, the spool, proofs |
//! | `web` | the web page: jobs and tokens for browsers, JSON for programs |
//! | `machine` | an agent's inventory as a [`types::Machine`] |

mod config;
mod machine;
mod model;
pub mod session;
pub mod web;

pub use config::{ParseOptions, ServerConfig};
pub use machine::machine;
pub use model::*;
