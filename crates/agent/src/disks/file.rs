//! A device or a file: opened read-only, read through the page cache ahead of us, and past it once sectors fail.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Advice, Mode, OFlags, SeekFrom, fadvise, open, seek};
use rustix::io::Errno;

use super::Medium;

/// Alignment in memory that O_DIRECT wants at most, in bytes (logical sectors of 4 KiB).
const DIRECT_ALIGN: usize = 4096;

/// An open device or file.
#[derive(Debug)]
pub struct FileMedium {
    path: PathBuf,
    file: File,
    /// Second descriptor with O_DIRECT, opened at the first failure: through the page cache one unreadable sector of
    /// 512 bytes takes the 4 KiB around it along. `None` inside: the file system has no such thing.
    direct: OnceLock<Option<File>>,
    /// SEEK_DATA moves the position of the one descriptor.
    seeking: Mutex<()>,
}

impl FileMedium {
    /// Opens `path` for reading only.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::from(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        // Pipes have no such advice; whoever opened them will fail at the first read.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        Ok(Self {
            path: path.to_owned(),
            file,
            direct: OnceLock::new(),
            seeking: Mutex::new(()),
        })
    }

    /// Bytes from here to the end: of a device its capacity.
    pub fn byte_len(&self) -> io::Result<u64> {
        let _guard = self.seeking.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seek(&self.file, SeekFrom::End(0))?)
    }

    fn direct(&self) -> Option<&File> {
        let open = || {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECT;
            open(&self.path, flags, Mode::empty()).ok().map(File::from)
        };
        self.direct.get_or_init(open).as_ref()
    }
}

impl Medium for FileMedium {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn read_sectors(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let Some(direct) = self.direct() else {
            return self.read_at(buf, offset);
        };
        let mut bounce = vec![0; buf.len() + DIRECT_ALIGN];
        let start = bounce.as_ptr().align_offset(DIRECT_ALIGN);
        let aligned = bounce.get_mut(start..start.saturating_add(buf.len()));
        let aligned = aligned.ok_or(io::ErrorKind::OutOfMemory)?;
        match direct.read_exact_at(aligned, offset) {
            Ok(()) => buf.copy_from_slice(aligned),
            // Larger sectors than we know of, or the odd end of a file.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return self.read_at(buf, offset);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// By SEEK_DATA and SEEK_HOLE (lseek(2)); a device says nothing.
    fn data_ranges(&self, range: Range<u64>, max: usize) -> io::Result<Option<Vec<Range<u64>>>> {
        if !self.file.metadata()?.is_file() {
            return Ok(None);
        }
        let _guard = self.seeking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        let mut at = range.start;
        while at < range.end && found.len() < max {
            let start = match seek(&self.file, SeekFrom::Data(at)) {
                Ok(start) => start,
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if start >= range.end {
                break;
            }
            let end = seek(&self.file, SeekFrom::Hole(start))?.min(range.end);
            if end <= start {
                return Ok(None);
            }
            found.push(start.max(at)..end);
            at = end;
        }
        Ok(Some(found))
    }

    fn forget_cached(&self, range: Range<u64>) {
        if let Some(len) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
            // Advice only: what another program keeps there stays.
            let _ = fadvise(&self.file, range.start, Some(len), Advice::DontNeed);
        }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn the_data_of_a_sparse_file_is_found_and_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        for at in [1u64 << 20, 5 << 20] {
            file.seek(io::SeekFrom::Start(at)).unwrap();
            file.write_all(&[3; 65536]).unwrap();
        }
        let medium = FileMedium::open(file.path()).unwrap();
        assert_eq!(medium.byte_len().unwrap(), 8 << 20);
        let Some(found) = medium.data_ranges(0..8 << 20, 100).unwrap() else {
            return; // A file system without holes: all is data.
        };
        assert_eq!(
            found,
            [1 << 20..(1 << 20) + 65536, 5 << 20..(5 << 20) + 65536]
        );
        assert_eq!(medium.data_ranges(0..8 << 20, 1).unwrap().unwrap().len(), 1);
        assert_eq!(
            medium
                .data_ranges((1 << 20) + 512..2 << 20, 9)
                .unwrap()
                .unwrap(),
            [(1 << 20) + 512..(1 << 20) + 65536]
        );
        let mut sector = [0; 512];
        medium.read_sectors(&mut sector, 5 << 20).unwrap();
        assert_eq!(sector, [3; 512]);
        assert!(medium.read_at(&mut sector, 8 << 20).is_err());
        let written = open(file.path(), OFlags::RDONLY, Mode::empty());
        assert!(written.is_ok() && (&medium.file).write_all(b"x").is_err());
    }
}
