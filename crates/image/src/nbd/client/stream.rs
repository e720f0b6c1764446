//! A socket on which nothing waits past a deadline.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::uri::Address;
use crate::{Error, Result};

/// Asked for both ways; the kernel gives what its limit allows.
const SOCKET_BUFFER: usize = 1 << 20;
/// Least time that one system call waits: a timeout of zero would be none.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// When something has to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// What is left of the time.
    fn left(self) -> io::Result<Duration> {
        match self.0.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(left.max(LEAST_WAIT)),
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects.
    pub(super) fn connect(address: &Address, deadline: Deadline) -> Result<Self> {
        let failed = |e| Error::io("connecting to the NBD server", e);
        Ok(match address {
            Address::Tcp(host, port) => {
                let stream = connect_tcp(host, *port, deadline).map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                rustix::net::sockopt::set_socket_recv_buffer_size(&stream, SOCKET_BUFFER).ok();
                Self::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(failed)?;
                rustix::net::sockopt::set_socket_recv_buffer_size(&stream, SOCKET_BUFFER).ok();
                Self::Unix(stream)
            }
        })
    }

    /// Sends all of `bytes`.
    pub(super) fn send(&mut self, bytes: &[u8], deadline: &Deadline) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let wait = Some(deadline.left()?);
            let sent = match self {
                Self::Tcp(stream) => {
                    stream.set_write_timeout(wait)?;
                    stream.write(rest)
                }
                Self::Unix(stream) => {
                    stream.set_write_timeout(wait)?;
                    stream.write(rest)
                }
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) => retry(e)?,
            }
        }
        Ok(())
    }

    /// Fills `buf`.
    pub(super) fn take(&mut self, buf: &mut [u8], deadline: &Deadline) -> io::Result<()> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let wait = Some(deadline.left()?);
            let got = match self {
                Self::Tcp(stream) => {
                    stream.set_read_timeout(wait)?;
                    stream.read(rest)
                }
                Self::Unix(stream) => {
                    stream.set_read_timeout(wait)?;
                    stream.read(rest)
                }
            };
            match got {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the server closed the connection",
                    ));
                }
                Ok(n) => filled += n,
                Err(e) => retry(e)?,
            }
        }
        Ok(())
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, deadline: &Deadline) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.take(&mut bytes, deadline)?;
        Ok(bytes)
    }

    /// The next `len` bytes, which the caller has capped.
    pub(super) fn bytes(&mut self, len: usize, deadline: &Deadline) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.take(&mut bytes, deadline)?;
        Ok(bytes)
    }
}

/// An interrupted or timed-out call is made again while the deadline allows.
fn retry(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
        _ => Err(error),
    }
}

/// Tries every address of the host.
fn connect_tcp(host: &str, port: u16, deadline: Deadline) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, deadline.left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
