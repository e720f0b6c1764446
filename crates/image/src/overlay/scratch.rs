//! The scratch file of an overlay: sparse, without a name, gone when the process is, however it ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// Below this many bytes a hole frees no block of any usual file system.
const MIN_HOLE: u64 = 4096;

/// File systems that report a lack of space or a failed device when a write is made, and not only when it is
/// flushed: f_type in statfs(2).
const REPORT_AT_ONCE: [u64; 5] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
];

/// Offsets in the file are offsets on the disk.
#[derive(Debug)]
pub(super) struct Scratch {
    file: File,
    flush: bool,
}

impl Scratch {
    /// An empty file without a name in `dir`.
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let file = unnamed(dir).or_else(|e| match e.raw_os_error().map(Errno::from_raw_os_error) {
            // What kernels and file systems without O_TMPFILE answer: open(2).
            Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => unlinked(dir),
            _ => Err(e),
        });
        let file = file.map_err(|e| Error::io("creating a scratch file", e).in_path(dir))?;
        Ok(Self::new(file))
    }

    /// Any file that can be written and read at any offset.
    pub(super) fn new(file: File) -> Self {
        let flush = rustix::fs::fstatfs(&file).map_or(true, |fs| {
            u64::try_from(fs.f_type).map_or(true, |kind| !REPORT_AT_ONCE.contains(&kind))
        });
        Self { file, flush }
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|e| Error::io("reading the scratch file", e).at(offset))
    }

    pub(super) fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.file
            .write_all_at(buf, offset)
            .map_err(|e| Error::io("writing to the scratch file", e).at(offset))
    }

    /// Gives the space of these bytes back. That the file system cannot do it is not an error: nothing reads them.
    pub(super) fn punch(&self, offset: u64, len: u64) {
        if len < MIN_HOLE {
            return;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = rustix::fs::fallocate(&self.file, flags, offset, len) {
            tracing::debug!(%error, offset, len, "scratch space is not given back");
        }
    }

    /// Brings errors of earlier writes to light. The file cannot outlive the process, so nothing needs to be
    /// durable; on a local file system a write that was accepted is as good as flushed, elsewhere (NFS, FUSE) it
    /// may still be refused.
    pub(super) fn flush(&self) -> Result<()> {
        if !self.flush {
            return Ok(());
        }
        match rustix::fs::fdatasync(&self.file) {
            Ok(()) | Err(Errno::INVAL | Errno::ROFS) => Ok(()), // those two: a special file, fsync(2)
            Err(error) => Err(Error::io("flushing the scratch file", error.into())),
        }
    }
}

/// A file that never had a name and cannot be given one.
fn unnamed(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// A file whose name is removed at once.
fn unlinked(dir: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".v2v-scratch-{}-{next}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_kind_of_file_leaves_a_name() {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            Scratch::create(dir.path()).unwrap(),
            Scratch::new(unlinked(dir.path()).unwrap()),
        ] {
            file.write_at(b"abc", 1 << 40).unwrap();
            let mut buf = [0; 3];
            file.read_at(&mut buf, 1 << 40).unwrap();
            assert_eq!(&buf, b"abc");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
