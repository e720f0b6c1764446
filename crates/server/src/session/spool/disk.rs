//! One disk of a spool: its data, its map, what could not be read of it.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::{Error, ErrorKind, Result};
use wire::chunk::{BlockHash, HASH_LEN, block_hash};

use super::bad::BadRanges;
use super::header::DiskIdentity;
use super::states::{BlockState, States};
use super::{BLOCK, map};

/// Bytes that are read at once for a proof: whole blocks.
const REREAD: usize = 1 << 20;

/// What is stored of a block.
#[derive(Clone, Debug)]
pub(in crate::session) enum Piece {
    /// It is zero.
    Zero,
    /// Its hash, which was checked, and where its bytes are in those that came.
    Data(BlockHash, Range<usize>),
    /// Its hash, which was checked, and its bytes from an earlier spool.
    Copied(BlockHash, Vec<u8>),
}

impl Piece {
    /// Bytes that go to the data file.
    pub(in crate::session) fn len(&self) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Data(_, at) => at.len() as u64,
            Self::Copied(_, bytes) => bytes.len() as u64,
        }
    }
}

/// A disk in a folder.
#[derive(Debug)]
pub(in crate::session) struct DiskSpool {
    /// Name at the machine, for messages.
    pub(in crate::session) name: String,
    virtual_size: u64,
    data: File,
    map: File,
    states: Mutex<States>,
    bad: Mutex<BadRanges>,
    bad_path: PathBuf,
}

impl DiskSpool {
    /// Opens what is there, or makes it. `retry_bad`: unreadable places count as absent.
    pub(super) fn open(
        dir: &Path,
        index: usize,
        disk: &DiskIdentity,
        retry_bad: bool,
    ) -> Result<Self> {
        let blocks = disk.virtual_size.div_ceil(BLOCK);
        let data = open_sized(&file(dir, index, "data"), disk.virtual_size, true)?;
        let map = open_sized(&file(dir, index, "map"), map::place(blocks), false)?;
        let this = Self::build(dir, index, disk, data, map)?;
        if retry_bad {
            this.forget_bad();
        }
        Ok(this)
    }

    /// Opens what is there and changes nothing of it.
    pub(super) fn open_read_only(dir: &Path, index: usize, disk: &DiskIdentity) -> Result<Self> {
        let open = |ending| {
            let path = file(dir, index, ending);
            File::open(&path).map_err(|error| Error::io("opening", error).in_path(path))
        };
        Self::build(dir, index, disk, open("data")?, open("map")?)
    }

    fn build(dir: &Path, index: usize, disk: &DiskIdentity, data: File, map: File) -> Result<Self> {
        let blocks = disk.virtual_size.div_ceil(BLOCK);
        let states =
            map::load(&map, blocks).map_err(|error| error.in_path(file(dir, index, "map")))?;
        let bad_path = file(dir, index, "bad");
        let bad = BadRanges::load(&bad_path, disk.virtual_size)?;
        Ok(Self {
            name: disk.name.clone(),
            virtual_size: disk.virtual_size,
            data,
            map,
            states: Mutex::new(states),
            bad: Mutex::new(bad),
            bad_path,
        })
    }

    pub(in crate::session) fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// Number of blocks.
    pub(in crate::session) fn blocks(&self) -> u64 {
        self.virtual_size.div_ceil(BLOCK)
    }

    /// Byte range of blocks, clipped to the disk.
    pub(in crate::session) fn bytes_of(&self, blocks: &Range<u64>) -> Range<u64> {
        blocks.start * BLOCK..(blocks.end * BLOCK).min(self.virtual_size)
    }

    /// What is known of the blocks. Held for a moment only.
    pub(in crate::session) fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What could not be read. Held for a moment only.
    pub(in crate::session) fn bad(&self) -> MutexGuard<'_, BadRanges> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what could not be read within `within`; durable before any record of it.
    pub(in crate::session) fn set_bad(
        &self,
        within: &Range<u64>,
        found: &[Range<u64>],
    ) -> Result<()> {
        let mut bad = self.bad();
        if bad
            .replace(within, found)
            .map_err(|e| e.in_file(&self.name))?
        {
            bad.save(&self.bad_path)?;
        }
        Ok(())
    }

    /// Makes blocks with unreadable places absent in memory; their records stay until they are written again.
    fn forget_bad(&self) {
        let bad = self.bad();
        let mut states = self.states();
        for range in bad.ranges() {
            for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
                states.set(block, BlockState::Absent);
            }
        }
    }

    /// Writes neighbouring blocks from block `first` on: data, then records, then what memory knows. `plain` holds the
    /// bytes that came.
    pub(super) fn store(&self, first: u64, plain: &[u8], pieces: &[Piece]) -> Result<()> {
        let mut records = Vec::with_capacity(pieces.len() * HASH_LEN);
        // Neighbours that came together are written together: where on the disk, which bytes.
        let mut run: Option<(u64, Range<usize>)> = None;
        for (block, piece) in (first..).zip(pieces) {
            records.extend_from_slice(match piece {
                Piece::Zero => &map::ZERO,
                Piece::Data(hash, _) | Piece::Copied(hash, _) => hash,
            });
            if let (Piece::Data(_, at), Some((_, held))) = (piece, &mut run)
                && held.end == at.start
            {
                held.end = at.end;
                continue;
            }
            self.write_run(run.take(), plain)?;
            match piece {
                Piece::Zero => {}
                Piece::Data(_, at) => run = Some((block * BLOCK, at.clone())),
                Piece::Copied(_, bytes) => self.write(bytes, block * BLOCK)?,
            }
        }
        self.write_run(run, plain)?;
        self.map
            .write_all_at(&records, map::place(first))
            .map_err(|error| self.write_error("writing the spool's map", error))?;
        let mut states = self.states();
        for (block, piece) in (first..).zip(pieces) {
            let state = match piece {
                Piece::Zero => BlockState::Zero,
                Piece::Data(..) | Piece::Copied(..) => BlockState::Trusted,
            };
            states.set(block, state);
        }
        Ok(())
    }

    fn write_run(&self, run: Option<(u64, Range<usize>)>, plain: &[u8]) -> Result<()> {
        let Some((offset, at)) = run else {
            return Ok(());
        };
        let outside = || Error::new(ErrorKind::Usage, "a block outside of what came");
        self.write(plain.get(at).ok_or_else(outside)?, offset)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.data
            .write_all_at(bytes, offset)
            .map_err(|error| self.write_error("writing the spool", error))
    }

    fn write_error(&self, doing: &str, error: std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::StorageFull {
            let what = "no space is left for the spool; make room there and try the job again";
            return Error::new(ErrorKind::NoSpace, what).in_file(&self.name);
        }
        Error::io(doing, error).in_file(&self.name)
    }

    /// Fills `buf` from blocks that are known to be there.
    pub(in crate::session) fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let blocks = offset / BLOCK..(offset + buf.len() as u64).div_ceil(BLOCK);
        if self
            .states()
            .first_not(blocks.clone(), BlockState::Trusted)
            .is_none()
        {
            return self.read_data(buf, offset);
        }
        let (mut rest, mut at) = (buf, offset);
        for block in blocks {
            let len = usize::try_from((block + 1) * BLOCK - at).unwrap_or(usize::MAX);
            let (part, after) = rest.split_at_mut(len.min(rest.len()));
            let state = self.states().get(block);
            match state {
                BlockState::Zero => part.fill(0),
                BlockState::Trusted => self.read_data(part, at)?,
                BlockState::Absent | BlockState::Claimed => {
                    return Err(
                        Error::new(ErrorKind::Usage, "the block is not in the spool")
                            .in_file(&self.name)
                            .at(at),
                    );
                }
            }
            at += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn read_data(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.data.read_exact_at(buf, offset).map_err(|error| {
            Error::io("reading the spool", error)
                .in_file(&self.name)
                .at(offset)
        })
    }

    /// Bytes of a block, whatever is known of it.
    fn read_block(&self, block: u64) -> Result<Vec<u8>> {
        let bytes = self.bytes_of(&(block..block + 1));
        let len = usize::try_from(bytes.end - bytes.start).unwrap_or(0);
        let mut buf = vec![0; len];
        self.read_data(&mut buf, bytes.start)?;
        Ok(buf)
    }

    /// Checks a claim of an earlier run. True when the block is there; false when it is absent from now on.
    pub(in crate::session) fn check_claim(&self, block: u64) -> Result<bool> {
        let record = map::read(&self.map, block, 1)?;
        let holds = match self.read_block(block) {
            Ok(bytes) => block_hash(&bytes)[..] == record[..],
            // What cannot be read here can be asked for again.
            Err(error) => {
                tracing::warn!(disk = self.name, block, %error, "a block of the spool is lost");
                false
            }
        };
        let mut states = self.states();
        if states.get(block) == BlockState::Claimed {
            let state = if holds {
                BlockState::Trusted
            } else {
                BlockState::Absent
            };
            states.set(block, state);
        }
        Ok(states.get(block) != BlockState::Absent)
    }

    /// Hashes that an agent may compare with: 32 bytes a block, zero where there is nothing to compare with. `None`
    /// when that is so for all of them.
    pub(in crate::session) fn known_hashes(&self, blocks: &Range<u64>) -> Option<Vec<u8>> {
        let mut records = map::read(&self.map, blocks.start, blocks.end - blocks.start).ok()?;
        let mut any = false;
        for (block, record) in blocks.clone().zip(records.chunks_exact_mut(HASH_LEN)) {
            let bytes = self.bytes_of(&(block..block + 1));
            if record == map::ZERO || self.bad().touches(&bytes) {
                record.fill(0);
            }
            any |= record != map::ABSENT;
        }
        any.then_some(records)
    }

    /// The block's data, if they have `hash`.
    pub(in crate::session) fn read_known(&self, block: u64, hash: &[u8]) -> Option<Vec<u8>> {
        let bytes = self.read_block(block).ok()?;
        (block_hash(&bytes)[..] == *hash).then_some(bytes)
    }

    /// Reads blocks that are there once more and adds their hashes to `root`. An error names the first that is not as
    /// it was received.
    pub(in crate::session) fn rehash(
        &self,
        blocks: &Range<u64>,
        root: &mut blake3::Hasher,
    ) -> Result<()> {
        let records = map::read(&self.map, blocks.start, blocks.end - blocks.start)?;
        let mut buf = vec![0; REREAD];
        let mut records = records.chunks_exact(HASH_LEN);
        let all = self.bytes_of(blocks);
        let mut at = all.start;
        while at < all.end {
            let len = usize::try_from(all.end - at).unwrap_or(REREAD).min(REREAD);
            self.read(&mut buf[..len], at)?;
            for (part, record) in buf[..len]
                .chunks(wire::BLOCK_LEN as usize)
                .zip(&mut records)
            {
                let hash = block_hash(part);
                if record != map::ZERO && record != hash {
                    let what = "the spool's data do not have the hash with which they were received; \
                                its storage is not to be trusted";
                    return Err(Error::corrupt(what).in_file(&self.name).at(at));
                }
                root.update(&hash);
                at += part.len() as u64;
            }
        }
        Ok(())
    }

    /// Makes data and then records durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.data
            .sync_data()
            .and_then(|()| self.map.sync_data())
            .map_err(|error| Error::io("making the spool durable", error).in_file(&self.name))
    }
}

fn file(dir: &Path, index: usize, ending: &str) -> PathBuf {
    dir.join(format!("disk{index}.{ending}"))
}

/// Opens or makes a file and gives it its length. One of another length is `mended` to it, or refused.
fn open_sized(path: &Path, len: u64, mended: bool) -> Result<File> {
    let work = || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let found = file.metadata()?.len();
        if found == 0 || (mended && found != len) {
            file.set_len(len)?;
            return Ok((file, len));
        }
        Ok((file, found))
    };
    let (file, found) = work().map_err(|error| Error::io("opening", error).in_path(path))?;
    if found != len {
        return Err(Error::corrupt(format!(
            "expected {len} bytes, found {found}; remove the spool's folder to begin anew"
        ))
        .in_path(path));
    }
    Ok(file)
}
