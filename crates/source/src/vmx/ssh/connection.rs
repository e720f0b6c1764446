//! One SFTP session over a child process, with as many requests in flight as its users like.
//!
//! ```text
//! readers ──requests──> stdin of ssh ~~~> sftp-server
//!    ^                                        │
//!    └── a channel each <── one thread <──────┘ stdout of ssh
//! ```
//! Replies come in any order; the id in each says whose it is.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use image::{Error, ErrorKind, Result};

use super::packet::{Reply, Request, kind};

/// The version that OpenSSH speaks, and so ESXi.
const VERSION: u32 = 3;

/// Who waits for which reply; `None` once the session is over.
type Waiting = Mutex<Option<HashMap<u32, Sender<(u32, Reply)>>>>;

/// A session.
#[derive(Debug)]
pub(super) struct Connection {
    stdin: Mutex<Option<ChildStdin>>,
    waiting: Arc<Waiting>,
    /// Why the session ended.
    end: Arc<Mutex<Option<String>>>,
    next_id: AtomicU32,
    child: Mutex<Child>,
    thread: Option<JoinHandle<()>>,
}

impl Connection {
    /// Starts the command and greets the server behind it.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Error::io(format!("starting {program}"), e))?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::unsupported("ssh was started without pipes"));
        };
        let mut stdout = BufReader::with_capacity(1 << 16, stdout);
        if let Err(error) = greet(&mut stdin, &mut stdout) {
            drop(stdin);
            let _ = child.kill();
            let ended = child.wait().ok().and_then(|status| status.code());
            return Err(match ended {
                // What ssh itself has to say it said on stderr, right above our line.
                Some(255) => Error::new(ErrorKind::Io, format!("{program} could not connect")),
                _ => error,
            });
        }
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let end = Arc::new(Mutex::new(None));
        let thread = std::thread::Builder::new()
            .name("sftp".to_owned())
            .spawn({
                let (waiting, end) = (Arc::clone(&waiting), Arc::clone(&end));
                move || dispatch(&mut stdout, &waiting, &end)
            })
            .map_err(|e| Error::io("starting a thread", e))?;
        Ok(Self {
            stdin: Mutex::new(Some(stdin)),
            waiting,
            end,
            next_id: AtomicU32::new(1),
            child: Mutex::new(child),
            thread: Some(thread),
        })
    }

    /// A place for replies.
    pub(super) fn requests(&self) -> Requests<'_> {
        let (sender, receiver) = mpsc::channel();
        Requests {
            connection: self,
            sender,
            receiver,
        }
    }

    /// Sends one request and waits for its reply.
    pub(super) fn ask(&self, kind: u8, fields: impl FnOnce(Request) -> Request) -> Result<Reply> {
        let mut requests = self.requests();
        requests.send(kind, fields)?;
        requests.receive().map(|(_, reply)| reply)
    }

    fn over(&self) -> Error {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let why = end.as_deref().unwrap_or("no reason is known");
        Error::new(ErrorKind::Io, format!("the ssh connection ended: {why}"))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without its input ssh has no reason to live; it is ended all the same, as a hung network would keep it.
        self.stdin
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// INIT and VERSION (draft-ietf-secsh-filexfer-02, 4); the version stands where other requests have their id.
fn greet(stdin: &mut ChildStdin, stdout: &mut BufReader<ChildStdout>) -> Result<()> {
    stdin
        .write_all(&Request::new(kind::INIT, VERSION).finish())
        .map_err(|e| Error::io("writing to ssh", e))?;
    let mut reply = Reply::read(stdout)?;
    let version = (reply.kind == kind::VERSION)
        .then(|| reply.number())
        .transpose()?;
    if version.is_none_or(|version| version < VERSION) {
        return Err(Error::unsupported(format!(
            "expected an SFTP server of version {VERSION}, found {}",
            version.map_or("no greeting".to_owned(), |v| format!("version {v}"))
        )));
    }
    Ok(())
}

/// Hands out replies until the session ends.
fn dispatch(stdout: &mut BufReader<ChildStdout>, waiting: &Waiting, end: &Mutex<Option<String>>) {
    let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let why = loop {
        let next = Reply::read(stdout).and_then(|mut reply| Ok((reply.number()?, reply)));
        let (id, reply) = match next {
            Ok(next) => next,
            Err(error) => break chain(&error),
        };
        let sender = lock().as_mut().and_then(|waiting| waiting.remove(&id));
        // Nobody waits for the reply to a CLOSE, and a reader may have given up after another error.
        if let Some(sender) = sender {
            let _ = sender.send((id, reply));
        }
    };
    *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    // Dropping the senders wakes everybody.
    lock().take();
}

fn chain(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The requests of one user, and their replies.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    connection: &'a Connection,
    sender: Sender<(u32, Reply)>,
    receiver: Receiver<(u32, Reply)>,
}

impl Requests<'_> {
    /// Sends a request and returns its id.
    pub(super) fn send(
        &mut self,
        kind: u8,
        fields: impl FnOnce(Request) -> Request,
    ) -> Result<u32> {
        let connection = self.connection;
        let id = connection.next_id.fetch_add(1, Ordering::Relaxed);
        let packet = fields(Request::new(kind, id)).finish();
        {
            let mut waiting = connection
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let Some(waiting) = waiting.as_mut() else {
                drop(waiting);
                return Err(connection.over());
            };
            waiting.insert(id, self.sender.clone());
        }
        let mut stdin = connection
            .stdin
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let written = match stdin.as_mut() {
            Some(stdin) => stdin.write_all(&packet),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|e| Error::io("writing to ssh", e))?;
        Ok(id)
    }

    /// The next reply to any of the requests.
    pub(super) fn receive(&mut self) -> Result<(u32, Reply)> {
        // Our own sender is alive, so the end of the session must be looked for now and then.
        loop {
            match self
                .receiver
                .recv_timeout(std::time::Duration::from_millis(200))
            {
                Ok(reply) => return Ok(reply),
                Err(_) => {
                    let waiting = self
                        .connection
                        .waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    if waiting.is_none() {
                        drop(waiting);
                        return self.receiver.try_recv().map_err(|_| self.connection.over());
                    }
                }
            }
        }
    }
}
