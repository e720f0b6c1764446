//! The control stream: hello, then what both sides have to tell each other until it ends.

use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tonic::{Status, Streaming};
use wire::session::{
    AgentMessage, Alive, Hello, JobStatus, LogLine, ServerMessage, UserAction, Welcome,
    agent_message, server_message,
};
use wire::{KEEPALIVE_SECONDS, P2V_PROTOCOL};

use super::super::link::Link;
use super::super::{Admitted, RemoteMachine, SESSION_LEN, message_len, one_line};
use super::{Caller, Connected, Shared};
use crate::JobId;

/// An agent that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(3 * KEEPALIVE_SECONDS);
/// Connections for data: two fill two processors, and one that stalls does not stall all.
const DATA_STREAMS: u32 = 2;
/// Time between two status messages.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Lines of an agent's log that are kept of one second; a flood of them is cut.
const LINES_A_SECOND: u32 = 50;

type Queue = mpsc::Sender<Result<ServerMessage, Status>>;

pub(super) async fn run(
    shared: Arc<Shared>,
    caller: Caller,
    mut messages: Streaming<AgentMessage>,
    queue: Queue,
) {
    let status = match hello(&mut messages).await {
        Err(status) => status,
        Ok(hello) => match admit(&shared, caller, hello, &queue).await {
            Err(status) => status,
            Ok(session) => {
                let status = session.serve(&mut messages, &queue).await;
                session.leave().await;
                status
            }
        },
    };
    // The agent may be gone, or read nothing: it is told if it listens.
    let _ = timeout(Duration::from_secs(1), queue.send(Err(status))).await;
}

/// The first message.
async fn hello(messages: &mut Streaming<AgentMessage>) -> Result<Hello, Status> {
    let first = timeout(SILENCE, messages.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello came"))??;
    match first.and_then(|message| message.message) {
        Some(agent_message::Message::Hello(hello)) if hello.protocol == P2V_PROTOCOL => Ok(hello),
        Some(agent_message::Message::Hello(hello)) => Err(Status::failed_precondition(format!(
            "expected protocol {P2V_PROTOCOL}, found {}; use the ISO that came with this server",
            hello.protocol
        ))),
        _ => Err(Status::invalid_argument("expected a hello first")),
    }
}

/// An admitted agent.
struct Guest {
    shared: Arc<Shared>,
    job: JobId,
    session: [u8; SESSION_LEN],
    machine: Arc<RemoteMachine>,
    link: Arc<Link>,
    status: watch::Receiver<JobStatus>,
}

/// Asks the jobs, and attaches the agent to its machine. The jobs may read a spool's map meanwhile.
async fn admit(
    shared: &Arc<Shared>,
    caller: Caller,
    hello: Hello,
    queue: &Queue,
) -> Result<Guest, Status> {
    let session = <[u8; SESSION_LEN]>::try_from(&hello.session[..]).map_err(|_| {
        Status::invalid_argument(format!(
            "expected a session of {SESSION_LEN} bytes, found {}",
            hello.session.len()
        ))
    })?;
    let (shared, queue) = (Arc::clone(shared), queue.clone());
    let work = move || shared.admit(&caller, session, &hello, queue);
    spawn_blocking(work)
        .await
        .map_err(|_| Status::internal("the server failed; see its log"))?
}

impl Shared {
    fn admit(
        self: Arc<Self>,
        caller: &Caller,
        session: [u8; SESSION_LEN],
        hello: &Hello,
        queue: Queue,
    ) -> Result<Guest, Status> {
        let alone = self
            .admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let others = self
            .sessions()
            .get(&session)
            .is_some_and(|held| held.certificate != caller.certificate);
        if others {
            return Err(Status::already_exists("another agent has this session"));
        }
        let Admitted {
            job,
            machine,
            resumed,
            status,
        } = self.agents.hello(&caller.agent, caller.from, hello)?;
        let nothing = wire::inventory::Inventory::default();
        let inventory = hello.inventory.as_ref().unwrap_or(&nothing);
        let welcome = server_message::Message::Welcome(Welcome {
            job: job.0,
            data_streams: DATA_STREAMS,
            resumed,
        });
        let welcome = ServerMessage {
            message: Some(welcome),
        };
        machine.count_wire(message_len(hello) + message_len(&welcome));
        let link = match machine.attach(session, inventory, queue, welcome) {
            Ok(link) => link,
            Err(status) => {
                if !machine.is_connected() {
                    self.agents.gone(job);
                }
                return Err(status);
            }
        };
        let connected = Connected {
            certificate: caller.certificate.clone(),
            machine: Arc::clone(&machine),
            link: Arc::clone(&link),
        };
        self.sessions().insert(session, connected);
        drop(alone);
        Ok(Guest {
            shared: Arc::clone(&self),
            job,
            session,
            machine,
            link,
            status,
        })
    }
}

impl Guest {
    /// Both directions until the stream ends; with what it is to end.
    async fn serve(&self, messages: &mut Streaming<AgentMessage>, queue: &Queue) -> Status {
        let mut ended = pin!(self.link.ended());
        let mut shown: Option<JobStatus> = None;
        let mut alive = interval(Duration::from_secs(KEEPALIVE_SECONDS));
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut statuses = interval(STATUS_EVERY);
        statuses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut log = LogGate::default();
        let mut silence = pin!(tokio::time::sleep(SILENCE));
        loop {
            tokio::select! {
                message = messages.message() => match message {
                    Ok(Some(message)) => {
                        silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
                        self.machine.count_wire(message_len(&message));
                        if let Some(message) = message.message
                            && let Err(status) = self.take(message, &mut log)
                        {
                            return status;
                        }
                    }
                    Ok(None) => return Status::ok("bye"),
                    Err(status) => return status,
                },
                () = &mut silence => {
                    return Status::deadline_exceeded("no sign of life came from the agent");
                }
                status = &mut ended => return status,
                _ = alive.tick() => self.send(server_message::Message::Alive(Alive {})),
                _ = statuses.tick() => {
                    // Compared, not awaited: the last one counts even when the jobs have dropped their end.
                    let now = self.status.borrow().clone();
                    if shown.as_ref() != Some(&now) && queue.capacity() > 0 {
                        self.send(server_message::Message::Status(now.clone()));
                        shown = Some(now);
                    }
                }
                () = self.held_back() => {}
                () = queue.closed() => return Status::ok("bye"),
            }
        }
    }

    /// Asks for more when the rate limits allow it again.
    async fn held_back(&self) {
        let changed = self.machine.held_back.notified();
        match self.machine.resumes_at() {
            Some(at) => tokio::select! {
                () = sleep_until(at.into()) => self.machine.pump(&mut self.machine.state()),
                () = changed => {}
            },
            None => changed.await,
        }
    }

    fn send(&self, message: server_message::Message) {
        if let Some(len) = self.link.send(message) {
            self.machine.count_wire(len);
        }
    }

    fn take(&self, message: agent_message::Message, log: &mut LogGate) -> Result<(), Status> {
        let agents = &self.shared.agents;
        match message {
            agent_message::Message::Hello(_) => {
                return Err(Status::invalid_argument("expected one hello only"));
            }
            agent_message::Message::Extents(reply) => self.machine.extents_answered(&reply),
            agent_message::Message::Proof(reply) => self.machine.proof_answered(reply),
            agent_message::Message::Log(line) => {
                if log.admits() {
                    let text = one_line(&line.text);
                    agents.log(self.job, &LogLine { text, ..line });
                }
            }
            agent_message::Message::Action(action) => match UserAction::try_from(action) {
                Ok(UserAction::Unspecified) | Err(_) => {}
                Ok(action) => agents.user_action(self.job, action),
            },
            agent_message::Message::Alive(_) => {}
        }
        Ok(())
    }

    /// Tells the jobs, unless a newer connection has taken over.
    async fn leave(self) {
        // The jobs may be busy with another agent's hello.
        let work = move || {
            let alone = &self.shared.admission;
            let _alone = alone.lock().unwrap_or_else(PoisonError::into_inner);
            if self.machine.detach(&self.link) {
                self.shared.agents.gone(self.job);
            }
        };
        let _ = spawn_blocking(work).await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.machine.detach(&self.link);
        let mut sessions = self.shared.sessions();
        if sessions
            .get(&self.session)
            .is_some_and(|held| Arc::ptr_eq(&held.link, &self.link))
        {
            sessions.remove(&self.session);
        }
    }
}

/// Cuts floods of log lines.
#[derive(Default)]
struct LogGate {
    second: Option<Instant>,
    lines: u32,
}

impl LogGate {
    fn admits(&mut self) -> bool {
        let now = Instant::now();
        let fresh = self
            .second
            .is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1));
        if fresh {
            (self.second, self.lines) = (Some(now), 0);
        }
        self.lines += 1;
        if self.lines == LINES_A_SECOND + 1 {
            tracing::warn!("an agent logs too much; lines are left out");
        }
        self.lines <= LINES_A_SECOND
    }
}
