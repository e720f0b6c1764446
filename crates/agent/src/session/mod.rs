//! The agent's side of enrolment and of the session: one job at one server, through every broken connection.
//!
//! ```text
//! Joining ──enrolled──> Connecting ──Welcome──> Up ──broken──> Connecting (0.5 s … 15 s, for ever)
//!    ^                      │ certificate refused, once                │
//!    └──────────────────────┘                                          └─ told to stop, or refused for good: the end
//! ```
//!
//! No clock on the wall is read: that of a machine under conversion may be years off.

mod backoff;
mod control;
mod data;
mod dial;
mod enrol;
mod random;
#[cfg(test)]
mod tests;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::Code;
use wire::inventory::Inventory;
use wire::session::{JobStatus, UserAction, Wish};
use wire::tls::Identity;

use crate::config::Target;
use crate::disks::Pool;
use backoff::Backoff;

pub(crate) use backoff::FIRST as FIRST_PAUSE;
pub use dial::{Answer, test_connection};
pub use wish::{label, wish};

/// What a session needs.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Who is dialled.
    pub target: Target,
    /// Name of the machine, for people.
    pub label: String,
    /// What was found.
    pub inventory: Arc<Inventory>,
    /// What is asked for.
    pub wish: Wish,
    /// First pause between two attempts; half a second, less in tests.
    pub first_pause: Duration,
}

/// What happens to a session, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It is being dialled; why the last attempt failed.
    Connecting(Option<String>),
    /// It stands, to this address.
    Up(String),
    /// The server has a job for it.
    Job {
        /// Its number.
        job: u64,
        /// It goes on with what an earlier connection had sent.
        resumed: bool,
    },
    /// How the job is.
    Status(JobStatus),
}

/// The other side's wishes.
#[derive(Debug)]
pub struct Controls {
    /// Once it is true the session ends.
    pub stop: watch::Receiver<bool>,
    /// What somebody at the machine wants; sent when the connection stands.
    pub actions: mpsc::Receiver<UserAction>,
    /// Lines for the job's log; sent when the connection stands. Bounded: what does not fit is not sent.
    pub lines: mpsc::Receiver<wire::session::LogLine>,
    /// What happens.
    pub events: mpsc::UnboundedSender<Event>,
}

/// Why a session ended before it was told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The server will not have it, now and later.
    #[error("{address} refuses this machine: {message}")]
    Refused {
        /// Who refused.
        address: String,
        /// In the server's words.
        message: String,
    },
    /// Another certificate than that of the join string, at every address.
    #[error("{0}")]
    WrongServer(String),
    /// Something of our own.
    #[error("{0}")]
    Internal(String),
}

/// How one attempt ended.
enum Attempt {
    /// Try again; what went wrong.
    Again(String),
    /// The certificate is not taken.
    NotKnown(String),
    /// For good.
    End(SessionError),
    /// As it was told.
    Stopped,
}

/// Keeps the session until it is told to stop or the server refuses it for good.
pub async fn run(
    options: SessionOptions,
    pool: Arc<Pool>,
    controls: Controls,
) -> Result<(), SessionError> {
    let mut stop = controls.stop.clone();
    let session = Runner {
        options,
        pool,
        controls,
        session: random::bytes()?,
        identity: None,
        welcomed: false,
        enrolled_again: false,
    };
    // Whatever is under way is dropped, and with it its connections.
    tokio::select! {
        result = session.run() => result,
        _ = stop.wait_for(|&stop| stop) => Ok(()),
    }
}

struct Runner {
    options: SessionOptions,
    pool: Arc<Pool>,
    controls: Controls,
    session: [u8; 16],
    identity: Option<Identity>,
    /// The server took us at least once.
    welcomed: bool,
    /// Since the last welcome.
    enrolled_again: bool,
}

impl Runner {
    async fn run(mut self) -> Result<(), SessionError> {
        let mut backoff = Backoff::new(self.options.first_pause);
        let mut last = None;
        loop {
            self.event(Event::Connecting(last.take()));
            let attempt = match self.identity.clone() {
                None => self.enrol().await,
                Some(identity) => self.connection(identity, &mut backoff).await,
            };
            match attempt {
                None => continue,
                Some(Attempt::Again(why)) => {
                    tracing::debug!("{why}");
                    self.event(Event::Connecting(Some(why.clone())));
                    last = Some(why);
                }
                Some(Attempt::NotKnown(message)) if self.enrolled_again => {
                    let address = self.options.target.addresses.join(", ");
                    return Err(SessionError::Refused { address, message });
                }
                Some(Attempt::NotKnown(why)) => {
                    self.enrolled_again = true;
                    self.identity = None;
                    last = Some(why);
                }
                Some(Attempt::End(error)) => return Err(error),
                Some(Attempt::Stopped) => return Ok(()),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn event(&self, event: Event) {
        let _ = self.controls.events.send(event);
    }

    /// `None`: it has an identity now.
    async fn enrol(&mut self) -> Option<Attempt> {
        let target = &self.options.target;
        let connected = dial::any(target, None).await;
        let (address, channel) = match connected {
            Ok(connected) => connected,
            Err(error) => return Some(self.dial_failed(error)),
        };
        match enrol::enrol(channel, &self.options).await {
            Ok(identity) => {
                self.identity = Some(identity);
                None
            }
            Err(status) => {
                let message = status.message().to_owned();
                let code = status.code();
                Some(if refuses_for_good(code) || is_unknown(code) {
                    Attempt::End(SessionError::Refused { address, message })
                } else {
                    Attempt::Again(format!("{address}: {}", describe(&status)))
                })
            }
        }
    }

    async fn connection(&mut self, identity: Identity, backoff: &mut Backoff) -> Option<Attempt> {
        let target = &self.options.target;
        let (address, channel) = match dial::any(target, Some(identity.clone())).await {
            Ok(connected) => connected,
            Err(error) => return Some(self.dial_failed(error)),
        };
        let link = control::Link {
            address: address.clone(),
            target: target.clone(),
            identity,
            session: self.session,
            first_pause: self.options.first_pause,
        };
        let mut welcomed = false;
        let ended = link
            .run(
                channel,
                &self.options,
                &self.pool,
                &mut self.controls,
                &mut welcomed,
            )
            .await;
        if welcomed {
            self.welcomed = true;
            self.enrolled_again = false;
            backoff.reset();
        }
        let Err(status) = ended else {
            return Some(Attempt::Stopped);
        };
        let text = format!("{address}: {}", describe(&status));
        Some(if is_unknown(status.code()) {
            Attempt::NotKnown(status.message().to_owned())
        } else if refuses_for_good(status.code()) {
            let message = status.message().to_owned();
            Attempt::End(SessionError::Refused { address, message })
        } else {
            Attempt::Again(text)
        })
    }

    /// Before the server took us once, a wrong certificate everywhere is a wrong join string. Later it is somebody in
    /// between, who may go away.
    fn dial_failed(&self, error: dial::DialError) -> Attempt {
        if error.wrong_server && !self.welcomed && self.identity.is_none() {
            Attempt::End(SessionError::WrongServer(error.message))
        } else {
            Attempt::Again(error.message)
        }
    }
}

/// The request will be as wrong the next time. (An unknown service is another program, an unimplemented one another
/// version.)
fn refuses_for_good(code: Code) -> bool {
    matches!(
        code,
        Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented
    )
}

/// The certificate or the secret is not taken.
fn is_unknown(code: Code) -> bool {
    matches!(code, Code::Unauthenticated | Code::PermissionDenied)
}

/// A status in one line.
fn describe(status: &tonic::Status) -> String {
    let cause = dial::innermost(status);
    match (status.message(), cause) {
        ("", None) => status.code().to_string(),
        ("", Some(cause)) => cause,
        (message, Some(cause)) if !message.contains(&cause) => format!("{message}: {cause}"),
        (message, _) => message.to_owned(),
    }
}
