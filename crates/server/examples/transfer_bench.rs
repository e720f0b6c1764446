//! How fast disks arrive: the session against a bare stream, both over mutual TLS on loopback.
//!
//! `transfer_bench [MIB] [ROUNDS]`: by turns (a) a raw tonic stream of 1 MiB messages and (b) a job's transfer by a fake
//! agent into a spool in /dev/shm, incompressible data from memory; then the ratio of the best of each.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    dead_code,
    reason = "a measuring program"
)]

#[path = "../src/session/tests/fake.rs"]
mod fake;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use server::{JobId, session};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::MAX_MESSAGE_LEN;
use wire::session::session_client::SessionClient;
use wire::session::session_server::{Session, SessionServer};
use wire::session::{AgentMessage, Chunk, ReadRequest, ServerMessage};

use fake::{FakeAgent, Pki, Rig, Target, dial, listen, noise};
use session::{RateLimit, RemoteMachine, RemoteOptions};

const MIB: usize = 1 << 20;
/// What is sent over and over: larger than the caches.
const DISK_MIB: usize = 256;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse().unwrap());
    let mib: usize = args.next().unwrap_or(1024);
    let rounds: usize = args.next().unwrap_or(3);
    let (mut raw_best, mut job_best) = (0f64, 0f64);
    for _ in 0..rounds {
        let (raw, job) = (raw(mib), job(mib));
        println!(
            "raw {raw:.0} MiB/s, session {job:.0} MiB/s: {:.0} %",
            100.0 * job / raw
        );
        raw_best = raw_best.max(raw);
        job_best = job_best.max(job);
    }
    println!(
        "best: raw {raw_best:.0} MiB/s, session {job_best:.0} MiB/s: {:.0} %",
        100.0 * job_best / raw_best
    );
    println!("{}", peak_memory());
}

/// MiB/s of messages that nobody looks at.
fn raw(mib: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let pki = Pki::new();
        let (address, incoming) = listen(&pki).await;
        let (done, mut all) = mpsc::channel(1);
        let service = SessionServer::new(Sink(done)).max_decoding_message_size(MAX_MESSAGE_LEN);
        tokio::spawn(
            session::transport()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        let target = Target {
            address: address.to_string(),
            server: pki.fingerprint(),
            identity: pki.client("raw"),
        };
        let mut client =
            SessionClient::new(dial(&target).await).max_encoding_message_size(MAX_MESSAGE_LEN);
        let data = Bytes::from(noise(DISK_MIB * MIB, 1));
        let (send, chunks) = mpsc::channel(4);
        let started = Instant::now();
        tokio::spawn(async move {
            for index in 0..mib {
                let start = index % DISK_MIB * MIB;
                let chunk = Chunk {
                    data: data.slice(start..start + MIB),
                    ..Chunk::default()
                };
                send.send(chunk).await.unwrap();
            }
        });
        let _requests = client.data(ReceiverStream::new(chunks)).await.unwrap();
        let received = all.recv().await.unwrap();
        assert_eq!(received, mib * MIB);
        mib as f64 / started.elapsed().as_secs_f64()
    })
}

struct Sink(mpsc::Sender<usize>);

type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Session for Sink {
    type ControlStream = Answers<ServerMessage>;
    type DataStream = Answers<ReadRequest>;

    async fn control(
        &self,
        _: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        Err(Status::unimplemented("raw"))
    }

    async fn data(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Self::DataStream>, Status> {
        let mut chunks = request.into_inner();
        let done = self.0.clone();
        tokio::spawn(async move {
            let mut sum = 0;
            while let Ok(Some(chunk)) = chunks.message().await {
                sum += chunk.data.len();
            }
            let _ = done.send(sum).await;
        });
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }
}

/// MiB/s of a job: its disks pulled into the spool.
fn job(mib: usize) -> f64 {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let agent = FakeAgent::new(vec![noise(DISK_MIB * MIB, 2)]);
    let disks = mib / DISK_MIB;
    let agent = Arc::new(FakeAgent {
        disks: vec![Arc::clone(&agent.disks[0]); disks],
        ..agent
    });
    let options = RemoteOptions {
        spool: dir.path().to_owned(),
        base: None,
        bandwidth: None,
        total_bandwidth: RateLimit::new(None),
        reserve_bytes: 0,
        patience: None,
        retry_bad: false,
    };
    let places: Vec<u32> = (0..disks as u32).collect();
    let machine = RemoteMachine::open(&agent.inventory(), &places, options).unwrap();
    let rig = Rig::new();
    let identity = rig.pki.client("agent");
    rig.agents.admit(&identity, 1, &machine);
    for source in machine.sources() {
        source.will_need(&[0..source.virtual_size()]);
    }
    let _running = rig.start(&identity, &agent);
    while machine.progress().received_bytes == 0 {
        std::thread::sleep(Duration::from_micros(200));
    }
    let (started, before) = (Instant::now(), machine.progress().done_bytes);
    while machine.progress().done_bytes < machine.progress().total_bytes {
        std::thread::sleep(Duration::from_millis(2));
    }
    (machine.progress().total_bytes - before) as f64 / MIB as f64 / started.elapsed().as_secs_f64()
}

/// The agent's disk and both ends are in it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default()
        .to_owned()
}
