use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::transport::Server;
use tonic::{Response, Streaming};
use wire::chunk::verify;
use wire::enrol::enrol_server::{Enrol, EnrolServer};
use wire::enrol::{EnrolReply, ProbeReply, ProbeRequest};
use wire::join::Secret;
use wire::session::session_server::{Session, SessionServer};
use wire::session::{Welcome, server_message::Message};
use wire::tls::{Accepted, Peer, fingerprint, server_config};

use super::*;

/// As little of a server as lets an agent in, asks it for one megabyte, and says what came.
#[derive(Clone)]
struct Fake {
    issuer: Arc<rcgen::CertifiedIssuer<'static, KeyPair>>,
    verdicts: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Enrol for Fake {
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        Err(Status::unimplemented("probe"))
    }

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let request = request.into_inner();
        if request.secret != [9; 16] {
            return Err(Status::unauthenticated("unknown secret"));
        }
        let key = PublicKey(request.public_key);
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Ok(Response::new(EnrolReply {
            certificate: certificate.der().to_vec(),
            agent_id: "a1".to_owned(),
        }))
    }
}

struct PublicKey(Vec<u8>);

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Session for Fake {
    type ControlStream = Out<ServerMessage>;
    type DataStream = Out<ReadRequest>;

    async fn control(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let peer = request.extensions().get::<Peer>();
        if peer.is_none_or(|peer| peer.certificate.is_none()) {
            return Err(Status::unauthenticated("no certificate"));
        }
        let mut from_agent = request.into_inner();
        let first = from_agent.message().await?.and_then(|first| first.message);
        let Some(agent_message::Message::Hello(_)) = first else {
            return Err(Status::invalid_argument("no hello"));
        };
        let welcome = ServerMessage {
            message: Some(Message::Welcome(Welcome {
                job: 5,
                data_streams: 1,
                resumed: false,
            })),
        };
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Ok(welcome)).await.unwrap();
        tokio::spawn(async move {
            // The stream stays for as long as the agent's.
            while let Ok(Some(_)) = from_agent.message().await {}
            drop(sender);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn data(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Self::DataStream>, Status> {
        let session = request.metadata().get(SESSION_METADATA).unwrap();
        if session == "00".repeat(16).as_str() {
            return Err(Status::not_found("no such session"));
        }
        let asked = ReadRequest {
            id: 1,
            len: 1 << 20,
            ..ReadRequest::default()
        };
        let (sender, receiver) = mpsc::channel(4);
        sender.send(Ok(asked.clone())).await.unwrap();
        let verdicts = Arc::clone(&self.verdicts);
        let mut chunks = request.into_inner();
        tokio::spawn(async move {
            let verdict = match chunks.message().await {
                Ok(Some(chunk)) => match verify(&asked, &chunk) {
                    Ok(_) => "good".to_owned(),
                    Err(error) => error.to_string(),
                },
                Ok(None) => "nothing".to_owned(),
                Err(status) => format!("{}", status.code()),
            };
            verdicts.lock().unwrap().push(verdict);
            let _ = sender.send(Err(Status::data_loss("enough"))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Starts the fake server; returns a join string for it, and what it thinks of the chunks that came.
fn serve(runtime: &tokio::runtime::Runtime) -> (String, Arc<Mutex<Vec<String>>>) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let issuer = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["v2v".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let print = fingerprint(certificate.der());
    let identity = Identity {
        certificate: certificate.der().clone(),
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    };
    let config = server_config(identity, issuer.der().clone()).unwrap();
    let fake = Fake {
        issuer: Arc::new(issuer),
        verdicts: Arc::default(),
    };
    let verdicts = Arc::clone(&fake.verdicts);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(config);
    let incoming = TcpListenerStream::new(listener).then(move |stream| {
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream?).await.map(Accepted::new) }
    });
    let session = SessionServer::new(fake.clone()).max_decoding_message_size(MAX_MESSAGE_LEN);
    let enrol = EnrolServer::new(fake).max_decoding_message_size(64 << 10);
    let router = Server::builder().add_service(enrol).add_service(session);
    // A failed handshake must not end the server.
    let incoming = incoming.filter(Result::is_ok);
    runtime.spawn(async move { router.serve_with_incoming(incoming).await });
    let join = JoinString {
        servers: vec![address.to_string()],
        fingerprint: print,
        secret: Secret([9; 16]),
    };
    (join.to_string(), verdicts)
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn each_lie_is_what_its_name_says() {
    let runtime = runtime().unwrap();
    let (join, verdicts) = serve(&runtime);
    let expected = [
        (Lie::Nothing, "good"),
        (Lie::ShortData, "expected 1048576 bytes of data"),
        (Lie::LongData, "expected 1048576 bytes of data"),
        (Lie::LongChunk, "it is for"),
        (Lie::WrongHash, "do not have the hash"),
        (Lie::PastTheEnd, "it is for"),
        (Lie::BadRangePastTheEnd, "unreadable range"),
        (Lie::Bomb, "zstd frame"),
        (Lie::Unasked, "it is for"),
        (Lie::Twice, "good"),
        (Lie::Oversized, "outside"),
    ];
    for (number, (what, verdict)) in (1u8..).zip(expected) {
        let outcome = lie(&join, number, what, PATIENCE).unwrap();
        assert_eq!(outcome.job, Some(5), "{what:?}: {outcome:?}");
        let found = verdicts.lock().unwrap().pop().unwrap();
        let is_expected = found.contains(verdict) || what == Lie::Oversized && found != "good";
        assert!(is_expected, "{what:?}: {found}");
        assert!(outcome.refused.is_some(), "{what:?}: {outcome:?}");
    }
    let outcome = lie(&join, 30, Lie::NoHello, PATIENCE).unwrap();
    assert_eq!(outcome.refused.unwrap().code(), Code::InvalidArgument);
    let outcome = lie(&join, 31, Lie::ForeignSession, PATIENCE).unwrap();
    assert_eq!(outcome.refused.unwrap().code(), Code::NotFound);
    let outcome = lie(&join, 32, Lie::OversizedHello, PATIENCE).unwrap();
    assert!(outcome.refused.is_some() && outcome.job.is_none());
    let outcome = lie(&join, 33, Lie::Silent, Duration::from_millis(500)).unwrap();
    assert!(outcome.refused.is_none() && outcome.requests == 1);
}

#[test]
fn strangers_are_told_apart() {
    let runtime = runtime().unwrap();
    let (join, _) = serve(&runtime);
    enrol(&join, 1).unwrap();
    let wrong: JoinString = join.parse().unwrap();
    let other = JoinString {
        secret: Secret([1; 16]),
        ..wrong.clone()
    };
    let error = enrol(&other.to_string(), 1).unwrap_err();
    assert_eq!(code(&error), Some(Code::Unauthenticated));
    let mut print = wrong.fingerprint;
    print.0[0] ^= 1;
    let address = wrong.servers[0].parse().unwrap();
    let other = JoinString {
        fingerprint: print,
        ..wrong
    };
    let error = format!("{:#}", enrol(&other.to_string(), 1).unwrap_err());
    assert!(error.contains("another server answers"), "{error}");
    let status = session_without_certificate(&join).unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    oversized_enrolment(&join).unwrap();
    let back = plain_text(address).unwrap();
    assert!(!back.starts_with(b"HTTP/"), "{back:?}");
    enrol(&join, 1).unwrap();
}
