//! The map of a disk: one record of 32 bytes a block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use image::{Error, Result};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use wire::chunk::{BlockHash, HASH_LEN};

use super::states::{BlockState, States};

/// Nothing is known of the block.
pub(super) const ABSENT: BlockHash = [0; HASH_LEN];
/// The block is zero.
pub(super) const ZERO: BlockHash = [0xff; HASH_LEN];
/// Bytes of the map that are read at once.
const PIECE: usize = 1 << 20;

/// Byte offset of a block's record.
pub(super) fn place(block: u64) -> u64 {
    block * HASH_LEN as u64
}

/// What the records say, read where the file is not a hole.
pub(super) fn load(map: &File, blocks: u64) -> Result<States> {
    let mut states = States::new(blocks);
    let end = place(blocks);
    let mut piece = vec![0; PIECE];
    let mut next = 0;
    while next < end {
        let Some(data) = allocated(map, next, end)? else {
            break;
        };
        next = data.start - data.start % HASH_LEN as u64;
        while next < data.end {
            let len = usize::try_from(end - next).unwrap_or(PIECE).min(PIECE);
            map.read_exact_at(&mut piece[..len], next)
                .map_err(|error| Error::io("reading the map", error))?;
            let first = next / HASH_LEN as u64;
            for (block, record) in (first..).zip(piece[..len].chunks_exact(HASH_LEN)) {
                if record == ZERO {
                    states.set(block, BlockState::Zero);
                } else if record != ABSENT {
                    states.set(block, BlockState::Claimed);
                }
            }
            next += len as u64;
        }
    }
    Ok(states)
}

/// The next part of the file that is not a hole.
fn allocated(map: &File, from: u64, end: u64) -> Result<Option<std::ops::Range<u64>>> {
    let start = match seek(map, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(from..end)),
        Err(error) => return Err(Error::io("looking for data in the map", error.into())),
    };
    let stop = seek(map, SeekFrom::Hole(start))
        .map_err(|error| Error::io("looking for holes in the map", io::Error::from(error)))?;
    Ok((start < end).then(|| start..stop.clamp(start + 1, end)))
}

/// Records of `blocks` blocks, one after the other.
pub(super) fn read(map: &File, first: u64, blocks: u64) -> Result<Vec<u8>> {
    let len = usize::try_from(place(blocks)).unwrap_or(usize::MAX);
    let mut records = vec![0; len];
    map.read_exact_at(&mut records, place(first))
        .map_err(|error| Error::io("reading the map", error))?;
    Ok(records)
}
