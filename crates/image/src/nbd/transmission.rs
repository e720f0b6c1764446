//! The transmission phase of one connection.
//!
//! A few threads take turns: whoever holds the reader takes one request off the socket with its payload, lets the
//! next thread read, does the work, and writes the reply while it holds the writer. So requests overlap, each
//! thread has at most one buffer, and nothing is ever queued.

use std::io::{self, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::handshake::{Agreed, read_or_end, violation};
use super::proto::*;
use super::reply::{Answer, Asked, Buffer, Replier};
use super::server::Shared;
use crate::{BlockSource, Error, ErrorKind, extents};

/// Threads that serve one connection.
const WORKERS: usize = 3;
/// Descriptors in one answer to `NBD_CMD_BLOCK_STATUS`; clients ask again for the rest.
const MAX_DESCRIPTORS: usize = 1024;

/// One request: "Request message".
struct Request {
    flags: u16,
    kind: u16,
    cookie: u64,
    offset: u64,
    len: u32,
}

/// One connection after its handshake.
pub(super) struct Transmission<'a> {
    agreed: Agreed,
    shared: &'a Shared,
    replier: Replier,
    reader: Mutex<Option<BufReader<UnixStream>>>,
    writer: Mutex<UnixStream>,
}

impl<'a> Transmission<'a> {
    /// Serves the connection until the client leaves or breaks the protocol.
    pub(super) fn run(stream: UnixStream, agreed: Agreed, shared: &'a Shared) -> io::Result<()> {
        let reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
        let this = Self {
            replier: Replier {
                structured: agreed.structured,
            },
            agreed,
            shared,
            reader: Mutex::new(Some(reader)),
            writer: Mutex::new(stream),
        };
        thread::scope(|scope| {
            let helpers: Vec<_> = (1..WORKERS)
                .filter_map(|_| {
                    thread::Builder::new()
                        .name("nbd-worker".into())
                        .spawn_scoped(scope, || this.work())
                        .ok()
                })
                .collect();
            let mine = this.work();
            helpers.into_iter().fold(mine, |result, helper| {
                let theirs = helper
                    .join()
                    .unwrap_or_else(|_| Err(violation("a worker panicked".into())));
                result.and(theirs)
            })
        })
    }

    /// Serves requests until there are no more. An error ends the work of the other threads, too.
    fn work(&self) -> io::Result<()> {
        let mut buffer = Buffer::default();
        loop {
            let step = self.next(&mut buffer).and_then(|request| match request {
                Some(request) => self.serve(&request, &mut buffer).map(|()| true),
                None => Ok(false),
            });
            match step {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
                    writer.shutdown(std::net::Shutdown::Both).ok();
                    return Err(error);
                }
            }
        }
    }

    /// Takes the next request, the payload of a write into `buffer`. `None` once the client is done.
    fn next(&self, buffer: &mut Buffer) -> io::Result<Option<Request>> {
        let mut slot = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reader) = slot.as_mut() else {
            return Ok(None);
        };
        let request = receive(reader, buffer);
        if !matches!(request, Ok(Some(_))) {
            *slot = None;
        }
        request
    }

    /// Does what is asked and writes the reply.
    fn serve(&self, request: &Request, buffer: &mut Buffer) -> io::Result<()> {
        // A bug in a format's reader must not leave the guest waiting for ever.
        let answer = catch_unwind(AssertUnwindSafe(|| self.answer(request, buffer)))
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "a reader of the source panicked")));
        let answer = answer.unwrap_or_else(|error| {
            let code = if error.kind() == ErrorKind::NoSpace {
                errno::ENOSPC
            } else {
                errno::EIO
            };
            let text = chain(&error);
            tracing::warn!(export = %self.agreed.export.name, error = text, "I/O error");
            self.shared
                .remember(error.in_file(&self.agreed.export.name));
            Answer::Failed(code, text)
        });
        let asked = Asked {
            cookie: request.cookie,
            offset: request.offset,
            len: request.len,
            is_read: request.kind == command::READ,
        };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.replier.send(&mut *writer, asked, answer, buffer)
    }

    /// Does what is asked. An `Err` is a failure of ours; what the client did wrong is an [`Answer::Failed`].
    fn answer(&self, request: &Request, buffer: &mut Buffer) -> crate::Result<Answer> {
        if let Some(refusal) = self.refuse(request) {
            return Ok(refusal);
        }
        let device = &self.agreed.export.device;
        let (offset, len) = (request.offset, u64::from(request.len));
        match request.kind {
            command::READ if len == 0 => return Ok(Answer::Done),
            command::READ => {
                let extent = device.extent_at(offset, len)?;
                if extent.kind.reads_zero() && extent.len == len {
                    return Ok(Answer::Hole);
                }
                // `refuse` has capped it.
                device.read_at(buffer.resize(usize::try_from(len).unwrap_or(0)), offset)?;
                return Ok(Answer::Data);
            }
            command::WRITE => device.write_at(buffer.data(), offset)?,
            command::FLUSH => device.flush()?,
            command::TRIM => match device.zero(offset, len) {
                // A hint that cannot be followed may be ignored.
                Err(error) if error.kind() == ErrorKind::Limit => {
                    tracing::debug!(%error, "TRIM ignored");
                }
                other => other?,
            },
            command::WRITE_ZEROES => device.zero(offset, len)?,
            command::BLOCK_STATUS => {
                return Ok(Answer::BlockStatus(self.block_status(request)?));
            }
            // `refuse` has let nothing else through.
            _ => return Ok(invalid("unknown command")),
        }
        if request.flags & command_flag::FUA != 0 {
            device.flush()?;
        }
        Ok(Answer::Done)
    }

    /// Refuses what the client must not ask: "Request types", "Command flags", "Size constraints".
    fn refuse(&self, request: &Request) -> Option<Answer> {
        use command_flag::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
        let flags = match request.kind {
            command::READ if self.agreed.structured => FUA | DF,
            command::READ | command::WRITE | command::FLUSH | command::TRIM => FUA,
            command::WRITE_ZEROES => FUA | NO_HOLE | FAST_ZERO,
            command::BLOCK_STATUS if self.agreed.allocation => FUA | REQ_ONE,
            command::BLOCK_STATUS => return Some(invalid("base:allocation was not negotiated")),
            _ => return Some(invalid("unknown command")),
        };
        if request.flags & !flags != 0 {
            return Some(invalid("unknown command flag"));
        }
        if request.kind == command::FLUSH {
            let zero = request.offset == 0 && request.len == 0;
            return (!zero).then(|| invalid("offset and length of a flush must be zero"));
        }
        let end = request.offset.checked_add(u64::from(request.len));
        if end.is_none_or(|end| end > self.agreed.export.size()) {
            let text = "request passes the end of the export".to_owned();
            return Some(match request.kind {
                command::WRITE | command::WRITE_ZEROES => Answer::Failed(errno::ENOSPC, text),
                _ => Answer::Failed(errno::EINVAL, text),
            });
        }
        if request.kind == command::READ && request.len > MAX_BLOCK {
            return Some(invalid("read is larger than the maximum block size"));
        }
        (request.kind == command::BLOCK_STATUS && request.len == 0)
            .then(|| invalid("block status of no bytes"))
    }

    fn block_status(&self, request: &Request) -> crate::Result<Vec<(u32, u32)>> {
        let end = request.offset + u64::from(request.len);
        let only_one = request.flags & command_flag::REQ_ONE != 0;
        let limit = if only_one { 1 } else { MAX_DESCRIPTORS };
        let mut blocks: Vec<(u32, u32)> = Vec::new();
        for extent in extents(&*self.agreed.export.device, request.offset..end) {
            let extent = extent?;
            let flags = if extent.kind.reads_zero() {
                context::STATE_HOLE | context::STATE_ZERO
            } else {
                0
            };
            // No extent is longer than the request, whose length has 32 bits.
            let len = u32::try_from(extent.len).unwrap_or(request.len);
            let full = blocks.len() == limit;
            match blocks.last_mut() {
                Some((held, of)) if *of == flags => *held += len,
                _ if full => break,
                _ => blocks.push((len, flags)),
            }
        }
        Ok(blocks)
    }
}

fn invalid(message: &str) -> Answer {
    Answer::Failed(errno::EINVAL, message.to_owned())
}

/// Reads one request. `None` at a soft disconnect or an end of the stream between requests.
fn receive(reader: &mut impl Read, buffer: &mut Buffer) -> io::Result<Option<Request>> {
    let mut head = [0; REQUEST_LEN];
    if !read_or_end(reader, &mut head)? {
        return Ok(None);
    }
    let (magic, rest) = take::<4>(&head);
    let magic = u32::from_be_bytes(magic);
    if magic != REQUEST_MAGIC {
        return Err(violation(format!("expected a request, found {magic:#x}")));
    }
    let (flags, rest) = take::<2>(rest);
    let (kind, rest) = take::<2>(rest);
    let (cookie, rest) = take::<8>(rest);
    let (offset, rest) = take::<8>(rest);
    let (len, _) = take::<4>(rest);
    let request = Request {
        flags: u16::from_be_bytes(flags),
        kind: u16::from_be_bytes(kind),
        cookie: u64::from_be_bytes(cookie),
        offset: u64::from_be_bytes(offset),
        len: u32::from_be_bytes(len),
    };
    match request.kind {
        command::DISC => return Ok(None),
        // "Size constraints" lets the server drop such a client; what follows cannot be told from a payload.
        command::WRITE if request.len > MAX_BLOCK => {
            return Err(violation(format!("a write of {} bytes", request.len)));
        }
        command::WRITE => {
            reader.read_exact(buffer.resize(usize::try_from(request.len).unwrap_or(0)))?;
        }
        _ => {}
    }
    Ok(Some(request))
}

/// The first `N` bytes, zero-extended, and the rest.
fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes
        .split_first_chunk::<N>()
        .map_or(([0; N], &[]), |(first, rest)| (*first, rest))
}

/// The message of an error with those of its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
