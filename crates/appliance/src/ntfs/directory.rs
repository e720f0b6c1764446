//! Entries of an index of file names (`$I30`): in the `$INDEX_ROOT` of a small directory, and in the blocks (`INDX`) of a
//! larger one. The blocks are read one after the other, whatever the tree over them says: an entry of a block that is
//! not in use any more is caught by the record that it leads to, which is another's then.

use super::{Result, corrupt, part, u16_at, u32_at, u64_at, unprotect};

/// The last entry has no name.
const LAST: u16 = 0x0002;
/// Where the name begins in a `$FILE_NAME`.
const NAME: usize = 0x42;

/// Number of a record, and how often it was used when the entry was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) record: u64,
    pub(super) sequence: u16,
}

impl Reference {
    fn parse(value: u64) -> Self {
        let [low @ .., a, b] = value.to_le_bytes();
        let [c, d, e, f, g, h] = low;
        Self {
            record: u64::from_le_bytes([c, d, e, f, g, h, 0, 0]),
            sequence: u16::from_le_bytes([a, b]),
        }
    }
}

/// Entries of the value of `$INDEX_ROOT`.
pub(super) fn in_root(value: &[u8]) -> Result<Vec<(String, Reference)>> {
    entries(part(value, 0x10, value.len().saturating_sub(0x10))?)
}

/// Entries of a block.
pub(super) fn in_block(mut block: Vec<u8>) -> Result<Vec<(String, Reference)>> {
    if !block.starts_with(b"INDX") {
        return Ok(Vec::new());
    }
    unprotect(&mut block)?;
    entries(block.get(0x18..).unwrap_or_default())
}

/// `header` begins with the index header: offset of the first entry, length of all of them.
fn entries(header: &[u8]) -> Result<Vec<(String, Reference)>> {
    let (mut at, end) = (u32_at(header, 0)? as usize, u32_at(header, 4)? as usize);
    let mut found = Vec::new();
    while at < end {
        let len = usize::from(u16_at(header, at + 8)?);
        if len < 16 {
            return Err(corrupt(format!("an entry of {len} bytes")));
        }
        let entry = part(header, at, len)?;
        if u16_at(entry, 12)? & LAST != 0 {
            break;
        }
        let key = part(entry, 16, usize::from(u16_at(entry, 10)?))?;
        found.push((name(key)?, Reference::parse(u64_at(entry, 0)?)));
        at += len;
    }
    Ok(found)
}

/// The name in a `$FILE_NAME`.
pub(super) fn name(value: &[u8]) -> Result<String> {
    let units = usize::from(*part(value, NAME - 2, 1)?.first().unwrap_or(&0));
    let (pairs, _) = part(value, NAME, units * 2)?.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    Ok(String::from_utf16_lossy(&units))
}

/// The directory that a `$FILE_NAME` is in.
pub(super) fn parent(value: &[u8]) -> Result<u64> {
    Ok(Reference::parse(u64_at(value, 0)?).record)
}
