//! One connection's life: the control stream, and the data streams beside it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use wire::session::agent_message::Message as Ours;
use wire::session::server_message::Message as Theirs;
use wire::session::session_client::SessionClient;
use wire::session::{AgentMessage, Alive, Hello, ServerMessage, Welcome};
use wire::tls::Identity;
use wire::{KEEPALIVE_SECONDS, MAX_MESSAGE_LEN};

use super::{Controls, Event, SessionOptions, data};
use crate::config::Target;
use crate::disks::Pool;

/// From the call to `Welcome`: the server may look at its spool first.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages that wait for the connection.
const QUEUE: usize = 64;
/// More data streams than any server has a use for.
const MAX_DATA_STREAMS: u32 = 16;

/// What the streams of one connection share.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) address: String,
    pub(super) target: Target,
    pub(super) identity: Identity,
    pub(super) session: [u8; 16],
    pub(super) first_pause: Duration,
}

impl Link {
    /// Lives until the connection breaks (the error), or those who own the session went away.
    pub(super) async fn run(
        self,
        channel: Channel,
        options: &SessionOptions,
        pool: &Arc<Pool>,
        controls: &mut Controls,
        welcomed: &mut bool,
    ) -> Result<(), Status> {
        let (out, queue) = mpsc::channel(QUEUE);
        let hello = Hello {
            protocol: wire::P2V_PROTOCOL,
            session: self.session.to_vec(),
            inventory: Some((*options.inventory).clone()),
            wish: Some(options.wish.clone()),
        };
        let gone = |_| Status::unavailable("the connection ended");
        out.send(message(Ours::Hello(hello))).await.map_err(gone)?;
        let mut client = SessionClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_LEN)
            .max_encoding_message_size(usize::MAX);
        let greeting = async {
            let mut stream = client
                .control(ReceiverStream::new(queue))
                .await?
                .into_inner();
            let welcome = welcome(&mut stream).await?;
            Ok::<_, Status>((stream, welcome))
        };
        let (stream, welcome) = match timeout(WELCOME_TIMEOUT, greeting).await {
            Ok(greeted) => greeted?,
            Err(_) => {
                return Err(Status::new(
                    Code::DeadlineExceeded,
                    "no answer to the greeting",
                ));
            }
        };
        *welcomed = true;
        let _ = controls.events.send(Event::Up(self.address.clone()));
        let _ = controls.events.send(Event::Job {
            job: welcome.job,
            resumed: welcome.resumed,
        });
        // Dropped, and thereby ended, with this function.
        let mut data = JoinSet::new();
        let link = Arc::new(self);
        for _ in 0..welcome.data_streams.clamp(1, MAX_DATA_STREAMS) {
            data.spawn(data::run(Arc::clone(&link), Arc::clone(pool)));
        }
        talk(stream, &out, pool, controls).await
    }
}

fn message(message: Ours) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}

async fn welcome(stream: &mut Streaming<ServerMessage>) -> Result<Welcome, Status> {
    loop {
        match stream.message().await? {
            Some(ServerMessage {
                message: Some(Theirs::Welcome(welcome)),
            }) => return Ok(welcome),
            Some(_) => {}
            None => return Err(Status::unavailable("the server ended the connection")),
        }
    }
}

async fn talk(
    mut stream: Streaming<ServerMessage>,
    out: &mpsc::Sender<AgentMessage>,
    pool: &Pool,
    controls: &mut Controls,
) -> Result<(), Status> {
    let silence = Duration::from_secs(3 * KEEPALIVE_SECONDS);
    let mut alive = interval(Duration::from_secs(KEEPALIVE_SECONDS));
    let mut deadline = Instant::now() + silence;
    let (proofs, mut proved) = mpsc::unbounded_channel();
    let (extents, mut found) = mpsc::unbounded_channel();
    loop {
        let next = tokio::select! {
            received = stream.message() => {
                deadline = Instant::now() + silence;
                match received? {
                    Some(ServerMessage { message: Some(Theirs::Proof(request)) }) => {
                        pool.prove(request, &proofs);
                    }
                    Some(ServerMessage { message: Some(Theirs::Extents(request)) }) => {
                        pool.extents(request, &extents);
                    }
                    Some(ServerMessage { message: Some(Theirs::Status(status)) }) => {
                        let _ = controls.events.send(Event::Status(status));
                    }
                    Some(_) => {}
                    None => return Err(Status::unavailable("the server ended the connection")),
                }
                continue;
            }
            () = sleep_until(deadline) => {
                return Err(Status::unavailable(format!(
                    "nothing was heard for {} s", silence.as_secs()
                )));
            }
            _ = alive.tick() => Ours::Alive(Alive {}),
            Some(reply) = proved.recv() => Ours::Proof(reply),
            Some(reply) = found.recv() => Ours::Extents(reply),
            action = controls.actions.recv() => match action {
                Some(action) => Ours::Action(action.into()),
                None => return Ok(()),
            },
            Some(line) = controls.lines.recv() => Ours::Log(line),
        };
        // While the line is stuck nothing else is taken up; the deadline ends it.
        let sent = tokio::time::timeout_at(deadline, out.send(message(next))).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(Status::unavailable("the server takes no messages any more"));
        }
    }
}
