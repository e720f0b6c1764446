//! The server as a whole: opens the state folder, listens, and ends in an orderly way.
//!
//! ```text
//! run ──> State (lock) ──> Store, Authority ──> Jobs ──> scheduler thread
//!           └──> listeners: agents (TLS), administration (unix socket), web page
//! cancel ──> listeners close ──> conversions stop ──> connections end
//! ```

mod guard;
mod listen;
mod serve;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use types::CancelToken;
use wire::join::Fingerprint;

use crate::jobs::{Backend, Jobs, Production};
use crate::pki::Authority;
use crate::state::State;
use crate::store::Store;
use crate::{Error, Result, ServerConfig};

/// Threads for connections; conversions and hashing have their own.
const WORKERS: usize = 4;
/// What hangs at the end is left behind.
const RUNTIME_STOP_TIME: Duration = Duration::from_secs(2);

/// What a server that is ready tells whoever started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Where agents connect to; a port 0 of the configuration is the real one here.
    pub addresses: Vec<SocketAddr>,
    /// The link that opens the web page.
    pub web: Option<String>,
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
    let backend = Arc::new(Production::new(&config));
    run_with(config, backend, started, cancel)
}

/// The same over another backend.
pub(crate) fn run_with(
    config: ServerConfig,
    backend: Arc<dyn Backend>,
    started: impl FnOnce(&Started),
    cancel: &CancelToken,
) -> Result<()> {
    // What is wrong with the server's own options is said at once, not at the first job.
    (config.parse)(&config.options).map_err(Error::Config)?;
    if config.listen.is_empty() {
        return Err(Error::Config("expected an address to listen on".to_owned()));
    }
    let state = State::open(&config.state)?;
    let store = Arc::new(Store::open(&state.database())?);
    let authority = Arc::new(Authority::open(&state.pki())?);
    let addresses = Arc::new(OnceLock::new());
    let jobs = Jobs::open(
        config.clone(),
        Arc::clone(&store),
        Arc::clone(&authority),
        Arc::clone(&addresses),
        backend,
        state.spools(),
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("serve")
        .enable_all()
        .build()
        .map_err(|error| Error::Config(format!("starting threads: {error}")))?;
    let served = runtime.block_on(async {
        let server = serve::Server {
            config: &config,
            state: &state,
            store,
            authority,
            jobs: Arc::clone(&jobs),
        };
        let listening = server.listen().await?;
        let _ = addresses.set(listening.started.addresses.clone());
        let scheduler = Arc::clone(&jobs);
        let scheduler = std::thread::spawn(move || scheduler.schedule());
        tracing::info!(
            addresses = ?listening.started.addresses,
            web = ?listening.started.web,
            fingerprint = %listening.started.fingerprint,
            "serving"
        );
        started(&listening.started);
        while !cancel.is_cancelled() && !listening.has_failed() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tracing::info!("stopping");
        let result = listening.close();
        let stopping = Arc::clone(&jobs);
        let stopped = tokio::task::spawn_blocking(move || {
            stopping.shut_down();
            scheduler.join()
        });
        if !matches!(stopped.await, Ok(Ok(()))) {
            tracing::error!("the scheduler failed");
        }
        result
    });
    runtime.shutdown_timeout(RUNTIME_STOP_TIME);
    // The socket goes while the lock is held: it cannot be another server's.
    let _ = std::fs::remove_file(state.admin_socket());
    drop(state);
    served
}
