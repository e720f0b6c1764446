//! The handshake phase: which export, and how. "Handshake" in the protocol document.
//!
//! ```text
//! greeting ──> options … ──GO / EXPORT_NAME──> transmission
//!                 └──ABORT, end of stream, nonsense──> end
//! ```
//!
//! A client that breaks the framing is dropped; one that asks for what we do not have is told so and may go on.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::proto::*;
use super::server::Export;

/// Data of one option that is kept: the longest name and a few metadata queries. More is skipped and refused.
const MAX_OPTION: usize = 4 * MAX_STRING;
/// Data of one option that is skipped before the client is taken for hostile.
const MAX_SKIP: u32 = 1 << 20;
/// Options that one client may send. Real clients need about ten.
const MAX_OPTIONS: usize = 256;

/// What client and server have agreed on.
pub(super) struct Agreed {
    /// The export that the client chose.
    pub(super) export: Arc<Export>,
    /// Reads are answered by structured replies.
    pub(super) structured: bool,
    /// The client may ask for `base:allocation`.
    pub(super) allocation: bool,
}

/// State of a handshake.
pub(super) struct Handshake<'a, S> {
    stream: S,
    exports: &'a [Arc<Export>],
    no_zeroes: bool,
    structured: bool,
    /// The export whose `base:allocation` was selected, by its index.
    allocation_of: Option<usize>,
}

/// What follows an option.
enum Next {
    More,
    Transmission(usize),
    End,
}

impl<'a, S: Read + Write> Handshake<'a, S> {
    /// Runs the handshake. `None` when the client left as it may.
    pub(super) fn run(stream: S, exports: &'a [Arc<Export>]) -> io::Result<Option<Agreed>> {
        let mut this = Self {
            stream,
            exports,
            no_zeroes: false,
            structured: false,
            allocation_of: None,
        };
        this.greet()?;
        for _ in 0..MAX_OPTIONS {
            match this.option()? {
                Next::More => {}
                Next::End => return Ok(None),
                Next::Transmission(index) => {
                    let Some(export) = exports.get(index) else {
                        return Ok(None);
                    };
                    return Ok(Some(Agreed {
                        export: Arc::clone(export),
                        structured: this.structured,
                        allocation: this.allocation_of == Some(index),
                    }));
                }
            }
        }
        Err(violation(format!(
            "expected a choice of export within {MAX_OPTIONS} options"
        )))
    }

    fn greet(&mut self) -> io::Result<()> {
        let mut greeting = Vec::with_capacity(18);
        greeting.extend(INIT_MAGIC.to_be_bytes());
        greeting.extend(OPTION_MAGIC.to_be_bytes());
        greeting.extend((handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES).to_be_bytes());
        self.stream.write_all(&greeting)?;
        let flags = self.read_u32()?;
        let known = u32::from(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        if flags & !known != 0 {
            return Err(violation(format!("unknown client flags {flags:#x}")));
        }
        self.no_zeroes = flags & u32::from(handshake_flag::NO_ZEROES) != 0;
        Ok(())
    }

    fn option(&mut self) -> io::Result<Next> {
        let mut magic = [0; 8];
        if !read_or_end(&mut self.stream, &mut magic)? {
            return Ok(Next::End); // a client that only looks whether somebody listens
        }
        let magic = u64::from_be_bytes(magic);
        if magic != OPTION_MAGIC {
            return Err(violation(format!("expected an option, found {magic:#x}")));
        }
        let option = self.read_u32()?;
        let len = self.read_u32()?;
        let Some(data) = self.option_data(len)? else {
            self.error(option, option_reply::ERR_TOO_BIG, "the option is too long")?;
            return Ok(Next::More);
        };
        match option {
            option::EXPORT_NAME => self.export_name(&data),
            option::ABORT => {
                self.reply(option, option_reply::ACK, &[])?;
                Ok(Next::End)
            }
            option::LIST => self.list(&data),
            option::INFO | option::GO => self.info_or_go(option, &data),
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                self.reply(option, option_reply::ACK, &[])
            }
            option::STRUCTURED_REPLY => self.invalid(option, "no data belong to this option"),
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                self.meta_context(option, &data)
            }
            _ => self.error(
                option,
                option_reply::ERR_UNSUP,
                "this option is not supported",
            ),
        }
    }

    /// The data of an option; `None` when there are too many, which are skipped.
    fn option_data(&mut self, len: u32) -> io::Result<Option<Vec<u8>>> {
        if len > MAX_SKIP {
            return Err(violation(format!("an option of {len} bytes")));
        }
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        if left <= MAX_OPTION {
            let mut data = vec![0; left];
            self.stream.read_exact(&mut data)?;
            return Ok(Some(data));
        }
        let mut skipped = [0; 4096];
        while left > 0 {
            let part = left.min(skipped.len());
            self.stream.read_exact(&mut skipped[..part])?;
            left -= part;
        }
        Ok(None)
    }

    /// `NBD_OPT_EXPORT_NAME`: no error can be answered, so an unknown name ends the session.
    fn export_name(&mut self, name: &[u8]) -> io::Result<Next> {
        let Some((index, export)) = self.find(name) else {
            return Err(violation(format!(
                "no export is named `{}`",
                name.escape_ascii()
            )));
        };
        let mut reply = Vec::with_capacity(10 + EXPORT_NAME_PADDING);
        reply.extend(export.size().to_be_bytes());
        reply.extend(self.flags().to_be_bytes());
        if !self.no_zeroes {
            reply.extend([0; EXPORT_NAME_PADDING]);
        }
        self.stream.write_all(&reply)?;
        Ok(Next::Transmission(index))
    }

    fn list(&mut self, data: &[u8]) -> io::Result<Next> {
        if !data.is_empty() {
            return self.invalid(option::LIST, "no data belong to this option");
        }
        for export in self.exports {
            let mut entry = Vec::with_capacity(4 + export.name.len());
            entry.extend(len32(export.name.len()));
            entry.extend(export.name.as_bytes());
            self.reply(option::LIST, option_reply::SERVER, &entry)?;
        }
        self.reply(option::LIST, option_reply::ACK, &[])
    }

    /// `NBD_OPT_INFO` and `NBD_OPT_GO`. What the client asks to be informed of is read for its form only: it gets the
    /// export and the block sizes, always.
    fn info_or_go(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let mut data = Fields(data);
        let (Some(name), Some(count)) = (data.string(), data.u16()) else {
            return self.invalid(option, "expected a name and a count");
        };
        if data.0.len() != usize::from(count) * 2 {
            return self.invalid(option, "the count does not match the length");
        }
        let Some((index, export)) = self.find(name) else {
            return self.error(option, option_reply::ERR_UNKNOWN, "no export has this name");
        };
        let mut info = info::EXPORT.to_be_bytes().to_vec();
        info.extend(export.size().to_be_bytes());
        info.extend(self.flags().to_be_bytes());
        self.reply(option, option_reply::INFO, &info)?;
        let mut info = info::BLOCK_SIZE.to_be_bytes().to_vec();
        info.extend(
            [MIN_BLOCK, PREFERRED_BLOCK, MAX_BLOCK]
                .map(u32::to_be_bytes)
                .as_flattened(),
        );
        self.reply(option, option_reply::INFO, &info)?;
        self.reply(option, option_reply::ACK, &[])?;
        Ok(if option == option::GO {
            Next::Transmission(index)
        } else {
            Next::More
        })
    }

    /// `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
    fn meta_context(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        if option == option::SET_META_CONTEXT {
            self.allocation_of = None;
        }
        if !self.structured {
            return self.invalid(option, "structured replies come first");
        }
        let mut data = Fields(data);
        let (Some(name), Some(count)) = (data.string(), data.u32()) else {
            return self.invalid(option, "expected a name and a count");
        };
        let listing = option == option::LIST_META_CONTEXT;
        let mut wanted = listing && count == 0;
        for _ in 0..count {
            let Some(query) = data.string() else {
                return self.invalid(option, "the count does not match the length");
            };
            wanted |= query == context::ALLOCATION || (listing && query == context::NAMESPACE);
        }
        if !data.0.is_empty() {
            return self.invalid(option, "the count does not match the length");
        }
        let Some((index, _)) = self.find(name) else {
            return self.error(option, option_reply::ERR_UNKNOWN, "no export has this name");
        };
        if wanted {
            // The id of a listed context is reserved, it should be zero.
            let id = if listing { 0 } else { context::ALLOCATION_ID };
            let mut entry = id.to_be_bytes().to_vec();
            entry.extend(context::ALLOCATION);
            self.reply(option, option_reply::META_CONTEXT, &entry)?;
            if !listing {
                self.allocation_of = Some(index);
            }
        }
        self.reply(option, option_reply::ACK, &[])
    }

    /// The export of this name. The empty name is the first one: "Option types", `NBD_OPT_EXPORT_NAME`.
    fn find(&self, name: &[u8]) -> Option<(usize, &'a Arc<Export>)> {
        let exact = self
            .exports
            .iter()
            .enumerate()
            .find(|(_, export)| export.name.as_bytes() == name);
        exact.or_else(|| {
            self.exports
                .iter()
                .enumerate()
                .next()
                .filter(|_| name.is_empty())
        })
    }

    fn flags(&self) -> u16 {
        use transmission_flag::*;
        let always = HAS_FLAGS
            | SEND_FLUSH
            | SEND_FUA
            | SEND_TRIM
            | SEND_WRITE_ZEROES
            | CAN_MULTI_CONN
            | SEND_FAST_ZERO;
        if self.structured {
            always | SEND_DF
        } else {
            always
        }
    }

    fn invalid(&mut self, option: u32, message: &str) -> io::Result<Next> {
        self.error(option, option_reply::ERR_INVALID, message)
    }

    /// Refuses an option, with a message for people.
    fn error(&mut self, option: u32, reply: u32, message: &str) -> io::Result<Next> {
        tracing::debug!(option, reply, message, "NBD option refused");
        self.reply(option, reply, message.as_bytes())
    }

    fn reply(&mut self, option: u32, reply: u32, data: &[u8]) -> io::Result<Next> {
        let mut message = Vec::with_capacity(20 + data.len());
        message.extend(OPTION_REPLY_MAGIC.to_be_bytes());
        message.extend(option.to_be_bytes());
        message.extend(reply.to_be_bytes());
        message.extend(len32(data.len()));
        message.extend(data);
        self.stream.write_all(&message)?;
        Ok(Next::More)
    }

    fn read_u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.stream.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }
}

/// Fields of an option's data, taken from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A length of 32 bits and as many bytes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }
}

/// A length as a field. What we send is far below 4 GiB.
fn len32(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

/// Fills `buf`, or says false when the stream ends before its first byte.
pub(super) fn read_or_end(stream: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    let (first, rest) = buf.split_at_mut(buf.len().min(1));
    match stream.read_exact(first) {
        Ok(()) => stream.read_exact(rest).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The client broke a mandatory condition: it is dropped.
pub(super) fn violation(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
