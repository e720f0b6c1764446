//! One entry of a key table: a key, its parent, its value.

use zerocopy::{FromBytes, Immutable, KnownLayout, LE, U16, U32};

use super::objects::Place;
use super::{corrupt, index, raw, unsupported};
use crate::error::Result;
use crate::hyperv::tree::Value;

/// An entry as it is stored (D: `HyperVStorageKeyTableEntryHeader`), before its name and value.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
struct Raw {
    kind: u8,
    flags: u8,
    /// Of the whole entry.
    size: U32<LE>,
    /// Index of the parent's table; 0 for what has no parent.
    parent_table: U16<LE>,
    /// Offset of the parent in its table.
    parent_offset: U32<LE>,
    /// Of what and how is not known.
    checksum: U32<LE>,
    order: U32<LE>,
    /// Length of the name, its final zero byte included.
    name_len: u8,
}

/// Size of the fixed part of an entry.
pub(super) const FIXED_SIZE: usize = size_of::<Raw>();
const _: () = assert!(FIXED_SIZE == 21);

/// Kinds of value (D: `KeyDataType`; 2 is not known).
mod kind {
    pub(super) const FREE: u8 = 1;
    pub(super) const INTEGER: u8 = 3;
    pub(super) const UNSIGNED: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const STRING: u8 = 6;
    pub(super) const BYTES: u8 = 7;
    pub(super) const BOOL: u8 = 8;
    pub(super) const NODE: u8 = 9;
}

/// The value is in an object of its own (D, S).
const IN_FILE: u8 = 1 << 0;
/// Seen, and not explained (S).
const SEEN: u8 = 1 << 1;

/// Longest value, in bytes. The largest that were seen are certificates and notes of some KiB.
const MAX_VALUE_SIZE: usize = 4 << 20;

/// A key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// `None` for a node.
    pub(super) value: Option<Value>,
    /// Table and offset of the parent; `None` at the top.
    pub(super) parent: Option<(u16, u32)>,
}

/// What stands at a place of a key table.
#[derive(Debug)]
pub(super) enum Read {
    /// The end of the table.
    End,
    /// Free space of this many bytes.
    Free(usize),
    /// A key of this many bytes.
    Key(usize, Entry),
}

/// Reads the entry at `offset` of the file; its table ends at `end`.
pub(super) fn read(bytes: &[u8], offset: usize, end: usize, files: &[Place]) -> Result<Read> {
    let fixed = raw::<Raw>(bytes, offset, "an entry of a key table")?;
    let size = index(u64::from(fixed.size.get()));
    if size == 0 {
        return Ok(Read::End);
    }
    if size < FIXED_SIZE || size > end - offset {
        return Err(corrupt(
            offset,
            format_args!(
                "expected an entry of {FIXED_SIZE} to {} bytes, found {size}",
                end - offset
            ),
        ));
    }
    if fixed.kind == kind::FREE {
        return Ok(Read::Free(size));
    }
    if fixed.flags & !(IN_FILE | SEEN) != 0 {
        return Err(unsupported(
            offset,
            format_args!("an entry has the unknown flags {:#x}", fixed.flags),
        ));
    }
    let body = bytes
        .get(offset + FIXED_SIZE..offset + size)
        .unwrap_or_default();
    let (name, data) = body
        .split_at_checked(usize::from(fixed.name_len))
        .ok_or_else(|| corrupt(offset, "the name of an entry is longer than the entry"))?;
    let name = name
        .split_last()
        .filter(|(last, _)| **last == 0)
        .and_then(|(_, name)| std::str::from_utf8(name).ok())
        .filter(|name| !name.is_empty() && !name.contains('\0'))
        .ok_or_else(|| corrupt(offset, "expected the name of a key, UTF-8 and a zero byte"))?;
    let in_file = fixed.flags & IN_FILE != 0;
    let value = value(bytes, fixed.kind, data, in_file.then_some(files))
        .map_err(|problem| problem.at(offset, name))?;
    let table = fixed.parent_table.get();
    let entry = Entry {
        name: name.to_owned(),
        value,
        parent: (table != 0).then(|| (table, fixed.parent_offset.get())),
    };
    Ok(Read::Key(size, entry))
}

/// Why a value cannot be had.
enum Problem {
    Corrupt(String),
    Unknown(u8),
}

impl Problem {
    fn at(self, offset: usize, name: &str) -> crate::Error {
        let name = crate::error::shown(name);
        match self {
            Self::Corrupt(message) => corrupt(offset, format_args!("`{name}`: {message}")),
            Self::Unknown(kind) => unsupported(
                offset,
                format_args!("`{name}` has a value of the unknown type {kind}"),
            ),
        }
    }
}

fn value(
    bytes: &[u8],
    kind: u8,
    data: &[u8],
    files: Option<&[Place]>,
) -> Result<Option<Value>, Problem> {
    let short = || Problem::Corrupt("the value is longer than its entry".to_owned());
    let eight = || {
        let first = data.first_chunk::<8>().copied();
        first.ok_or_else(short)
    };
    let variable = matches!(kind, kind::STRING | kind::BYTES);
    if files.is_some() && !variable {
        return Err(Problem::Corrupt(format!(
            "a value of type {kind} outside of its entry"
        )));
    }
    let blob = || match files {
        Some(files) => big_value(bytes, data, files),
        None => {
            let (len, rest) = data.split_first_chunk::<4>().ok_or_else(short)?;
            rest.get(..index(u64::from(u32::from_le_bytes(*len))))
                .ok_or_else(short)
        }
    };
    Ok(match kind {
        kind::INTEGER => Some(Value::Integer(i64::from_le_bytes(eight()?))),
        kind::UNSIGNED => Some(Value::Unsigned(u64::from_le_bytes(eight()?))),
        kind::DOUBLE => Some(Value::Double(f64::from_le_bytes(eight()?))),
        kind::STRING => Some(Value::Text(utf16(blob()?)?)),
        kind::BYTES => Some(Value::Bytes(blob()?.to_vec())),
        kind::BOOL => {
            let word = data.first_chunk::<4>().ok_or_else(short)?;
            Some(Value::Bool(*word != [0; 4]))
        }
        kind::NODE => None,
        other => return Err(Problem::Unknown(other)),
    })
}

/// A value in an object of its own: its size, then the offset of the object (D).
fn big_value<'a>(bytes: &'a [u8], data: &[u8], files: &[Place]) -> Result<&'a [u8], Problem> {
    let wrong = |message: String| Problem::Corrupt(message);
    let (size, rest) = data
        .split_first_chunk::<4>()
        .ok_or_else(|| wrong("the place of the value is cut off".to_owned()))?;
    let offset = rest
        .first_chunk::<8>()
        .ok_or_else(|| wrong("the place of the value is cut off".to_owned()))?;
    let size = index(u64::from(u32::from_le_bytes(*size)));
    let offset = index(u64::from_le_bytes(*offset));
    let object = files.iter().find(|place| place.offset == offset);
    let Some(object) = object else {
        return Err(wrong(format!(
            "the value is at {offset:#x}, where no object is"
        )));
    };
    if size > object.len || size > MAX_VALUE_SIZE {
        return Err(wrong(format!(
            "expected a value of at most {:#x} bytes, found {size:#x}",
            object.len.min(MAX_VALUE_SIZE)
        )));
    }
    bytes
        .get(offset..offset + size)
        .ok_or_else(|| wrong("the value ends after the file".to_owned()))
}

/// UTF-16; a zero at the end is not part of the text.
fn utf16(bytes: &[u8]) -> Result<String, Problem> {
    let bad = || Problem::Corrupt("expected UTF-16 text, found other bytes".to_owned());
    if !bytes.len().is_multiple_of(2) {
        return Err(bad());
    }
    let units = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units)
        .collect::<Result<_, _>>()
        .map_err(|_| bad())?;
    Ok(text.trim_end_matches('\0').to_owned())
}
