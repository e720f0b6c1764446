//! A whole server on the loopback: TLS, enrolment, who is let in, the admin socket, the end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;
use wire::P2V_PROTOCOL;
use wire::enrol::enrol_client::EnrolClient;
use wire::enrol::{EnrolReply, EnrolRequest, ProbeRequest};
use wire::join::JoinString;
use wire::session::session_client::SessionClient;
use wire::tls::{self, Identity};

use super::*;
use crate::admin::{Client, ClientError};
use crate::jobs::tests::{NoBackend, config};
use crate::{Approval, JobId, NewToken};

struct House {
    state: PathBuf,
    started: Started,
    cancel: CancelToken,
    server: Option<JoinHandle<Result<()>>>,
    dir: tempfile::TempDir,
}

fn start(state: &Path) -> (Started, CancelToken, JoinHandle<Result<()>>) {
    let (sender, receiver) = mpsc::channel();
    let cancel = CancelToken::new();
    let (config, token) = (config(state), cancel.clone());
    let server = std::thread::spawn(move || {
        let started = |started: &Started| sender.send(started.clone()).unwrap();
        run_with(config, Arc::new(NoBackend), started, &token)
    });
    (receiver.recv().unwrap(), cancel, server)
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (started, cancel, server) = start(&state);
        Self {
            state,
            started,
            cancel,
            server: Some(server),
            dir,
        }
    }

    fn admin(&self) -> Client {
        Client::connect(&self.state).unwrap()
    }

    fn join(&self) -> JoinString {
        let new = NewToken {
            servers: vec![],
            ttl_seconds: 0,
            uses: 1,
            auto_approve: false,
            note: String::new(),
        };
        let token = self.admin().create_token(&new).unwrap();
        token.join.parse().unwrap()
    }

    fn address(&self) -> String {
        self.started.addresses[0].to_string()
    }

    fn stop(mut self) -> tempfile::TempDir {
        let begun = Instant::now();
        self.cancel.cancel();
        self.server.take().unwrap().join().unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(!self.state.join("admin.sock").exists());
        self.dir
    }
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

async fn dial(join: &JoinString, identity: Option<Identity>) -> Channel {
    let config = tls::client_config(join.fingerprint, identity).unwrap();
    tls::connect(&join.servers[0], config).await.unwrap()
}

fn request(join: &JoinString, key: &KeyPair, machine: u8) -> EnrolRequest {
    EnrolRequest {
        protocol: P2V_PROTOCOL,
        secret: join.secret.0.to_vec(),
        public_key: key.der_bytes().to_vec(),
        machine_id: vec![machine; 32],
        label: "a machine".into(),
    }
}

async fn enrol(join: &JoinString, key: &KeyPair, machine: u8) -> Result<EnrolReply, tonic::Status> {
    let mut client = EnrolClient::new(dial(join, None).await);
    let reply = client.enrol(request(join, key, machine)).await?;
    Ok(reply.into_inner())
}

fn identity(reply: &EnrolReply, key: &KeyPair) -> Identity {
    Identity {
        certificate: reply.certificate.clone().into(),
        key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    }
}

/// What the server says to a call of a service that is not there: unimplemented to those it lets in.
async fn knock(join: &JoinString, identity: Option<Identity>) -> Code {
    let mut grpc = tonic::client::Grpc::new(dial(join, identity).await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<ProbeRequest, ProbeRequest>::default();
    let path = "/v2v.nothing.v1.Nothing/Nothing".parse().unwrap();
    let request = tonic::Request::new(ProbeRequest {});
    grpc.unary(request, path, codec).await.unwrap_err().code()
}

#[test]
fn only_a_certificate_of_this_server_opens_more_than_enrolment() {
    let house = House::new();
    let join = house.join();
    assert_eq!(join.fingerprint, house.started.fingerprint);
    assert_eq!(join.servers, [house.address()]);
    on_runtime(async {
        let mut stranger = EnrolClient::new(dial(&join, None).await);
        let probe = stranger.probe(ProbeRequest {}).await.unwrap();
        assert_eq!(probe.into_inner().protocol, P2V_PROTOCOL);
        assert_eq!(knock(&join, None).await, Code::Unauthenticated);
        let mut session = SessionClient::new(dial(&join, None).await);
        let status = session.control(tokio_stream::empty()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let first = enrol(&join, &key, 1).await.unwrap();
        assert_eq!(
            knock(&join, Some(identity(&first, &key))).await,
            Code::Unimplemented
        );
        // Reset: another key, and the first certificate is worth nothing.
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let second = enrol(&join, &other, 1).await.unwrap();
        assert_ne!(first.agent_id, second.agent_id);
        assert_eq!(
            knock(&join, Some(identity(&first, &key))).await,
            Code::Unauthenticated
        );
        assert_eq!(
            knock(&join, Some(identity(&second, &other))).await,
            Code::Unimplemented
        );
    });
    house.stop();
}

#[test]
fn a_certificate_of_another_authority_and_a_wrong_fingerprint_are_refused() {
    let (house, elsewhere) = (House::new(), House::new());
    let (join, foreign) = (house.join(), elsewhere.join());
    on_runtime(async {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let reply = enrol(&foreign, &key, 1).await.unwrap();
        let config = tls::client_config(join.fingerprint, Some(identity(&reply, &key))).unwrap();
        // TLS 1.3: the client hears of it at its first read.
        let refused = match tls::connect(&join.servers[0], config).await {
            Err(_) => true,
            Ok(channel) => EnrolClient::new(channel)
                .probe(ProbeRequest {})
                .await
                .is_err(),
        };
        assert!(refused);
        let wrong = tls::client_config(foreign.fingerprint, None).unwrap();
        let error = tls::connect(&join.servers[0], wrong).await.unwrap_err();
        let text = crate::jobs::chain(&error);
        assert!(text.contains("another server answers"), "{text}");
    });
    elsewhere.stop();
    house.stop();
}

#[test]
fn plain_text_and_silence_get_nowhere() {
    let house = House::new();
    on_runtime(async {
        let mut stream = TcpStream::connect(house.address()).await.unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        // At most a TLS alert (RFC 8446, section 5.1: content type 21).
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
        // Many silent connections of one peer are cut down to a few; those that wait for nobody are closed at once.
        let mut silent = Vec::new();
        for _ in 0..40 {
            silent.push(TcpStream::connect(house.address()).await.unwrap());
        }
        let mut closed = 0;
        for stream in &mut silent {
            let mut byte = [0];
            let read = stream.read(&mut byte);
            if let Ok(read) = tokio::time::timeout(Duration::from_millis(100), read).await {
                assert!(matches!(read, Ok(0) | Err(_)));
                closed += 1;
            }
        }
        assert!((8..=40).contains(&closed), "{closed}");
    });
    house.stop();
}

#[test]
fn every_wrong_enrolment_has_its_code_and_too_many_are_put_off() {
    type Lie = fn(&mut EnrolRequest);
    let house = House::new();
    let join = house.join();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let lies: &[(Code, Lie)] = &[
        (Code::Unauthenticated, |r| r.secret = vec![9; 16]),
        (Code::FailedPrecondition, |r| r.protocol = 9),
        (Code::InvalidArgument, |r| r.secret.clear()),
        (Code::InvalidArgument, |r| r.machine_id.truncate(31)),
        (Code::InvalidArgument, |r| r.public_key[64] ^= 1),
    ];
    on_runtime(async {
        for (code, lie) in lies {
            let mut wrong = request(&join, &key, 1);
            lie(&mut wrong);
            let mut client = EnrolClient::new(dial(&join, None).await);
            let status = client.enrol(wrong).await.unwrap_err();
            assert_eq!(status.code(), *code, "{status}");
        }
        // An oversized message is refused, and the server lives.
        let mut large = request(&join, &key, 1);
        large.label = "x".repeat(1 << 20);
        let mut client = EnrolClient::new(dial(&join, None).await);
        assert!(client.enrol(large).await.is_err());
        enrol(&join, &key, 1).await.unwrap();
        let status = enrol(&join, &key, 2).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let mut last = Code::Ok;
        for _ in 0..10 {
            last = enrol(&join, &key, 2).await.unwrap_err().code();
        }
        assert_eq!(last, Code::ResourceExhausted);
    });
    let state = house.state.clone();
    let _dir = house.stop();
    let store = Store::open(&state.join("v2v.db")).unwrap();
    let events = store.audit_events();
    assert_eq!(events.len(), 10, "{events:?}");
    assert!(
        events
            .iter()
            .all(|(event, _, from)| event == "enrol" && from.starts_with("127.0.0.1"))
    );
    assert!(events[0].1.contains("not known"));
}

#[test]
fn tokens_and_jobs_are_reached_over_the_admin_socket() {
    let house = House::new();
    let mode = std::fs::metadata(house.state.join("admin.sock")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let admin = house.admin();
    let new = NewToken {
        servers: vec!["192.0.2.7".into()],
        ttl_seconds: 60,
        uses: 3,
        auto_approve: true,
        note: "rack\n4".into(),
    };
    let token = admin.create_token(&new).unwrap();
    let join: JoinString = token.join.parse().unwrap();
    let port = house.started.addresses[0].port();
    assert_eq!(join.servers, [format!("192.0.2.7:{port}")]);
    assert_eq!(token.fingerprint, house.started.fingerprint.to_string());
    assert_eq!(token.code, join.secret.code());
    admin.revoke_token(token.id).unwrap();
    let tokens = admin.tokens().unwrap();
    assert_eq!((tokens[0].note.as_str(), tokens[0].uses), ("rack 4", 3));
    assert!(tokens[0].revoked && tokens[0].auto_approve);
    assert!(
        matches!(admin.revoke_token(9), Err(ClientError::NotFound(text)) if text == "there is no token 9")
    );
    assert!(admin.jobs().unwrap().is_empty());
    let nothing = JobId(1);
    assert!(matches!(admin.job(nothing), Err(ClientError::NotFound(_))));
    assert!(admin.approve(nothing, &Approval::default()).is_err());
    assert!(admin.cancel(nothing).is_err());
    assert!(admin.retry(nothing).is_err());
    assert!(admin.logs(nothing, true, &mut |_| true).is_err());
    let bad = NewToken {
        servers: vec!["not an address".into()],
        ..new
    };
    assert!(matches!(
        admin.create_token(&bad),
        Err(ClientError::Refused(_))
    ));
    let state = house.state.clone();
    let _dir = house.stop();
    let error = Client::connect(&state).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[test]
fn a_second_server_is_refused_and_a_restarted_one_is_the_same() {
    let house = House::new();
    let second = run_with(
        config(&house.state),
        Arc::new(NoBackend),
        |_| panic!("it must not start"),
        &CancelToken::new(),
    );
    assert!(matches!(second, Err(Error::InUse { .. })));
    assert!(house.admin().jobs().is_ok(), "the first is untouched");
    let fingerprint = house.started.fingerprint;
    let House {
        state,
        cancel,
        server,
        dir,
        ..
    } = house;
    cancel.cancel();
    server.unwrap().join().unwrap().unwrap();
    // What a killed server left is no obstacle.
    std::fs::write(state.join("admin.sock"), "").unwrap();
    let (started, cancel, server) = start(&state);
    assert_eq!(started.fingerprint, fingerprint);
    cancel.cancel();
    server.join().unwrap().unwrap();
    let mut wrong = config(&state);
    wrong.options = vec!["--frobnicate".into()];
    let error = run_with(wrong, Arc::new(NoBackend), |_| (), &CancelToken::new()).unwrap_err();
    assert!(error.to_string().contains("--frobnicate"), "{error}");
    drop(dir);
}
