//! A tar archive (POSIX.1-2001 ustar, GNU long names) that exists nowhere: its headers are in memory, its contents are
//! read from where they lie when somebody reads the archive. To the appliance it is a read-only disk.
//!
//! ```text
//!   | headers | file of the host | padding, headers | piece of an ISO | piece | padding … zeroes to a whole sector |
//!     memory    opened to be read   memory             one open file
//! ```

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use image::{BlockSource, Error, ErrorKind, Extent, ExtentKind, Result};
use tar::{Builder, EntryType, Header};

/// Of a tar archive.
const BLOCK: u64 = 512;
/// A disk has whole sectors; this suits every one.
const SECTOR: u64 = 4096;
/// Zeroes that end an archive.
const END: usize = 1024;

/// Where bytes of a member lie.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a file of the host, opened when it is read: a folder of drivers has more files than a process may have open.
    Path(PathBuf),
    /// In an open image.
    Image(Arc<File>),
}

/// A part of a member's content.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) place: Place,
    pub(super) offset: u64,
    pub(super) len: u64,
}

#[derive(Debug)]
enum Bytes {
    Memory(Vec<u8>),
    Piece(Piece),
}

#[derive(Debug)]
struct Segment {
    /// Where it begins in the archive.
    start: u64,
    bytes: Bytes,
}

impl Segment {
    fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::Memory(bytes) => bytes.len() as u64,
            Bytes::Piece(piece) => piece.len,
        }
    }
}

/// Gathers members.
#[derive(Debug, Default)]
pub(super) struct Archive {
    segments: Vec<Segment>,
    /// Headers since the last content.
    waiting: Vec<u8>,
    len: u64,
}

impl Archive {
    /// Adds a folder.
    pub(super) fn folder(&mut self, name: &str, mode: u32) -> io::Result<()> {
        let mut header = header(EntryType::Directory, mode, 0);
        self.head(|builder| builder.append_data(&mut header, format!("{name}/"), io::empty()))
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, name: &str, mode: u32, target: &Path) -> io::Result<()> {
        let mut header = header(EntryType::Symlink, mode, 0);
        self.head(|builder| builder.append_link(&mut header, name, target))
    }

    /// Adds a file that consists of these pieces.
    pub(super) fn file(&mut self, name: &str, mode: u32, pieces: Vec<Piece>) -> io::Result<()> {
        let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "it is too large");
        let len = pieces
            .iter()
            .try_fold(0u64, |len, piece| len.checked_add(piece.len))
            .ok_or_else(too_large)?;
        let mut header = header(EntryType::Regular, mode, len);
        // The content is not the builder's business.
        self.head(|builder| builder.append_data(&mut header, name, io::empty()))?;
        for piece in pieces.into_iter().filter(|piece| piece.len > 0) {
            self.flush();
            let end = self.len.checked_add(piece.len).ok_or_else(too_large)?;
            self.segments.push(Segment {
                start: self.len,
                bytes: Bytes::Piece(piece),
            });
            self.len = end;
        }
        let padding = len.next_multiple_of(BLOCK) - len;
        self.waiting.resize(
            self.waiting.len() + usize::try_from(padding).unwrap_or(0),
            0,
        );
        Ok(())
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Disk {
        self.waiting.resize(self.waiting.len() + END, 0);
        self.flush();
        Disk {
            size: self.len.next_multiple_of(SECTOR),
            len: self.len,
            segments: self.segments,
            open: Mutex::new(None),
        }
    }

    fn head(
        &mut self,
        append: impl FnOnce(&mut Builder<Vec<u8>>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut builder = Builder::new(Vec::new());
        append(&mut builder)?;
        self.waiting.extend_from_slice(builder.get_ref());
        Ok(())
    }

    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.waiting);
        let start = self.len;
        self.len += bytes.len() as u64;
        self.segments.push(Segment {
            start,
            bytes: Bytes::Memory(bytes),
        });
    }
}

fn header(kind: EntryType, mode: u32, len: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(len);
    header
}

/// The archive as a disk.
pub(super) struct Disk {
    segments: Vec<Segment>,
    /// Of the archive; zeroes follow up to `size`.
    len: u64,
    size: u64,
    /// The file of the host that was read last, by its segment.
    open: Mutex<Option<(usize, Arc<File>)>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("segments", &self.segments.len())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// The file behind segment `index`.
    fn open(&self, index: usize, place: &Place) -> Result<Arc<File>> {
        let path = match place {
            Place::Image(file) => return Ok(Arc::clone(file)),
            Place::Path(path) => path,
        };
        let mut last = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = last.as_ref().filter(|(open, _)| *open == index) {
            return Ok(Arc::clone(file));
        }
        let file = File::open(path)
            .map_err(|error| Error::io("opening a file for the guest", error).in_path(path))?;
        let file = Arc::new(file);
        *last = Some((index, Arc::clone(&file)));
        Ok(file)
    }

    /// Fills `buf` from byte `offset` of segment `index`.
    fn read_segment(&self, index: usize, buf: &mut [u8], offset: u64) -> Result<()> {
        let Some(segment) = self.segments.get(index) else {
            return Ok(());
        };
        let piece = match &segment.bytes {
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = bytes.get(start..).unwrap_or_default();
                for (to, from) in buf.iter_mut().zip(part) {
                    *to = *from;
                }
                return Ok(());
            }
            Bytes::Piece(piece) => piece,
        };
        self.open(index, &piece.place)?
            .read_exact_at(buf, piece.offset + offset)
            .map_err(|error| {
                let error = Error::io("reading a file for the guest", error);
                match &piece.place {
                    Place::Path(path) => error.in_path(path),
                    Place::Image(_) => error,
                }
            })
    }
}

impl BlockSource for Disk {
    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            let message = format!("a read at {offset:#x} past {:#x}", self.size);
            return Err(Error::new(ErrorKind::Usage, message));
        }
        let (mut rest, mut at) = (buf, offset);
        // The last segment that begins at or before it.
        let mut index = self.segments.partition_point(|segment| segment.start <= at);
        index = index.saturating_sub(1);
        while !rest.is_empty() {
            let Some(segment) = self.segments.get(index) else {
                rest.fill(0);
                break;
            };
            let skip = at - segment.start;
            let most = segment.len().saturating_sub(skip).min(rest.len() as u64);
            let (part, after) = rest.split_at_mut(usize::try_from(most).unwrap_or(0));
            self.read_segment(index, part, skip)?;
            at += most;
            rest = after;
            index += 1;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let (end, kind) = if offset < self.len {
            (self.len, ExtentKind::Data)
        } else {
            (self.size, ExtentKind::Zero)
        };
        let len = max_len.min(end.saturating_sub(offset));
        Ok(Extent { offset, len, kind })
    }
}
