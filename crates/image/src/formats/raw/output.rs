//! The file that a sink writes: new, named in every error, allocated beforehand on request.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::{Error, ErrorKind, Result};

use super::Allocation;

/// Length of one write where a file system cannot allocate and zeroes must be written.
const ZERO_WRITE: usize = 1 << 20;

/// An image file being written, shared between threads: all writes are positioned.
#[derive(Debug)]
pub(in crate::formats) struct OutputFile {
    file: File,
    label: String,
}

impl OutputFile {
    /// Creates a regular file at `path`, which must not exist; a link there is not followed (`O_EXCL`).
    pub(in crate::formats) fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|e| Error::io("creating the image", e).in_path(path))?;
        Ok(Self {
            file,
            label: path.display().to_string(),
        })
    }

    /// Opens the block device at `path` if there is one. A device that is mounted or otherwise in use is refused by
    /// the kernel: that is what `O_EXCL` means for a device.
    pub(super) fn device(path: &Path) -> Result<Option<Self>> {
        let is_device =
            std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
        if !is_device {
            return Ok(None);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::EXCL.bits().cast_signed())
            .open(path)
            .map_err(|e| Error::io("opening the device", e).in_path(path))?;
        Ok(Some(Self {
            file,
            label: path.display().to_string(),
        }))
    }

    /// Length of the file or device in bytes.
    pub(super) fn size(&self) -> Result<u64> {
        seek(&self.file, SeekFrom::End(0))
            .map_err(|e| self.error("finding its size".to_owned(), e.into()))
    }

    /// Makes bytes read as zero without writing them; false where that cannot be.
    pub(super) fn punch(&self, offset: u64, len: u64) -> Result<bool> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.try_fallocate(how, offset, len)
    }

    /// Makes bytes read as zero.
    pub(super) fn zero(&self, offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let how = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        if self.try_fallocate(how, offset, len)? {
            return Ok(());
        }
        self.write_zeroes(offset, len)
    }

    fn try_fallocate(&self, how: FallocateFlags, offset: u64, len: u64) -> Result<bool> {
        loop {
            return match fallocate(&self.file, how, offset, len) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
                Err(e) => Err(self
                    .error(format!("zeroing {len} bytes"), e.into())
                    .at(offset)),
            };
        }
    }

    /// Name for messages.
    pub(in crate::formats) fn label(&self) -> &str {
        &self.label
    }

    /// Writes all of `buf` at `offset` of the file.
    pub(in crate::formats) fn write(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(buf, offset).map_err(|e| {
            self.error(format!("writing {} bytes", buf.len()), e)
                .at(offset)
        })
    }

    /// Fills `buf` from `offset` of the file.
    pub(in crate::formats) fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buf, offset).map_err(|e| {
            self.error(format!("reading back {} bytes", buf.len()), e)
                .at(offset)
        })
    }

    /// Sets the length of the file; what is added is a hole.
    pub(in crate::formats) fn set_len(&self, len: u64) -> Result<()> {
        self.file
            .set_len(len)
            .map_err(|e| self.error(format!("setting the length to {len} bytes"), e))
    }

    /// Allocates the first `len` bytes, which read as zero afterwards. A file system without fallocate(2), such as
    /// NFS before 4.2, gets zeroes written.
    pub(in crate::formats) fn allocate(&self, len: u64) -> Result<()> {
        self.set_len(len)?;
        if len == 0 {
            return Ok(());
        }
        loop {
            return match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Ok(()) => Ok(()),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeroes(0, len),
                Err(e) => Err(self.error(format!("allocating {len} bytes"), e.into())),
            };
        }
    }

    /// Sets the length to `len` and allocates as much of it as is wanted; all reads as zero.
    pub(in crate::formats) fn preallocate(&self, len: u64, how: Allocation) -> Result<()> {
        match how {
            Allocation::Off | Allocation::Metadata => self.set_len(len),
            Allocation::Falloc => self.allocate(len),
            Allocation::Full => {
                // Allocated first, so that a full file system is known at once.
                self.allocate(len)?;
                self.write_zeroes(0, len)
            }
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let zeroes = vec![0; ZERO_WRITE];
        let (mut offset, end) = (offset, offset + len);
        while offset < end {
            let part =
                usize::try_from(end - offset).map_or(ZERO_WRITE, |left| left.min(ZERO_WRITE));
            self.write(&zeroes[..part], offset)?;
            offset += part as u64;
        }
        Ok(())
    }

    /// Makes data and length durable.
    pub(in crate::formats) fn sync(&self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|e| self.error("syncing".to_owned(), e))
    }

    fn error(&self, doing: String, error: io::Error) -> Error {
        Error::io(doing, error).in_file(&self.label)
    }
}

/// Checks the promises of [`BlockSink::write_at`](crate::BlockSink::write_at) on position and length.
pub(in crate::formats) fn check_write(
    offset: u64,
    len: usize,
    granularity: u64,
    virtual_size: u64,
) -> Result<()> {
    let end = offset.checked_add(len as u64).filter(|&end| end <= virtual_size).ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            format!("write of {len} bytes at {offset:#x} passes the end of the disk at {virtual_size:#x}"),
        )
    })?;
    if !offset.is_multiple_of(granularity)
        || (!end.is_multiple_of(granularity) && end != virtual_size)
    {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "expected a write in units of {granularity} bytes, found {len} bytes at {offset:#x}"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn without_fallocate_zeroes_take_the_space() {
        let directory = tempfile::tempdir().unwrap();
        let file = OutputFile::create(&directory.path().join("disk")).unwrap();
        let len = 3 * ZERO_WRITE as u64 + 512;
        file.write_zeroes(0, len).unwrap();
        file.sync().unwrap();
        let meta = file.file.metadata().unwrap();
        assert_eq!(meta.len(), len);
        assert!(meta.blocks() * 512 >= len);
    }
}
