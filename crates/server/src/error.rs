//! Why a server cannot start or go on.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the server itself; a failed job is a state of the job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another server holds the state folder.
    #[error("another server uses the state folder {path}: stop it, or choose another with --state")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The state folder or a file in it.
    #[error("{doing} {path}")]
    State {
        /// Doing-word.
        doing: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database refused or is damaged.
    #[error("the database: {what}")]
    Store {
        /// What was wanted of it.
        what: String,
        /// Why.
        #[source]
        source: Option<rusqlite::Error>,
    },
    /// The authority or a certificate cannot be made or read.
    #[error("the server's authority: {0}")]
    Pki(String),
    /// An address cannot be listened on.
    #[error("listening on {address}")]
    Listen {
        /// `ADDR:PORT`, or the path of a socket.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration cannot be followed.
    #[error("{0}")]
    Config(String),
}
