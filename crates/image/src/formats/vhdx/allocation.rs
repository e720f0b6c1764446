//! Which MiB of the file more than one structure claims. Everything in a VHDX lies at whole MiB (MS-VHDX 2.1), so a
//! bit a MiB is enough.

use std::ops::Range;

use super::bat::{Bat, ENTRY_LEN, Entry, Use};
use super::bitmap::BitSet;
use super::content::Content;
use super::pages::Cursor;
use super::{MIB, to_usize};
use crate::{Error, Result};

/// What was claimed twice, if anything was.
#[derive(Debug)]
pub(super) struct Allocation {
    shared: Option<BitSet>,
    file_len: u64,
}

impl Allocation {
    /// Looks at the whole BAT once. `reserved` is what blocks must not touch.
    pub(super) fn scan(
        content: &Content,
        bat: &Bat,
        cursor: &mut Cursor<'_>,
        reserved: &[Range<u64>],
    ) -> Result<Self> {
        let file_len = content.len();
        let mibs = to_usize(file_len.div_ceil(MIB));
        let mut used = BitSet::new(mibs);
        let mut shared: Option<BitSet> = None;
        let mut claim = |range: Range<u64>| {
            // What is past the end of the file is refused by itself.
            let end = range.end.min(file_len).div_ceil(MIB);
            for mib in range.start / MIB..end {
                if !used.insert(to_usize(mib)) {
                    shared
                        .get_or_insert_with(|| BitSet::new(mibs))
                        .insert(to_usize(mib));
                }
            }
        };
        reserved.iter().cloned().for_each(&mut claim);
        let mut each = |index: u64, entry: Entry| {
            if entry.0 == 0 {
                return;
            }
            // What is no valid entry claims nothing, and is refused when it is read.
            if let Ok(Some(range)) = entry.claim(&bat.geometry, bat.geometry.use_of(index)) {
                claim(range);
            }
        };
        let (mut index, end) = (0, bat.geometry.entries());
        while index < end {
            // A table of a large empty disk may be a hole; entries there are 0.
            let offset = bat.offset_of(index);
            let left = bat.offset_of(end) - offset;
            let (data, len) = content.run_at(offset, left);
            let count = match (data, len / ENTRY_LEN) {
                (false, hole @ 1..) => hole,
                (_, run) => {
                    let count = (run + 1).min(end - index);
                    bat.for_each(cursor, index..index + count, &mut each)?;
                    count
                }
            };
            index += count;
        }
        Ok(Self { shared, file_len })
    }

    /// Checks that a block lies within the file and nothing else lies there.
    pub(super) fn check(&self, range: &Range<u64>) -> Result<()> {
        if range.start < MIB || range.end > self.file_len {
            return Err(Error::corrupt(format!(
                "expected a block from 1 MiB to the end of the file at {:#x}, found it at {range:#x?}",
                self.file_len
            )));
        }
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let mut mibs = range.start / MIB..range.end.div_ceil(MIB);
        match mibs.find(|&mib| shared.contains(to_usize(mib))) {
            None => Ok(()),
            Some(mib) => Err(Error::corrupt(format!(
                "expected a block that nothing else overlaps, found it at {range:#x?}, of which something else claims \
                 {:#x}",
                mib * MIB
            ))),
        }
    }
}

/// The claim of an entry, checked.
pub(super) fn checked_claim(
    bat: &Bat,
    allocation: &Allocation,
    index: u64,
    entry: Entry,
    used_for: Use,
) -> Result<Option<Range<u64>>> {
    let claim = entry
        .claim(&bat.geometry, used_for)
        .and_then(|claim| {
            if let Some(range) = &claim {
                allocation.check(range)?;
            }
            Ok(claim)
        })
        .map_err(|e| e.at(bat.offset_of(index)))?;
    Ok(claim)
}
