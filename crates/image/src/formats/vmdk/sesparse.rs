//! The headers of a seSparse extent ("space-efficient sparse"), the snapshots of VMFS 6 and of disks over 2 TiB since
//! vSphere 6.5. VMware publishes no specification; the layout is what independent readers agree on (the description
//! with QEMU's `vmdk: Add read-only support for seSparse snapshots`, 2019).
//!
//! ```text
//! constant header | volatile header | journal header | journal | directory | tables | free bitmap | back map | grains
//! ```
//!
//! All numbers are little-endian and of 64 bits, places and sizes are sectors. Every area has its place from the
//! start, so directory and table entries are numbers of tables and of grains, not places. The volatile header says
//! whether the journal holds changes that are not in the tables yet; such a file is refused.

use std::mem::offset_of;
use std::sync::Arc;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::directory::{self, GrainMap};
use super::geometry::{Geometry, SECTOR};
use super::sparse::SparseExtent;
use super::tables::{Entries, FIRST_INDEX, Layout};
use crate::{Error, ErrorKind, FileRange, Result};

/// First word of the constant header.
pub(super) const MAGIC: u64 = 0xcafe_babe;
/// First word of the volatile header.
const VOLATILE_MAGIC: u64 = 0xcafe_cafe;
/// Version 2.1: major in the upper half, minor in the lower.
const VERSION: u64 = 0x0000_0002_0000_0001;
/// Bytes of each header.
const HEADER_LEN: usize = 512;
/// Sectors of a grain and of a grain table in every file that is known of.
const GRAIN_SECTORS: u64 = 8;
const TABLE_SECTORS: u64 = 64;
/// Bytes of a directory or table entry.
const WIDE: usize = 8;
const TABLE_ENTRIES: u32 = 4096;

/// The upper half of a directory entry: none, or a table's number in the lower half.
const TABLE_MASK: u64 = 0xffff_ffff_0000_0000;
const TABLE_PRESENT: u64 = 0x1000_0000_0000_0000;

/// The uppermost 4 bits of a table entry: nothing was ever written (the parent shows through).
const UNALLOCATED: u64 = 0x0;
/// The guest discarded the grain: zeroes.
const UNMAPPED: u64 = 0x1;
/// Zeroes.
const ZERO: u64 = 0x2;
/// The lower 60 bits are the grain's number, rotated: bits 48 to 59 are its lowest 12.
const ALLOCATED: u64 = 0x3;

/// The constant header.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawConstHeader {
    magic: U64,
    version: U64,
    capacity: U64,
    grain_size: U64,
    grain_table_size: U64,
    flags: U64,
    reserved: [U64; 4],
    volatile_header: Area,
    journal_header: Area,
    journal: Area,
    grain_dir: Area,
    grain_tables: Area,
    free_bitmap: Area,
    backmap: Area,
    grains: Area,
    pad: [u8; 304],
}
const _: () = assert!(size_of::<RawConstHeader>() == HEADER_LEN);

/// A part of the file, in sectors.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Area {
    offset: U64,
    size: U64,
}

/// The volatile header.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawVolatileHeader {
    magic: U64,
    free_gt_number: U64,
    next_txn_seq_number: U64,
    /// Not 0 when the journal must be replayed.
    replay_journal: U64,
    pad: [u8; 480],
}
const _: () = assert!(size_of::<RawVolatileHeader>() == HEADER_LEN);

impl Area {
    /// First byte and length, when they are numbers that a file can have.
    fn bytes(self, what: &str) -> Result<(u64, u64)> {
        let offset = self.offset.get().checked_mul(SECTOR);
        let len = self.size.get().checked_mul(SECTOR);
        match (offset, len) {
            (Some(offset), Some(len))
                if offset >= HEADER_LEN as u64 && offset.checked_add(len).is_some() =>
            {
                Ok((offset, len))
            }
            _ => Err(Error::corrupt(format!(
                "expected the {what} behind the header, found sector {:#x} and {:#x} sectors",
                self.offset, self.size
            ))),
        }
    }
}

/// Opens the extent.
pub(super) fn open(range: FileRange) -> Result<SparseExtent> {
    let label = range.label().to_owned();
    open_inner(range).map_err(|e| e.in_file(label))
}

fn open_inner(range: FileRange) -> Result<SparseExtent> {
    let bytes = read_header(&range, 0, "constant header")?;
    let (raw, _) = RawConstHeader::ref_from_prefix(&bytes)
        .map_err(|_| Error::corrupt(format!("expected a header of {HEADER_LEN} bytes")))?;
    raw.check()?;
    let (volatile, _) = raw
        .volatile_header
        .bytes("volatile header")
        .map_err(|e| e.at(offset_of!(RawConstHeader, volatile_header) as u64))?;
    check_volatile(&range, volatile)?;
    let geometry = Geometry::of(raw.capacity.get(), GRAIN_SECTORS, TABLE_ENTRIES, WIDE)
        .map_err(|e| e.at(offset_of!(RawConstHeader, capacity) as u64))?;
    let map = read_directory(&range, raw, &geometry)?;
    let (origin, _) = raw
        .grains
        .bytes("grains")
        .map_err(|e| e.at(offset_of!(RawConstHeader, grains) as u64))?;
    let (tables, tables_len) = raw
        .grain_tables
        .bytes("grain tables")
        .map_err(|e| e.at(offset_of!(RawConstHeader, grain_tables) as u64))?;
    // 2^32 grains behind it are still a number of 64 bits.
    if origin > u64::MAX / 4 {
        return Err(Error::corrupt(format!(
            "expected the grains within a file, found {origin:#x}"
        ))
        .at(offset_of!(RawConstHeader, grains) as u64));
    }
    let layout = Layout {
        geometry,
        entries: Entries::Indexed { origin },
        compressed: false,
        reserved: tables..tables + tables_len,
    };
    Ok(SparseExtent::new(range, &layout, map))
}

impl RawConstHeader {
    fn check(&self) -> Result<()> {
        if self.magic.get() != MAGIC {
            return Err(Error::corrupt(format!(
                "expected the magic {MAGIC:#x} of a seSparse extent, found {:#x}",
                self.magic
            ))
            .at(0));
        }
        let fields = [
            ("version", self.version, VERSION, offset_of!(Self, version)),
            (
                "grain size in sectors",
                self.grain_size,
                GRAIN_SECTORS,
                offset_of!(Self, grain_size),
            ),
            (
                "grain table size in sectors",
                self.grain_table_size,
                TABLE_SECTORS,
                offset_of!(Self, grain_table_size),
            ),
            ("flags", self.flags, 0, offset_of!(Self, flags)),
        ];
        for (what, found, expected, at) in fields {
            if found.get() != expected {
                return Err(Error::unsupported(format!(
                    "a seSparse extent with {what} {found:#x} is not supported ({expected:#x} is)"
                ))
                .at(at as u64));
            }
        }
        Ok(())
    }
}

fn read_header(range: &FileRange, at: u64, what: &str) -> Result<Vec<u8>> {
    if at
        .checked_add(HEADER_LEN as u64)
        .is_none_or(|end| end > range.len())
    {
        return Err(Error::new(
            ErrorKind::Truncated,
            format!(
                "expected the seSparse {what} of {HEADER_LEN} bytes, but the file ends at {:#x}",
                range.len()
            ),
        )
        .at(at));
    }
    range.read_vec(at, HEADER_LEN)
}

fn check_volatile(range: &FileRange, at: u64) -> Result<()> {
    let bytes = read_header(range, at, "volatile header")?;
    let (raw, _) = RawVolatileHeader::ref_from_prefix(&bytes)
        .map_err(|_| Error::corrupt(format!("expected a header of {HEADER_LEN} bytes")))?;
    if raw.magic.get() != VOLATILE_MAGIC {
        return Err(Error::corrupt(format!(
            "expected the magic {VOLATILE_MAGIC:#x} of the volatile header, found {:#x}",
            raw.magic
        ))
        .at(at));
    }
    if raw.replay_journal.get() != 0 {
        return Err(Error::unsupported(
            "a seSparse extent whose journal must be replayed is not supported: the host stopped while it was \
             written; hint: let ESXi open and close the disk once, or consolidate the snapshot there",
        )
        .at(at + offset_of!(RawVolatileHeader, replay_journal) as u64));
    }
    Ok(())
}

/// Reads the directory: numbers of tables become their sectors.
fn read_directory(
    range: &FileRange,
    raw: &RawConstHeader,
    geometry: &Geometry,
) -> Result<GrainMap> {
    let (at, area) = raw
        .grain_dir
        .bytes("grain directory")
        .map_err(|e| e.at(offset_of!(RawConstHeader, grain_dir) as u64))?;
    let tables = raw.grain_tables.offset.get();
    let count = raw.grain_tables.size.get() / TABLE_SECTORS;
    let len = u64::from(geometry.tables()) * WIDE as u64;
    if len > area {
        return Err(Error::corrupt(format!(
            "expected a grain directory of at least {len} bytes, found {area}"
        ))
        .at(offset_of!(RawConstHeader, grain_dir) as u64));
    }
    if at + len > range.len() {
        return Err(Error::new(
            ErrorKind::Truncated,
            format!(
                "expected a grain directory of {len} bytes, but the file ends at {:#x}",
                range.len()
            ),
        )
        .at(at));
    }
    // Bounded by the length of the file and by the limit on tables.
    let bytes = range.read_vec(at, usize::try_from(len).unwrap_or(usize::MAX))?;
    let mut sectors = Vec::with_capacity(bytes.len() / WIDE);
    for (index, word) in (0_u64..).zip(bytes.as_chunks::<WIDE>().0) {
        let entry = u64::from_le_bytes(*word);
        let number = entry & !TABLE_MASK;
        if entry == 0 {
            sectors.push(0);
            continue;
        }
        let sector = number
            .checked_mul(TABLE_SECTORS)
            .and_then(|skip| tables.checked_add(skip))
            .and_then(|sector| u32::try_from(sector).ok());
        match sector {
            Some(sector) if entry & TABLE_MASK == TABLE_PRESENT && number < count => {
                sectors.push(sector);
            }
            _ => {
                return Err(Error::corrupt(format!(
                    "expected 0 or the number of one of {count} grain tables, found {entry:#018x}"
                ))
                .at(at + index * WIDE as u64));
            }
        }
    }
    let place = at..at + len;
    directory::check(&sectors, &place, range.len(), geometry).map_err(|e| e.at(at))?;
    Ok(GrainMap::Directory {
        tables: sectors,
        at: place,
    })
}

/// The entries of a table at byte `at`, as [`Entries::Indexed`] keeps them.
pub(super) fn decode(bytes: &[u8], at: u64) -> Result<Arc<[u32]>> {
    let (words, _) = bytes.as_chunks::<WIDE>();
    let mut entries = Vec::with_capacity(words.len());
    for (slot, word) in (0_u64..).zip(words) {
        let entry = u64::from_le_bytes(*word);
        let value = entry & 0x0fff_ffff_ffff_ffff;
        let fail = |e: Error| Err(e.at(at + slot * WIDE as u64));
        entries.push(match entry >> 60 {
            UNALLOCATED if value == 0 => 0,
            UNMAPPED | ZERO => 1,
            ALLOCATED => {
                let number = (value >> 48) | ((value & 0xffff_ffff_ffff) << 12);
                match u32::try_from(number)
                    .ok()
                    .and_then(|number| number.checked_add(FIRST_INDEX))
                {
                    Some(entry) => entry,
                    None => {
                        return fail(Error::new(
                            ErrorKind::Limit,
                            format!(
                                "expected a grain within 16 TiB of file, found number {number:#x}"
                            ),
                        ));
                    }
                }
            }
            _ => {
                return fail(Error::corrupt(format!(
                    "expected a grain table entry of type 0 to 3, found {entry:#018x}"
                )));
            }
        });
    }
    Ok(entries.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_other_readers_find_them() {
        assert_eq!(offset_of!(RawConstHeader, capacity), 16);
        assert_eq!(offset_of!(RawConstHeader, volatile_header), 80);
        assert_eq!(offset_of!(RawConstHeader, grain_dir), 128);
        assert_eq!(offset_of!(RawConstHeader, grain_tables), 144);
        assert_eq!(offset_of!(RawConstHeader, grains), 192);
        assert_eq!(offset_of!(RawVolatileHeader, replay_journal), 24);
    }

    #[test]
    fn entries_are_decoded_by_type() {
        let bytes = |entries: &[u64]| -> Vec<u8> {
            entries
                .iter()
                .flat_map(|entry| entry.to_le_bytes())
                .collect()
        };
        let entries = [
            0,
            0x1000_0000_0000_0000,
            0x2000_0000_0000_0000,
            0x3000_0000_0000_0000,
            0x3001_0000_0000_0000,
            0x3000_0000_0000_0001,
            0x3fff_0000_0000_0002,
        ];
        assert_eq!(
            *decode(&bytes(&entries), 0).unwrap(),
            [0, 1, 1, 2, 3, 4098, 0x2fff + 2]
        );
        for (bad, kind) in [
            (1, ErrorKind::Corrupt),
            (0x4000_0000_0000_0000, ErrorKind::Corrupt),
            (0x3000_ffff_ffff_ffff, ErrorKind::Limit),
        ] {
            let error = decode(&bytes(&[0, bad]), 4096).unwrap_err();
            assert_eq!((error.kind(), error.offset()), (kind, Some(4104)));
        }
    }
}
