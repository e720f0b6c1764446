//! The handshake phase from the client's side: "Handshake phase" and "Option negotiation".
//!
//! ```text
//! greeting ──> STRUCTURED_REPLY ──> SET_META_CONTEXT ──> GO ──> transmission
//!                                                         └─unsupported─> EXPORT_NAME ──> transmission
//! ```

use std::io;

use super::stream::{Deadline, Stream};
use crate::nbd::proto::*;
use crate::{Error, ErrorKind, Result};

/// "Option reply types": errors that a server may answer beside those that ours does.
mod refusal {
    pub(super) const POLICY: u32 = (1 << 31) + 2;
    pub(super) const TLS_REQD: u32 = (1 << 31) + 5;
    pub(super) const SHUTDOWN: u32 = (1 << 31) + 7;
    pub(super) const BLOCK_SIZE_REQD: u32 = (1 << 31) + 8;
    /// Set in every error.
    pub(super) const BIT: u32 = 1 << 31;
}
/// "Oldstyle negotiation": the word where newstyle has `IHAVEOPT`.
const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// Data of one reply that is accepted: the longest string ("Conventions") with room for fields.
const MAX_REPLY: u32 = 2 * 4096;
/// Replies to one option. There are a handful of kinds of information.
const MAX_REPLIES: usize = 256;
/// "Size constraints": the largest block that a server may demand.
const MAX_MIN_BLOCK: u32 = 64 << 10;

/// What was agreed, and what the export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// Size in bytes.
    pub(super) size: u64,
    /// Replies to reads come in chunks.
    pub(super) structured: bool,
    /// The id of `base:allocation`, where it can be asked for.
    pub(super) allocation: Option<u32>,
    /// Several connections see the same disk.
    pub(super) multi_conn: bool,
    /// Requests start and end on multiples of this many bytes; a power of two.
    pub(super) min_block: u64,
    /// Longest read, in bytes; a multiple of `min_block`.
    pub(super) max_read: usize,
}

/// A negotiation at work.
struct Negotiation<'a> {
    stream: &'a mut Stream,
    deadline: Deadline,
}

/// One answer to an option.
struct Answer {
    kind: u32,
    data: Vec<u8>,
}

/// What is learnt of the export.
#[derive(Default)]
struct Found {
    export: Option<(u64, u16)>,
    blocks: Option<[u32; 3]>,
}

/// Negotiates on a fresh connection.
pub(super) fn negotiate(stream: &mut Stream, export: &str, deadline: Deadline) -> Result<Session> {
    let mut this = Negotiation { stream, deadline };
    let no_zeroes = this.greet()?;
    let structured = this.structured_replies()?;
    let allocation = if structured {
        this.allocation(export)?
    } else {
        None
    };
    let found = match this.go(export)? {
        Some(found) => found,
        None => this.export_name(export, no_zeroes)?,
    };
    session(found, structured, allocation)
}

impl Negotiation<'_> {
    /// Reads the greeting and answers it. True when the server leaves out padding.
    fn greet(&mut self) -> Result<bool> {
        let init = u64::from_be_bytes(self.array()?);
        if init != INIT_MAGIC {
            return Err(violation(format!(
                "expected an NBD server, found {:?}",
                String::from_utf8_lossy(&init.to_be_bytes())
            )));
        }
        match u64::from_be_bytes(self.array()?) {
            OPTION_MAGIC => {}
            OLDSTYLE_MAGIC => {
                return Err(Error::unsupported(
                    "the NBD server speaks the oldstyle protocol, which is not supported; hint: qemu-nbd -x NAME, or a \
                     newer server",
                ));
            }
            other => {
                return Err(violation(format!(
                    "expected IHAVEOPT after NBDMAGIC, found {other:#x}"
                )));
            }
        }
        let flags = u16::from_be_bytes(self.array()?);
        if flags & handshake_flag::FIXED_NEWSTYLE == 0 {
            return Err(Error::unsupported(
                "the NBD server does not speak the fixed newstyle protocol",
            ));
        }
        let agreed = flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        self.send(&u32::from(agreed).to_be_bytes())?;
        Ok(agreed & handshake_flag::NO_ZEROES != 0)
    }

    /// "Structured replies".
    fn structured_replies(&mut self) -> Result<bool> {
        self.ask(option::STRUCTURED_REPLY, &[])?;
        let answer = self.answer(option::STRUCTURED_REPLY)?;
        Ok(answer.kind == option_reply::ACK)
    }

    /// "Metadata querying": selects `base:allocation`.
    fn allocation(&mut self, export: &str) -> Result<Option<u32>> {
        let mut data = string(export.as_bytes());
        data.extend(1u32.to_be_bytes());
        data.extend(string(context::ALLOCATION));
        self.ask(option::SET_META_CONTEXT, &data)?;
        let mut id = None;
        for _ in 0..MAX_REPLIES {
            let answer = self.answer(option::SET_META_CONTEXT)?;
            match answer.kind {
                option_reply::ACK => return Ok(id),
                option_reply::META_CONTEXT => {
                    if let Some((bytes, name)) = answer.data.split_first_chunk::<4>()
                        && name == context::ALLOCATION
                    {
                        id = Some(u32::from_be_bytes(*bytes));
                    }
                }
                kind if kind & refusal::BIT != 0 => return Ok(None),
                kind => return Err(unexpected("NBD_OPT_SET_META_CONTEXT", kind)),
            }
        }
        Err(too_many_replies())
    }

    /// `NBD_OPT_GO`; `None` when the server does not know the option.
    fn go(&mut self, export: &str) -> Result<Option<Found>> {
        let mut data = string(export.as_bytes());
        data.extend(1u16.to_be_bytes());
        data.extend(info::BLOCK_SIZE.to_be_bytes());
        self.ask(option::GO, &data)?;
        let mut found = Found::default();
        for _ in 0..MAX_REPLIES {
            let answer = self.answer(option::GO)?;
            match answer.kind {
                option_reply::ACK => return Ok(Some(found)),
                option_reply::INFO => found.note(&answer.data)?,
                option_reply::ERR_UNSUP => return Ok(None),
                kind if kind & refusal::BIT != 0 => {
                    return Err(refused(export, kind, &answer.data));
                }
                kind => return Err(unexpected("NBD_OPT_GO", kind)),
            }
        }
        Err(too_many_replies())
    }

    /// `NBD_OPT_EXPORT_NAME`: a server that does not have the export just hangs up.
    fn export_name(&mut self, export: &str, no_zeroes: bool) -> Result<Found> {
        self.ask(option::EXPORT_NAME, export.as_bytes())?;
        let size = u64::from_be_bytes(self.array()?);
        let flags = u16::from_be_bytes(self.array()?);
        if !no_zeroes {
            self.array::<EXPORT_NAME_PADDING>()?;
        }
        Ok(Found {
            export: Some((size, flags)),
            blocks: None,
        })
    }

    fn ask(&mut self, option: u32, data: &[u8]) -> Result<()> {
        let mut message = Vec::with_capacity(16 + data.len());
        message.extend(OPTION_MAGIC.to_be_bytes());
        message.extend(option.to_be_bytes());
        message.extend(len32(data.len()));
        message.extend(data);
        self.send(&message)
    }

    fn answer(&mut self, option: u32) -> Result<Answer> {
        let magic = u64::from_be_bytes(self.array()?);
        let of = u32::from_be_bytes(self.array()?);
        let kind = u32::from_be_bytes(self.array()?);
        let len = u32::from_be_bytes(self.array()?);
        if magic != OPTION_REPLY_MAGIC || of != option {
            return Err(violation(format!(
                "expected an answer to option {option}, found {magic:#x} to option {of}"
            )));
        }
        if len > MAX_REPLY {
            return Err(violation(format!(
                "expected an answer of at most {MAX_REPLY} bytes, found {len}"
            )));
        }
        let data = self
            .stream
            .bytes(usize::try_from(len).unwrap_or(usize::MAX), &self.deadline)
            .map_err(talking)?;
        Ok(Answer { kind, data })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.stream.array(&self.deadline).map_err(talking)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.send(bytes, &self.deadline).map_err(talking)
    }
}

impl Found {
    /// `NBD_REP_INFO`. What is not known is passed over.
    fn note(&mut self, data: &[u8]) -> Result<()> {
        let Some((kind, rest)) = data.split_first_chunk::<2>() else {
            return Err(violation(
                "expected a kind of information, found none".to_owned(),
            ));
        };
        match u16::from_be_bytes(*kind) {
            info::EXPORT => {
                let (size, flags) = rest
                    .split_first_chunk::<8>()
                    .zip(rest.get(8..10))
                    .map(|((size, _), flags)| (size, flags))
                    .filter(|_| rest.len() == 10)
                    .ok_or_else(|| {
                        violation(format!(
                            "expected 10 bytes on the export, found {}",
                            rest.len()
                        ))
                    })?;
                let flags = flags.try_into().map_or(0, u16::from_be_bytes);
                self.export = Some((u64::from_be_bytes(*size), flags));
            }
            info::BLOCK_SIZE => {
                let (words, rest) = rest.as_chunks::<4>();
                match words {
                    [least, preferred, largest] if rest.is_empty() => {
                        self.blocks = Some([*least, *preferred, *largest].map(u32::from_be_bytes));
                    }
                    _ => return Err(violation("expected three block sizes".to_owned())),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Checks what was found: "Size constraints", "Transmission flags".
fn session(found: Found, structured: bool, allocation: Option<u32>) -> Result<Session> {
    let Some((size, flags)) = found.export else {
        return Err(violation(
            "expected the size of the export, found none".to_owned(),
        ));
    };
    if i64::try_from(size).is_err() {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("the export's size {size} is beyond {max}", max = i64::MAX),
        ));
    }
    let [least, _, largest] = found.blocks.unwrap_or([1, PREFERRED_BLOCK, MAX_BLOCK]);
    if !least.is_power_of_two() || least > MAX_MIN_BLOCK || largest < least {
        return Err(violation(format!(
            "expected a least block of a power of two up to {MAX_MIN_BLOCK} and a largest above it, found {least} and {largest}"
        )));
    }
    if !size.is_multiple_of(u64::from(least)) {
        return Err(violation(format!(
            "expected a size in whole blocks of {least} bytes, found {size}"
        )));
    }
    let largest = largest.min(MAX_BLOCK);
    Ok(Session {
        size,
        structured,
        allocation,
        multi_conn: flags & transmission_flag::HAS_FLAGS != 0
            && flags & transmission_flag::CAN_MULTI_CONN != 0,
        min_block: u64::from(least),
        max_read: usize::try_from(largest - largest % least).unwrap_or(usize::MAX),
    })
}

/// A string as a field: its length and its bytes.
fn string(bytes: &[u8]) -> Vec<u8> {
    let mut field = len32(bytes.len()).to_vec();
    field.extend(bytes);
    field
}

/// A length as a field; names were checked to be short.
fn len32(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

fn refused(export: &str, kind: u32, message: &[u8]) -> Error {
    let why = match kind {
        option_reply::ERR_UNKNOWN => {
            return Error::new(
                ErrorKind::Missing,
                format!("the NBD server has no export {export:?}"),
            );
        }
        refusal::TLS_REQD => {
            return Error::unsupported("the NBD server wants TLS, which is not supported");
        }
        refusal::BLOCK_SIZE_REQD => "it wants its block sizes to be kept",
        refusal::POLICY => "its policy forbids it",
        refusal::SHUTDOWN => "it is shutting down",
        _ => "no reason known",
    };
    let said: String = String::from_utf8_lossy(message)
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect();
    Error::new(
        ErrorKind::Io,
        format!("the NBD server refused the export {export:?}: {why} ({kind:#x}) {said}")
            .trim_end()
            .to_owned(),
    )
}

fn unexpected(option: &str, kind: u32) -> Error {
    violation(format!(
        "expected an answer to {option}, found one of type {kind:#x}"
    ))
}

fn too_many_replies() -> Error {
    violation(format!(
        "expected at most {MAX_REPLIES} answers to one option"
    ))
}

/// The server broke a mandatory condition.
pub(super) fn violation(message: String) -> Error {
    Error::corrupt(format!("NBD: {message}"))
}

/// Sending or receiving failed.
pub(super) fn talking(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::TimedOut {
        return Error::new(ErrorKind::Io, "the NBD server did not answer in time");
    }
    Error::io("talking to the NBD server", error)
}
