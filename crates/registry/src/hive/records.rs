//! Records in cells, as stored (Suhanov's specification, sections "Key node", "Key value", "Key security", "Big data").

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::cells::{Cells, NIL, corrupt};
use super::names::Name;
use crate::Result;

/// Longest content of a cell that big data is cut into; longer values are big data from version 1.4 on.
pub(super) const SEGMENT: usize = 16_344;
/// Values of up to this many bytes are in the `vk` record itself.
pub(super) const INLINE: usize = 4;
/// Set in a value's size when its data is in the record.
pub(super) const INLINE_BIT: u32 = 1 << 31;
/// In `KeyValue::flags`: the name is Latin-1.
pub(super) const VALUE_COMP_NAME: u16 = 1;

/// In `KeyNode::flags`: root of a hive.
pub(super) const KEY_HIVE_ENTRY: u16 = 0x4;
/// In `KeyNode::flags`: not to be deleted (roots have it; Vista's other keys use the bit for something else).
pub(super) const KEY_NO_DELETE: u16 = 0x8;
/// In `KeyNode::flags`: the name is Latin-1.
pub(super) const KEY_COMP_NAME: u16 = 0x20;
/// In `KeyNode::flags`: the number of values is a handle.
pub(super) const KEY_PREDEF_HANDLE: u16 = 0x40;

/// `nk`: a key.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct KeyNode {
    pub(super) magic: [u8; 2],
    pub(super) flags: U16,
    /// FILETIME.
    pub(super) written: U64,
    /// Access bits and, in 1.6, layered key bits.
    pub(super) access: U32,
    pub(super) parent: U32,
    pub(super) subkeys: U32,
    /// Volatile keys are not in the file; these two mean nothing there.
    pub(super) volatile_subkeys: U32,
    pub(super) subkey_list: U32,
    pub(super) volatile_list: U32,
    pub(super) values: U32,
    pub(super) value_list: U32,
    pub(super) security: U32,
    pub(super) class: U32,
    /// Bytes of the longest subkey name in UTF-16; in the same word virtualisation flags.
    pub(super) max_name: U16,
    /// Bits 0-3: user (WOW64) flags, 4-7: virtualisation control, 8-15: debug.
    pub(super) control: U16,
    pub(super) max_class: U32,
    /// Bytes of the longest value name in UTF-16.
    pub(super) max_value_name: U32,
    pub(super) max_value_data: U32,
    pub(super) work: U32,
    /// Bytes.
    pub(super) name_len: U16,
    pub(super) class_len: U16,
}

/// `vk`: a value.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct KeyValue {
    pub(super) magic: [u8; 2],
    /// Bytes; 0 is the default value.
    pub(super) name_len: U16,
    /// Bytes, and [`INLINE_BIT`].
    pub(super) size: U32,
    /// Cell, or the data.
    pub(super) data: [u8; 4],
    pub(super) kind: U32,
    pub(super) flags: U16,
    pub(super) spare: U16,
}

/// `sk`: a security descriptor that keys share, in a ring of all.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct KeySecurity {
    pub(super) magic: [u8; 2],
    pub(super) reserved: U16,
    pub(super) next: U32,
    pub(super) previous: U32,
    /// Keys that have it.
    pub(super) references: U32,
    /// Bytes of the descriptor behind.
    pub(super) len: U32,
}

/// `db`: data in pieces.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct BigData {
    pub(super) magic: [u8; 2],
    pub(super) segments: U16,
    /// Cell with their cells.
    pub(super) list: U32,
}

const _: () = assert!(size_of::<KeyNode>() == 76);
const _: () = assert!(size_of::<KeyValue>() == 20);
const _: () = assert!(size_of::<KeySecurity>() == 20);
const _: () = assert!(size_of::<BigData>() == 8);

/// A record at the beginning of a cell, known by its magic.
pub(super) trait Record:
    FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned
{
    const MAGIC: [u8; 2];

    fn magic(&self) -> [u8; 2];
}

macro_rules! record {
    ($record:ty, $magic:literal) => {
        impl Record for $record {
            const MAGIC: [u8; 2] = *$magic;

            fn magic(&self) -> [u8; 2] {
                self.magic
            }
        }
    };
}

record!(KeyNode, b"nk");
record!(KeyValue, b"vk");
record!(KeySecurity, b"sk");
record!(BigData, b"db");

impl Cells {
    /// The record in a cell, and what is behind it there.
    pub(super) fn record<R: Record>(&self, cell: u32) -> Result<(&R, &[u8])> {
        let found = R::ref_from_prefix(self.data(cell)?);
        let found = found.ok().filter(|(record, _)| record.magic() == R::MAGIC);
        found.ok_or_else(|| corrupt(cell, format!("expected {}", R::MAGIC.escape_ascii())))
    }

    /// The same, to be changed.
    pub(super) fn record_mut<R: Record>(&mut self, cell: u32) -> Result<(&mut R, &mut [u8])> {
        let found = R::mut_from_prefix(self.data_mut(cell)?);
        let found = found.ok().filter(|(record, _)| record.magic() == R::MAGIC);
        found.ok_or_else(|| corrupt(cell, format!("expected {}", R::MAGIC.escape_ascii())))
    }

    /// A key's record to be changed.
    pub(super) fn key_mut(&mut self, cell: u32) -> Result<&mut KeyNode> {
        Ok(self.record_mut::<KeyNode>(cell)?.0)
    }

    /// A key.
    pub(super) fn key(&self, cell: u32) -> Result<(&KeyNode, Name<'_>)> {
        let (node, rest) = self.record::<KeyNode>(cell)?;
        let raw = rest.get(..node.name_len.get().into());
        let raw = raw.ok_or_else(|| corrupt(cell, "a key's name is longer than its cell"))?;
        let wide = node.flags.get() & KEY_COMP_NAME == 0;
        Ok((node, Name { raw, wide }))
    }

    /// A value's record and name.
    pub(super) fn key_value(&self, cell: u32) -> Result<(&KeyValue, Name<'_>)> {
        let (value, rest) = self.record::<KeyValue>(cell)?;
        let raw = rest.get(..value.name_len.get().into());
        let raw = raw.ok_or_else(|| corrupt(cell, "a value's name is longer than its cell"))?;
        let wide = value.flags.get() & VALUE_COMP_NAME == 0;
        Ok((value, Name { raw, wide }))
    }

    /// A list of cells: the first `count` numbers of a cell.
    pub(super) fn list(&self, cell: u32, count: u32) -> Result<impl Iterator<Item = u32> + '_> {
        let (numbers, _) = self.data(cell)?.as_chunks::<4>();
        let numbers = numbers.get(..count as usize);
        let numbers = numbers
            .ok_or_else(|| corrupt(cell, format!("a list of {count} does not fit its cell")))?;
        Ok(numbers.iter().map(|number| u32::from_le_bytes(*number)))
    }
}

impl KeyNode {
    /// Cell of its class name.
    pub(super) fn class_cell(&self) -> Option<u32> {
        Some(self.class.get()).filter(|class| *class != NIL && self.class_len.get() > 0)
    }

    /// Values in its list; none where the number is a handle.
    pub(super) fn value_count(&self) -> u32 {
        if self.flags.get() & KEY_PREDEF_HANDLE == 0 {
            self.values.get()
        } else {
            0
        }
    }
}

impl KeyValue {
    /// Bytes of data, and whether they are in the record.
    pub(super) fn size(&self) -> (usize, bool) {
        let size = self.size.get();
        ((size & !INLINE_BIT) as usize, size & INLINE_BIT != 0)
    }

    /// Cell of the data.
    pub(super) fn data_cell(&self) -> u32 {
        u32::from_le_bytes(self.data)
    }
}
