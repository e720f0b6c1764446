//! The spool of a job: what was received of its disks, kept so that nothing of it is ever asked for twice.
//!
//! ```text
//! STATE/spool/JOB/
//!   spool.json     whose disks these are; another machine's are refused
//!   disk0.data     the disk's bytes at their own offsets, sparse
//!   disk0.map      32 bytes a block: its BLAKE3; all zero: absent; all ones: a block of zeroes, not stored
//!   disk0.bad      byte ranges that could not be read
//!   stats.json     counters, for people
//! ```
//!
//! A block's data are written before its record, and both go to the page cache only; now and then a thread of its own
//! makes them durable. After a killed server the page cache still has both. After a power loss a record may be there
//! without its data: so a record found at opening is a claim, checked against the data at the block's first read.

mod bad;
mod disk;
mod header;
mod map;
mod space;
mod states;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::{Error, Result};

pub(super) use disk::{DiskSpool, Piece};
pub(super) use header::DiskIdentity;
pub(super) use states::BlockState;

use header::Header;
use space::Space;

/// Bytes of a block, as `u64`.
pub(super) const BLOCK: u64 = wire::BLOCK_LEN as u64;

/// The disks of one job.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    pub(super) disks: Vec<DiskSpool>,
    space: Space,
    /// Bytes written since they were last made durable.
    unsynced: AtomicU64,
}

impl Spool {
    /// Opens what is there, or makes it.
    pub(super) fn open(
        dir: &Path,
        disks: Vec<DiskIdentity>,
        reserve_bytes: u64,
        retry_bad: bool,
    ) -> Result<Self> {
        let wanted = Header::new(disks)?;
        fs::create_dir_all(dir)
            .map_err(|error| Error::io("making the spool's folder", error).in_path(dir))?;
        let path = dir.join("spool.json");
        match Header::load(&path)? {
            Some(found) => found.expect(&wanted, &path)?,
            None => wanted.save(&path)?,
        }
        let disks = wanted
            .disks
            .iter()
            .enumerate()
            .map(|(index, disk)| DiskSpool::open(dir, index, disk, retry_bad))
            .collect::<Result<_>>()?;
        Ok(Self {
            dir: dir.to_owned(),
            disks,
            space: Space::new(dir, reserve_bytes),
            unsynced: AtomicU64::new(0),
        })
    }

    /// The disk of an earlier spool that is this one, for reading only.
    pub(super) fn base(dir: &Path, wanted: &DiskIdentity) -> Result<Option<DiskSpool>> {
        let path = dir.join("spool.json");
        let Some(header) = Header::load(&path)? else {
            return Ok(None);
        };
        let named = |had: &&DiskIdentity| had.name == wanted.name && had.may_be(wanted);
        let all = &header.disks;
        let found = all
            .iter()
            .find(|had| had.surely_is(wanted))
            .or_else(|| all.iter().find(named));
        let index = found.and_then(|found| all.iter().position(|had| std::ptr::eq(had, found)));
        match (index, found) {
            (Some(index), Some(found)) => DiskSpool::open_read_only(dir, index, found).map(Some),
            _ => Ok(None),
        }
    }

    /// Writes blocks of a disk, data before records. Refused when too little space is left.
    pub(super) fn store(
        &self,
        disk: usize,
        first: u64,
        plain: &[u8],
        pieces: &[Piece],
    ) -> Result<()> {
        let bytes: u64 = pieces.iter().map(Piece::len).sum();
        self.space.take(bytes)?;
        self.disks[disk].store(first, plain, pieces)?;
        self.unsynced.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes that a power loss may cost.
    pub(super) fn unsynced(&self) -> u64 {
        self.unsynced.load(Ordering::Relaxed)
    }

    /// Makes everything durable that was written before the call.
    pub(super) fn sync(&self) -> Result<()> {
        if self.unsynced.swap(0, Ordering::Relaxed) > 0 {
            self.disks.iter().try_for_each(DiskSpool::sync)?;
        }
        Ok(())
    }

    /// The counters that an earlier run left; none when they cannot be read.
    pub(super) fn load_stats<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        /// A handful of numbers.
        const MAX_LEN: u64 = 64 << 10;
        let text = read_small(&self.dir.join("stats.json"), MAX_LEN).ok()??;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps counters for the next run; losing them costs figures, not data.
    pub(super) fn save_stats<T: serde::Serialize>(&self, stats: &T) {
        if let Ok(text) = serde_json::to_vec(stats) {
            let (path, new) = (self.dir.join("stats.json"), self.dir.join("stats.new"));
            let _ = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        }
    }
}

/// A file of at most `max_len` bytes; `None` when there is none.
fn read_small(path: &Path, max_len: u64) -> Result<Option<Vec<u8>>> {
    let doing = |error| Error::io("reading", error).in_path(path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(doing(error)),
    };
    let mut text = Vec::new();
    file.take(max_len + 1)
        .read_to_end(&mut text)
        .map_err(doing)?;
    if text.len() as u64 > max_len {
        return Err(Error::corrupt(format!("expected at most {max_len} bytes")).in_path(path));
    }
    Ok(Some(text))
}

/// Replaces a file as a whole, durably: the old content or the new one is there, never half of it.
fn write_whole(path: &Path, text: &[u8]) -> Result<()> {
    let work = || -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    work().map_err(|error| Error::io("writing", error).in_path(path))
}

#[cfg(test)]
mod tests;
