//! An agent made of memory, and a server on loopback with mutual TLS. Used by the tests and by the bench.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use wire::chunk::{self, Compress};
use wire::inventory::{Disk, Inventory};
use wire::join::Fingerprint;
use wire::session::session_client::SessionClient;
use wire::session::{
    self as proto, AgentMessage, Chunk, ExtentsReply, Hello, JobStatus, LogLine, ProofReply,
    ReadRequest, UserAction, agent_message, server_message,
};
use wire::tls::{Accepted, Identity, client_config, connect, fingerprint, server_config};
use wire::{BLOCK_LEN, MAX_MESSAGE_LEN, P2V_PROTOCOL, SESSION_METADATA};

use super::JobId;
use super::session::{Admitted, AgentId, Agents, RemoteMachine, service, transport};

/// An authority, and a server that it stands for.
pub(crate) struct Pki {
    authority: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    server: Identity,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let server = issue(&issuer, "v2v");
        Self {
            authority,
            issuer,
            server,
        }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.server.certificate)
    }

    pub(crate) fn client(&self, name: &str) -> Identity {
        issue(&self.issuer, name)
    }
}

fn issue(issuer: &Issuer<'static, KeyPair>, name: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    Identity {
        certificate: params.signed_by(&key, issuer).unwrap().der().clone(),
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

/// A certificate, and what its holder is admitted to.
type Known = (Vec<u8>, AgentId, JobId, Arc<RemoteMachine>);

/// Jobs that admit every agent that they know to the machine that was set for it.
pub(crate) struct TestAgents {
    known: Mutex<Vec<Known>>,
    pub(crate) status: watch::Sender<JobStatus>,
    pub(crate) events: Mutex<Vec<String>>,
}

impl TestAgents {
    fn note(&self, event: String) {
        self.events.lock().unwrap().push(event);
    }

    /// Admits the holder of a certificate from now on.
    pub(crate) fn admit(&self, identity: &Identity, job: u64, machine: &Arc<RemoteMachine>) {
        let mut known = self.known.lock().unwrap();
        let certificate = identity.certificate.to_vec();
        known.retain(|(held, ..)| *held != certificate);
        let agent = AgentId(format!("agent-{job}"));
        known.push((certificate, agent, JobId(job), Arc::clone(machine)));
    }
}

impl Agents for TestAgents {
    fn identify(&self, certificate: &[u8]) -> Option<AgentId> {
        let known = self.known.lock().unwrap();
        let found = known.iter().find(|(held, ..)| held == certificate);
        found.map(|(_, agent, ..)| agent.clone())
    }

    fn hello(
        &self,
        agent: &AgentId,
        _from: Option<SocketAddr>,
        _hello: &Hello,
    ) -> Result<Admitted, Status> {
        let known = self.known.lock().unwrap();
        let (_, _, job, machine) = known.iter().find(|(_, held, ..)| held == agent).unwrap();
        self.note(format!("hello {job}"));
        Ok(Admitted {
            job: *job,
            machine: Arc::clone(machine),
            resumed: false,
            status: self.status.subscribe(),
        })
    }

    fn gone(&self, job: JobId) {
        self.note(format!("gone {job}"));
    }

    fn log(&self, job: JobId, line: &LogLine) {
        self.note(format!("log {job} {}", line.text));
    }

    fn user_action(&self, job: JobId, action: UserAction) {
        self.note(format!("action {job} {}", action.as_str_name()));
    }
}

/// A server on loopback.
pub(crate) struct Rig {
    pub(crate) runtime: Runtime,
    pub(crate) pki: Pki,
    pub(crate) agents: Arc<TestAgents>,
    pub(crate) address: SocketAddr,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let pki = Pki::new();
        let agents = Arc::new(TestAgents {
            known: Mutex::default(),
            status: watch::Sender::new(JobStatus::default()),
            events: Mutex::default(),
        });
        let router = transport().add_service(service(Arc::clone(&agents) as Arc<dyn Agents>));
        let (address, incoming) = runtime.block_on(listen(&pki));
        runtime.spawn(router.serve_with_incoming(incoming));
        Self {
            runtime,
            pki,
            agents,
            address,
        }
    }

    pub(crate) fn dial(&self, identity: &Identity) -> Channel {
        self.runtime.block_on(dial(&self.target(identity)))
    }

    fn target(&self, identity: &Identity) -> Target {
        Target {
            address: self.address.to_string(),
            server: self.pki.fingerprint(),
            identity: identity.clone(),
        }
    }

    /// Starts an agent, which dials again until it is dropped.
    pub(crate) fn start(&self, identity: &Identity, agent: &Arc<FakeAgent>) -> Running {
        let (target, agent) = (self.target(identity), Arc::clone(agent));
        let task = self.runtime.spawn(async move {
            loop {
                let ended = agent.session(&target).await;
                agent.ends.lock().unwrap().push(ended);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Running(task.abort_handle())
    }
}

/// Accepts mutual TLS on loopback.
pub(crate) async fn listen(
    pki: &Pki,
) -> (SocketAddr, ReceiverStream<Result<Accepted, std::io::Error>>) {
    let config = server_config(pki.server.clone(), pki.authority.clone()).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send, incoming) = mpsc::channel(16);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, send) = (acceptor.clone(), send.clone());
            tokio::spawn(async move {
                stream.set_nodelay(true).ok();
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = send.send(Ok(Accepted::new(stream))).await;
                }
            });
        }
    });
    (address, ReceiverStream::new(incoming))
}

#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) server: Fingerprint,
    pub(crate) identity: Identity,
}

pub(crate) async fn dial(target: &Target) -> Channel {
    let config = client_config(target.server, Some(target.identity.clone())).unwrap();
    connect(&target.address, config).await.unwrap()
}

/// Stops its agent when dropped.
pub(crate) struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the agent makes of a request: the chunks to send instead of the true one.
pub(crate) type Answer = dyn Fn(&ReadRequest, Chunk) -> Vec<Chunk> + Send + Sync;

/// An agent whose disks are in memory.
pub(crate) struct FakeAgent {
    pub(crate) id: [u8; 16],
    pub(crate) disks: Vec<Arc<Vec<u8>>>,
    /// Byte ranges of every disk that cannot be read; zeroes stand in `disks` there.
    pub(crate) bad: Vec<Range<u64>>,
    pub(crate) compress: Compress,
    pub(crate) answer: Box<Answer>,
    /// Chunks after which all connections are dropped, over and over; 0 for never.
    pub(crate) cut_after: AtomicU64,
    /// Every request that came.
    pub(crate) requests: Mutex<Vec<ReadRequest>>,
    pub(crate) statuses: Mutex<Vec<JobStatus>>,
    /// How control streams ended.
    pub(crate) ends: Mutex<Vec<Status>>,
    answered: AtomicU64,
}

impl FakeAgent {
    pub(crate) fn new(disks: Vec<Vec<u8>>) -> Self {
        Self {
            id: rand_id(),
            disks: disks.into_iter().map(Arc::new).collect(),
            bad: vec![],
            compress: Compress::Never,
            answer: Box::new(|_, chunk| vec![chunk]),
            cut_after: AtomicU64::new(0),
            requests: Mutex::default(),
            statuses: Mutex::default(),
            ends: Mutex::default(),
            answered: AtomicU64::new(0),
        }
    }

    pub(crate) fn inventory(&self) -> Inventory {
        let disks = self.disks.iter().enumerate();
        Inventory {
            disks: disks
                .map(|(index, disk)| Disk {
                    name: format!("sd{}", char::from(b'a' + u8::try_from(index).unwrap())),
                    serial: format!("S{index}"),
                    virtual_size: disk.len() as u64,
                    logical_sector_size: 512,
                    extents_known: true,
                    ..Disk::default()
                })
                .collect(),
            ..Inventory::default()
        }
    }

    pub(crate) fn hello(&self) -> AgentMessage {
        message(agent_message::Message::Hello(Hello {
            protocol: P2V_PROTOCOL,
            session: self.id.to_vec(),
            inventory: Some(self.inventory()),
            wish: None,
        }))
    }

    /// Bytes that were asked for, of every disk.
    pub(crate) fn requested_bytes(&self) -> u64 {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|request| u64::from(request.len)).sum()
    }

    /// One connection until it breaks.
    async fn session(self: &Arc<Self>, target: &Target) -> Status {
        let mut tasks = JoinSet::new();
        let config = client_config(target.server, Some(target.identity.clone())).unwrap();
        let channel = match connect(&target.address, config).await {
            Ok(channel) => channel,
            Err(error) => return Status::unavailable(error.to_string()),
        };
        let (send, messages) = mpsc::channel(64);
        send.send(self.hello()).await.unwrap();
        let mut client = SessionClient::new(channel);
        let mut answers = match client.control(ReceiverStream::new(messages)).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return status,
        };
        loop {
            let message = tokio::select! {
                message = answers.message() => message,
                Some(_) = tasks.join_next() => return Status::unavailable("cut"),
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            };
            match message.message.unwrap() {
                server_message::Message::Welcome(welcome) => {
                    for _ in 0..welcome.data_streams {
                        let (agent, target) = (Arc::clone(self), target.clone());
                        tasks.spawn(async move { agent.data(&target).await });
                    }
                }
                server_message::Message::Extents(request) => {
                    let reply = self.extents(&request);
                    let reply = message_of(agent_message::Message::Extents(reply));
                    send.send(reply).await.unwrap();
                }
                server_message::Message::Proof(request) => {
                    let reply = message_of(agent_message::Message::Proof(self.prove(&request)));
                    send.send(reply).await.unwrap();
                }
                server_message::Message::Status(status) => {
                    self.statuses.lock().unwrap().push(status);
                }
                server_message::Message::Alive(_) => {}
            }
        }
    }

    /// One data stream; returns when it is time to cut the connections.
    async fn data(self: Arc<Self>, target: &Target) {
        loop {
            let channel = dial(target).await;
            let mut client = SessionClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_LEN)
                .max_encoding_message_size(MAX_MESSAGE_LEN);
            let (send, chunks) = mpsc::channel(2);
            let mut request = tonic::Request::new(ReceiverStream::new(chunks));
            let id = data_encoding::HEXLOWER.encode(&self.id);
            request
                .metadata_mut()
                .insert(SESSION_METADATA, id.parse().unwrap());
            let Ok(requests) = client.data(request).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let mut requests = requests.into_inner();
            while let Ok(Some(request)) = requests.message().await {
                self.requests.lock().unwrap().push(request.clone());
                for chunk in (self.answer)(&request, self.read(&request)) {
                    let _ = send.send(chunk).await;
                }
                let answered = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
                let cut = self.cut_after.load(Ordering::Relaxed);
                if cut > 0 && answered.is_multiple_of(cut) {
                    return;
                }
            }
        }
    }

    fn read(&self, request: &ReadRequest) -> Chunk {
        let disk = &self.disks[request.disk as usize];
        let range = request.offset..request.offset + u64::from(request.len);
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
        let bytes = in_memory(disk).slice(start..end);
        let bad = self.bad.iter().filter_map(|bad| {
            let (start, end) = (bad.start.max(range.start), bad.end.min(range.end));
            (start < end).then(|| proto::Range {
                offset: start,
                len: end - start,
            })
        });
        chunk::build(request, &bytes, bad.collect(), self.compress).chunk
    }

    /// Runs of 4 KiB that are not zero.
    fn extents(&self, request: &proto::ExtentsRequest) -> ExtentsReply {
        let disk = &self.disks[request.disk as usize];
        let mut data: Vec<proto::Range> = vec![];
        for (index, part) in disk.chunks(4096).enumerate() {
            let offset = index as u64 * 4096;
            if offset < request.offset || part.iter().all(|&byte| byte == 0) {
                continue;
            }
            match data.last_mut() {
                Some(last) if last.offset + last.len == offset => last.len += part.len() as u64,
                _ => data.push(proto::Range {
                    offset,
                    len: part.len() as u64,
                }),
            }
        }
        ExtentsReply {
            id: request.id,
            data,
            error: String::new(),
        }
    }

    fn prove(&self, request: &proto::ProofRequest) -> ProofReply {
        let disk = &self.disks[request.disk as usize];
        let mut root = blake3::Hasher::new();
        for range in &request.ranges {
            let bytes = part(disk, range.offset, range.offset + range.len);
            for block in bytes.chunks(BLOCK_LEN as usize) {
                root.update(&chunk::block_hash(block));
            }
        }
        ProofReply {
            id: request.id,
            root: root.finalize().as_bytes().to_vec(),
            error: String::new(),
        }
    }
}

/// The disk's bytes, not copied.
pub(crate) fn in_memory(disk: &Arc<Vec<u8>>) -> Bytes {
    Bytes::from_owner(Memory(Arc::clone(disk)))
}

struct Memory(Arc<Vec<u8>>);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn part(disk: &[u8], start: u64, end: u64) -> &[u8] {
    &disk[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]
}

fn message(message: agent_message::Message) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}

pub(crate) fn message_of(of: agent_message::Message) -> AgentMessage {
    message(of)
}

fn rand_id() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_le_bytes()
}

/// Bytes that do not shrink.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
