//! The packed bytes as a stream.

use std::io::{self, Read};

use super::FileRange;
use crate::{Error, ErrorKind, Result};

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// A position in a range, with a buffer ahead of it.
#[derive(Debug)]
pub(super) struct Input {
    range: FileRange,
    /// Offset of the first byte past the buffer.
    next: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are consumed.
    used: usize,
    /// Where this input ends, at most the end of the range.
    end: u64,
}

impl Input {
    pub(super) fn new(range: &FileRange, offset: u64) -> Self {
        Self::part(range, offset, range.len())
    }

    /// From `offset` to `end`, which the caller has checked against the range.
    pub(super) fn part(range: &FileRange, offset: u64, end: u64) -> Self {
        Self {
            range: range.clone(),
            next: offset,
            buffer: Vec::new(),
            used: 0,
            end,
        }
    }

    /// Offset of the next byte within the range.
    pub(super) fn offset(&self) -> u64 {
        self.next - (self.buffer.len() - self.used) as u64
    }

    /// Some bytes; none at the end.
    pub(super) fn peek(&mut self) -> Result<&[u8]> {
        if self.used == self.buffer.len() {
            let left = self.end.saturating_sub(self.next);
            let len = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            self.buffer.resize(len, 0);
            self.used = 0;
            if len > 0
                && let Err(error) = self.range.read_exact_at(&mut self.buffer, self.next)
            {
                self.buffer.clear();
                return Err(error);
            }
            self.next += len as u64;
        }
        Ok(self.buffer.get(self.used..).unwrap_or_default())
    }

    /// Passes over bytes that [`peek`](Self::peek) showed.
    pub(super) fn consume(&mut self, len: usize) {
        self.used = (self.used + len).min(self.buffer.len());
    }

    /// The next byte, `None` at the end.
    pub(super) fn byte(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?.first().copied();
        if byte.is_some() {
            self.consume(1);
        }
        Ok(byte)
    }

    /// The next bytes, all of them or an error that says what they are.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        let start = self.offset();
        for slot in &mut out {
            *slot = self.byte()?.ok_or_else(|| truncated(what).at(start))?;
        }
        Ok(out)
    }

    /// The same input at another place.
    pub(super) fn again_from(&self, offset: u64) -> Self {
        Self::part(&self.range, offset, self.end)
    }

    /// Passes over `len` bytes.
    pub(super) fn skip(&mut self, len: u64, what: &str) -> Result<()> {
        let start = self.offset();
        let target = start
            .checked_add(len)
            .filter(|&target| target <= self.end)
            .ok_or_else(|| truncated(what).at(start))?;
        self.buffer.clear();
        self.used = 0;
        self.next = target;
        Ok(())
    }
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.peek().map_err(io::Error::other)?;
        let len = bytes.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.consume(len);
        Ok(len)
    }
}

/// The file ends too early.
pub(super) fn truncated(what: &str) -> Error {
    Error::new(
        ErrorKind::Truncated,
        format!("expected {what}, but the packed data end"),
    )
}
