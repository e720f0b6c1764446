//! The server as a whole: opens the state folder, listens, and ends in an orderly way.

use std::net::SocketAddr;

use types::CancelToken;
use wire::join::Fingerprint;

use crate::{Error, Result, ServerConfig};

/// What a server that is ready tells whoever started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Where agents connect to; a port 0 of the configuration is the real one here.
    pub addresses: Vec<SocketAddr>,
    /// Where the web page is.
    pub web: Option<SocketAddr>,
    /// Of the server's certificate.
    pub fingerprint: Fingerprint,
}

/// Serves until `cancel` is raised, then stops within seconds: unfinished jobs go on at the next start. Blocks; it
/// brings its own threads. `started` is called once, when every address accepts connections.
pub fn run(
    config: ServerConfig,
    started: impl FnOnce(&Started),
    cancel: &CancelToken,
) -> Result<()> {
    let _ = (started, cancel);
    Err(Error::Config(format!(
        "{}: this build cannot serve yet",
        config.state.display()
    )))
}
