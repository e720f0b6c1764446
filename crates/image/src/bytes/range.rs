//! A read-only byte range: a whole image file, a member of a tar archive read in place, anything of a
//! [`ByteStore`].

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::concat::Concat;
use super::host::HostFile;
use super::{ByteStore, FileId};
use crate::{Error, ErrorKind, Result};

/// `len` bytes from `start` of a store, with a name for messages. Cheap to clone; reads are positioned, so clones
/// do not disturb each other.
#[derive(Clone)]
pub struct FileRange {
    store: Arc<dyn ByteStore>,
    start: u64,
    len: u64,
    label: Arc<str>,
}

impl FileRange {
    /// The whole of a regular file or block device.
    pub fn open(path: &Path) -> Result<Self> {
        let at_path = |e: Error| e.in_path(path);
        let file = File::open(path).map_err(|e| at_path(Error::io("opening", e)))?;
        let store = HostFile::new(Arc::new(file)).map_err(at_path)?;
        Ok(Self::from_store(
            Arc::new(store),
            path.display().to_string(),
        ))
    }

    /// A part of an open file, named `label` in messages. The range is checked against the file's end.
    pub fn part(file: Arc<File>, start: u64, len: u64, label: impl Into<Arc<str>>) -> Result<Self> {
        let label = label.into();
        let store = HostFile::new(file).map_err(|e| e.in_file(&label))?;
        Self::from_store(Arc::new(store), Arc::clone(&label)).slice(start, len, label)
    }

    /// All bytes of a store.
    pub fn from_store(store: Arc<dyn ByteStore>, label: impl Into<Arc<str>>) -> Self {
        Self {
            start: 0,
            len: store.len(),
            store,
            label: label.into(),
        }
    }

    /// Pieces of one image, in order.
    pub fn concat(pieces: Vec<FileRange>, label: impl Into<Arc<str>>) -> Result<Self> {
        Ok(Self::from_store(Arc::new(Concat::new(pieces)?), label))
    }

    /// A part of this range under a name of its own.
    pub fn slice(&self, start: u64, len: u64, label: impl Into<Arc<str>>) -> Result<Self> {
        let label = label.into();
        if start.checked_add(len).is_none_or(|stop| stop > self.len) {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected {len} bytes from {start:#x}, but the file ends at {:#x}",
                    self.len
                ),
            )
            .in_file(&label));
        }
        Ok(Self {
            store: Arc::clone(&self.store),
            start: self.start + start,
            len,
            label,
        })
    }

    /// The same bytes under another name.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = label.into();
        self
    }

    /// Length of the range in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when the range holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Name for messages; the path, where it is a whole file.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The host's file and the place in it, for noticing an image that is its own parent.
    pub fn id(&self) -> Option<(FileId, u64)> {
        self.store.id().map(|id| (id, self.start))
    }

    /// True when [`run_at`](Self::run_at) may find zeroes without reading.
    pub fn is_sparse(&self) -> bool {
        self.store.is_sparse()
    }

    /// The run that starts at `offset`: true for data, false for bytes that are known to be zero (a hole of the
    /// host's file), and its length, from 1 to `max_len` bytes. What lies past the end of the range is data.
    pub fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        let len = max_len.min(self.len.saturating_sub(offset));
        if len == 0 {
            return (true, max_len);
        }
        match self.store.run_at(self.start + offset, len) {
            (true, run) if run >= len => (true, max_len),
            (data, run) => (data, run.min(len)),
        }
    }

    /// Fills `buf` from `offset` within the range; a short range is [`ErrorKind::Truncated`].
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let fits = offset
            .checked_add(buf.len() as u64)
            .is_some_and(|stop| stop <= self.len);
        let result = if fits {
            self.store.read_exact_at(buf, self.start + offset)
        } else {
            Err(Error::io(
                format!("reading {} bytes of {}", buf.len(), self.len),
                io::ErrorKind::UnexpectedEof.into(),
            ))
        };
        result.map_err(|e| e.in_file(&self.label).at(offset))
    }

    /// Reads `len` bytes from `offset` into a new buffer. The caller has capped `len`.
    pub fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read_exact_at(&mut buf, offset)?;
        Ok(buf)
    }
}

impl fmt::Debug for FileRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FileRange({} {:#x}+{:#x})",
            self.label, self.start, self.len
        )
    }
}
