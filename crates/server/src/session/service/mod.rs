//! The gRPC service `Session`: who may open a stream, and to which session it belongs.

mod control;
mod data;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use wire::session::session_server::{Session, SessionServer};
use wire::session::{AgentMessage, Chunk, ReadRequest, ServerMessage};
use wire::tls::{Peer, WINDOW_LEN};
use wire::{KEEPALIVE_SECONDS, MAX_MESSAGE_LEN, SESSION_METADATA};

use super::link::Link;
use super::schedule::MAX_ON_STREAM;
use super::{AgentId, Agents, RemoteMachine, SESSION_LEN};

/// Messages to an agent that wait for its control stream.
const CONTROL_QUEUE: usize = 64;
/// Largest frame that agents may send: a chunk takes few of them.
const MAX_FRAME_LEN: u32 = 256 << 10;

/// The service for agents. All of it needs a client certificate.
pub fn service(agents: Arc<dyn Agents>) -> SessionServer<SessionService> {
    let shared = Shared {
        agents,
        admission: Mutex::new(()),
        sessions: Mutex::default(),
    };
    SessionServer::new(SessionService(Arc::new(shared)))
        .max_decoding_message_size(MAX_MESSAGE_LEN)
        .max_encoding_message_size(MAX_MESSAGE_LEN)
}

/// A server with the windows and the keepalive that sessions count on: dead connections are noticed, and chunks flow.
pub fn transport() -> Server {
    let keepalive = Duration::from_secs(KEEPALIVE_SECONDS);
    Server::builder()
        .initial_stream_window_size(WINDOW_LEN)
        .initial_connection_window_size(WINDOW_LEN)
        .max_frame_size(MAX_FRAME_LEN)
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(2 * keepalive))
}

/// See [`service`].
pub struct SessionService(Arc<Shared>);

impl std::fmt::Debug for SessionService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionService").finish_non_exhaustive()
    }
}

/// What all streams share.
struct Shared {
    agents: Arc<dyn Agents>,
    /// Held while an agent comes or goes, so that the jobs hear of both in the right order.
    admission: Mutex<()>,
    /// Sessions with a control stream.
    sessions: Mutex<HashMap<[u8; SESSION_LEN], Connected>>,
}

/// A session with a control stream.
#[derive(Clone)]
struct Connected {
    certificate: CertificateDer<'static>,
    machine: Arc<RemoteMachine>,
    link: Arc<Link>,
}

/// Who opened a stream.
#[derive(Clone)]
struct Caller {
    agent: AgentId,
    certificate: CertificateDer<'static>,
    from: Option<SocketAddr>,
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, HashMap<[u8; SESSION_LEN], Connected>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identify<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let peer = request.extensions().get::<Peer>();
        let from = peer.and_then(|peer| peer.address);
        let certificate = peer
            .and_then(|peer| peer.certificate.clone())
            .ok_or_else(|| {
                Status::unauthenticated("a client certificate is needed; enrol with a token first")
            })?;
        let agent = self.agents.identify(&certificate).ok_or_else(|| {
            Status::permission_denied("this certificate was withdrawn; enrol with a new token")
        })?;
        Ok(Caller {
            agent,
            certificate,
            from,
        })
    }

    /// The session that a data stream names.
    fn session<T>(&self, caller: &Caller, request: &Request<T>) -> Result<Connected, Status> {
        let named = request
            .metadata()
            .get(SESSION_METADATA)
            .and_then(|value| {
                data_encoding::HEXLOWER_PERMISSIVE
                    .decode(value.as_bytes())
                    .ok()
            })
            .and_then(|bytes| <[u8; SESSION_LEN]>::try_from(bytes).ok())
            .ok_or_else(|| {
                Status::invalid_argument(format!(
                    "expected {} hexadecimal digits in the metadata {SESSION_METADATA}",
                    2 * SESSION_LEN
                ))
            })?;
        // One answer for what is not there and what is another's: nobody learns which sessions there are.
        self.sessions()
            .get(&named)
            .filter(|connected| connected.certificate == caller.certificate)
            .cloned()
            .ok_or_else(|| Status::not_found("no such session; open the control stream first"))
    }
}

#[tonic::async_trait]
impl Session for SessionService {
    type ControlStream = ReceiverStream<Result<ServerMessage, Status>>;
    type DataStream = ReceiverStream<Result<ReadRequest, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let caller = self.0.identify(&request)?;
        let (queue, answers) = mpsc::channel(CONTROL_QUEUE);
        let shared = Arc::clone(&self.0);
        tokio::spawn(control::run(shared, caller, request.into_inner(), queue));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn data(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Self::DataStream>, Status> {
        let caller = self.0.identify(&request)?;
        let connected = self.0.session(&caller, &request)?;
        let (queue, requests) = mpsc::channel(MAX_ON_STREAM + 1);
        tokio::spawn(data::run(connected, request.into_inner(), queue));
        Ok(Response::new(ReceiverStream::new(requests)))
    }
}
