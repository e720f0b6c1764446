//! Writes a raw image: a sparse file of the full virtual size, or a block device.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{BlockSink, Error, ErrorKind, Result, SinkStats, data_runs};

use super::device::OldContent;
use super::{Allocation, OutputFile, check_write};

/// Unit of the zero scan: the block of the usual file systems, below which no hole can be.
const UNIT: usize = 4096;

/// A raw image being written. Dropped without [`finish`](BlockSink::finish) it leaves the file as it is; the
/// caller removes it.
#[derive(Debug)]
pub struct Writer {
    file: OutputFile,
    old: OldContent,
    virtual_size: u64,
    data_bytes: AtomicU64,
    failed: AtomicBool,
}

impl Writer {
    /// Creates the file at `path`, which must not exist, or opens the block device that is there. With
    /// [`Allocation::Falloc`] all blocks are allocated now, so a full file system fails here and not in the middle of
    /// the copy. A device must be large enough and not in use; what it holds up to `virtual_size` is zeroed, now or
    /// at the end, and what lies beyond is left as it is.
    pub fn create(
        path: &Path,
        virtual_size: u64,
        allocation: impl Into<Allocation>,
    ) -> Result<Self> {
        check_virtual_size(virtual_size).map_err(|e| e.in_path(path))?;
        let (file, old) = match OutputFile::device(path)? {
            Some(device) => {
                let old = OldContent::of_device(&device, virtual_size)?;
                (device, old)
            }
            None => {
                let file = OutputFile::create(path)?;
                file.preallocate(virtual_size, allocation.into())?;
                (file, OldContent::Gone)
            }
        };
        Ok(Self {
            file,
            old,
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
        self.old.granularity(UNIT as u64)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let granularity = self.granularity();
        check_write(offset, buf.len(), granularity, self.virtual_size)
            .map_err(|e| e.in_file(self.file.label()))?;
        let unit = usize::try_from(granularity).unwrap_or(UNIT);
        for run in data_runs(buf, unit) {
            let (at, len) = (offset + run.start as u64, run.len() as u64);
            self.file
                .write(&buf[run], at)
                .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
            self.old.written(at, len);
            self.data_bytes.fetch_add(len, Ordering::Relaxed);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        check_not_failed(&self.failed, &self.file)?;
        self.old.zero_rest(&self.file, self.virtual_size)?;
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
