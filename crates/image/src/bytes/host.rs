//! A regular file or block device of the host.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::{ByteStore, FileId};
use crate::{Error, Result};

/// Runs that are remembered: one for each thread that walks the file, and some to spare.
const RECENT_RUNS: usize = 16;

/// An open file; reads are positioned.
#[derive(Debug)]
pub(super) struct HostFile {
    file: Arc<File>,
    len: u64,
    id: FileId,
    sparse: bool,
    /// What was found last, newest first. Finding the end of a run costs what the run is long: tmpfs looks at every
    /// page of it, and a copy asks again for every MiB.
    recent: Mutex<Vec<Run>>,
}

/// A run of data or a hole.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    end: u64,
    data: bool,
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
            recent: Mutex::new(Vec::with_capacity(RECENT_RUNS)),
        })
    }

    /// The run that holds `offset`, from there to its end.
    fn run(&self, offset: u64) -> Run {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recent
            .iter()
            .position(|run| (run.start..run.end).contains(&offset));
        if let Some(index) = known {
            recent[..=index].rotate_right(1);
            return recent[0];
        }
        drop(recent);
        let run = self.ask(offset);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT_RUNS - 1);
        recent.insert(0, run);
        run
    }

    /// Asks lseek(2), `SEEK_DATA` and `SEEK_HOLE`. What the file system cannot say is data: reading it gives the
    /// true answer. The position of the open file moves; nothing here reads by it.
    fn ask(&self, offset: u64) -> Run {
        let (data, end) = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => (false, data),
            Ok(_) => match seek(&self.file, SeekFrom::Hole(offset)) {
                Ok(hole) if hole > offset => (true, hole),
                _ => (true, self.len),
            },
            // No data from here to the end of the file.
            Err(Errno::NXIO) => (false, self.len),
            Err(_) => (true, self.len),
        };
        Run {
            start: offset,
            end: end.min(self.len),
            data,
        }
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

    fn run_at(&self, offset: u64, max_len: u64) -> (bool, u64) {
        if offset >= self.len {
            return (true, max_len);
        }
        let run = self.run(offset);
        (run.data, (run.end - offset).min(max_len))
    }

    fn is_sparse(&self) -> bool {
        self.sparse
    }

    fn id(&self) -> Option<FileId> {
        Some(self.id)
    }
}
