//! Writes a raw image: a sparse file of the full virtual size.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{BlockSink, Error, ErrorKind, Preallocation, Result, SinkStats, data_runs};

use super::{OutputFile, check_write};

/// Unit of the zero scan: the block of the usual file systems, below which no hole can be.
const UNIT: usize = 4096;

/// A raw image being written. Dropped without [`finish`](BlockSink::finish) it leaves the file as it is; the
/// caller removes it.
#[derive(Debug)]
pub struct Writer {
    file: OutputFile,
    virtual_size: u64,
    data_bytes: AtomicU64,
    failed: AtomicBool,
}

impl Writer {
    /// Creates the file at `path`, which must not exist. With [`Preallocation::Falloc`] all blocks are allocated
    /// now, so a full file system fails here and not in the middle of the copy.
    pub fn create(path: &Path, virtual_size: u64, preallocation: Preallocation) -> Result<Self> {
        check_virtual_size(virtual_size).map_err(|e| e.in_path(path))?;
        let file = OutputFile::create(path)?;
        match preallocation {
            Preallocation::Sparse => file.set_len(virtual_size)?,
            Preallocation::Falloc => file.allocate(virtual_size)?,
        }
        Ok(Self {
            file,
            virtual_size,
            data_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }
}

impl BlockSink for Writer {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn granularity(&self) -> u64 {
        UNIT as u64
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_write(offset, buf.len(), UNIT as u64, self.virtual_size)
            .map_err(|e| e.in_file(self.file.label()))?;
        for run in data_runs(buf, UNIT) {
            let (at, len) = (offset + run.start as u64, run.len() as u64);
            self.file
                .write(&buf[run], at)
                .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
            self.data_bytes.fetch_add(len, Ordering::Relaxed);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        check_not_failed(&self.failed, &self.file)?;
        self.file.sync()?;
        Ok(SinkStats {
            data_bytes: self.data_bytes.into_inner(),
            file_len: self.virtual_size,
        })
    }
}

/// Refuses to complete an image that lacks a write.
pub(in crate::formats) fn check_not_failed(failed: &AtomicBool, file: &OutputFile) -> Result<()> {
    if failed.load(Ordering::Relaxed) {
        return Err(Error::new(
            ErrorKind::Usage,
            "expected no failed write before the end, found one",
        )
        .in_file(file.label()));
    }
    Ok(())
}

/// Refuses a capacity that is not whole sectors, or that no file can have.
pub(in crate::formats) fn check_virtual_size(virtual_size: u64) -> Result<()> {
    if !virtual_size.is_multiple_of(512) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("expected a virtual size in whole sectors of 512 bytes, found {virtual_size}"),
        ));
    }
    if i64::try_from(virtual_size).is_err() {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("virtual size {virtual_size} is beyond {}", i64::MAX),
        ));
    }
    Ok(())
}
