//! The region tables: MS-VHDX 2.2.3. Two copies of the same list of GUID and place.

use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::content::Content;
use super::guid::Guid;
use super::header::Header;
use super::{MIB, crc32c};
use crate::{Error, Result};

/// Where the two tables are: MS-VHDX 2.2.
pub(super) const TABLE_OFFSETS: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a table, all under its checksum.
pub(super) const TABLE_LEN: usize = 64 << 10;
const SIGNATURE: [u8; 4] = *b"regi";
/// Most entries of a table: MS-VHDX 2.2.3.1.
const MAX_ENTRIES: u32 = 2047;
/// MS-VHDX 2.2.3.2, Known Region Properties.
pub(super) const BAT: Guid = Guid::of(0x2dc27766_f623_4200_9d64_115e9bfd4a08);
pub(super) const METADATA: Guid = Guid::of(0x8b7ca206_4790_4b9a_b8fe_575f050f886e);
/// Bit 0 of `Required`.
const REQUIRED: u32 = 1 << 0;

/// Region Table Header: MS-VHDX 2.2.3.1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawTable {
    /// Byte 0: `regi`.
    signature: [u8; 4],
    /// Byte 4: CRC-32C over the 64 KiB, this field zero.
    checksum: U32,
    /// Byte 8.
    entry_count: U32,
    /// Byte 12.
    reserved: U32,
}
const _: () = assert!(size_of::<RawTable>() == 16);

/// Region Table Entry: MS-VHDX 2.2.3.2.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// Byte 0: what the region is.
    guid: Guid,
    /// Byte 16: whole MiB, at least 1 MiB.
    file_offset: U64,
    /// Byte 24: bytes, whole MiB.
    length: U32,
    /// Byte 28: bit 0: a reader that does not know the region must not go on.
    required: U32,
}
const _: () = assert!(size_of::<RawEntry>() == 32);

/// What the regions are.
#[derive(Debug)]
pub(super) struct Regions {
    pub(super) bat: Range<u64>,
    pub(super) metadata: Range<u64>,
    /// Everything that no block may overlap: the header section, the log, all regions.
    pub(super) reserved: Vec<Range<u64>>,
    /// What is wrong with one of the tables.
    pub(super) findings: Vec<String>,
}

impl Regions {
    /// Reads both tables and checks the first that is valid.
    pub(super) fn read(content: &Content, header: &Header) -> Result<Self> {
        let [first, second] = TABLE_OFFSETS.map(|offset| read_table(content, offset));
        let (bytes, offset, findings) = match (first, second) {
            (Ok(first), Ok(second)) => {
                let findings = if first == second {
                    Vec::new()
                } else {
                    vec!["expected two region tables alike, found a difference".to_owned()]
                };
                (first, TABLE_OFFSETS[0], findings)
            }
            (Ok(bytes), Err(error)) => (bytes, TABLE_OFFSETS[0], vec![one_of_two(&error)]),
            (Err(error), Ok(bytes)) => (bytes, TABLE_OFFSETS[1], vec![one_of_two(&error)]),
            (Err(first), Err(second)) => {
                return Err(Error::corrupt(format!(
                    "expected a valid region table, found none; the first: {first}; the second: {second}"
                ))
                .at(TABLE_OFFSETS[0]));
            }
        };
        let mut regions = parse(&bytes, content.len(), offset)?;
        regions.findings = findings;
        regions.reserved.push(0..MIB);
        if header.log_len > 0 {
            regions
                .reserved
                .push(header.log_offset..header.log_offset + header.log_len);
        }
        regions.check_overlaps(offset)?;
        Ok(regions)
    }

    fn check_overlaps(&mut self, table: u64) -> Result<()> {
        self.reserved.sort_by_key(|range| (range.start, range.end));
        for pair in self.reserved.windows(2) {
            if pair[0].end > pair[1].start {
                return Err(Error::corrupt(format!(
                    "expected the header, the log and the regions not to overlap, found {:#x?} and {:#x?}",
                    pair[0], pair[1]
                ))
                .at(table));
            }
        }
        Ok(())
    }
}

fn one_of_two(error: &Error) -> String {
    format!("one of two region tables: {error}")
}

fn read_table(content: &Content, offset: u64) -> Result<Vec<u8>> {
    let bytes = content.read_vec(offset, TABLE_LEN)?;
    let bad = |message: String| Err(Error::corrupt(message).at(offset));
    let Ok((raw, _)) = RawTable::ref_from_prefix(&bytes) else {
        return bad("short region table".to_owned());
    };
    if raw.signature != SIGNATURE {
        return bad(format!(
            "expected the signature `regi`, found {}",
            raw.signature.escape_ascii()
        ));
    }
    let checksum = crc32c::of_structure(&bytes);
    if raw.checksum.get() != checksum {
        return bad(format!(
            "expected the checksum {:#010x}, found {checksum:#010x}",
            raw.checksum
        ));
    }
    if raw.entry_count.get() > MAX_ENTRIES {
        return bad(format!(
            "expected at most {MAX_ENTRIES} regions, found {}",
            raw.entry_count
        ));
    }
    Ok(bytes)
}

fn parse(bytes: &[u8], file_len: u64, table: u64) -> Result<Regions> {
    let (mut bat, mut metadata) = (None, None);
    let mut reserved = Vec::new();
    let count = RawTable::ref_from_prefix(bytes).map_or(0, |(raw, _)| raw.entry_count.get());
    let entries = bytes[size_of::<RawTable>()..].chunks_exact(size_of::<RawEntry>());
    for (index, bytes) in entries.take(count as usize).enumerate() {
        let at = table + (size_of::<RawTable>() + index * size_of::<RawEntry>()) as u64;
        let Ok(raw) = RawEntry::ref_from_bytes(bytes) else {
            break;
        };
        let place = match raw.guid {
            BAT => Some(&mut bat),
            METADATA => Some(&mut metadata),
            _ => None,
        };
        if place.is_none() && raw.required.get() & REQUIRED != 0 {
            return Err(Error::unsupported(format!(
                "the required region {} is not known",
                raw.guid
            ))
            .at(at));
        }
        let range = range_of(raw).map_err(|e| e.at(at))?;
        reserved.push(range.clone());
        let Some(place) = place else { continue };
        if range.end > file_len {
            return Err(Error::corrupt(format!(
                "expected the region {} before the end of the file at {file_len:#x}, found it at {range:#x?}",
                raw.guid
            ))
            .at(at));
        }
        if place.replace(range).is_some() {
            return Err(Error::corrupt(format!("expected the region {} once", raw.guid)).at(at));
        }
    }
    let missing =
        |what: &str| Error::corrupt(format!("expected a {what} region, found none")).at(table);
    Ok(Regions {
        bat: bat.ok_or_else(|| missing("BAT"))?,
        metadata: metadata.ok_or_else(|| missing("metadata"))?,
        reserved,
        findings: Vec::new(),
    })
}

fn range_of(raw: &RawEntry) -> Result<Range<u64>> {
    let (start, len) = (raw.file_offset.get(), u64::from(raw.length.get()));
    let whole = start.is_multiple_of(MIB) && len.is_multiple_of(MIB);
    let end = start.checked_add(len);
    match end {
        Some(end) if whole && start >= MIB && len > 0 => Ok(start..end),
        _ => Err(Error::corrupt(format!(
            "expected the region {} in whole MiB from 1 MiB on, found {len:#x} bytes at {start:#x}",
            raw.guid
        ))),
    }
}

/// The 64 KiB of a table with the two regions.
pub(super) fn table_bytes(bat: Range<u64>, metadata: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; TABLE_LEN];
    let mut raw = RawTable::new_zeroed();
    raw.signature = SIGNATURE;
    raw.entry_count = 2.into();
    bytes[..size_of::<RawTable>()].copy_from_slice(raw.as_bytes());
    for (index, (guid, range)) in [(BAT, bat), (METADATA, metadata)].into_iter().enumerate() {
        let entry = RawEntry {
            guid,
            file_offset: range.start.into(),
            length: u32::try_from(range.end - range.start)
                .unwrap_or(u32::MAX)
                .into(),
            required: REQUIRED.into(),
        };
        let at = size_of::<RawTable>() + index * size_of::<RawEntry>();
        bytes[at..at + size_of::<RawEntry>()].copy_from_slice(entry.as_bytes());
    }
    let checksum = crc32c::of_structure(&bytes);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_table_is_read() {
        let bytes = table_bytes(3 * MIB..5 * MIB, 2 * MIB..3 * MIB);
        let regions = parse(&bytes, 5 * MIB, 0).unwrap();
        assert_eq!(
            (regions.bat, regions.metadata),
            (3 * MIB..5 * MIB, 2 * MIB..3 * MIB)
        );
        assert!(parse(&bytes, 5 * MIB - 1, 0).is_err());
    }

    #[test]
    fn fields_lie_where_the_specification_says() {
        assert_eq!(std::mem::offset_of!(RawTable, entry_count), 8);
        assert_eq!(std::mem::offset_of!(RawEntry, file_offset), 16);
        assert_eq!(std::mem::offset_of!(RawEntry, length), 24);
        assert_eq!(std::mem::offset_of!(RawEntry, required), 28);
    }
}
