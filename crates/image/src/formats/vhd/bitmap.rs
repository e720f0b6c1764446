//! Sector bitmaps: read when they are first wanted, and kept in a bounded cache.

use std::sync::{Arc, Mutex, PoisonError};

use super::geometry::SECTOR;
use crate::formats::blocks::to_usize;
use crate::{FileRange, Result};

/// Bytes of bitmaps that are kept: with blocks of 2 MiB, those of 8 GiB of disk.
const CACHE_BYTES: u64 = 2 << 20;
/// Fewest and most places in the cache.
const MIN_SLOTS: u64 = 16;
const MAX_SLOTS: u64 = 4096;

/// A block's bitmap.
#[derive(Clone, Debug)]
pub(super) enum Bits {
    /// All sectors are in the block, or none is.
    All(bool),
    /// Some are: the most significant bit of the first byte is the first sector.
    Some(Arc<[u8]>),
}

impl Bits {
    fn new(bytes: Vec<u8>) -> Self {
        match bytes.first() {
            Some(&first @ (0 | 0xff)) if bytes.iter().all(|byte| *byte == first) => {
                Self::All(first != 0)
            }
            _ => Self::Some(bytes.into()),
        }
    }

    /// Whether the sector of that number in the block is in the block, and how many of at most `max` sectors from
    /// it on are the same.
    pub(super) fn run(&self, sector: u64, max: u64) -> (bool, u64) {
        let bytes = match self {
            Self::All(set) => return (*set, max),
            Self::Some(bytes) => bytes,
        };
        let is_set = |sector: u64| {
            bytes
                .get(to_usize(sector / 8))
                .is_some_and(|byte| byte & (0x80 >> (sector % 8)) != 0)
        };
        let set = is_set(sector);
        let whole = if set { 0xff } else { 0 };
        let end = sector + max;
        let mut next = sector + 1;
        while next < end {
            if next.is_multiple_of(8) && bytes.get(to_usize(next / 8)) == Some(&whole) {
                next += 8;
            } else if is_set(next) == set {
                next += 1;
            } else {
                break;
            }
        }
        (set, next.min(end) - sector)
    }
}

/// A bitmap and the place of its block in the file.
type Slot = Mutex<Option<(u64, Bits)>>;

/// The bitmaps of an image.
#[derive(Debug)]
pub(super) struct Bitmaps {
    range: FileRange,
    len: usize,
    /// By the block's place in the file. A lock is held for a look only, never while reading.
    slots: Box<[Slot]>,
}

impl Bitmaps {
    /// For blocks whose bitmaps have `len` bytes, of which the bits of `block_size` count.
    pub(super) fn new(range: FileRange, block_size: u64, len: u64) -> Self {
        let slots = (CACHE_BYTES / len.max(1)).clamp(MIN_SLOTS, MAX_SLOTS);
        Self {
            range,
            // The padding to whole sectors may hold anything.
            len: to_usize((block_size / SECTOR).div_ceil(8).min(len)),
            slots: (0..slots).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// The bitmap of block number `index`, whose space starts at `start` of the file.
    pub(super) fn get(&self, index: u64, start: u64) -> Result<Bits> {
        let slot = &self.slots[to_usize(index % self.slots.len() as u64)];
        let held = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, bits)) = held
            && at == start
        {
            return Ok(bits);
        }
        let bits = Bits::new(self.range.read_vec(start, self.len)?);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((start, bits.clone()));
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_bit_changes() {
        let mut bytes = vec![0xff; 8];
        bytes[3] = 0xfe;
        bytes[4] = 0;
        bytes[5] = 0x01;
        let bits = Bits::new(bytes);
        assert_eq!(bits.run(0, 64), (true, 31));
        assert_eq!(bits.run(5, 7), (true, 7));
        assert_eq!(bits.run(31, 33), (false, 16));
        assert_eq!(bits.run(47, 17), (true, 17));
        assert_eq!(bits.run(63, 1), (true, 1));
        assert!(matches!(Bits::new(vec![0xff; 4]), Bits::All(true)));
        assert_eq!(Bits::new(vec![0; 4]).run(3, 9), (false, 9));
    }
}
