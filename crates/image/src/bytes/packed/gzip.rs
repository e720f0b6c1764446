//! gzip members (RFC 1952) and bare deflate streams (RFC 1951).
//!
//! Members follow each other; their contents are one file (RFC 1952, 2.2). After the last one only zero bytes may
//! stand, as tapes leave them. The CRC-32 and ISIZE of each member are compared by the decoder that began at its start,
//! which the index pass's always did.

use libdeflater::Crc;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::input::{Input, truncated};
use super::{Decode, FileRange, Restart};
use crate::{Error, ErrorKind, Result};

/// Memory of a decoder: tables, window, input buffer.
pub(super) const DECODER_SIZE: u64 = 128 << 10;
/// Longest file name or comment in a header. RFC 1952 sets no limit; names are paths.
const MAX_TEXT: u64 = 64 << 10;

/// Bits of FLG (RFC 1952, 2.3.1).
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// What the container of a bare deflate stream says of its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) crc32: u32,
    pub(super) len: u64,
}

/// A decoder that stopped in the middle of a member.
pub(super) struct Saved {
    state: Box<InflateState>,
    input: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A member begins, or the file ends; true for the first.
    Header(bool),
    Body,
    End,
}

/// The decoder.
pub(super) struct Gzip {
    input: Input,
    state: Box<InflateState>,
    phase: Phase,
    /// Of the member so far; `None` when its beginning was not seen.
    check: Option<(Crc, u64)>,
    /// For a bare stream.
    expected: Option<Expected>,
}

impl Gzip {
    pub(super) fn start(range: &FileRange, expected: Option<Expected>) -> Self {
        let bare = expected.is_some();
        Self {
            input: Input::new(range, 0),
            state: InflateState::new_boxed(DataFormat::Raw),
            phase: if bare {
                Phase::Body
            } else {
                Phase::Header(true)
            },
            check: Some((Crc::new(), 0)),
            expected,
        }
    }

    pub(super) fn resume(range: &FileRange, expected: Option<Expected>, saved: &Saved) -> Self {
        Self {
            input: Input::new(range, saved.input),
            state: saved.state.clone(),
            phase: Phase::Body,
            check: None,
            expected,
        }
    }

    /// Reads a member's header (RFC 1952, 2.3). False at the end of the file.
    fn header(&mut self, first: bool) -> Result<bool> {
        let start = self.input.offset();
        if !first && self.only_padding()? {
            return Ok(false);
        }
        let magic: [u8; 4] = self.input.array("a gzip header")?;
        let [0x1f, 0x8b, 8, flags] = magic else {
            return Err(Error::corrupt(format!(
                "expected a gzip header (1f 8b 08), found {:02x?}",
                &magic[..3]
            ))
            .at(start));
        };
        if flags & RESERVED != 0 {
            return Err(Error::unsupported(format!(
                "gzip header with reserved flags {flags:#04x}"
            ))
            .at(start));
        }
        let _mtime_xfl_os: [u8; 6] = self.input.array("a gzip header")?;
        if flags & FEXTRA != 0 {
            let len = u16::from_le_bytes(self.input.array("a gzip extra field")?);
            self.input.skip(len.into(), "a gzip extra field")?;
        }
        for flag in [FNAME, FCOMMENT] {
            if flags & flag != 0 {
                self.text()?;
            }
        }
        if flags & FHCRC != 0 {
            let _: [u8; 2] = self.input.array("a gzip header's checksum")?;
        }
        Ok(true)
    }

    /// Passes over a text that ends in a zero byte.
    fn text(&mut self) -> Result<()> {
        let start = self.input.offset();
        for _ in 0..MAX_TEXT {
            match self.input.byte()? {
                Some(0) => return Ok(()),
                Some(_) => {}
                None => return Err(truncated("the end of a name in the gzip header").at(start)),
            }
        }
        let message = format!("expected a name of at most {MAX_TEXT} bytes in the gzip header");
        Err(Error::new(ErrorKind::Limit, message).at(start))
    }

    /// True when nothing but zero bytes follows.
    fn only_padding(&mut self) -> Result<bool> {
        loop {
            let bytes = self.input.peek()?;
            if bytes.is_empty() {
                return Ok(true);
            }
            let zeroes = bytes.iter().take_while(|&&byte| byte == 0).count();
            if zeroes == 0 {
                return Ok(false);
            }
            self.input.consume(zeroes);
        }
    }

    /// Compares what follows a member's data with them.
    fn trailer(&mut self) -> Result<()> {
        let start = self.input.offset();
        let check = self.check.take().map(|(crc, len)| (crc.sum(), len));
        let (expected_crc, len_matches, expected_len) = match self.expected {
            Some(expected) => {
                let matches = check.is_none_or(|(_, len)| len == expected.len);
                (expected.crc32, matches, expected.len)
            }
            None => {
                let crc = u32::from_le_bytes(self.input.array("a gzip member's CRC-32")?);
                let isize = u32::from_le_bytes(self.input.array("a gzip member's length")?);
                // ISIZE is the length modulo 2^32 (RFC 1952, 2.3.1).
                let matches =
                    check.is_none_or(|(_, len)| len & u64::from(u32::MAX) == u64::from(isize));
                (crc, matches, isize.into())
            }
        };
        let Some((crc, len)) = check else {
            return Ok(());
        };
        if !len_matches {
            return Err(Error::corrupt(format!(
                "expected {expected_len} unpacked bytes (modulo 2^32 in gzip), found {len}"
            ))
            .at(start));
        }
        if crc != expected_crc {
            return Err(Error::corrupt(format!(
                "expected the CRC-32 {expected_crc:08x} of the unpacked data, found {crc:08x}"
            ))
            .at(start));
        }
        Ok(())
    }

    /// Decodes some of a member. `None` at its end.
    fn body(&mut self, buf: &mut [u8]) -> Result<Option<usize>> {
        loop {
            let start = self.input.offset();
            let bytes = self.input.peek()?;
            let at_end = bytes.is_empty();
            let result = inflate(&mut self.state, bytes, buf, MZFlush::None);
            self.input.consume(result.bytes_consumed);
            let written = result.bytes_written;
            if let Some((crc, len)) = &mut self.check {
                crc.update(&buf[..written]);
                *len += written as u64;
            }
            match result.status {
                Ok(MZStatus::StreamEnd) if written == 0 => return Ok(None),
                Ok(_) | Err(MZError::Buf) if written > 0 => return Ok(Some(written)),
                Ok(_) | Err(MZError::Buf) if at_end => {
                    return Err(truncated("more deflate data").at(start));
                }
                Ok(_) => {}
                Err(MZError::Buf) if result.bytes_consumed > 0 => {}
                Err(error) => {
                    return Err(Error::corrupt(format!(
                        "expected deflate data, found something else ({error:?})"
                    ))
                    .at(start));
                }
            }
        }
    }
}

impl Decode for Gzip {
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.phase {
                Phase::End => break,
                Phase::Header(first) => {
                    if self.header(first)? {
                        self.state.reset(DataFormat::Raw);
                        self.check = Some((Crc::new(), 0));
                        self.phase = Phase::Body;
                    } else {
                        self.phase = Phase::End;
                    }
                }
                Phase::Body => match self.body(&mut buf[done..])? {
                    Some(len) => done += len,
                    None => {
                        self.trailer()?;
                        self.phase = match self.expected {
                            None => Phase::Header(false),
                            Some(_) if self.input.peek()?.is_empty() => Phase::End,
                            Some(_) => {
                                let message = "expected the end of the packed data, found more";
                                return Err(Error::corrupt(message).at(self.input.offset()));
                            }
                        };
                    }
                },
            }
        }
        Ok(done)
    }

    fn restart(&self) -> Option<Restart> {
        (self.phase == Phase::Body).then(|| {
            Restart::Gzip(Box::new(Saved {
                state: self.state.clone(),
                input: self.input.offset(),
            }))
        })
    }
}
