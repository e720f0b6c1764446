//! The log, and which part of it is to be applied: MS-VHDX 2.3.
//!
//! ```text
//! ring of pages of 4 KiB
//! | entry: header, descriptors | data sectors … | entry … | entry … | stale or torn |
//!     ▲ tail of the sequence                       ▲ head: the greatest sequence number
//! ```
//!
//! An entry is valid when its checksum, its numbers and its GUID are right. Valid entries that follow each other in
//! the ring with consecutive numbers are a sequence; it is complete when its last entry's tail is one of its entries.
//! The complete sequence with the greatest number is active. It is applied from its tail to its head; everything
//! else in the log is older, or was never completely written and so never relied upon.

use std::collections::HashMap;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::guid::Guid;
use super::header::Header;
use super::overlay::{Fill, Overlay};
use super::region::TABLE_OFFSETS;
use super::{MAX_FILE_LEN, crc32c, to_usize};
use crate::{Error, ErrorKind, FileRange, Result};

/// Unit of the log: MS-VHDX 2.3.1.
pub(super) const PAGE: u64 = 4096;
/// Longest log that is replayed. Hyper-V's is 1 MiB; QEMU lets the user choose.
const MAX_LOG_LEN: u64 = 64 << 20;
/// Bytes that are read to validate entries, in lengths of the log. Valid entries do not overlap, so all of them are
/// one length; the rest is for stale ones.
const MAX_EFFORT: u64 = 8;

/// Log Entry Header: MS-VHDX 2.3.1.1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    /// Byte 0: `loge`.
    signature: [u8; 4],
    /// Byte 4: CRC-32C over the entry, this field zero.
    checksum: U32,
    /// Byte 8: bytes, whole pages.
    entry_length: U32,
    /// Byte 12: offset in the log of the first entry of the sequence.
    tail: U32,
    /// Byte 16: not 0.
    sequence_number: U64,
    /// Byte 24.
    descriptor_count: U32,
    /// Byte 28.
    reserved: U32,
    /// Byte 32: that of the header.
    log_guid: Guid,
    /// Byte 48: the file was at least so long, and durable, when the entry was written.
    flushed_file_offset: U64,
    /// Byte 56: the file is to be so long after the replay.
    last_file_offset: U64,
}
const _: () = assert!(size_of::<RawEntry>() == 64);
const ENTRY_SIGNATURE: [u8; 4] = *b"loge";

/// Zero Descriptor and Data Descriptor: MS-VHDX 2.3.1.2, 2.3.1.3.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDescriptor {
    /// Byte 0: `zero` or `desc`.
    signature: [u8; 4],
    /// Byte 4: the last 4 bytes of the page; reserved in a zero descriptor.
    trailing: [u8; 4],
    /// Byte 8: the first 8 bytes of the page; in a zero descriptor the length in bytes, whole pages.
    leading: [u8; 8],
    /// Byte 16: where in the file, whole pages.
    file_offset: U64,
    /// Byte 24: that of the entry.
    sequence_number: U64,
}
const _: () = assert!(size_of::<RawDescriptor>() == 32);
const ZERO_SIGNATURE: [u8; 4] = *b"zero";
const DATA_SIGNATURE: [u8; 4] = *b"desc";

/// Data Sector: MS-VHDX 2.3.1.4.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDataSector {
    /// Byte 0: `data`.
    signature: [u8; 4],
    /// Byte 4: upper half of the entry's sequence number.
    sequence_high: U32,
    /// Byte 8: bytes 8 to 4091 of the page.
    data: [u8; 4084],
    /// Byte 4092: lower half.
    sequence_low: U32,
}
const _: () = assert!(size_of::<RawDataSector>() == 4096);
const SECTOR_SIGNATURE: [u8; 4] = *b"data";

/// A valid entry.
#[derive(Clone, Copy, Debug)]
struct Entry {
    len: u64,
    tail: u64,
    sequence_number: u64,
    flushed_file_offset: u64,
    last_file_offset: u64,
}

/// The active sequence, applied in memory.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) overlay: Overlay,
    /// Entries that were applied.
    pub(super) entries: usize,
    /// Sequence number of the last one.
    pub(super) sequence_number: u64,
    /// Least length of the file after the replay.
    pub(super) last_file_offset: u64,
}

/// Replays the log of the current header. `None` when it is empty.
pub(super) fn replay(range: &FileRange, header: &Header) -> Result<Option<Replay>> {
    if !header.is_dirty() {
        return Ok(None);
    }
    let at = header.log_offset;
    if header.log_len > MAX_LOG_LEN {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "expected a log of at most {MAX_LOG_LEN} bytes to replay, found {}",
                header.log_len
            ),
        )
        .at(at));
    }
    if at + header.log_len > range.len() {
        return Err(Error::new(
            ErrorKind::Truncated,
            format!(
                "expected a log of {:#x} bytes before the end of the file at {:#x}",
                header.log_len,
                range.len()
            ),
        )
        .at(at));
    }
    let log = Log {
        range,
        offset: at,
        len: header.log_len,
        guid: header.log_guid,
    };
    log.replay().map(Some)
}

struct Log<'a> {
    range: &'a FileRange,
    /// In the file.
    offset: u64,
    len: u64,
    guid: Guid,
}

impl Log<'_> {
    fn replay(&self) -> Result<Replay> {
        let entries = self.entries()?;
        let Some(active) = active_sequence(&entries, self.len) else {
            return Err(Error::corrupt(format!(
                "the image was not closed and its log cannot be replayed: expected a valid sequence of entries of the \
                 log {}, found {} valid entries that make none",
                self.guid,
                entries.len()
            ))
            .at(self.offset));
        };
        let mut replay = Replay {
            overlay: Overlay::default(),
            entries: active.len(),
            sequence_number: 0,
            last_file_offset: 0,
        };
        let mut flushed = (0, 0);
        for at in active {
            let entry = entries[&at];
            let bytes = self.read_ring(at, entry.len)?;
            self.apply(&bytes, at, &mut replay.overlay)?;
            replay.sequence_number = entry.sequence_number;
            replay.last_file_offset = entry.last_file_offset;
            flushed = (at, entry.flushed_file_offset);
        }
        // What the head says holds: the file may have shrunk since the tail.
        if flushed.1 > self.range.len() {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "the file was cut after it was written: its log expects at least {:#x} bytes, found {:#x}",
                    flushed.1,
                    self.range.len()
                ),
            )
            .at(self.offset + flushed.0));
        }
        if replay.last_file_offset.max(replay.overlay.end()) > MAX_FILE_LEN {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected a file of at most {MAX_FILE_LEN} bytes after the log is replayed"
                ),
            )
            .at(self.offset));
        }
        Ok(replay)
    }

    /// All valid entries by their offset in the log.
    fn entries(&self) -> Result<HashMap<u64, Entry>> {
        let mut entries = HashMap::new();
        let mut effort = self.len * MAX_EFFORT;
        let mut head = [0; size_of::<RawEntry>()];
        let mut at = 0;
        while at < self.len {
            self.range.read_exact_at(&mut head, self.offset + at)?;
            let Some(entry) = self.entry_of(&head) else {
                at += PAGE;
                continue;
            };
            effort = effort.checked_sub(entry.len).ok_or_else(|| {
                Error::new(
                    ErrorKind::Limit,
                    format!(
                        "expected a log whose entries do not overlap, found more than {MAX_EFFORT} times its length"
                    ),
                )
                .at(self.offset + at)
            })?;
            if self.is_valid(&self.read_ring(at, entry.len)?) {
                entries.insert(at, entry);
            }
            at += PAGE;
        }
        Ok(entries)
    }

    /// The entry of this header, if the header's numbers can be.
    fn entry_of(&self, head: &[u8]) -> Option<Entry> {
        let (raw, _) = RawEntry::ref_from_prefix(head).ok()?;
        if raw.signature != ENTRY_SIGNATURE || raw.log_guid != self.guid {
            return None;
        }
        let entry = Entry {
            len: raw.entry_length.get().into(),
            tail: raw.tail.get().into(),
            sequence_number: raw.sequence_number.get(),
            flushed_file_offset: raw.flushed_file_offset.get(),
            last_file_offset: raw.last_file_offset.get(),
        };
        let fits = (PAGE..=self.len).contains(&entry.len)
            && entry.len.is_multiple_of(PAGE)
            && entry.tail < self.len
            && entry.tail.is_multiple_of(PAGE)
            && entry.sequence_number > 0
            && descriptor_pages(raw.descriptor_count.get()) * PAGE <= entry.len;
        fits.then_some(entry)
    }

    /// Checks the descriptors, the data sectors and the checksum of an entry. Cheap checks come first: they fail
    /// where another entry begins within this one, so that overlapping headers cost little.
    fn is_valid(&self, bytes: &[u8]) -> bool {
        let Ok((raw, _)) = RawEntry::ref_from_prefix(bytes) else {
            return false;
        };
        let number = raw.sequence_number.get();
        let mut sectors = data_sectors(bytes, raw.descriptor_count.get());
        let valid = descriptors(bytes).all(|descriptor| {
            descriptor.sequence_number.get() == number
                && descriptor.file_offset.get().is_multiple_of(PAGE)
                && match descriptor.signature {
                    ZERO_SIGNATURE => zero_end(descriptor).is_some(),
                    DATA_SIGNATURE => sectors.next().is_some_and(|(_, sector)| {
                        let halves = u64::from(sector.sequence_high.get()) << 32
                            | u64::from(sector.sequence_low.get());
                        sector.signature == SECTOR_SIGNATURE && halves == number
                    }),
                    _ => false,
                }
        });
        valid && crc32c::of_structure(bytes) == raw.checksum.get()
    }

    /// Puts a valid entry, which lies at `at` in the log, into the overlay.
    fn apply(&self, bytes: &[u8], at: u64, overlay: &mut Overlay) -> Result<()> {
        let Ok((raw, _)) = RawEntry::ref_from_prefix(bytes) else {
            return Ok(());
        };
        let mut sectors = data_sectors(bytes, raw.descriptor_count.get());
        for descriptor in descriptors(bytes) {
            let start = descriptor.file_offset.get();
            let (end, fill) = if descriptor.signature == ZERO_SIGNATURE {
                (zero_end(descriptor), Fill::Zero)
            } else {
                let within = sectors.next().map_or(0, |(within, _)| within);
                let fill = Fill::Page {
                    data_sector: self.offset + (at + within) % self.len,
                    leading: descriptor.leading,
                    trailing: descriptor.trailing,
                };
                (start.checked_add(PAGE), fill)
            };
            let Some(end) = end.filter(|end| *end <= MAX_FILE_LEN) else {
                return Err(Error::corrupt(format!(
                    "expected a log that changes at most the first {MAX_FILE_LEN:#x} bytes, found {start:#x}"
                ))
                .at(self.offset + at));
            };
            let in_log = start < self.offset + self.len && end > self.offset;
            if start < TABLE_OFFSETS[0] || in_log {
                return Err(Error::corrupt(format!(
                    "expected a log that does not change the headers or itself, found a change at {start:#x}"
                ))
                .at(self.offset + at));
            }
            if start < end {
                overlay.put(start, end, fill);
            }
        }
        Ok(())
    }

    /// Reads `len` bytes from `at`, going on at the start of the log after its end.
    fn read_ring(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let first = len.min(self.len - at);
        let mut bytes = vec![0; to_usize(len)];
        let (front, back) = bytes.split_at_mut(to_usize(first));
        self.range.read_exact_at(front, self.offset + at)?;
        if !back.is_empty() {
            self.range.read_exact_at(back, self.offset)?;
        }
        Ok(bytes)
    }
}

/// Pages of the header and `count` descriptors: MS-VHDX 2.3.1.
fn descriptor_pages(count: u32) -> u64 {
    let bytes = size_of::<RawEntry>() as u64 + u64::from(count) * size_of::<RawDescriptor>() as u64;
    bytes.div_ceil(PAGE)
}

/// The descriptors of an entry whose pages of descriptors fit its length.
fn descriptors(bytes: &[u8]) -> impl Iterator<Item = &RawDescriptor> {
    let count = RawEntry::ref_from_prefix(bytes).map_or(0, |(raw, _)| raw.descriptor_count.get());
    bytes[size_of::<RawEntry>().min(bytes.len())..]
        .chunks_exact(size_of::<RawDescriptor>())
        .take(count as usize)
        .filter_map(|bytes| RawDescriptor::ref_from_bytes(bytes).ok())
}

/// The data sectors of an entry with `count` descriptors, and where in the entry they are.
fn data_sectors(bytes: &[u8], count: u32) -> impl Iterator<Item = (u64, &RawDataSector)> {
    let start = descriptor_pages(count) * PAGE;
    let rest = bytes.get(to_usize(start)..).unwrap_or_default();
    rest.chunks_exact(size_of::<RawDataSector>())
        .zip(0u64..)
        .filter_map(move |(bytes, index)| {
            Some((
                start + index * PAGE,
                RawDataSector::ref_from_bytes(bytes).ok()?,
            ))
        })
}

/// End of what a zero descriptor makes zero; `None` when its length cannot be.
fn zero_end(descriptor: &RawDescriptor) -> Option<u64> {
    let len = u64::from_le_bytes(descriptor.leading);
    let end = descriptor.file_offset.get().checked_add(len)?;
    len.is_multiple_of(PAGE).then_some(end)
}

/// Offsets of the entries of the active sequence, tail first.
fn active_sequence(entries: &HashMap<u64, Entry>, log_len: u64) -> Option<Vec<u64>> {
    let next = |at: u64| {
        let entry = entries.get(&at)?;
        let next = (at + entry.len) % log_len;
        let follows =
            entries.get(&next)?.sequence_number == entry.sequence_number.checked_add(1)?;
        follows.then_some(next)
    };
    // The end of the path from each entry. Numbers grow along it, so it ends; what is known is not walked again.
    let mut ends: HashMap<u64, u64> = HashMap::new();
    for &start in entries.keys() {
        let mut path = vec![start];
        let mut at = start;
        let end = loop {
            if let Some(&end) = ends.get(&at) {
                break end;
            }
            match next(at) {
                Some(next) => at = next,
                None => break at,
            }
            path.push(at);
        };
        ends.extend(path.into_iter().map(|at| (at, end)));
    }
    let mut heads: Vec<u64> = entries
        .keys()
        .copied()
        .filter(|&at| next(at).is_none())
        .collect();
    heads.sort_by_key(|at| std::cmp::Reverse(entries[at].sequence_number));
    heads.into_iter().find_map(|head| {
        let tail = entries[&head].tail;
        if ends.get(&tail) != Some(&head) {
            return None;
        }
        let sequence: Vec<u64> = std::iter::successors(Some(tail), |&at| next(at)).collect();
        let len: u64 = sequence.iter().map(|at| entries[at].len).sum();
        (len <= log_len).then_some(sequence)
    })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn fields_lie_where_the_specification_says() {
        assert_eq!(offset_of!(RawEntry, entry_length), 8);
        assert_eq!(offset_of!(RawEntry, tail), 12);
        assert_eq!(offset_of!(RawEntry, sequence_number), 16);
        assert_eq!(offset_of!(RawEntry, descriptor_count), 24);
        assert_eq!(offset_of!(RawEntry, log_guid), 32);
        assert_eq!(offset_of!(RawEntry, flushed_file_offset), 48);
        assert_eq!(offset_of!(RawEntry, last_file_offset), 56);
        assert_eq!(offset_of!(RawDescriptor, leading), 8);
        assert_eq!(offset_of!(RawDescriptor, file_offset), 16);
        assert_eq!(offset_of!(RawDescriptor, sequence_number), 24);
        assert_eq!(offset_of!(RawDataSector, data), 8);
        assert_eq!(offset_of!(RawDataSector, sequence_low), 4092);
        assert_eq!([descriptor_pages(126), descriptor_pages(127)], [1, 2]);
        assert_eq!([descriptor_pages(254), descriptor_pages(255)], [2, 3]);
    }

    /// Entries of one page: offset in pages, tail in pages, number.
    fn sequence(pages: &[(u64, u64, u64)]) -> Option<Vec<u64>> {
        let entries = pages.iter().map(|&(at, tail, sequence_number)| {
            let entry = Entry {
                len: PAGE,
                tail: tail * PAGE,
                sequence_number,
                flushed_file_offset: 0,
                last_file_offset: 0,
            };
            (at * PAGE, entry)
        });
        let found = active_sequence(&entries.collect(), 8 * PAGE)?;
        Some(found.into_iter().map(|at| at / PAGE).collect())
    }

    #[test]
    fn the_newest_complete_sequence_is_active() {
        assert_eq!(sequence(&[]), None);
        assert_eq!(sequence(&[(3, 3, 1)]), Some(vec![3]));
        assert_eq!(
            sequence(&[(0, 0, 4), (1, 0, 5), (2, 1, 6)]),
            Some(vec![1, 2]),
            "from the tail of the head"
        );
        assert_eq!(
            sequence(&[(6, 6, 8), (7, 6, 9), (0, 6, 10), (3, 3, 2)]),
            Some(vec![6, 7, 0]),
            "around the end"
        );
        assert_eq!(
            sequence(&[(0, 0, 4), (1, 0, 5), (3, 0, 7)]),
            Some(vec![0, 1]),
            "a torn entry hides those behind it"
        );
        assert_eq!(sequence(&[(1, 0, 5)]), None, "the tail is gone");
        assert_eq!(sequence(&[(0, 1, 5), (1, 1, 9)]), Some(vec![1]));
    }
}
