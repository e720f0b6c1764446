//! The one place where the command line starts the server.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use server::ServerConfig;
use types::CancelToken;

/// Where a server listens, told once it does.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    /// Where machines connect to.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The link that opens the web page; `None` where there is none.
    pub(crate) web: Option<String>,
    /// SHA-256 of the server's certificate, hexadecimal.
    pub(crate) fingerprint: String,
}

/// Runs a server until `cancel`.
pub(crate) fn run_server(
    config: ServerConfig,
    cancel: CancelToken,
    started: &dyn Fn(Started),
) -> Result<()> {
    // Rewired to `server::run(config, cancel, started)` when its branch is merged; `Started` goes then.
    let _ = (config, cancel, started);
    bail!("this build has no converter server yet")
}
