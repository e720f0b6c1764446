//! One connection in its transmission phase: a request, then its whole reply. "Transmission phase".

use super::chunks::Coverage;
use super::negotiate::{Session, negotiate, talking, violation};
use super::status::{self, Run};
use super::stream::{Deadline, Stream};
use super::uri::Uri;
use crate::nbd::proto::*;
use crate::{Error, ErrorKind, Result};

/// "Structured reply types": an error at an offset.
const ERROR_OFFSET: u16 = (1 << 15) + 2;
/// "Structured reply types": set in every error.
const ERROR_BIT: u16 = 1 << 15;
/// Payload of an error or an unknown chunk that is accepted: a message ("Conventions") and fields.
const MAX_ERROR_PAYLOAD: usize = 2 * MAX_STRING;
/// Chunks of one reply. A server may cut where its own blocks end; a page is the smallest that makes sense.
const MAX_CHUNKS: usize = MAX_BLOCK as usize / 4096 + 1024;

/// What happened to a request.
pub(super) enum Failure {
    /// The server answered with an error; the connection is whole.
    Answered(Error),
    /// Server and client are out of step: the connection is of no more use.
    Broken(Error),
}

/// A connection that was negotiated.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    session: Session,
    next_cookie: u64,
}

/// Head of a structured chunk.
struct Chunk {
    last: bool,
    kind: u16,
    len: usize,
}

impl Connection {
    /// Connects and negotiates.
    pub(super) fn open(uri: &Uri, deadline: Deadline) -> Result<(Self, Session)> {
        let mut stream = Stream::connect(&uri.address, deadline)?;
        let session = negotiate(&mut stream, &uri.export, deadline)?;
        let this = Self {
            stream,
            session,
            next_cookie: 1,
        };
        Ok((this, session))
    }

    /// Fills `buf` from `offset`. Both keep to the session's block size and longest read.
    pub(super) fn read(
        &mut self,
        buf: &mut [u8],
        offset: u64,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let cookie = self.request(command::READ, offset, buf.len() as u64, deadline)?;
        if self.session.structured {
            self.read_chunks(cookie, buf, offset, deadline)
        } else {
            self.simple_reply(cookie, deadline)?;
            self.take(buf, deadline)
        }
    }

    /// What lies in `len` bytes from `offset`: at least one run, from the front.
    pub(super) fn block_status(
        &mut self,
        offset: u64,
        len: u64,
        deadline: &Deadline,
    ) -> Result<Vec<Run>, Failure> {
        let cookie = self.request(command::BLOCK_STATUS, offset, len, deadline)?;
        let mut runs = None;
        let mut error = None;
        for _ in 0..MAX_CHUNKS {
            let chunk = self.chunk(cookie, deadline)?;
            match chunk.kind {
                chunk::BLOCK_STATUS if chunk.len <= status::MAX_PAYLOAD => {
                    let payload = self.bytes(chunk.len, deadline)?;
                    let wanted = self.session.allocation;
                    if let Some(found) =
                        status::parse(&payload, wanted, len).map_err(Failure::Broken)?
                        && runs.replace(found).is_some()
                    {
                        return Err(broken("expected one chunk of block status, found two"));
                    }
                }
                chunk::NONE if chunk.len == 0 && chunk.last => {}
                kind if kind & ERROR_BIT != 0 => {
                    error = Some(self.error_chunk(&chunk, "block status", deadline)?);
                }
                kind => return Err(unexpected(kind, chunk.len, "a block status")),
            }
            if chunk.last {
                return match (error, runs) {
                    (Some(error), _) => Err(Failure::Answered(error)),
                    (None, Some(runs)) => Ok(runs),
                    (None, None) => Err(broken("expected a block status, found none")),
                };
            }
        }
        Err(broken("expected an end of the reply"))
    }

    /// "Request message".
    fn request(
        &mut self,
        command: u16,
        offset: u64,
        len: u64,
        deadline: &Deadline,
    ) -> Result<u64, Failure> {
        let cookie = self.next_cookie;
        self.next_cookie = self.next_cookie.wrapping_add(1);
        let len =
            u32::try_from(len).map_err(|_| broken("a request is longer than its field can say"))?;
        let mut message = [0; REQUEST_LEN];
        let fields: [&[u8]; 6] = [
            &REQUEST_MAGIC.to_be_bytes(),
            &0u16.to_be_bytes(),
            &command.to_be_bytes(),
            &cookie.to_be_bytes(),
            &offset.to_be_bytes(),
            &len.to_be_bytes(),
        ];
        message.copy_from_slice(&fields.concat());
        self.stream
            .send(&message, deadline)
            .map_err(|e| Failure::Broken(talking(e)))?;
        Ok(cookie)
    }

    /// "Simple reply message".
    fn simple_reply(&mut self, cookie: u64, deadline: &Deadline) -> Result<(), Failure> {
        let magic = u32::from_be_bytes(self.array(deadline)?);
        let errno = u32::from_be_bytes(self.array(deadline)?);
        let of = u64::from_be_bytes(self.array(deadline)?);
        if magic != SIMPLE_REPLY_MAGIC || of != cookie {
            return Err(broken(&format!(
                "expected a simple reply to request {cookie}, found {magic:#x} to {of}"
            )));
        }
        match errno {
            0 => Ok(()),
            errno => Err(Failure::Answered(server_error("read", errno, ""))),
        }
    }

    /// "Structured reply message", for a read: chunks in any order that cover the range exactly once.
    fn read_chunks(
        &mut self,
        cookie: u64,
        buf: &mut [u8],
        offset: u64,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let mut coverage = Coverage::new(offset, buf.len() as u64);
        let mut error = None;
        for _ in 0..MAX_CHUNKS {
            let chunk = self.chunk(cookie, deadline)?;
            match chunk.kind {
                chunk::NONE if chunk.len == 0 && chunk.last => {}
                chunk::OFFSET_DATA if chunk.len > 8 => {
                    let at = u64::from_be_bytes(self.array(deadline)?);
                    let part = coverage
                        .add(at, (chunk.len - 8) as u64)
                        .and_then(|range| buf.get_mut(range))
                        .ok_or_else(|| outside(at, chunk.len - 8))?;
                    self.take(part, deadline)?;
                }
                chunk::OFFSET_HOLE if chunk.len == 12 => {
                    let at = u64::from_be_bytes(self.array(deadline)?);
                    let len = u32::from_be_bytes(self.array(deadline)?);
                    let part = coverage
                        .add(at, u64::from(len))
                        .and_then(|range| buf.get_mut(range))
                        .ok_or_else(|| outside(at, usize::try_from(len).unwrap_or(usize::MAX)))?;
                    part.fill(0);
                }
                kind if kind & ERROR_BIT != 0 => {
                    error = Some(self.error_chunk(&chunk, "read", deadline)?);
                }
                kind => return Err(unexpected(kind, chunk.len, "a read")),
            }
            if chunk.last {
                return match error {
                    Some(error) => Err(Failure::Answered(error)),
                    None if coverage.is_whole() => Ok(()),
                    None => Err(broken("expected all bytes of a read, found gaps")),
                };
            }
        }
        Err(broken(&format!(
            "expected a reply of at most {MAX_CHUNKS} chunks"
        )))
    }

    /// "Structured reply chunk message". A server that agreed on structured replies may still answer an error simply.
    fn chunk(&mut self, cookie: u64, deadline: &Deadline) -> Result<Chunk, Failure> {
        let magic = u32::from_be_bytes(self.array(deadline)?);
        if magic == SIMPLE_REPLY_MAGIC {
            let errno = u32::from_be_bytes(self.array(deadline)?);
            let of = u64::from_be_bytes(self.array(deadline)?);
            return Err(if of == cookie && errno != 0 {
                Failure::Answered(server_error("request", errno, ""))
            } else {
                broken("expected a structured reply, found a simple one")
            });
        }
        let flags = u16::from_be_bytes(self.array(deadline)?);
        let kind = u16::from_be_bytes(self.array(deadline)?);
        let of = u64::from_be_bytes(self.array(deadline)?);
        let len = u32::from_be_bytes(self.array(deadline)?);
        if magic != STRUCTURED_REPLY_MAGIC || of != cookie {
            return Err(broken(&format!(
                "expected a structured reply to request {cookie}, found {magic:#x} to {of}"
            )));
        }
        Ok(Chunk {
            last: flags & REPLY_FLAG_DONE != 0,
            kind,
            len: usize::try_from(len).unwrap_or(usize::MAX),
        })
    }

    /// "Structured reply types", errors: number, message, and an offset for some.
    fn error_chunk(
        &mut self,
        chunk: &Chunk,
        doing: &str,
        deadline: &Deadline,
    ) -> Result<Error, Failure> {
        if !(6..=MAX_ERROR_PAYLOAD).contains(&chunk.len) {
            return Err(unexpected(chunk.kind, chunk.len, doing));
        }
        let payload = self.bytes(chunk.len, deadline)?;
        let (errno, rest) = payload.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
        let (len, rest) = rest.split_first_chunk::<2>().unwrap_or((&[0; 2], &[]));
        let len = usize::from(u16::from_be_bytes(*len));
        let said = String::from_utf8_lossy(rest.get(..len).unwrap_or_default()).into_owned();
        let error = server_error(doing, u32::from_be_bytes(*errno), &said);
        let at = (chunk.kind == ERROR_OFFSET)
            .then(|| rest.get(len..)?.first_chunk::<8>())
            .flatten();
        Ok(match at {
            Some(at) => error.at(u64::from_be_bytes(*at)),
            None => error,
        })
    }

    fn array<const N: usize>(&mut self, deadline: &Deadline) -> Result<[u8; N], Failure> {
        self.stream
            .array(deadline)
            .map_err(|e| Failure::Broken(talking(e)))
    }

    fn bytes(&mut self, len: usize, deadline: &Deadline) -> Result<Vec<u8>, Failure> {
        self.stream
            .bytes(len, deadline)
            .map_err(|e| Failure::Broken(talking(e)))
    }

    fn take(&mut self, buf: &mut [u8], deadline: &Deadline) -> Result<(), Failure> {
        self.stream
            .take(buf, deadline)
            .map_err(|e| Failure::Broken(talking(e)))
    }
}

impl Drop for Connection {
    /// `NBD_CMD_DISC`: a server may be told that we leave.
    fn drop(&mut self) {
        let deadline = Deadline::after(std::time::Duration::from_millis(200));
        let _ = self.request(command::DISC, 0, 0, &deadline);
    }
}

/// "Error values".
fn server_error(doing: &str, errno: u32, said: &str) -> Error {
    let name = match errno {
        1 => "EPERM",
        5 => "EIO",
        12 => "ENOMEM",
        22 => "EINVAL",
        28 => "ENOSPC",
        75 => "EOVERFLOW",
        95 => "ENOTSUP",
        108 => "ESHUTDOWN",
        _ => "unknown error",
    };
    let said: String = said
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect();
    let mut message = format!("the NBD server answered a {doing} with {name} ({errno})");
    if !said.is_empty() {
        message = format!("{message}: {said}");
    }
    Error::new(ErrorKind::Io, message)
}

fn broken(message: &str) -> Failure {
    Failure::Broken(violation(message.to_owned()))
}

fn outside(at: u64, len: usize) -> Failure {
    broken(&format!(
        "expected each byte of a read once, found a chunk of {len} bytes at {at:#x} beside or over others"
    ))
}

fn unexpected(kind: u16, len: usize, of: &str) -> Failure {
    broken(&format!(
        "expected a chunk of {of}, found type {kind:#x} of {len} bytes"
    ))
}
