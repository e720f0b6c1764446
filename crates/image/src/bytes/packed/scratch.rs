//! The sparse file that holds what cannot be decoded from a near restart point. Without a name, gone when the process
//! is, however it ends; offsets in it are offsets of the unpacked file.

use std::env;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::{Error, Result};

/// The file and what of it is filled.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    file: Option<File>,
    /// Filled ranges, ascending, apart from each other. There is one for each block or frame that is too long.
    filled: Vec<(u64, u64)>,
}

/// Where scratch files go.
fn folder() -> PathBuf {
    ["V2V_TMPDIR", "TMPDIR"]
        .iter()
        .find_map(|name| env::var_os(name).filter(|value| !value.is_empty()))
        .map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

impl Scratch {
    /// Notes `bytes` at `offset`, which only grows; zeroes are noted without being written.
    pub(super) fn put(&mut self, bytes: &[u8], offset: u64, zero: bool) -> Result<()> {
        let end = offset + bytes.len() as u64;
        match self.filled.last_mut() {
            Some((_, last)) if *last == offset => *last = end,
            _ => self.filled.push((offset, end)),
        }
        if zero {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(create()?),
        };
        file.write_all_at(bytes, offset)
            .map_err(|e| Error::io("writing a scratch file of unpacked data", e))
    }

    /// Number of bytes from `offset` on that are here.
    pub(super) fn covers(&self, offset: u64) -> Option<u64> {
        let after = self.filled.partition_point(|(start, _)| *start <= offset);
        let (_, end) = self.filled.get(after.checked_sub(1)?)?;
        end.checked_sub(offset).filter(|len| *len > 0)
    }

    /// Fills `buf` with bytes that are here. What no write reached, past the file's end too, is zero.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while let (Some(file), true) = (&self.file, done < buf.len()) {
            match file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("reading a scratch file of unpacked data", e)),
            }
        }
        buf[done..].fill(0);
        Ok(())
    }

    /// Bytes that were decoded to the file, zeroes counted.
    #[cfg(test)]
    pub(super) fn filled_len(&self) -> u64 {
        self.filled.iter().map(|(start, end)| end - start).sum()
    }
}

fn create() -> Result<File> {
    let folder = folder();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(&folder, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|e| {
            Error::io("creating a scratch file (see V2V_TMPDIR)", e.into()).in_path(folder)
        })
}
