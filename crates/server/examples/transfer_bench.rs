//! How fast disks arrive: the session against a bare stream, both over mutual TLS on loopback.
//!
//! `transfer_bench [MIB] [ROUNDS]`: by turns (a) a raw tonic stream of 1 MiB messages as tonic comes, (b) the same with the
//! session's own windows and frames, and (c) a job's transfer by a fake agent into a spool in /dev/shm, hashed on both
//! sides, incompressible data from memory; then the ratio of the best of each.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    dead_code,
    reason = "a measuring program"
)]

#[path = "../src/session/tests/fake.rs"]
mod fake;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use server::{JobId, Progress, session};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status, Streaming};
use wire::MAX_MESSAGE_LEN;
use wire::session::session_client::SessionClient;
use wire::session::session_server::{Session, SessionServer};
use wire::session::{AgentMessage, Chunk, ReadRequest, ServerMessage};
use wire::tls::client_config;

use fake::{FakeAgent, Pki, Rig, Target, dial, in_memory, listen, noise};
use session::{RateLimit, RemoteMachine, RemoteOptions};

const MIB: usize = 1 << 20;
/// What is sent over and over: larger than the caches.
const DISK_MIB: usize = 256;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse().unwrap());
    let mib: usize = args.next().unwrap_or(1024);
    let rounds: usize = args.next().unwrap_or(3);
    let (mut raw_best, mut tuned_best, mut job_best) =
        (Speed::default(), Speed::default(), Speed::default());
    let disk = Arc::new(noise(DISK_MIB * MIB, 1));
    for _ in 0..rounds {
        let (stock, tuned) = (
            raw(mib, &disk, Transport::Stock),
            raw(mib, &disk, Transport::Tuned),
        );
        let job = jobs(mib, 1, &disk);
        println!("raw {stock}; tuned {tuned}; session {job}");
        raw_best = raw_best.best(stock);
        tuned_best = tuned_best.best(tuned);
        job_best = job_best.best(job);
    }
    let percent = job_best.percent_of(&tuned_best);
    println!("with the session's own windows and frames: raw {tuned_best}: {percent:.0} %");
    let percent = job_best.percent_of(&raw_best);
    println!("best: raw {raw_best}; session {job_best}: {percent:.0} %");
    println!("4 jobs: {}", jobs(mib, 4, &disk));
    println!("{}, {DISK_MIB} MiB of it the agents' disk", peak_memory());
}

/// What a transfer took.
#[derive(Clone, Copy, Default)]
struct Speed {
    mib_a_second: f64,
    /// Processor time of both ends. On a machine that does other things too it says more than the rate.
    cpu_us_a_mib: f64,
}

impl Speed {
    fn best(self, other: Self) -> Self {
        let cpu = |a: f64, b: f64| if a == 0.0 { b } else { a.min(b) };
        Self {
            mib_a_second: self.mib_a_second.max(other.mib_a_second),
            cpu_us_a_mib: cpu(self.cpu_us_a_mib, other.cpu_us_a_mib),
        }
    }

    fn percent_of(&self, other: &Self) -> f64 {
        100.0 * self.mib_a_second / other.mib_a_second
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rate, cpu) = (self.mib_a_second, self.cpu_us_a_mib);
        write!(f, "{rate:.0} MiB/s, {cpu:.0} µs of CPU a MiB")
    }
}

/// Measures from its making on.
struct Watch {
    started: Instant,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu: cpu(),
        }
    }

    fn speed(&self, bytes: u64) -> Speed {
        let mib = bytes as f64 / MIB as f64;
        Speed {
            mib_a_second: mib / self.started.elapsed().as_secs_f64(),
            cpu_us_a_mib: (cpu() - self.cpu).as_secs_f64() * 1e6 / mib,
        }
    }
}

/// Processor time of this process.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How a raw stream's HTTP/2 is set.
#[derive(Clone, Copy)]
enum Transport {
    /// As tonic comes.
    Stock,
    /// As the session has it.
    Tuned,
}

impl Transport {
    fn server(self) -> Server {
        match self {
            Self::Stock => Server::builder(),
            Self::Tuned => session::transport(),
        }
    }

    async fn dial(self, target: &Target) -> Channel {
        if let Self::Tuned = self {
            return dial(target).await;
        }
        let config = client_config(target.server, Some(target.identity.clone())).unwrap();
        let address = target.address.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (address, config) = (address.clone(), Arc::clone(&config));
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("v2v").unwrap();
                let stream = TlsConnector::from(config).connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://v2v");
        endpoint.connect_with_connector(connector).await.unwrap()
    }
}

/// MiB/s of messages that nobody looks at.
fn raw(mib: usize, disk: &Arc<Vec<u8>>, transport: Transport) -> Speed {
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
            transport
                .server()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        let target = Target {
            address: address.to_string(),
            server: pki.fingerprint(),
            identity: pki.client("raw"),
        };
        let mut client = SessionClient::new(transport.dial(&target).await)
            .max_encoding_message_size(MAX_MESSAGE_LEN);
        let data = in_memory(disk);
        let (send, chunks) = mpsc::channel(4);
        let watch = Watch::start();
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
        watch.speed(received as u64)
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

/// Jobs at once, each with its agent: their disks are pulled into spools.
fn jobs(mib: usize, count: u64, disk: &Arc<Vec<u8>>) -> Speed {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let rig = Rig::new();
    let mut all = vec![];
    for job in 0..count {
        let mut agent = FakeAgent::new(vec![]);
        agent.disks = vec![Arc::clone(disk); mib / DISK_MIB];
        let options = RemoteOptions {
            spool: dir.path().join(job.to_string()),
            base: None,
            bandwidth: None,
            total_bandwidth: RateLimit::new(None),
            reserve_bytes: 0,
            patience: None,
            retry_bad: false,
        };
        let places: Vec<u32> = (0..agent.disks.len() as u32).collect();
        let machine = RemoteMachine::open(&agent.inventory(), &places, options).unwrap();
        let identity = rig.pki.client("agent");
        rig.agents.admit(&identity, job + 1, &machine);
        for source in machine.sources() {
            source.will_need(std::slice::from_ref(&(0..source.virtual_size())));
        }
        all.push((machine, identity, Arc::new(agent)));
    }
    let start = |(_, identity, agent): &(_, _, _)| rig.start(identity, agent);
    let _running: Vec<_> = all.iter().map(start).collect();
    let sum =
        |of: fn(&Progress) -> u64| -> u64 { all.iter().map(|(m, ..)| of(&m.progress())).sum() };
    while sum(|p| p.done_bytes) == 0 {
        std::thread::sleep(Duration::from_micros(200));
    }
    let (watch, before) = (Watch::start(), sum(|p| p.done_bytes));
    while sum(|p| p.done_bytes) < sum(|p| p.total_bytes) {
        std::thread::sleep(Duration::from_millis(2));
    }
    watch.speed(sum(|p| p.done_bytes) - before)
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
