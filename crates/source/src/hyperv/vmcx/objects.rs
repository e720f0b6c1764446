//! The object tables: where in the file the key tables and the big values are.

use zerocopy::{FromBytes, Immutable, KnownLayout, LE, U32, U64};

use super::checksum::Tally;
use super::header::Header;
use super::{corrupt, index, raw, unsupported};
use crate::error::Result;

/// First word of an object table (D).
const SIGNATURE: u32 = 0x0111_0001;
/// Object tables that one file may have. One was ever seen; its size is bound by the file.
const MAX_TABLES: usize = 64;
/// Objects that one file may have. A machine of 100 disks and 50 checkpoints has some hundreds.
const MAX_OBJECTS: usize = 65_536;

/// Kinds of object (D: `ObjectEntryType`).
mod kind {
    pub(super) const UNKNOWN: u8 = 0;
    pub(super) const OBJECT_TABLE: u8 = 1;
    pub(super) const KEY_TABLE: u8 = 2;
    pub(super) const FILE: u8 = 3;
    pub(super) const FREE: u8 = 4;
    pub(super) const REPLAY_LOG: u8 = 6;
    /// Highest that has a name: a buffer for tracking changes.
    pub(super) const LAST: u8 = 7;
}

/// The front of a table.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct RawTable {
    signature: U32<LE>,
    entries: U32<LE>,
}

const _: () = assert!(size_of::<RawTable>() == 8);

/// An entry (D: `HyperVStorageObjectTableEntry`).
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct RawObject {
    kind: u8,
    /// Of the 18 bytes of this structure, this field zero.
    checksum: U32<LE>,
    offset: U64<LE>,
    size: U32<LE>,
    allocated: u8,
}

const _: () = assert!(size_of::<RawObject>() == 0x12);
/// Offset of `checksum`.
const CHECKSUM_FIELD: usize = 1;

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// Everything that is allocated.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) key_tables: Vec<Place>,
    pub(super) files: Vec<Place>,
    pub(super) logs: Vec<usize>,
    /// True when no checksum of an entry was understood.
    pub(super) unverified: bool,
}

/// Reads all object tables.
pub(super) fn read(bytes: &[u8], header: &Header) -> Result<Objects> {
    let mut objects = Objects::default();
    let mut tally = Tally::new(header.algorithm);
    let mut pending = vec![header.objects];
    let mut seen = Vec::new();
    let mut count = 0;
    while let Some(table) = pending.pop() {
        if seen.contains(&table) || seen.len() == MAX_TABLES {
            return Err(corrupt(
                table,
                format_args!("expected at most {MAX_TABLES} different object tables"),
            ));
        }
        seen.push(table);
        let front = raw::<RawTable>(bytes, table, "an object table")?;
        let (signature, entries) = (front.signature.get(), front.entries.get());
        if signature != SIGNATURE {
            return Err(corrupt(
                table,
                format_args!("expected an object table, {SIGNATURE:#x}, found {signature:#x}"),
            ));
        }
        count += index(u64::from(entries));
        if count > MAX_OBJECTS {
            return Err(corrupt(
                table,
                format_args!("expected at most {MAX_OBJECTS} objects, found {count}"),
            ));
        }
        for number in 0..index(u64::from(entries)) {
            let at = table + size_of::<RawTable>() + number * size_of::<RawObject>();
            let object = raw::<RawObject>(bytes, at, "an entry of the object table")?;
            if object.allocated == 0 {
                continue;
            }
            let stored = bytes
                .get(at..at + size_of::<RawObject>())
                .unwrap_or_default();
            tally.note(stored, CHECKSUM_FIELD, object.checksum.get(), at);
            sort(&object, at, bytes.len(), &mut objects, &mut pending)?;
        }
    }
    if let Some(at) = tally.damaged() {
        return Err(corrupt(
            at,
            "the checksum of an entry of the object table is wrong",
        ));
    }
    objects.unverified = tally.is_unknown();
    refuse_overlap(&objects)?;
    Ok(objects)
}

fn sort(
    object: &RawObject,
    at: usize,
    file_len: usize,
    objects: &mut Objects,
    tables: &mut Vec<usize>,
) -> Result<()> {
    let place = Place {
        offset: index(object.offset.get()),
        len: index(u64::from(object.size.get())),
    };
    let whole = || {
        let end = place.offset.checked_add(place.len);
        end.filter(|&end| end <= file_len)
            .map(|_| place)
            .ok_or_else(|| {
                corrupt(
                    at,
                    format_args!(
                        "an object of {:#x} bytes at {:#x} ends after the file, at {file_len:#x}",
                        place.len, place.offset
                    ),
                )
            })
    };
    match object.kind {
        kind::OBJECT_TABLE => tables.push(place.offset),
        kind::KEY_TABLE => objects.key_tables.push(whole()?),
        kind::FILE => objects.files.push(whole()?),
        kind::REPLAY_LOG => objects.logs.push(place.offset),
        kind::UNKNOWN | kind::FREE..=kind::LAST => {}
        other => {
            return Err(unsupported(
                at,
                format_args!("expected an object of type 0 to 7, found {other}"),
            ));
        }
    }
    Ok(())
}

/// Objects share no bytes, and so all of them together are no more work than the file is long.
fn refuse_overlap(objects: &Objects) -> Result<()> {
    let mut places: Vec<Place> = objects
        .key_tables
        .iter()
        .chain(&objects.files)
        .copied()
        .collect();
    places.sort_unstable();
    for pair in places.windows(2) {
        if let [first, second] = pair
            && first.offset + first.len > second.offset
        {
            return Err(corrupt(
                second.offset,
                format_args!("two objects overlap: the one at {:#x}", first.offset),
            ));
        }
    }
    Ok(())
}
