//! An agent that is let in as any other and then lies. It speaks the protocol by `wire` alone, so that nothing of the
//! real agent stands in its way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use wire::chunk::{Compress, build};
use wire::enrol::EnrolRequest;
use wire::enrol::enrol_client::EnrolClient;
use wire::inventory::{Disk, DiskKind, Inventory};
use wire::join::JoinString;
use wire::session::session_client::SessionClient;
use wire::session::{
    AgentMessage, Alive, Chunk, ExtentsReply, Hello, JobStatus, LogLine, ProofReply, Range,
    ReadRequest, ServerMessage, Wish, agent_message, server_message,
};
use wire::tls::{Identity, client_config, connect};
use wire::{BLOCK_LEN, MAX_MESSAGE_LEN, P2V_PROTOCOL, SESSION_METADATA};

/// Size of the disk that it says to have.
pub const DISK_LEN: u64 = 8 << 20;
/// Messages under way to the server.
const QUEUE: usize = 16;
/// Far beyond the disk.
const BEYOND: u64 = 1 << 50;
/// Chunks of [`Lie::Unasked`].
const FLOOD: u64 = 1000;

/// What it lies about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// None: what it sends is true, though nothing that could be converted.
    Nothing,
    /// Less data than the chunk says.
    ShortData,
    /// More data than the chunk says.
    LongData,
    /// The chunk is for more than was asked.
    LongChunk,
    /// Hashes that are not those of the data.
    WrongHash,
    /// The chunk is for a place beyond the disk.
    PastTheEnd,
    /// Unreadable ranges outside of the chunk.
    BadRangePastTheEnd,
    /// A zstd frame that unpacks to a thousand times what was asked for.
    Bomb,
    /// Chunks that nobody asked for.
    Unasked,
    /// The same answer twice.
    Twice,
    /// Takes requests and never answers.
    Silent,
    /// A list of extents beyond the disk.
    ExtentsPastTheEnd,
    /// A message above the limit on a data stream.
    Oversized,
    /// A hello above the limit.
    OversizedHello,
    /// A hello with a disk of nearly 2^64 bytes and a wish for disks that are not there.
    AbsurdInventory,
    /// A first message that is no hello.
    NoHello,
    /// A data stream of a session that does not exist.
    ForeignSession,
    /// A log that does not end.
    LogFlood,
}

impl Lie {
    /// All but [`Lie::Nothing`].
    pub const ALL: [Self; 17] = [
        Self::ShortData,
        Self::LongData,
        Self::LongChunk,
        Self::WrongHash,
        Self::PastTheEnd,
        Self::BadRangePastTheEnd,
        Self::Bomb,
        Self::Unasked,
        Self::Twice,
        Self::Silent,
        Self::ExtentsPastTheEnd,
        Self::Oversized,
        Self::OversizedHello,
        Self::AbsurdInventory,
        Self::NoHello,
        Self::ForeignSession,
        Self::LogFlood,
    ];
}

/// How it ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The job that it was given.
    pub job: Option<u64>,
    /// The last status of the job that it was told.
    pub status: Option<JobStatus>,
    /// The gRPC error that ended one of its streams.
    pub refused: Option<Status>,
    /// Requests that it answered, or would have.
    pub requests: u64,
}

/// Joins, lies, and returns when the server ends it or after `patience`.
pub fn lie(join: &str, machine: u8, lie: Lie, patience: Duration) -> Result<Outcome> {
    runtime()?.block_on(async {
        let liar = Liar::enrol(join, machine, lie).await?;
        let mut outcome = Outcome::default();
        // Running out of patience is an end as any other.
        let _ = tokio::time::timeout(patience, liar.run(&mut outcome)).await;
        Ok(outcome)
    })
}

/// Trades a token as the machine of this number and goes away; the error is the server's.
pub fn enrol(join: &str, machine: u8) -> Result<()> {
    runtime()?
        .block_on(Liar::enrol(join, machine, Lie::Nothing))
        .map(drop)
}

/// Sends an enrolment whose label is longer than any message may be.
pub fn oversized_enrolment(join: &str) -> Result<Status> {
    runtime()?.block_on(async {
        let join: JoinString = join.parse()?;
        let channel = dial(&join, None).await?;
        let mut client = EnrolClient::new(channel).max_encoding_message_size(usize::MAX);
        let request = EnrolRequest {
            protocol: P2V_PROTOCOL,
            secret: join.secret.0.to_vec(),
            label: "x".repeat(4 * MAX_MESSAGE_LEN),
            ..EnrolRequest::default()
        };
        match client.enrol(request).await {
            Ok(_) => anyhow::bail!("the server took an enrolment of 4 MiB"),
            Err(status) => Ok(status),
        }
    })
}

/// Opens a session without a client certificate; returns how it was refused.
pub fn session_without_certificate(join: &str) -> Result<Status> {
    runtime()?.block_on(async {
        let join: JoinString = join.parse()?;
        let mut client = SessionClient::new(dial(&join, None).await?);
        let (sender, receiver) = mpsc::channel(1);
        sender.send(hello(Lie::Nothing, 1)).await?;
        match client.control(ReceiverStream::new(receiver)).await {
            Err(status) => Ok(status),
            Ok(answer) => match answer.into_inner().message().await {
                Err(status) => Ok(status),
                Ok(message) => anyhow::bail!("a stranger was answered: {message:?}"),
            },
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting tokio")
}

async fn dial(join: &JoinString, identity: Option<Identity>) -> Result<Channel> {
    let address = join
        .servers
        .first()
        .context("the join string names no server")?;
    let config = client_config(join.fingerprint, identity)?;
    connect(address, config)
        .await
        .with_context(|| format!("connecting {address}"))
}

struct Liar {
    join: JoinString,
    identity: Identity,
    machine: u8,
    lie: Lie,
    disk: Vec<u8>,
}

impl Liar {
    async fn enrol(join: &str, machine: u8, lie: Lie) -> Result<Self> {
        let join: JoinString = join.parse()?;
        let key = KeyPair::generate().context("making a key")?;
        let request = EnrolRequest {
            protocol: P2V_PROTOCOL,
            secret: join.secret.0.to_vec(),
            public_key: key.public_key_raw().to_vec(),
            machine_id: vec![machine; 32],
            label: format!("liar {machine}"),
        };
        let reply = EnrolClient::new(dial(&join, None).await?)
            .enrol(request)
            .await
            .context("enrolling")?
            .into_inner();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Self {
            join,
            identity: Identity {
                certificate: CertificateDer::from(reply.certificate),
                key,
            },
            machine,
            lie,
            disk: content(),
        })
    }

    async fn run(&self, outcome: &mut Outcome) {
        if let Err(error) = self.session(outcome).await {
            let status = error.downcast::<Status>();
            outcome.refused =
                Some(status.unwrap_or_else(|error| Status::unknown(format!("{error:#}"))));
        }
    }

    async fn session(&self, outcome: &mut Outcome) -> Result<()> {
        let channel = dial(&self.join, Some(self.identity.clone())).await?;
        let mut client = SessionClient::new(channel).max_encoding_message_size(usize::MAX);
        let (sender, receiver) = mpsc::channel(QUEUE);
        if self.lie == Lie::NoHello {
            sender
                .send(message(agent_message::Message::Alive(Alive {})))
                .await?;
        } else {
            sender.send(hello(self.lie, self.machine)).await?;
        }
        let control = client.control(ReceiverStream::new(receiver)).await?;
        let mut control = control.into_inner();
        let (counted, mut counts) = mpsc::unbounded_channel::<Result<(), Status>>();
        loop {
            tokio::select! {
                from_server = control.message() => match from_server? {
                    Some(message) => self.on_control(message, outcome, &sender, &counted).await?,
                    None => return Ok(()),
                },
                Some(count) = counts.recv() => {
                    count?;
                    outcome.requests += 1;
                }
            }
        }
    }

    async fn on_control(
        &self,
        from_server: ServerMessage,
        outcome: &mut Outcome,
        sender: &mpsc::Sender<AgentMessage>,
        counted: &mpsc::UnboundedSender<Result<(), Status>>,
    ) -> Result<()> {
        match from_server.message {
            Some(server_message::Message::Welcome(welcome)) => {
                outcome.job = Some(welcome.job);
                if self.lie == Lie::LogFlood {
                    let sender = sender.clone();
                    tokio::spawn(async move { flood_log(&sender).await });
                }
                for _ in 0..welcome.data_streams.clamp(1, 8) {
                    self.data_stream(counted.clone()).await?;
                }
            }
            Some(server_message::Message::Extents(asked)) => {
                let (offset, len) = match self.lie {
                    Lie::ExtentsPastTheEnd => (BEYOND, u64::MAX - 5),
                    _ => (asked.offset, asked.len),
                };
                let reply = ExtentsReply {
                    id: asked.id,
                    data: vec![Range { offset, len }],
                    error: String::new(),
                };
                sender
                    .send(message(agent_message::Message::Extents(reply)))
                    .await?;
            }
            Some(server_message::Message::Proof(asked)) => {
                let reply = ProofReply {
                    id: asked.id,
                    root: vec![0; 32],
                    error: String::new(),
                };
                sender
                    .send(message(agent_message::Message::Proof(reply)))
                    .await?;
            }
            Some(server_message::Message::Status(status)) => outcome.status = Some(status),
            Some(server_message::Message::Alive(_)) => {
                sender
                    .send(message(agent_message::Message::Alive(Alive {})))
                    .await?;
            }
            None => {}
        }
        Ok(())
    }

    /// One data stream on a connection of its own; it answers in the background.
    async fn data_stream(&self, counted: mpsc::UnboundedSender<Result<(), Status>>) -> Result<()> {
        let channel = dial(&self.join, Some(self.identity.clone())).await?;
        let mut client = SessionClient::new(channel).max_encoding_message_size(usize::MAX);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut request = Request::new(ReceiverStream::new(receiver));
        let id = match self.lie {
            Lie::ForeignSession => "00".repeat(16),
            _ => format!("{:02x}", self.machine).repeat(16),
        };
        request
            .metadata_mut()
            .insert(SESSION_METADATA, MetadataValue::try_from(id)?);
        let mut asked = client.data(request).await?.into_inner();
        let (lie, disk) = (self.lie, self.disk.clone());
        tokio::spawn(async move {
            if lie == Lie::Unasked {
                for id in 0..FLOOD {
                    let chunk = Chunk {
                        id: id + 77_000,
                        len: BLOCK_LEN,
                        zero_blocks: 1,
                        ..Chunk::default()
                    };
                    if sender.send(chunk).await.is_err() {
                        break;
                    }
                }
            }
            while let Some(request) = asked.next().await {
                let end = match request {
                    Ok(request) => answer(lie, &disk, &request, &sender)
                        .await
                        .map_err(|()| None),
                    Err(status) => Err(Some(status)),
                };
                // The control stream may have ended before.
                match end {
                    Ok(()) => _ = counted.send(Ok(())),
                    Err(Some(status)) => _ = counted.send(Err(status)),
                    Err(None) => {}
                }
            }
        });
        Ok(())
    }
}

async fn answer(
    lie: Lie,
    disk: &[u8],
    request: &ReadRequest,
    sender: &mpsc::Sender<Chunk>,
) -> Result<(), ()> {
    let begin = usize::try_from(request.offset).unwrap_or(usize::MAX);
    let end = begin.saturating_add(request.len as usize).min(disk.len());
    let plain = bytes::Bytes::copy_from_slice(disk.get(begin..end).unwrap_or_default());
    let mut chunk = build(request, &plain, Vec::new(), Compress::Never).chunk;
    match lie {
        Lie::ShortData => chunk.data.truncate(chunk.data.len() / 2),
        Lie::LongData => chunk.data = [&chunk.data[..], &[1; 512]].concat().into(),
        Lie::LongChunk => chunk.len = chunk.len.saturating_add(BLOCK_LEN),
        Lie::WrongHash => chunk.hashes.iter_mut().take(1).for_each(|byte| *byte ^= 1),
        Lie::PastTheEnd => chunk.offset = BEYOND,
        Lie::BadRangePastTheEnd => {
            chunk.bad = vec![Range {
                offset: BEYOND,
                len: u64::MAX,
            }]
        }
        Lie::Bomb => {
            chunk.encoding = wire::session::Encoding::Zstd.into();
            chunk.data = bomb();
        }
        Lie::Oversized => chunk.data = vec![1; 8 * MAX_MESSAGE_LEN].into(),
        Lie::Silent => return Ok(()),
        Lie::Twice => sender.send(chunk.clone()).await.map_err(drop)?,
        _ => {}
    }
    sender.send(chunk).await.map_err(drop)
}

/// A zstd frame of zeroes: one RLE block of 128 KiB is four bytes (RFC 8878, section 3.1.1.2), so 2 GiB are 64 KiB.
fn bomb() -> Bytes {
    const BLOCKS: u32 = 16 << 10;
    const BLOCK: u32 = 128 << 10;
    const RLE: u32 = 1;
    // Magic; a descriptor without content size, checksum and dictionary; a window of 8 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3];
    for number in 1..=BLOCKS {
        let header = BLOCK << 3 | RLE << 1 | u32::from(number == BLOCKS);
        frame.extend(header.to_le_bytes().iter().take(3));
        frame.push(0);
    }
    frame.into()
}

async fn flood_log(sender: &mpsc::Sender<AgentMessage>) {
    for uptime_ms in 0..1_000_000 {
        let line = LogLine {
            uptime_ms,
            text: "nothing of use\n\x1b[2J".repeat(500),
        };
        if sender
            .send(message(agent_message::Message::Log(line)))
            .await
            .is_err()
        {
            return;
        }
    }
}

fn message(message: agent_message::Message) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}

fn hello(lie: Lie, machine: u8) -> AgentMessage {
    let absurd = lie == Lie::AbsurdInventory;
    let disk = Disk {
        name: if absurd {
            "../../etc/passwd\n\x1b[2J".to_owned()
        } else {
            "sda".to_owned()
        },
        kind: DiskKind::Plain.into(),
        virtual_size: if absurd { u64::MAX - 511 } else { DISK_LEN },
        logical_sector_size: if absurd { 3 } else { 512 },
        physical_sector_size: 512,
        model: "LIAR".to_owned(),
        serial: format!("L{machine}"),
        extents_known: lie == Lie::ExtentsPastTheEnd,
        ..Disk::default()
    };
    let inventory = Inventory {
        machine_id: vec![machine; 32],
        memory_bytes: if absurd { u64::MAX } else { 1 << 30 },
        disks: vec![disk],
        agent_version: match lie {
            Lie::OversizedHello => "x".repeat(4 * MAX_MESSAGE_LEN),
            _ => "liar".to_owned(),
        },
        ..Inventory::default()
    };
    let wish = Wish {
        name: if absurd {
            "../../../tmp/x".to_owned()
        } else {
            format!("liar-{machine}")
        },
        disks: if absurd {
            vec![0, 7, u32::MAX, 0]
        } else {
            vec![0]
        },
        ..Wish::default()
    };
    let hello = Hello {
        protocol: P2V_PROTOCOL,
        session: vec![machine; 16],
        inventory: Some(inventory),
        wish: Some(wish),
    };
    message(agent_message::Message::Hello(hello))
}

/// No block is zero, none is as another.
fn content() -> Vec<u8> {
    let words = DISK_LEN / 8;
    (0..words)
        .flat_map(|place| crate::net::random(3, place).to_le_bytes())
        .collect()
}

/// Speaks plain text to a TLS port: an HTTP/1 request, HTTP/2's preface and noise. Returns what came back.
pub fn plain_text(address: SocketAddr) -> Result<Vec<u8>> {
    use std::io::{Read, Write};
    let mut back = Vec::new();
    for hello in [
        &b"GET / HTTP/1.1\r\nHost: v2v\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 4096],
    ] {
        let mut stream = std::net::TcpStream::connect(address).context("connecting")?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .context("setting a time limit")?;
        // It may be closed while we write.
        let _ = stream.write_all(hello);
        let mut block = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut block) {
            back.extend_from_slice(block.get(..read).unwrap_or_default());
        }
    }
    Ok(back)
}

impl Outcome {
    /// How it was refused, for people.
    pub fn refusal(&self) -> Option<String> {
        let refused = self.refused.as_ref()?;
        Some(format!("{:?}: {}", refused.code(), refused.message()))
    }
}

/// The status that an agent's error carries, if it is one of gRPC's.
pub fn code(error: &anyhow::Error) -> Option<Code> {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Status>())
        .map(Status::code)
}

#[cfg(test)]
mod tests;
