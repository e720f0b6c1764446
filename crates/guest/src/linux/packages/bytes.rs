//! Reading numbers and pieces at offsets of a hostile file: nothing outside of it is ever read.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::{Error, Result};

/// Big-endian number at an offset; `None` past the end.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// Little-endian number at an offset; `None` past the end.
pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// Big-endian number of two bytes at an offset; `None` past the end.
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// A database is read whole at most a few times over; one that leads in circles would be read for ever.
const READ_MAX: u64 = 4 << 30;

/// How much may still be read.
#[derive(Debug)]
pub(super) struct Budget(Cell<u64>);

impl Budget {
    /// Enough for the largest real database.
    pub(super) fn new() -> Self {
        Self(Cell::new(READ_MAX))
    }

    /// A piece of a file; shorter than asked for at its end.
    pub(super) fn piece(&self, file: &File, offset: u64, len: usize) -> Result<Vec<u8>> {
        let left = self.0.get().checked_sub(len as u64);
        self.0
            .set(left.ok_or_else(|| Error::corrupt("its pages lead in circles"))?);
        let mut buffer = vec![0u8; len];
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("reading a package database", error)),
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }
}
