//! The listening socket, its connections, and their end.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::handshake::Handshake;
use super::transmission::Transmission;
use crate::{BlockSource, Error, ErrorKind, Overlay, Result};

/// Connections at a time; a client needs one a disk.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may be silent during its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Asked for both ways; the kernel gives what its limit allows.
const SOCKET_BUFFER: usize = 1 << 20;

/// One disk that is served.
pub(super) struct Export {
    pub(super) name: String,
    pub(super) device: Arc<Overlay>,
}

impl Export {
    pub(super) fn size(&self) -> u64 {
        self.device.virtual_size()
    }
}

/// What the threads of a server share.
pub(super) struct Shared {
    exports: Vec<Arc<Export>>,
    first_error: Mutex<Option<Arc<Error>>>,
    connections: Mutex<Connections>,
}

/// The connections that live.
#[derive(Default)]
struct Connections {
    stopping: bool,
    next: u64,
    open: HashMap<u64, UnixStream>,
}

impl Shared {
    /// Keeps the first error for [`Server::first_error`].
    pub(super) fn remember(&self, error: Error) {
        lock(&self.first_error).get_or_insert_with(|| Arc::new(error));
    }

    /// Enters a connection; `None` when it has to be refused.
    fn enter(&self, stream: &UnixStream) -> Option<u64> {
        let mut connections = lock(&self.connections);
        if connections.stopping || connections.open.len() >= MAX_CONNECTIONS {
            return None;
        }
        let id = connections.next;
        connections.next += 1;
        let stream = stream.try_clone().ok()?;
        connections.open.insert(id, stream);
        Some(id)
    }

    fn is_stopping(&self) -> bool {
        lock(&self.connections).stopping
    }
}

/// Serves overlays to NBD clients on a unix socket, until it is stopped or dropped.
pub struct Server {
    shared: Arc<Shared>,
    socket: PathBuf,
    listener: Arc<UnixListener>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a new socket at `socket` that only this user can connect to, and serves each overlay, writable,
    /// under its name. The empty name stands for the first.
    pub fn start(socket: &Path, exports: Vec<(String, Arc<Overlay>)>) -> Result<Self> {
        if let Some((name, _)) = exports
            .iter()
            .find(|(name, _)| name.len() > super::proto::MAX_STRING)
        {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "expected an export name of at most 4096 bytes, found {}",
                    name.len()
                ),
            ));
        }
        let exports = exports
            .into_iter()
            .map(|(name, device)| Arc::new(Export { name, device }))
            .collect();
        let listener = listen(socket)
            .map_err(|e| Error::io("listening on the NBD socket", e).in_path(socket))?;
        let listener = Arc::new(listener);
        let shared = Arc::new(Shared {
            exports,
            first_error: Mutex::new(None),
            connections: Mutex::new(Connections::default()),
        });
        let mut server = Self {
            shared: Arc::clone(&shared),
            socket: socket.to_owned(),
            listener,
            acceptor: None,
        };
        let listener = Arc::clone(&server.listener);
        let acceptor = thread::Builder::new()
            .name("nbd-accept".into())
            .spawn(move || accept(&listener, &shared));
        server.acceptor =
            Some(acceptor.map_err(|e| Error::io("starting the NBD server's thread", e))?);
        Ok(server)
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The first request that failed for a reason of ours: the base cannot be read, the scratch file is full. The
    /// guest behind the client sees no more than an I/O error.
    pub fn first_error(&self) -> Option<Arc<Error>> {
        lock(&self.shared.first_error).clone()
    }

    /// Disconnects all clients, waits for the requests in work, and removes the socket.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        {
            let mut connections = lock(&self.shared.connections);
            connections.stopping = true;
            for stream in connections.open.values() {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
        rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both).ok();
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
        if let Err(error) = std::fs::remove_file(&self.socket)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, socket = %self.socket.display(), "removing the NBD socket");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.acceptor.is_some() {
            self.shut_down();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exports: Vec<_> = self
            .shared
            .exports
            .iter()
            .map(|export| &export.name)
            .collect();
        f.debug_struct("Server")
            .field("socket", &self.socket)
            .field("exports", &exports)
            .finish()
    }
}

/// A listening socket. Its file has mode 0600 from the first moment: the kernel gives the file the mode that the
/// socket had before it was bound.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket.into())
}

/// Takes connections until the server stops, then waits for their threads.
fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !shared.is_stopping() {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !shared.is_stopping() {
                    tracing::warn!(%error, "accepting an NBD connection");
                    thread::sleep(Duration::from_millis(100)); // EMFILE and the like pass
                }
                continue;
            }
        };
        threads.retain(|thread| !thread.is_finished());
        let Some(id) = shared.enter(&stream) else {
            continue;
        };
        let of_thread = Arc::clone(shared);
        let spawned = thread::Builder::new().name("nbd".into()).spawn(move || {
            match converse(stream, &of_thread) {
                Ok(()) => tracing::debug!(id, "NBD client left"),
                Err(error) => tracing::debug!(%error, id, "NBD client dropped"),
            }
            lock(&of_thread.connections).open.remove(&id);
        });
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                tracing::warn!(%error, "starting a thread for an NBD connection");
                lock(&shared.connections).open.remove(&id);
            }
        }
    }
    for thread in threads {
        thread.join().ok();
    }
}

/// One connection from greeting to end.
fn converse(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, SOCKET_BUFFER).ok();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, SOCKET_BUFFER).ok();
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    let Some(agreed) = Handshake::run(&stream, &shared.exports)? else {
        return Ok(());
    };
    stream.set_read_timeout(None)?;
    tracing::debug!(export = %agreed.export.name, structured = agreed.structured, "NBD client connected");
    Transmission::run(stream, agreed, shared)
}

/// Locks, even if a thread died while it held the lock: all that is guarded is plain data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
