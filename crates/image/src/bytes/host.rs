//! A regular file or block device of the host.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::{ByteStore, FileId};
use crate::{Error, Result};

/// An open file; reads are positioned.
#[derive(Debug)]
pub(super) struct HostFile {
    file: Arc<File>,
    len: u64,
    id: FileId,
    sparse: bool,
}

impl HostFile {
    /// Finds out how long it is: a block device says so by seeking.
    pub(super) fn new(file: Arc<File>) -> Result<Self> {
        let meta = file
            .metadata()
            .map_err(|e| Error::io("reading its status", e))?;
        let len = if meta.is_file() {
            meta.len()
        } else {
            seek(&file, SeekFrom::End(0)).map_err(|e| Error::io("finding its size", e.into()))?
        };
        Ok(Self {
            file,
            len,
            id: FileId {
                device: meta.dev(),
                inode: meta.ino(),
            },
            sparse: meta.is_file() && meta.blocks().saturating_mul(512) < meta.len(),
        })
    }
}

impl ByteStore for HostFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|e| Error::io(format!("reading {} bytes of {}", buf.len(), self.len), e))
    }

    /// Asks lseek(2), `SEEK_DATA` and `SEEK_HOLE`. What the file system cannot say is data: reading it gives the
    /// true answer. The position of the open file moves; nothing here reads by it.
    fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        let len = max_len.min(self.len.saturating_sub(offset));
        if len == 0 {
            return (true, max_len);
        }
        let (data, run) = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => (false, data - offset),
            Ok(_) => match seek(&self.file, SeekFrom::Hole(offset)) {
                Ok(hole) if hole > offset => (true, hole - offset),
                _ => (true, u64::MAX),
            },
            // No data from here to the end of the file.
            Err(Errno::NXIO) => (false, u64::MAX),
            Err(_) => (true, u64::MAX),
        };
        (data, run.min(len))
    }

    fn is_sparse(&self) -> bool {
        self.sparse
    }

    fn id(&self) -> Option<FileId> {
        Some(self.id)
    }
}
