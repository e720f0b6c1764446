//! zstd frames (RFC 8878). libzstd decodes and verifies a frame's checksum and content size where it has them; the walk
//! from frame to frame is ours, because frames are the restart points and because a frame says how large its window is
//! before libzstd allocates it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::input::{Input, truncated};
use super::{Decode, FileRange, MAX_WINDOW, Restart};
use crate::{Error, ErrorKind, Result};

/// `Magic_Number` of a frame (RFC 8878, 3.1.1), little-endian.
const MAGIC: u32 = 0xfd2f_b528;
/// `Magic_Number` of skippable frames (3.1.2): 0x184D2A50 to 0x184D2A5F.
const SKIPPABLE: u32 = 0x184d_2a50;
const SKIPPABLE_MASK: u32 = 0xffff_fff0;
/// `log2` of [`MAX_WINDOW`], for libzstd.
const MAX_WINDOW_LOG: u32 = MAX_WINDOW.ilog2();

/// What the frames need, noted while the index pass meets them.
#[derive(Debug, Default)]
pub(super) struct Stats {
    window: AtomicU64,
}

impl Stats {
    pub(super) fn max_window(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }
}

/// The decoder.
pub(super) struct Zstd {
    input: Input,
    decoder: Decoder<'static>,
    in_frame: bool,
    stats: Arc<Stats>,
}

impl Zstd {
    /// At a frame, or at the end.
    pub(super) fn at(range: &FileRange, offset: u64, stats: Arc<Stats>) -> Result<Self> {
        let failed = |e| Error::io("preparing the zstd decoder", e);
        let mut decoder = Decoder::new().map_err(failed)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))
            .map_err(failed)?;
        Ok(Self {
            input: Input::new(range, offset),
            decoder,
            in_frame: false,
            stats,
        })
    }

    /// Goes to the data of the next frame. False at the end of the file.
    fn next_frame(&mut self) -> Result<bool> {
        loop {
            let start = self.input.offset();
            if self.input.peek()?.is_empty() {
                return Ok(false);
            }
            let magic = u32::from_le_bytes(self.input.array("a zstd frame")?);
            if magic & SKIPPABLE_MASK == SKIPPABLE {
                let len = u32::from_le_bytes(self.input.array("a skippable zstd frame")?);
                self.input.skip(len.into(), "a skippable zstd frame")?;
                continue;
            }
            if magic != MAGIC {
                return Err(Error::corrupt(format!(
                    "expected a zstd frame ({MAGIC:#010x}), found {magic:#010x}"
                ))
                .at(start));
            }
            let window = self.window().map_err(|e| e.at(start))?;
            if window > MAX_WINDOW {
                let message = format!(
                    "expected a zstd window of at most {MAX_WINDOW} bytes, found {window}; \
                     pack it without --long or --ultra"
                );
                return Err(Error::new(ErrorKind::Limit, message).at(start));
            }
            self.stats.window.fetch_max(window, Ordering::Relaxed);
            // The decoder wants the header itself.
            self.input = self.input.again_from(start);
            self.in_frame = true;
            return Ok(true);
        }
    }

    /// The window of the frame whose header follows its magic (RFC 8878, 3.1.1.1).
    fn window(&mut self) -> Result<u64> {
        let [descriptor] = self.input.array("a zstd frame header")?;
        let single_segment = descriptor & (1 << 5) != 0;
        if !single_segment {
            let [window] = self.input.array("a zstd frame header")?;
            let base = 1u64 << (10 + (window >> 3));
            return Ok(base + base / 8 * u64::from(window & 7));
        }
        // The window is the whole content.
        let dictionary_id: u64 = [0, 1, 2, 4][usize::from(descriptor & 3)];
        self.input.skip(dictionary_id, "a zstd frame header")?;
        Ok(match descriptor >> 6 {
            0 => u64::from(self.input.array::<1>("a zstd frame header")?[0]),
            1 => u64::from(u16::from_le_bytes(self.input.array("a zstd frame header")?)) + 256,
            2 => u32::from_le_bytes(self.input.array("a zstd frame header")?).into(),
            _ => u64::from_le_bytes(self.input.array("a zstd frame header")?),
        })
    }
}

impl Decode for Zstd {
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            if !self.in_frame {
                // A restart is possible here: stop, unless nothing was decoded yet.
                if done > 0 || !self.next_frame()? {
                    break;
                }
            }
            let start = self.input.offset();
            let bytes = self.input.peek()?;
            let at_end = bytes.is_empty();
            let status = self
                .decoder
                .run_on_buffers(bytes, &mut buf[done..])
                .map_err(|e| Error::corrupt(format!("expected zstd data: {e}")).at(start))?;
            self.input.consume(status.bytes_read);
            done += status.bytes_written;
            if status.remaining == 0 {
                self.in_frame = false;
            } else if at_end && status.bytes_written == 0 {
                return Err(truncated("the rest of a zstd frame").at(start));
            }
        }
        // The end of a frame that ends with the buffer: its checksum is still to be read.
        if self.in_frame && done > 0 {
            let start = self.input.offset();
            let status = self
                .decoder
                .run_on_buffers(self.input.peek()?, &mut [])
                .map_err(|e| Error::corrupt(format!("expected zstd data: {e}")).at(start))?;
            self.input.consume(status.bytes_read);
            self.in_frame = status.remaining != 0;
        }
        Ok(done)
    }

    fn restart(&self) -> Option<Restart> {
        (!self.in_frame).then(|| Restart::Zstd(self.input.offset()))
    }
}
