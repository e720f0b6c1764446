//! The directory of persistent bitmaps: qcow2 "Bitmaps extension". The bits themselves are not read; the directory is
//! listed, and its clusters are counted by a check.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, ErrorKind, FileRange, Result};

use super::extension::BitmapsAt;
use super::to_usize;

/// Most bitmaps that QEMU opens.
const MAX_BITMAPS: u64 = 65535;
/// Longest directory that is read here: a kilobyte and a half for each of 10000 bitmaps; people have one or two.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;

/// An entry in the file, big-endian: qcow2 "Bitmap directory". Extra data and the name follow, padded to 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// Byte 0: offset of the bitmap table, a multiple of the cluster size.
    table_offset: U64,
    /// Byte 8: its entries.
    table_entries: U32,
    /// Byte 12: bit 0 in use, bit 1 auto, bit 2 extra data compatible.
    flags: U32,
    /// Byte 16: 1, dirty tracking.
    kind: u8,
    /// Byte 17: a bit stands for 2 to the power of this bytes.
    granularity_bits: u8,
    /// Byte 18: length of the name.
    name_len: U16,
    /// Byte 20: length of the extra data.
    extra_len: U32,
}

const _: () = assert!(size_of::<RawEntry>() == 24);

/// A bitmap.
#[derive(Clone, Debug)]
pub(super) struct Bitmap {
    pub(super) name: String,
    pub(super) table_offset: u64,
    pub(super) table_entries: u64,
    pub(super) in_use: bool,
    pub(super) auto: bool,
    pub(super) granularity_bits: u32,
}

/// Reads the directory.
pub(super) fn read(range: &FileRange, at: &BitmapsAt) -> Result<Vec<Bitmap>> {
    if at.count > MAX_BITMAPS || at.directory_len > MAX_DIRECTORY_BYTES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "expected at most {MAX_BITMAPS} bitmaps in a directory of {MAX_DIRECTORY_BYTES} bytes, found {} in {}",
                at.count, at.directory_len
            ),
        ));
    }
    let bytes = range.read_vec(at.directory_offset, to_usize(at.directory_len))?;
    let mut rest = bytes.as_slice();
    let mut bitmaps = Vec::new();
    for _ in 0..at.count {
        let here = at.directory_offset + (bytes.len() - rest.len()) as u64;
        let cut = || {
            Error::corrupt("expected a whole bitmap directory entry, found the directory's end")
                .at(here)
        };
        let (raw, tail) = RawEntry::read_from_prefix(rest).map_err(|_| cut())?;
        let extra = to_usize(raw.extra_len.get().into());
        let len = extra + usize::from(raw.name_len.get());
        let name = tail.get(extra..len).ok_or_else(cut)?;
        bitmaps.push(Bitmap {
            name: String::from_utf8_lossy(name).into_owned(),
            table_offset: raw.table_offset.get(),
            table_entries: raw.table_entries.get().into(),
            in_use: raw.flags.get() & 1 != 0,
            auto: raw.flags.get() & 2 != 0,
            granularity_bits: raw.granularity_bits.into(),
        });
        // The last entry's padding may be missing at the end.
        rest = rest
            .get((size_of::<RawEntry>() + len).next_multiple_of(8)..)
            .unwrap_or_default();
    }
    Ok(bitmaps)
}
