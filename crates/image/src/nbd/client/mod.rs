//! An NBD client as a place of bytes: `nbd://` and `nbd+unix://` sources, read-only.
//!
//! The protocol is doc/proto.md of the NBD project; sections are named where they are used. Fixed newstyle
//! negotiation with `NBD_OPT_GO` (or `NBD_OPT_EXPORT_NAME`, where a server has no other), structured replies,
//! `base:allocation` to know zeroes without reading them, and several connections where the server says that they
//! see one disk.
//!
//! ```text
//! uri ──> stream ──> negotiate ──> connection ─┐
//!                                  connection ─┼─ pool ── Client: ByteStore
//! ```
//!
//! **Refused by name**: TLS (`nbds://`), oldstyle servers, vsock. A connection that breaks is not made anew: what
//! answers then may be another disk. Everything that a server says is checked against what was asked and against
//! limits, and no request outlives its deadline, so that a hostile or dying server ends in an error.

mod chunks;
mod connection;
mod negotiate;
mod pool;
mod status;
mod stream;
mod uri;

use std::fmt;
use std::time::Duration;

use crate::bytes::ByteStore;
use crate::{Error, ErrorKind, FileRange, Result};

use negotiate::Session;
use pool::Pool;
use status::StatusCache;
use stream::Deadline;

pub use uri::Uri;

/// How a server is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Longest time for connecting, for the whole negotiation, and for each request with its reply.
    pub timeout: Duration,
    /// Most connections, used where the server allows several (`NBD_FLAG_CAN_MULTI_CONN`).
    pub connections: usize,
}

impl Default for ClientOptions {
    /// Two minutes, which a megabyte needs on no line in use; four connections.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            connections: 4,
        }
    }
}

/// An export of an NBD server, open for reading.
pub struct Client {
    pool: Pool,
    session: Session,
    status: StatusCache,
}

impl Client {
    /// Connects and negotiates.
    pub fn connect(uri: &Uri, options: &ClientOptions) -> Result<Self> {
        let (pool, session) =
            Pool::connect(uri, options).map_err(|e| e.in_file(uri.to_string()))?;
        Ok(Self {
            pool,
            session,
            status: StatusCache::default(),
        })
    }

    /// The export as bytes that the formats read.
    pub fn open(uri: &str) -> Result<FileRange> {
        let parsed: Uri = uri.parse()?;
        let client = Self::connect(&parsed, &ClientOptions::default())?;
        Ok(FileRange::from_store(std::sync::Arc::new(client), uri))
    }

    /// True when the server tells where its zeroes are.
    pub fn knows_allocation(&self) -> bool {
        self.session.allocation.is_some()
    }

    /// True when several connections may be used.
    pub fn is_multi_conn(&self) -> bool {
        self.session.multi_conn
    }

    /// Reads a range that keeps to the server's block size, in requests of the largest payload.
    fn read_aligned(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut at = offset;
        for part in buf.chunks_mut(self.session.max_read) {
            self.pool
                .with(|connection, deadline| connection.read(part, at, deadline))?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Reads what lies within one or two blocks of the server.
    fn read_within(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let block = self.session.min_block;
        let start = offset - offset % block;
        let end = (offset + buf.len() as u64).next_multiple_of(block);
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        let mut whole = vec![0; len];
        self.read_aligned(&mut whole, start)?;
        let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
        match whole.get(from..from + buf.len()) {
            Some(wanted) => buf.copy_from_slice(wanted),
            None => return Err(Error::new(ErrorKind::Usage, "read past its own blocks")),
        }
        Ok(())
    }

    /// Asks where the zeroes are from `offset` on, and keeps the answer.
    fn ask_status(&self, offset: u64) -> Option<(bool, u64)> {
        let block = self.session.min_block;
        let start = offset - offset % block;
        let len = (self.session.size - start).min(status::MAX_QUERY - status::MAX_QUERY % block);
        let answer = self
            .pool
            .with(|connection, deadline: &Deadline| connection.block_status(start, len, deadline));
        match answer {
            Ok(runs) => {
                self.status.keep(start, &runs);
                self.status.at(offset)
            }
            Err(error) => {
                // What cannot be told is data; reading it gives the true answer, or the error.
                tracing::debug!(%error, offset, "asking for the block status");
                None
            }
        }
    }
}

impl ByteStore for Client {
    fn len(&self) -> u64 {
        self.session.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let block = self.session.min_block;
        let misaligned = |n: u64| !n.is_multiple_of(block);
        let end = offset + buf.len() as u64;
        if !misaligned(offset) && !misaligned(end) {
            return self.read_aligned(buf, offset);
        }
        // The unaligned head, the blocks between, the unaligned tail.
        let head_end = offset.next_multiple_of(block).min(end);
        let tail_start = (end - end % block).max(head_end);
        let cut = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
        let (head, rest) = buf.split_at_mut(cut(head_end));
        let (middle, tail) = rest.split_at_mut(cut(tail_start) - head.len());
        for (part, at) in [(head, offset), (tail, tail_start)] {
            if !part.is_empty() {
                self.read_within(part, at)?;
            }
        }
        self.read_aligned(middle, head_end)
    }

    fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        if self.session.allocation.is_none() {
            return (true, max_len);
        }
        let known = self.status.at(offset).or_else(|| self.ask_status(offset));
        match known {
            Some((zero, len)) => (!zero, len.min(max_len)),
            None => (true, max_len.min(status::STEP_WITHOUT_ANSWER)),
        }
    }

    fn is_sparse(&self) -> bool {
        self.session.allocation.is_some()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
