//! Listeners and the services behind them.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryFutureExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::service::Routes;
use tonic::transport::Server as Transport;
use types::CancelToken;
use wire::tls;

use super::Started;
use super::guard::guard;
use super::listen::{Connection, Places, QUEUE, accept};
use crate::admin::AdminService;
use crate::enrol::EnrolService;
use crate::jobs::Jobs;
use crate::pki::Authority;
use crate::session::{self, Agents};
use crate::state::{FILE_MODE, State, failed};
use crate::store::Store;
use crate::web::{self, Access};
use crate::{Control, Error, Result, ServerConfig};

/// Streams of one connection: a control and a data stream, and calls of enrolment.
const MAX_STREAMS: u32 = 32;
/// Bytes of a request's headers.
const MAX_HEADERS: u32 = 16 << 10;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// What the listeners need.
pub(super) struct Server<'a> {
    pub(super) config: &'a ServerConfig,
    pub(super) state: &'a State,
    pub(super) store: Arc<Store>,
    pub(super) authority: Arc<Authority>,
    pub(super) jobs: Arc<Jobs>,
}

/// Everything that listens.
pub(super) struct Listening {
    pub(super) started: Started,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// The same for the web page.
    token: CancelToken,
    failures: mpsc::UnboundedSender<Error>,
    failed: mpsc::UnboundedReceiver<Error>,
}

impl Listening {
    /// A listener has ended by itself.
    pub(super) fn has_failed(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Accepts nothing more. The error is that of a listener that has failed.
    pub(super) fn close(mut self) -> Result<()> {
        self.stop.send_replace(true);
        self.token.cancel();
        drop(self.failures);
        self.failed.try_recv().map_or(Ok(()), Err)
    }

    fn spawn(
        &mut self,
        what: &'static str,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        let failures = self.failures.clone();
        self.tasks.push(tokio::spawn(async move {
            if let Err(error) = work.await {
                tracing::error!(error, "{what} has failed");
                let _ = failures.send(Error::Config(format!("{what} has failed: {error}")));
            }
        }));
    }
}

impl Server<'_> {
    /// Opens every listener.
    pub(super) async fn listen(&self) -> Result<Listening> {
        let (failures, failed) = mpsc::unbounded_channel();
        let mut listening = Listening {
            started: Started {
                addresses: Vec::new(),
                web: None,
                fingerprint: self.authority.fingerprint(),
            },
            tasks: Vec::new(),
            stop: watch::Sender::new(false),
            token: CancelToken::new(),
            failures,
            failed,
        };
        let sockets = self.bind(&mut listening.started.addresses).await?;
        self.serve_administration(&mut listening)?;
        self.serve_web(&mut listening).await?;
        self.serve_agents(sockets, &mut listening)?;
        Ok(listening)
    }

    async fn bind(&self, addresses: &mut Vec<SocketAddr>) -> Result<Vec<TcpListener>> {
        let mut sockets = Vec::new();
        for address in &self.config.listen {
            let failed = |source: io::Error| Error::Listen {
                address: address.to_string(),
                source,
            };
            let socket = listener(*address).map_err(failed)?;
            addresses.push(socket.local_addr().map_err(failed)?);
            sockets.push(socket);
        }
        Ok(sockets)
    }

    fn serve_agents(&self, sockets: Vec<TcpListener>, listening: &mut Listening) -> Result<()> {
        let config = tls::server_config(self.authority.server(), self.authority.certificate())
            .map_err(|error| Error::Pki(error.to_string()))?;
        let (ready, connections) = mpsc::channel::<io::Result<Connection>>(QUEUE);
        let places = Places::new();
        for socket in sockets {
            let accepting = accept(socket, Arc::clone(&config), places.clone(), ready.clone());
            // It ends when the server below has dropped its end of the queue.
            tokio::spawn(accepting);
        }
        let agents: Arc<dyn Agents> = Arc::clone(&self.jobs) as Arc<dyn Agents>;
        let mut services = Routes::builder();
        services.add_service(EnrolService::server(
            Arc::clone(&self.store),
            Arc::clone(&self.authority),
        ));
        services.add_service(session::service(Arc::clone(&agents)));
        let mut routes = services.routes();
        let router = std::mem::take(routes.axum_router_mut());
        *routes.axum_router_mut() =
            router.layer(axum::middleware::from_fn_with_state(agents, guard));
        let serving = session::transport()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADERS)
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections),
                stopped(&listening.stop),
            )
            .map_err(|error| error.to_string());
        listening.spawn("the listener for agents", serving);
        Ok(())
    }

    fn serve_administration(&self, listening: &mut Listening) -> Result<()> {
        let socket = unix_socket(&self.state.admin_socket())?;
        let control: Arc<dyn Control> = Arc::clone(&self.jobs) as Arc<dyn Control>;
        let serving = Transport::builder()
            .add_service(AdminService::server(control))
            .serve_with_incoming_shutdown(UnixListenerStream::new(socket), stopped(&listening.stop))
            .map_err(|error| error.to_string());
        listening.spawn("the admin socket", serving);
        Ok(())
    }

    async fn serve_web(&self, listening: &mut Listening) -> Result<()> {
        let Some(address) = self.config.web else {
            return Ok(());
        };
        let failed = |source: io::Error| Error::Listen {
            address: address.to_string(),
            source,
        };
        let access =
            Access::open(&self.state.web_key(), self.authority.server()).map_err(failed)?;
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        listening.started.web = Some(access.link(local));
        let control: Arc<dyn Control> = Arc::clone(&self.jobs) as Arc<dyn Control>;
        let serving = web::serve(socket, control, access, listening.token.clone())
            .map_err(|error| error.to_string());
        listening.spawn("the web page", serving);
        Ok(())
    }
}

/// A listener of one family: `[::]` takes no IPv4, so that `0.0.0.0` with the same port can be listened on too.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // A server that was ended starts again on its port at once.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket that only its owner may open. One that an earlier server left is replaced: this server holds the lock.
fn unix_socket(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("removing", path)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(|source| Error::Listen {
        address: path.display().to_string(),
        source,
    })?;
    // The folder lets nobody else in before this either.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(FILE_MODE))
        .map_err(failed("setting the mode of", path))?;
    Ok(listener)
}

/// Resolves when the server is to stop.
fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        // A sender that is gone is a server that is.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
