//! PID 1 of the appliance: mounts the kernel's file systems, opens the virtio-serial port, serves the gRPC service on
//! it, and powers off when it is told to, when the host closes the port, or when anything goes wrong.
//!
//! ```text
//!   prepare ─> open port ─> serve ──┬── Shutdown ───────┐
//!                                   ├── port closed ────┼─> sync ─> power off
//!                                   └── error or panic ─┘
//! ```

mod console;
mod convert;
mod fsck;
mod init;
mod inspect;
mod mounts;
mod ntfs3g;
mod payload;
mod port;
mod run_guest;
mod service;
mod storage;
mod subvolumes;
mod tool;
mod trim;
mod volume;

use anyhow::{Context, Result, anyhow};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::sync::mpsc;

/// Largest message that is accepted: options and keys stay far below it.
const MAX_MESSAGE: usize = 64 << 20;

fn main() {
    if let Some(status) = run_guest::stage(std::env::args().nth(1).as_deref()) {
        std::process::exit(status);
    }
    if !rustix::process::getpid().is_init() {
        console::line("applianced is PID 1 of v2v's appliance; it does nothing elsewhere");
        std::process::exit(2);
    }
    std::panic::set_hook(Box::new(|panic| {
        console::line(&format!("applianced: error: {panic}"));
        init::power_off();
    }));
    if let Err(error) = run() {
        console::line(&format!("applianced: error: {error:#}"));
    }
    init::power_off();
}

fn run() -> Result<()> {
    init::prepare().context("preparing the appliance")?;
    console::start_logging();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the RPC runtime")?;
    runtime.block_on(serve())
}

/// Serves the one connection until it ends. It is HTTP/2 on a byte stream: no listener, no router.
async fn serve() -> Result<()> {
    let (end, mut ended) = mpsc::unbounded_channel();
    let port = port::open().context("opening the virtio-serial port")?;
    let service =
        wire::appliance::appliance_server::ApplianceServer::new(service::Service::new(end))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
    let server = auto::Builder::new(TokioExecutor::new()).http2_only();
    let connection = server.serve_connection(TokioIo::new(port), TowerToHyperService::new(service));
    tokio::select! {
        result = connection => result.map_err(|error| anyhow!("serving the host: {error}")),
        _ = ended.recv() => Ok(()),
    }
}
