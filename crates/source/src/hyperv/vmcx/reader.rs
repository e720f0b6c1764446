//! From bytes to the tree.

use std::collections::HashMap;

use zerocopy::{FromBytes, Immutable, KnownLayout, LE, U16, U32};

use super::checksum::Tally;
use super::entry::{self, Entry, Read};
use super::objects::{self, Place};
use super::{corrupt, header, raw};
use crate::error::Result;
use crate::hyperv::tree::Tree;

/// First word of a key table (D).
const SIGNATURE: u16 = 2;
/// Levels of the tree. Hyper-V's has about 8.
const MAX_DEPTH: usize = 64;
/// Keys of one file. A machine of 100 disks has some thousands.
const MAX_KEYS: usize = 1 << 20;

/// The front of a key table (D: `HyperVStorageKeyTable`).
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct RawTable {
    signature: U16<LE>,
    index: U16<LE>,
    sequence: U16<LE>,
    /// Of the 10 bytes of this structure, this field zero.
    checksum: U32<LE>,
}

const _: () = assert!(size_of::<RawTable>() == 0xa);
/// Offset of `checksum`.
const CHECKSUM_FIELD: usize = 6;

/// Keys by table and offset, in the order of the file.
type Keys = Vec<((u16, u32), usize, Entry)>;

/// Reads a file. What is no `.vmcx` is `None`; else the tree and what the administrator should know.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Tree, Vec<String>)>> {
    if !header::is_vmcx(bytes) {
        return Ok(None);
    }
    let header = header::read(bytes)?;
    header::check_log(bytes, header.log_offset())?;
    let objects = objects::read(bytes, &header)?;
    for &log in &objects.logs {
        header::check_log(bytes, log)?;
    }
    let mut tally = Tally::new(header.algorithm);
    let tables = newest(bytes, &objects.key_tables, &mut tally)?;
    if let Some(at) = tally.damaged() {
        return Err(corrupt(at, "the checksum of a key table is wrong"));
    }
    let mut keys = Keys::new();
    for (table, place) in tables {
        read_keys(bytes, table, place, &objects.files, &mut keys)?;
    }
    let tree = build(keys)?;
    let mut warnings = Vec::new();
    if header.algorithm.is_none() || objects.unverified || tally.is_unknown() {
        warnings.push("the checksums of the configuration file are of a kind that is not known, and were not checked".to_owned());
    }
    Ok(Some((tree, warnings)))
}

/// The newest key table of each index, by index.
fn newest(bytes: &[u8], places: &[Place], tally: &mut Tally) -> Result<Vec<(u16, Place)>> {
    let mut found: HashMap<u16, (u16, Place)> = HashMap::new();
    for place in places {
        let at = place.offset;
        if place.len < size_of::<RawTable>() {
            return Err(corrupt(
                at,
                format_args!(
                    "expected a key table, found an object of {} bytes",
                    place.len
                ),
            ));
        }
        let front = raw::<RawTable>(bytes, at, "a key table")?;
        let (signature, index) = (front.signature.get(), front.index.get());
        if signature != SIGNATURE {
            return Err(corrupt(
                at,
                format_args!("expected a key table, {SIGNATURE:#x}, found {signature:#x}"),
            ));
        }
        if index == 0 {
            return Err(corrupt(at, "expected a key table of index 1 or more"));
        }
        let stored = bytes
            .get(at..at + size_of::<RawTable>())
            .unwrap_or_default();
        tally.note(stored, CHECKSUM_FIELD, front.checksum.get(), at);
        let sequence = front.sequence.get();
        match found.get(&index) {
            Some((other, _)) if *other == sequence => {
                return Err(corrupt(
                    at,
                    format_args!("two key tables of index {index} have the same age"),
                ));
            }
            Some((other, _)) if other.wrapping_sub(sequence) < 0x8000 => {}
            _ => {
                found.insert(index, (sequence, *place));
            }
        }
    }
    let mut tables: Vec<(u16, Place)> = found
        .into_iter()
        .map(|(index, (_, place))| (index, place))
        .collect();
    tables.sort_unstable_by_key(|(index, _)| *index);
    Ok(tables)
}

/// Reads the entries of one key table.
fn read_keys(
    bytes: &[u8],
    table: u16,
    place: Place,
    files: &[Place],
    keys: &mut Keys,
) -> Result<()> {
    let end = place.offset + place.len;
    let mut at = place.offset + size_of::<RawTable>();
    while end - at >= entry::FIXED_SIZE {
        match entry::read(bytes, at, end, files)? {
            Read::End => return Ok(()),
            Read::Free(size) => at += size,
            Read::Key(size, entry) => {
                if keys.len() == MAX_KEYS {
                    return Err(corrupt(
                        at,
                        format_args!("expected at most {MAX_KEYS} keys, found more"),
                    ));
                }
                let offset = u32::try_from(at - place.offset).unwrap_or(u32::MAX);
                keys.push(((table, offset), at, entry));
                at += size;
            }
        }
    }
    Ok(())
}

/// Links the keys to their parents, and makes the tree of what hangs below `configuration`.
fn build(keys: Keys) -> Result<Tree> {
    let numbers: HashMap<(u16, u32), usize> = keys
        .iter()
        .enumerate()
        .map(|(number, (id, _, _))| (*id, number))
        .collect();
    let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut top = None;
    for (number, (_, at, entry)) in keys.iter().enumerate() {
        let Some(parent) = entry.parent else {
            let right = entry.name == "configuration" && entry.value.is_none();
            if !right || top.replace(number).is_some() {
                return Err(corrupt(
                    *at,
                    "expected one node `configuration` at the top, and nothing else",
                ));
            }
            continue;
        };
        let Some(&parent) = numbers.get(&parent) else {
            let name = crate::error::shown(&entry.name);
            return Err(corrupt(
                *at,
                format_args!("the parent of `{name}` is not there"),
            ));
        };
        if keys
            .get(parent)
            .is_some_and(|(_, _, above)| above.value.is_some())
        {
            return Err(corrupt(
                *at,
                "the parent of a key is a value, where a node was expected",
            ));
        }
        children.entry(parent).or_default().push(number);
    }
    let Some(top) = top else {
        return Err(corrupt(0, "expected a node `configuration`, found none"));
    };
    let total = keys.len();
    let mut entries: Vec<Option<Entry>> =
        keys.into_iter().map(|(_, _, entry)| Some(entry)).collect();
    let mut tree = Tree::new("configuration");
    let mut reached = 1;
    let mut pending = vec![(top, 0, 1)];
    while let Some((number, index, depth)) = pending.pop() {
        for child in children.remove(&number).unwrap_or_default() {
            let Some(entry) = entries.get_mut(child).and_then(Option::take) else {
                continue;
            };
            if depth == MAX_DEPTH {
                return Err(corrupt(
                    0,
                    format_args!("expected at most {MAX_DEPTH} levels, found more"),
                ));
            }
            let added = tree.add(index, entry.name, entry.value);
            reached += 1;
            pending.push((child, added, depth + 1));
        }
    }
    if reached != total {
        return Err(corrupt(
            0,
            "keys are their own ancestors, or hang below nothing",
        ));
    }
    Ok(tree)
}
