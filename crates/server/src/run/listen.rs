//! Connections of agents: accepted, limited, led through TLS.
//!
//! A connection costs memory before anybody has shown who he is. So connections without a certificate are few, for each
//! network and in all, and short-lived; those with one have places of their own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;
use wire::tls::{Accepted, Peer};

use crate::enrol::network;

/// Connections that showed a certificate: an agent has one for control and a few for data.
const MAX_CONNECTIONS: usize = 512;
/// Connections in their handshake or without a certificate, in all.
const MAX_STRANGERS: usize = 128;
/// The same of one network: a few machines behind one address translation that dial again at the same moment.
const MAX_STRANGERS_OF_PEER: usize = 32;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Enrolment is two calls.
const STRANGER_TIME: Duration = Duration::from_secs(60);
/// After an accept that failed: out of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const TCP_KEEPALIVE: Duration = Duration::from_secs(20);
/// Handshakes that are done and not yet taken up.
pub(super) const QUEUE: usize = 16;

type PerPeer = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Counts what is connected.
#[derive(Clone, Debug)]
pub(super) struct Places {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    per_peer: PerPeer,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            known: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
            per_peer: PerPeer::default(),
        }
    }

    fn stranger(&self, peer: IpAddr) -> Option<Stranger> {
        let permit = Arc::clone(&self.strangers).try_acquire_owned().ok()?;
        let peer = network(peer);
        let mut counts = lock(&self.per_peer);
        let count = counts.entry(peer).or_default();
        if *count >= MAX_STRANGERS_OF_PEER {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Stranger {
            _permit: permit,
            peer,
            per_peer: Arc::clone(&self.per_peer),
        })
    }
}

fn lock(per_peer: &PerPeer) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
    per_peer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of a connection that has not shown a certificate.
#[derive(Debug)]
struct Stranger {
    _permit: OwnedSemaphorePermit,
    peer: IpAddr,
    per_peer: PerPeer,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = lock(&self.per_peer);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// Accepts on one address until the receiver of `ready` is gone.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    places: Places,
    ready: mpsc::Sender<Result<Connection, io::Error>>,
) {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(stranger) = places.stranger(peer.ip()) else {
                    tracing::debug!(%peer, "too many connections without a certificate");
                    continue;
                };
                let (acceptor, places, ready) = (acceptor.clone(), places.clone(), ready.clone());
                tokio::spawn(async move {
                    match shake_hands(stream, peer, &acceptor, &places, stranger).await {
                        Ok(connection) => {
                            let _ = ready.send(Ok(connection)).await;
                        }
                        Err(error) => tracing::debug!(%peer, %error, "connection refused"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: &TlsAcceptor,
    places: &Places,
    stranger: Stranger,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, TCP_KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(&stream, TCP_KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(&stream, 3)?;
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"))??;
    let accepted = Accepted::new(stream);
    if accepted.connect_info().certificate.is_none() {
        return Ok(Connection {
            accepted,
            place: Place::Stranger(stranger),
            end: Some(Box::pin(tokio::time::sleep(STRANGER_TIME))),
        });
    }
    let Ok(permit) = Arc::clone(&places.known).try_acquire_owned() else {
        tracing::warn!(%peer, "more than {MAX_CONNECTIONS} connections: this one is refused");
        return Err(io::Error::other("too many connections"));
    };
    Ok(Connection {
        accepted,
        place: Place::Known(permit),
        end: None,
    })
}

/// What a connection holds as long as it lives.
#[derive(Debug)]
#[expect(dead_code, reason = "given back when dropped")]
enum Place {
    Known(OwnedSemaphorePermit),
    Stranger(Stranger),
}

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Connection {
    accepted: Accepted,
    #[expect(dead_code, reason = "given back when dropped")]
    place: Place,
    /// When one without a certificate is closed.
    end: Option<Pin<Box<Sleep>>>,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.accepted.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.accepted).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.accepted).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.accepted).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.accepted).poll_shutdown(cx)
    }
}
