//! Replies of the transmission phase: "Simple reply message" and "Structured reply chunk message".

use std::io::{self, Write};

use super::proto::*;

/// The longest head of a reply: a structured chunk with its offset.
const HEAD: usize = 28;

/// Buffers above this are not kept for the next request.
const KEEP: usize = 4 << 20;

/// A buffer for the data of a request, with room before them for the head of a reply, so that both leave in one
/// system call.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// Room for `len` bytes, whose content is whatever came before. The caller has capped `len`.
    pub(super) fn resize(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() > KEEP && len + HEAD <= KEEP {
            self.bytes = Vec::new();
        }
        if self.bytes.len() < len + HEAD {
            self.bytes.resize(len + HEAD, 0);
        }
        self.len = len;
        self.data()
    }

    /// The data.
    pub(super) fn data(&mut self) -> &mut [u8] {
        &mut self.bytes[HEAD..HEAD + self.len]
    }

    /// The data with `head` before them.
    fn with_head(&mut self, head: &[u8]) -> &[u8] {
        let start = HEAD - head.len();
        self.bytes[start..HEAD].copy_from_slice(head);
        &self.bytes[start..HEAD + self.len]
    }
}

/// What a request is answered.
pub(super) enum Answer {
    /// Success without data.
    Done,
    /// Success of a read: the data are in the buffer.
    Data,
    /// Success of a read: all of it is zero.
    Hole,
    /// Lengths and flags of consecutive blocks.
    BlockStatus(Vec<(u32, u32)>),
    /// Failure: a number from [`errno`] and a message for people.
    Failed(u32, String),
}

/// Writes replies in the form that was negotiated.
pub(super) struct Replier {
    /// Reads are answered in structured form, all else only where that says more.
    pub(super) structured: bool,
}

/// The request that is answered.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) cookie: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) is_read: bool,
}

impl Replier {
    /// Writes the answer to a request.
    pub(super) fn send(
        &self,
        stream: &mut impl Write,
        asked: Asked,
        answer: Answer,
        buffer: &mut Buffer,
    ) -> io::Result<()> {
        match (answer, self.structured) {
            (Answer::Done, true) if asked.is_read => {
                stream.write_all(&chunk_head(asked.cookie, chunk::NONE, 0))
            }
            (Answer::Done, _) => stream.write_all(&simple(asked.cookie, 0)),
            (Answer::Data, true) => {
                let mut head = chunk_head(asked.cookie, chunk::OFFSET_DATA, asked.len + 8).to_vec();
                head.extend(asked.offset.to_be_bytes());
                stream.write_all(buffer.with_head(&head))
            }
            (Answer::Data, false) => stream.write_all(buffer.with_head(&simple(asked.cookie, 0))),
            (Answer::Hole, true) => {
                let mut message = chunk_head(asked.cookie, chunk::OFFSET_HOLE, 12).to_vec();
                message.extend(asked.offset.to_be_bytes());
                message.extend(asked.len.to_be_bytes());
                stream.write_all(&message)
            }
            (Answer::Hole, false) => {
                buffer
                    .resize(usize::try_from(asked.len).unwrap_or(0))
                    .fill(0);
                stream.write_all(buffer.with_head(&simple(asked.cookie, 0)))
            }
            (Answer::BlockStatus(blocks), _) => {
                let len = u32::try_from(4 + blocks.len() * 8).unwrap_or(u32::MAX);
                let mut message = chunk_head(asked.cookie, chunk::BLOCK_STATUS, len).to_vec();
                message.extend(context::ALLOCATION_ID.to_be_bytes());
                for (len, flags) in blocks {
                    message.extend(len.to_be_bytes());
                    message.extend(flags.to_be_bytes());
                }
                stream.write_all(&message)
            }
            (Answer::Failed(code, text), true) => {
                let text = shortened(&text);
                let len = u16::try_from(text.len()).unwrap_or(0);
                let mut message =
                    chunk_head(asked.cookie, chunk::ERROR, u32::from(len) + 6).to_vec();
                message.extend(code.to_be_bytes());
                message.extend(len.to_be_bytes());
                message.extend(text.as_bytes());
                stream.write_all(&message)
            }
            (Answer::Failed(code, _), false) => stream.write_all(&simple(asked.cookie, code)),
        }
    }
}

fn simple(cookie: u64, error: u32) -> [u8; 16] {
    let mut head = [0; 16];
    head[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    head[4..8].copy_from_slice(&error.to_be_bytes());
    head[8..].copy_from_slice(&cookie.to_be_bytes());
    head
}

/// The head of a reply's only chunk.
fn chunk_head(cookie: u64, kind: u16, len: u32) -> [u8; 20] {
    let mut head = [0; 20];
    head[..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    head[4..6].copy_from_slice(&REPLY_FLAG_DONE.to_be_bytes());
    head[6..8].copy_from_slice(&kind.to_be_bytes());
    head[8..16].copy_from_slice(&cookie.to_be_bytes());
    head[16..].copy_from_slice(&len.to_be_bytes());
    head
}

/// The text, cut to what the protocol and its clients take: "Conventions".
fn shortened(text: &str) -> &str {
    let mut len = text.len().min(MAX_STRING / 4);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}
