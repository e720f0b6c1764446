//! A read-only byte range of a file: a whole image file, or a member of a tar archive read in place.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// `len` bytes of an open file, from `start`. Cheap to clone; reads are positioned, so clones do not disturb
/// each other.
#[derive(Clone)]
pub struct FileRange {
    file: Arc<File>,
    start: u64,
    len: u64,
    label: Arc<str>,
}

impl FileRange {
    /// The whole of a regular file or block device.
    pub fn open(path: &Path) -> Result<Self> {
        let at_path = |e: Error| e.in_path(path);
        let file = File::open(path).map_err(|e| at_path(Error::io("opening", e)))?;
        let meta = file
            .metadata()
            .map_err(|e| at_path(Error::io("reading its status", e)))?;
        let len = if meta.is_file() {
            meta.len()
        } else {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))
                .map_err(|e| at_path(Error::io("finding its size", e.into())))?
        };
        Ok(Self {
            file: Arc::new(file),
            start: 0,
            len,
            label: path.display().to_string().into(),
        })
    }

    /// A part of an open file, named `label` in messages. The range is checked against the file's end.
    pub fn part(file: Arc<File>, start: u64, len: u64, label: impl Into<Arc<str>>) -> Result<Self> {
        let label = label.into();
        let end = file
            .metadata()
            .map_err(|e| Error::io("reading its status", e).in_file(&label))?
            .len();
        if start.checked_add(len).is_none_or(|stop| stop > end) {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!("expected {len} bytes from {start:#x}, but the file ends at {end:#x}"),
            )
            .in_file(&label));
        }
        Ok(Self {
            file,
            start,
            len,
            label,
        })
    }

    /// Length of the range in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when the range holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Name for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The open file and the offset of the range in it, for `SEEK_HOLE` and the like.
    pub fn file(&self) -> (&File, u64) {
        (&self.file, self.start)
    }

    /// Fills `buf` from `offset` within the range; a short range is [`ErrorKind::Truncated`].
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let fits = offset
            .checked_add(buf.len() as u64)
            .is_some_and(|stop| stop <= self.len);
        let result = if fits {
            self.file.read_exact_at(buf, self.start + offset)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        result.map_err(|e| {
            Error::io(format!("reading {} bytes of {}", buf.len(), self.len), e)
                .in_file(&self.label)
                .at(offset)
        })
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
