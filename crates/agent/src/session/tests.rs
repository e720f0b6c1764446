//! Whole agents against a server that is made up here: over TLS on loopback, through a proxy that cuts connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use wire::chunk;
use wire::enrol::enrol_server::{Enrol, EnrolServer};
use wire::enrol::{EnrolReply, EnrolRequest, ProbeReply, ProbeRequest};
use wire::inventory::{Disk, DiskKind};
use wire::join::{Fingerprint, JoinString, Secret};
use wire::session::agent_message::Message as FromAgent;
use wire::session::server_message::Message as ToAgent;
use wire::session::session_server::{Session, SessionServer};
use wire::session::{
    AgentMessage, Chunk, ExtentsRequest, JobState, ProofRequest, ReadRequest, ServerMessage,
    Welcome,
};
use wire::tls::{Accepted, Peer, fingerprint, server_config};

use super::*;
use crate::app::{AppOptions, Command, Controller, Detected, End, Host, NetworkView, Phase};
use crate::config::{Config, InterfaceConfig, Post};
use crate::disks::DiskSpec;

const SECRET: Secret = Secret([9; 16]);
const MIB: u64 = 1 << 20;

/// The machine under conversion: one file of 24.0005 MiB with some zeroes.
struct FileHost(PathBuf, u64);

impl Host for FileHost {
    fn detect(&self) -> Detected {
        let disk = Disk {
            name: "disk1".into(),
            kind: DiskKind::File.into(),
            virtual_size: self.1,
            extents_known: true,
            ..Disk::default()
        };
        let inventory = Inventory {
            machine_id: vec![1; 32],
            disks: vec![disk],
            ..Inventory::default()
        };
        let spec = DiskSpec {
            name: "disk1".into(),
            path: self.0.clone(),
            virtual_size: self.1,
            logical_sector_size: 512,
            physical_sector_size: 512,
        };
        Detected {
            inventory,
            disks: vec![spec],
        }
    }

    fn configure(&self, _: &[InterfaceConfig]) -> Result<(), String> {
        Ok(())
    }

    fn network(&self) -> NetworkView {
        NetworkView::default()
    }
}

struct RawKey(Vec<u8>);

impl PublicKeyData for RawKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// What the server is to do, and what it saw.
#[derive(Clone)]
struct Server(Arc<State>);

struct State {
    disk: Vec<u8>,
    authority: Issuer<'static, KeyPair>,
    /// What is not answered yet.
    wanted: Mutex<VecDeque<ReadRequest>>,
    answered: AtomicU32,
    all: u32,
    done: Notify,
    /// Answers of enrolment and of control, in order; then they succeed.
    refuse_enrolment: Mutex<VecDeque<Status>>,
    refuse_control: Mutex<VecDeque<Status>>,
    enrolments: AtomicU32,
    controls: AtomicU32,
    lines: Mutex<Vec<String>>,
    proof: Mutex<Option<wire::session::ProofReply>>,
    extents: Mutex<Option<wire::session::ExtentsReply>>,
    actions: Mutex<Vec<UserAction>>,
    /// The state that the job ends in.
    ends: Mutex<JobState>,
    hold: AtomicBool,
}

#[tonic::async_trait]
impl Enrol for Server {
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        Ok(Response::new(ProbeReply {
            protocol: wire::P2V_PROTOCOL,
            version: "test".into(),
        }))
    }

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        self.0.enrolments.fetch_add(1, Ordering::Relaxed);
        if let Some(status) = self.0.refuse_enrolment.lock().unwrap().pop_front() {
            return Err(status);
        }
        let request = request.into_inner();
        assert_eq!(request.secret, SECRET.0);
        assert_eq!(
            (request.machine_id.len(), request.public_key.len()),
            (32, 65)
        );
        let params = CertificateParams::new(Vec::new()).unwrap();
        let certificate = params
            .signed_by(&RawKey(request.public_key), &self.0.authority)
            .unwrap();
        Ok(Response::new(EnrolReply {
            certificate: certificate.der().to_vec(),
            agent_id: "a".into(),
        }))
    }
}

fn known<T>(request: &Request<T>) -> Result<(), Status> {
    match request.extensions().get::<Peer>() {
        Some(Peer {
            certificate: Some(_),
            ..
        }) => Ok(()),
        _ => Err(Status::unauthenticated("no certificate")),
    }
}

fn to_agent(message: ToAgent) -> Result<ServerMessage, Status> {
    Ok(ServerMessage {
        message: Some(message),
    })
}

#[tonic::async_trait]
impl Session for Server {
    type ControlStream = ReceiverStream<Result<ServerMessage, Status>>;
    type DataStream = UnboundedReceiverStream<Result<ReadRequest, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        known(&request)?;
        self.0.controls.fetch_add(1, Ordering::Relaxed);
        if let Some(status) = self.0.refuse_control.lock().unwrap().pop_front() {
            return Err(status);
        }
        let mut stream = request.into_inner();
        let Some(FromAgent::Hello(hello)) = stream.message().await?.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("no hello"));
        };
        assert_eq!(hello.wish.unwrap().disks, [0]);
        let (out, queue) = mpsc::channel(16);
        let welcome = Welcome {
            job: 7,
            data_streams: 2,
            resumed: false,
        };
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _ = out.send(to_agent(ToAgent::Welcome(welcome))).await;
            let whole = wire::session::Range {
                offset: 0,
                len: state.disk.len() as u64,
            };
            loop {
                tokio::select! {
                    message = stream.message() => match message {
                        Ok(Some(message)) => state.take(message.message),
                        _ => return,
                    },
                    () = state.done.notified() => {
                        state.done.notify_one();
                        if state.extents.lock().unwrap().is_none() {
                            let ask = ExtentsRequest { id: 1, disk: 0, offset: 0, len: whole.len };
                            let _ = out.send(to_agent(ToAgent::Extents(ask))).await;
                        }
                        if state.proof.lock().unwrap().is_none() {
                            let ask = ProofRequest { id: 2, disk: 0, ranges: vec![whole], reread: false };
                            let _ = out.send(to_agent(ToAgent::Proof(ask))).await;
                        }
                        let ready = state.extents.lock().unwrap().is_some() && state.proof.lock().unwrap().is_some();
                        if ready && !state.hold.load(Ordering::Relaxed) {
                            let ends = *state.ends.lock().unwrap();
                            let status = JobStatus { state: ends.into(), ..JobStatus::default() };
                            let _ = out.send(to_agent(ToAgent::Status(status))).await;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(queue)))
    }

    async fn data(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Self::DataStream>, Status> {
        known(&request)?;
        assert_eq!(
            request
                .metadata()
                .get(wire::SESSION_METADATA)
                .unwrap()
                .len(),
            32
        );
        let mut chunks = request.into_inner();
        let (out, queue) = mpsc::unbounded_channel();
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut mine: Vec<ReadRequest> = Vec::new();
            loop {
                while mine.len() < 3 {
                    let Some(request) = state.wanted.lock().unwrap().pop_front() else {
                        break;
                    };
                    mine.push(request.clone());
                    let _ = out.send(Ok(request));
                }
                let pause = tokio::time::sleep(Duration::from_millis(20));
                let chunk = tokio::select! {
                    chunk = chunks.message() => chunk,
                    () = pause, if mine.is_empty() => continue,
                };
                let Ok(Some(chunk)) = chunk else { break };
                let at = mine
                    .iter()
                    .position(|r| r.id == chunk.id)
                    .expect("an answer to a request");
                state.check(&mine.remove(at), &chunk);
            }
            // Asked again elsewhere.
            state.wanted.lock().unwrap().extend(mine);
        });
        Ok(Response::new(UnboundedReceiverStream::new(queue)))
    }
}

impl State {
    fn take(&self, message: Option<FromAgent>) {
        match message {
            Some(FromAgent::Log(line)) => self.lines.lock().unwrap().push(line.text),
            Some(FromAgent::Proof(reply)) => *self.proof.lock().unwrap() = Some(reply),
            Some(FromAgent::Extents(reply)) => *self.extents.lock().unwrap() = Some(reply),
            Some(FromAgent::Action(action)) => {
                self.actions
                    .lock()
                    .unwrap()
                    .push(UserAction::try_from(action).unwrap());
                *self.ends.lock().unwrap() = JobState::Cancelled;
                self.hold.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn check(&self, request: &ReadRequest, chunk: &Chunk) {
        let verified = chunk::verify(request, chunk).unwrap();
        let from = usize::try_from(request.offset).unwrap();
        let bytes = &self.disk[from..from + request.len as usize];
        for (block, content) in bytes.chunks(65536).zip(&verified.blocks) {
            match content {
                chunk::BlockContent::Data { at, .. } => {
                    assert_eq!(&verified.plain[at.clone()], block)
                }
                _ => assert!(block.iter().all(|&b| b == 0)),
            }
        }
        if self.answered.fetch_add(1, Ordering::Relaxed) + 1 >= self.all {
            self.done.notify_one();
        }
    }
}

/// A server and the proxy before it.
struct Rig {
    server: Server,
    identity: Identity,
    ca: rustls::pki_types::CertificateDer<'static>,
    address: SocketAddr,
    cuts: tokio::sync::broadcast::Sender<()>,
    proxy: SocketAddr,
    print: Fingerprint,
    file: tempfile::NamedTempFile,
    listening: Option<tokio::task::JoinHandle<()>>,
}

impl Rig {
    async fn new() -> Self {
        let mut disk: Vec<u8> = (0..24 * MIB + 512)
            .map(|n| u8::try_from(n / 77 % 253).unwrap())
            .collect();
        disk[3 << 20..7 << 20].fill(0);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &disk).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().der().clone();
        let authority = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Long past: the clock does not matter.
        params.not_before = rcgen::date_time_ymd(1999, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let certificate = params.signed_by(&key, &authority).unwrap();
        let identity = Identity {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        };
        let size = disk.len() as u64;
        let wanted = (0..size.div_ceil(MIB)).map(|n| ReadRequest {
            id: n + 1,
            offset: n * MIB,
            len: u32::try_from(MIB.min(size - n * MIB)).unwrap(),
            urgent: n % 4 == 0,
            ..ReadRequest::default()
        });
        let wanted: VecDeque<ReadRequest> = wanted.collect();
        let server = Server(Arc::new(State {
            disk,
            authority,
            all: u32::try_from(wanted.len()).unwrap(),
            wanted: Mutex::new(wanted),
            answered: AtomicU32::new(0),
            done: Notify::new(),
            refuse_enrolment: Mutex::default(),
            refuse_control: Mutex::default(),
            enrolments: AtomicU32::new(0),
            controls: AtomicU32::new(0),
            lines: Mutex::default(),
            proof: Mutex::default(),
            extents: Mutex::default(),
            actions: Mutex::default(),
            ends: Mutex::new(JobState::Done),
            hold: AtomicBool::new(false),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (cuts, _) = tokio::sync::broadcast::channel(4);
        let mut rig = Self {
            address: listener.local_addr().unwrap(),
            proxy: ([127, 0, 0, 1], 0).into(),
            print: fingerprint(&identity.certificate),
            server,
            identity,
            ca,
            cuts,
            file,
            listening: None,
        };
        rig.listen(listener);
        rig.start_proxy().await;
        rig
    }

    fn listen(&mut self, listener: TcpListener) {
        let config = server_config(self.identity.clone(), self.ca.clone()).unwrap();
        let acceptor = TlsAcceptor::from(config);
        let (out, incoming) = mpsc::channel(16);
        let server = self.server.clone();
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, out) = (acceptor.clone(), out.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = out
                            .send(Ok::<_, std::io::Error>(Accepted::new(stream)))
                            .await;
                    }
                });
            }
        };
        let serve = tonic::transport::Server::builder()
            .add_service(EnrolServer::new(server.clone()))
            .add_service(
                SessionServer::new(server).max_decoding_message_size(wire::MAX_MESSAGE_LEN),
            )
            .serve_with_incoming(ReceiverStream::new(incoming));
        self.listening = Some(tokio::spawn(async move {
            tokio::select! {
                () = accept => {}
                result = serve => result.unwrap(),
            }
        }));
    }

    async fn start_proxy(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.proxy = listener.local_addr().unwrap();
        let (cuts, address) = (self.cuts.clone(), self.address);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(address).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
    }

    fn config(&self) -> Config {
        let join = JoinString {
            servers: vec![self.proxy.to_string()],
            fingerprint: self.print,
            secret: SECRET,
        };
        Config::parse(&format!("p2v.join={join}"))
    }

    fn agent(&self, config: Config) -> (Controller, crate::app::Handle) {
        let host = FileHost(self.file.path().to_owned(), self.server.0.disk.len() as u64);
        let options = AppOptions {
            end_with_job: true,
            first_pause: Some(Duration::from_millis(20)),
            ..AppOptions::default()
        };
        Controller::new(config, Arc::new(host), options)
    }

    async fn run(&self, config: Config) -> End {
        let (controller, _handle) = self.agent(config);
        tokio::time::timeout(Duration::from_secs(60), controller.run())
            .await
            .expect("an end")
    }

    fn answered(&self) -> u32 {
        self.server.0.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unattended_agent_enrols_answers_exactly_and_ends() {
    let rig = Rig::new().await;
    let end = rig.run(rig.config()).await;
    assert_eq!(
        end,
        End {
            post: Post::Poweroff,
            success: true,
            error: None
        }
    );
    let state = &rig.server.0;
    assert_eq!(state.answered.load(Ordering::Relaxed), state.all);
    let mut hasher = blake3::Hasher::new();
    for block in state.disk.chunks(65536) {
        hasher.update(&chunk::block_hash(block));
    }
    let proof = state.proof.lock().unwrap().clone().unwrap();
    assert_eq!(
        (proof.error.as_str(), &proof.root[..]),
        ("", &hasher.finalize().as_bytes()[..])
    );
    let extents = state.extents.lock().unwrap().clone().unwrap();
    assert!(extents.error.is_empty() && !extents.data.is_empty());
    let lines = state.lines.lock().unwrap().clone();
    assert!(
        lines.iter().any(|line| line.starts_with("connected to ")),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_twenty_times_lose_nothing() {
    let rig = Rig::new().await;
    rig.server.0.hold.store(true, Ordering::Relaxed);
    let (controller, _handle) = rig.agent(rig.config());
    let agent = tokio::spawn(controller.run());
    for n in 1..=20 {
        // Cut while it is at work, each time elsewhere.
        while rig.server.0.controls.load(Ordering::Relaxed) < n {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        tokio::time::sleep(Duration::from_millis(u64::from(n) * 7 % 50)).await;
        let _ = rig.cuts.send(());
    }
    rig.server.0.hold.store(false, Ordering::Relaxed);
    let end = tokio::time::timeout(Duration::from_secs(60), agent)
        .await
        .unwrap()
        .unwrap();
    assert!(end.success, "{end:?}");
    assert!(rig.answered() >= rig.server.0.all);
    assert!(rig.server.0.controls.load(Ordering::Relaxed) >= 20);
    assert_eq!(rig.server.0.enrolments.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_is_found_again() {
    let mut rig = Rig::new().await;
    rig.server.0.hold.store(true, Ordering::Relaxed);
    let (controller, handle) = rig.agent(rig.config());
    let agent = tokio::spawn(controller.run());
    while rig.answered() < 3 {
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    rig.listening.take().unwrap().abort();
    let _ = rig.cuts.send(());
    tokio::time::sleep(Duration::from_millis(400)).await;
    let view = handle.view.borrow().clone();
    assert!(
        matches!(view.connection, crate::app::Connection::Connecting(Some(_))),
        "{view:?}"
    );
    let listener = TcpListener::bind(rig.address).await.unwrap();
    rig.listen(listener);
    rig.server.0.hold.store(false, Ordering::Relaxed);
    let end = tokio::time::timeout(Duration::from_secs(60), agent)
        .await
        .unwrap()
        .unwrap();
    assert!(end.success, "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_secret_ends_it_and_a_busy_server_does_not() {
    let rig = Rig::new().await;
    let refuse = |status: Status| {
        rig.server
            .0
            .refuse_enrolment
            .lock()
            .unwrap()
            .push_back(status)
    };
    refuse(Status::permission_denied(
        "the token was used by another machine",
    ));
    let end = rig.run(rig.config()).await;
    let error = end.error.unwrap();
    assert!(
        !end.success && error.contains("used by another machine"),
        "{error}"
    );
    refuse(Status::resource_exhausted("too many failures"));
    refuse(Status::unavailable("starting"));
    assert!(rig.run(rig.config()).await.success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_certificate_is_renewed_once() {
    let rig = Rig::new().await;
    let refuse = || {
        let status = Status::permission_denied("the certificate was withdrawn");
        rig.server
            .0
            .refuse_control
            .lock()
            .unwrap()
            .push_back(status);
    };
    refuse();
    assert!(rig.run(rig.config()).await.success);
    assert_eq!(rig.server.0.enrolments.load(Ordering::Relaxed), 2);
    refuse();
    refuse();
    let end = rig.run(rig.config()).await;
    assert!(end.error.as_ref().unwrap().contains("withdrawn"), "{end:?}");
    assert_eq!(rig.server.0.enrolments.load(Ordering::Relaxed), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_fingerprint_is_refused_before_anything_is_sent() {
    let rig = Rig::new().await;
    for skip in [false, true] {
        let mut config = rig.config();
        config.fingerprint = Some(Fingerprint([1; 32]));
        config.skip_test_connection = skip;
        let end = rig.run(config).await;
        assert!(
            end.error.as_ref().unwrap().contains("fingerprint"),
            "{end:?}"
        );
    }
    assert_eq!(rig.server.0.enrolments.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_is_passed_over_and_a_missing_disk_is_said() {
    let rig = Rig::new().await;
    let mut config = rig.config();
    config.server = Some("127.0.0.1:1".into());
    assert!(rig.run(config).await.success);
    let mut config = rig.config();
    config.disks = Some(vec!["sdz".into()]);
    let end = rig.run(config).await;
    assert_eq!(end.error.as_deref(), Some("this machine has no disk sdz"));
    let mut config = rig.config();
    config.join = None;
    assert!(
        rig.run(config)
            .await
            .error
            .unwrap()
            .contains("no server is given")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn by_hand_the_fingerprint_is_shown_confirmed_and_the_job_cancelled() {
    let rig = Rig::new().await;
    rig.server.0.hold.store(true, Ordering::Relaxed);
    let mut config = Config {
        server: Some(rig.proxy.to_string()),
        code: Some(SECRET),
        ..Config::default()
    };
    let (controller, handle) = rig.agent(config.clone());
    let agent = tokio::spawn(controller.run());
    let mut view = handle.view.clone();
    let send = |command| handle.commands.send(command).unwrap();
    view.wait_for(|view| view.phase == Phase::Setup)
        .await
        .unwrap();
    send(Command::Start);
    view.wait_for(|view| view.error.is_some()).await.unwrap();
    send(Command::TestConnection);
    view.wait_for(|view| view.shown_fingerprint == Some(rig.print))
        .await
        .unwrap();
    config.fingerprint = Some(rig.print);
    send(Command::Configure(Box::new(config)));
    send(Command::Start);
    view.wait_for(|view| view.job == Some(7)).await.unwrap();
    send(Command::Cancel);
    let end = tokio::time::timeout(Duration::from_secs(30), agent)
        .await
        .unwrap()
        .unwrap();
    assert!(!end.success, "{end:?}");
    assert_eq!(*rig.server.0.actions.lock().unwrap(), [UserAction::Cancel]);
    assert_eq!(view.borrow().phase, Phase::Ended);
}
