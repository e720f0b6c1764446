//! Compressed files read with random access, without unpacking them: `.gz`, `.xz`, `.zst`, a deflated member of a zip.
//!
//! ```text
//! open:  packed bytes ──decoder──> index pass ──> length, runs of zeroes, restart points, (scratch)
//! read:  offset ──> zero? ──> cached? ──> scratch? ──> nearest restart point or live decoder ──> chunk
//! ```
//!
//! **The index pass** decodes everything once when the file is opened. It finds the exact length, verifies every
//! checksum and length that the format has, notes which chunks are all zero, and keeps *restart points*: for gzip the
//! whole state of the decoder every so often, for xz the start of a block, for zstd that of a frame. Memory is bounded:
//! with too many points every other one goes, with too many runs of zeroes the short ones go.
//!
//! **Reads** decode forward from the nearest point, or from a decoder that stopped shortly before; a few of these and
//! some decoded chunks are kept. No lock is held while decoding.
//!
//! **Scratch.** xz and zstd cannot be restarted inside a block or frame, and `xz`'s default is one block for the whole
//! file, `zstd`'s one frame. What lies more than [`MAX_GAP`] past a restart point is written by the index pass to a
//! sparse file without a name, zeroes left out, in `$V2V_TMPDIR`, else `$TMPDIR`, else `/var/tmp`. A file that was
//! packed in blocks (`xz -T0`, `pzstd`, `zstd --adapt`'s multi-frame kin) or with gzip never needs it.

mod gzip;
mod index;
mod input;
mod pool;
mod scratch;
mod store;
mod xz;
mod zstd;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use types::CancelToken;

use self::gzip::Gzip;
use self::xz::Xz;
use self::zstd::Zstd;
use super::FileRange;
use crate::{Error, Result};

/// Unit of the zero map and of the cache, in bytes.
const CHUNK: u64 = 128 << 10;
/// Furthest that a read decodes from a restart point where no further point can be had, in bytes: half a second of xz.
/// `xz -T0` makes blocks of 24 MiB, three dictionaries of `-6`.
const MAX_GAP: u64 = 32 << 20;
/// Largest window (zstd) or dictionary (xz) in bytes: each live decoder holds one. The zstd program's own limit; `xz -9`
/// wants 64 MiB.
const MAX_WINDOW: u64 = 128 << 20;
/// Longest unpacked file unless the caller knows better: the largest disk of VMDK and VHDX is 64 TiB. Stops a bomb.
const MAX_UNPACKED: u64 = 65 << 40;

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packing {
    /// One or several gzip members (RFC 1952).
    Gzip,
    /// One or several xz streams (The .xz File Format 1.2.1).
    Xz,
    /// One or several zstd frames (RFC 8878), skippable ones among them.
    Zstd,
    /// A bare deflate stream (RFC 1951), as zip archives hold it.
    Deflate {
        /// CRC-32 of the unpacked bytes.
        crc32: u32,
        /// Number of unpacked bytes.
        len: u64,
    },
}

impl Packing {
    /// What the first six bytes of a file say.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            // A skippable frame may come first; pzstd writes one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Deflate { .. } => "deflate",
        }
    }
}

/// How a packed file is opened.
#[derive(Clone, Debug)]
pub struct Unpack {
    /// How it is packed.
    pub packing: Packing,
    /// More unpacked bytes than this are an error of kind [`Limit`](crate::ErrorKind::Limit).
    pub max_len: u64,
    /// Ends the index pass.
    pub cancel: CancelToken,
}

impl Unpack {
    /// With the default limit.
    pub fn new(packing: Packing) -> Self {
        Self {
            packing,
            max_len: MAX_UNPACKED,
            cancel: CancelToken::new(),
        }
    }
}

impl FileRange {
    /// The packing that the first bytes speak of.
    pub fn packing(&self) -> Result<Option<Packing>> {
        let len = usize::try_from(self.len().min(6)).unwrap_or(0);
        Ok(Packing::of(&self.read_vec(0, len)?))
    }

    /// The bytes inside packed ones. Decodes all of them once, see [`Unpack`] for how to limit that.
    pub fn unpacked(&self, packing: Packing) -> Result<Self> {
        self.unpacked_by(&Unpack::new(packing))
    }

    /// [`unpacked`](Self::unpacked) with a limit and a way to cancel.
    pub fn unpacked_by(&self, how: &Unpack) -> Result<Self> {
        let store = store::Store::open(self, how).map_err(|e| e.in_file(self.label()))?;
        Ok(Self::from_store(Arc::new(store), self.label()))
    }
}

/// A decoder at some place of the packed bytes.
trait Decode: Send {
    /// Decodes into `buf`, as much as fits. Less comes only where a restart may be possible and at the end, 0 only at
    /// the end. After an error the decoder is not used again.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// How to begin again at the present place, where that is possible.
    fn restart(&self) -> Option<Restart>;
}

/// How to begin in the middle.
enum Restart {
    /// At the very beginning.
    Start,
    /// The state of a gzip or deflate decoder.
    Gzip(Box<gzip::Saved>),
    /// A block of this number.
    Xz(usize),
    /// A frame at this offset of the packed bytes.
    Zstd(u64),
}

/// A packed file: makes decoders of it.
struct Codec {
    range: FileRange,
    kind: Kind,
}

enum Kind {
    Gzip(Option<gzip::Expected>),
    Xz(Arc<xz::Blocks>),
    Zstd(Arc<zstd::Stats>),
}

impl Codec {
    /// Reads what must be read to make decoders.
    fn new(range: &FileRange, packing: Packing) -> Result<Self> {
        let kind = match packing {
            Packing::Gzip => Kind::Gzip(None),
            Packing::Deflate { crc32, len } => Kind::Gzip(Some(gzip::Expected { crc32, len })),
            Packing::Xz => Kind::Xz(Arc::new(xz::Blocks::read(range)?)),
            Packing::Zstd => Kind::Zstd(Arc::default()),
        };
        Ok(Self {
            range: range.clone(),
            kind,
        })
    }

    /// A decoder at the beginning, which verifies all there is to verify.
    fn start(&self) -> Result<Box<dyn Decode>> {
        Ok(match &self.kind {
            Kind::Gzip(expected) => Box::new(Gzip::start(&self.range, *expected)),
            Kind::Xz(blocks) => Box::new(Xz::at(&self.range, Arc::clone(blocks), 0)),
            Kind::Zstd(stats) => Box::new(Zstd::at(&self.range, 0, Arc::clone(stats))?),
        })
    }

    /// A decoder at a restart point of this file.
    fn resume(&self, restart: &Restart) -> Result<Box<dyn Decode>> {
        match (&self.kind, restart) {
            (_, Restart::Start) => self.start(),
            (Kind::Gzip(expected), Restart::Gzip(saved)) => {
                Ok(Box::new(Gzip::resume(&self.range, *expected, saved)))
            }
            (Kind::Xz(blocks), Restart::Xz(block)) => {
                Ok(Box::new(Xz::at(&self.range, Arc::clone(blocks), *block)))
            }
            (Kind::Zstd(stats), Restart::Zstd(offset)) => {
                Ok(Box::new(Zstd::at(&self.range, *offset, Arc::clone(stats))?))
            }
            _ => Err(Error::corrupt("a restart point of another packing")),
        }
    }

    /// Bytes of memory that a live decoder holds, roughly.
    fn decoder_size(&self) -> u64 {
        match &self.kind {
            Kind::Gzip(_) => gzip::DECODER_SIZE,
            Kind::Xz(blocks) => blocks.max_dictionary(),
            Kind::Zstd(stats) => stats.max_window(),
        }
    }
}
