//! Writes a disk over what exists: a block device, or a raw file that is there already (`convert -n`).
//!
//! Unlike a new file, the target holds something, so zeroes are written too: what the source knows to be zero is
//! given back (`fallocate`: a hole in a file, zeroed blocks on a device) before the data are copied. A failure leaves
//! the target half written; there is no other way with a device.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, FileType, SeekFrom, fallocate, fstat, seek};
use rustix::io::Errno;
use types::CancelToken;

use crate::copy::{CopyOptions, CopyProgress, CopyStats, copy};
use crate::{BlockSink, BlockSource, Error, ErrorKind, Result, SinkStats, extents};

/// Unit of writes: a page and a sector of any disk.
const UNIT: u64 = 4096;
/// Bytes zeroed at once, so that a cancellation is heard.
const ZERO_STEP: u64 = 1 << 30;
/// Length of one write where zeroes must be written.
const ZERO_WRITE: usize = 1 << 20;

/// A file or device that is written in place.
#[derive(Debug)]
struct Target {
    file: File,
    label: String,
    virtual_size: u64,
    data_bytes: AtomicU64,
}

/// Writes all of `source` to the start of `file`, open for writing, which must be as large; then syncs it.
pub fn write(
    source: &dyn BlockSource,
    file: File,
    label: &str,
    options: &CopyOptions,
    cancel: &CancelToken,
    progress: &(dyn Fn(CopyProgress) + Sync),
) -> Result<CopyStats> {
    let in_file = |e: Error| e.in_file(label);
    let is_device = fstat(&file)
        .map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice)
        .map_err(|e| in_file(Error::io("reading its status", e.into())))?;
    let len = seek(&file, SeekFrom::End(0))
        .map_err(|e| in_file(Error::io("finding its size", e.into())))?;
    let virtual_size = source.virtual_size();
    if len < virtual_size {
        return Err(in_file(Error::new(
            ErrorKind::Usage,
            format!("expected a target of at least {virtual_size} bytes, found {len}"),
        )));
    }
    let target = Target {
        file,
        label: label.to_owned(),
        virtual_size,
        data_bytes: AtomicU64::new(0),
    };
    for extent in extents(source, 0..virtual_size) {
        let extent = extent?;
        if extent.kind.reads_zero() {
            target.zero(extent.offset, extent.len, is_device, cancel)?;
        }
    }
    let stats = copy(source, &target, options, cancel, progress)?;
    Box::new(target).finish()?;
    Ok(stats)
}

impl Target {
    fn zero(&self, offset: u64, len: u64, is_device: bool, cancel: &CancelToken) -> Result<()> {
        let way = if is_device {
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE
        };
        let (mut at, end) = (offset, offset + len);
        while at < end {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let step = (end - at).min(ZERO_STEP);
            match fallocate(&self.file, way, at, step) {
                Ok(()) => at += step,
                Err(Errno::INTR) => {}
                // Not every file system and device can; a device wants whole sectors of its own.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.write_zeroes(at, step, cancel)?;
                    at += step;
                }
                Err(e) => {
                    return Err(Error::io(format!("zeroing {step} bytes"), e.into())
                        .in_file(&self.label)
                        .at(at));
                }
            }
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, cancel: &CancelToken) -> Result<()> {
        let zeroes = vec![0; ZERO_WRITE];
        let mut done = 0;
        while done < len {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let part = usize::try_from(len - done).map_or(ZERO_WRITE, |left| left.min(ZERO_WRITE));
            self.put(&zeroes[..part], offset + done)?;
            done += part as u64;
        }
        Ok(())
    }

    fn put(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(buf, offset).map_err(|e| {
            Error::io(format!("writing {} bytes", buf.len()), e)
                .in_file(&self.label)
                .at(offset)
        })
    }
}

impl BlockSink for Target {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn granularity(&self) -> u64 {
        UNIT
    }

    /// Writes all of it, zeroes too: the target held something else.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.put(buf, offset)?;
        self.data_bytes
            .fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        self.file
            .sync_all()
            .map_err(|e| Error::io("syncing", e).in_file(&self.label))?;
        Ok(SinkStats {
            data_bytes: self.data_bytes.into_inner(),
            file_len: self.virtual_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::FileRange;
    use crate::formats::raw;

    #[test]
    fn zeroes_replace_what_was_there_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(3 << 20).unwrap();
        file.write_all_at(&[5; 5000], (1 << 20) + 512).unwrap();
        std::fs::write(&to, vec![0xee; (3 << 20) + 4096]).unwrap();
        let source = raw::Reader::open(FileRange::open(&from).unwrap()).unwrap();
        let open = || File::options().write(true).open(&to).unwrap();
        let cancel = CancelToken::new();
        write(
            &source,
            open(),
            "to",
            &CopyOptions::default(),
            &cancel,
            &|_| {},
        )
        .unwrap();
        let written = std::fs::read(&to).unwrap();
        assert_eq!(written[..3 << 20], std::fs::read(&from).unwrap());
        assert!(written[3 << 20..].iter().all(|&byte| byte == 0xee));
        let larger = vec![1u8; 4 << 20];
        let larger = raw::Reader::open(FileRange::from_store(Arc::new(larger), "l")).unwrap();
        let error = write(
            &larger,
            open(),
            "to",
            &CopyOptions::default(),
            &cancel,
            &|_| {},
        );
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Usage);
    }
}
