//! The `.vmcx` of Hyper-V 2016 and later: the container that Microsoft calls HyperVStorage.
//!
//! Microsoft publishes no specification. What is here are facts that others found; D is the documentation of
//! dissect.hypervisor (Fox-IT, docs.dissect.tools, module `descriptor.hyperv` and its structure definitions), which is
//! tested on real `.vmcx` and `.vmrs` files; S is Pascal Beyer's snapshot fuzzer, whose reader of `.vmrs` files names
//! the same fields; X is ExHyperV, which drives Microsoft's own library and so shows names and types of keys.
//! Integers are little-endian, structures packed.
//!
//! ```text
//! 0x0000  header        signature 0x01282014, sequence number; the newer of the two counts            D, S
//! 0x1000  header
//! 0x2000  object table  signature 0x01110001, entries: type, offset, size, allocated                  D, S
//!   ...   replay log    signature 0x01110003, changes that are not in place yet                       D
//!   ...   key table     signature 0x0002, table index, sequence number, then entries:                 D, S
//!           entry: type, flags, size, parent (table, offset), checksum, order, length of the name,
//!                  name with its final zero byte, value
//!   ...   file object   a value of 0x800 bytes or more                                                D
//! ```
//!
//! | part | how sure |
//! |---|---|
//! | headers, object table, key tables and entries, value types, parent links, big values | D and S agree, both ran on real files |
//! | names of keys (`/configuration/properties/name`, …) | D, X, and the same as in the old XML |
//! | that the checksums are CRC-32, and what they cover | D says what, S says CRC-32, neither computes it; see [`checksum`] |
//! | that the object table is at twice the header's size, 0x1000 | S does it, D has the constant 0x2000 |
//! | further object tables, several key tables of one index | D and S assume it, neither saw one |
//! | the place of the data of the replay log, and the checksum of a key entry | not known; a log with changes is refused, the checksum of an entry is not looked at |
//!
//! Refused: every other version than 0x400, outstanding changes, unknown types and flags, objects that overlap,
//! parents that are not there or go in circles, keys that cannot be text.

mod checksum;
mod entry;
mod header;
mod objects;
mod reader;

pub(crate) use reader::parse;

use crate::error::{Error, ErrorKind};

/// What to do where this reader is at its end.
const HINT: &str = "hint: export the machine as OVA or as old XML, or give its disks with -i disk";

/// Contradicts what is known of the format.
fn corrupt(offset: usize, message: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("at {offset:#x}: {message}; {HINT}"))
}

/// Not known.
fn unsupported(offset: usize, message: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("at {offset:#x}: {message}; {HINT}"),
    )
}

/// The structure of type `T` at `offset`.
fn raw<T: zerocopy::FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + Copy>(
    bytes: &[u8],
    offset: usize,
    what: &str,
) -> Result<T, Error> {
    bytes
        .get(offset..)
        .and_then(|rest| T::read_from_prefix(rest).ok())
        .map(|(value, _)| value)
        .ok_or_else(|| {
            corrupt(
                offset,
                format_args!("expected {what}, found the end of the file"),
            )
        })
}

/// An offset or size of the file as an index; what is beyond the file's end fails where it is used.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
