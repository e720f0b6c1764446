//! The file identifier and the two headers: MS-VHDX 2.2.1, 2.2.2.
//!
//! A writer updates the header that is not current, with the next sequence number, so that one of the two is always
//! whole: the valid one with the greater number is current.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::guid::Guid;
use super::{MAX_FILE_LEN, MIB, crc32c};
use crate::{Error, ErrorKind, FileRange, Result};

/// `vhdxfile`: MS-VHDX 2.2.1.
pub(super) const FILE_SIGNATURE: [u8; 8] = *b"vhdxfile";
/// Code units of `Creator`.
const CREATOR_UNITS: usize = 256;
/// Where the two headers are: MS-VHDX 2.2.
pub(super) const HEADER_OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
const SIGNATURE: [u8; 4] = *b"head";
/// Version of the format.
const VERSION: u16 = 1;
/// Version of the log.
const LOG_VERSION: u16 = 0;

/// The file type identifier: MS-VHDX 2.2.1. The rest of its 64 KiB is reserved.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawFileId {
    /// Byte 0: [`FILE_SIGNATURE`].
    pub(super) signature: [u8; 8],
    /// Byte 8: who made the file, UTF-16, for diagnosis only.
    pub(super) creator: [U16; CREATOR_UNITS],
}
const _: () = assert!(size_of::<RawFileId>() == 520);

impl RawFileId {
    /// The identifier of a new file.
    pub(super) fn new(creator: &str) -> Self {
        let mut raw = Self::new_zeroed();
        raw.signature = FILE_SIGNATURE;
        for (slot, unit) in raw.creator.iter_mut().zip(creator.encode_utf16()) {
            slot.set(unit);
        }
        raw
    }
}

/// A header: MS-VHDX 2.2.2. 4 KiB, of which the rest is reserved.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// Byte 0: `head`.
    signature: [u8; 4],
    /// Byte 4: CRC-32C over the 4 KiB, this field zero.
    checksum: U32,
    /// Byte 8: the greater one is current.
    sequence_number: U64,
    /// Byte 16: changes when the file is opened for writing.
    file_write_guid: Guid,
    /// Byte 32: changes when what the guest sees is written.
    data_write_guid: Guid,
    /// Byte 48: entries of the log that carry it are valid; nil for an empty log.
    log_guid: Guid,
    /// Byte 64: 0.
    log_version: U16,
    /// Byte 66: 1.
    version: U16,
    /// Byte 68: in bytes, whole MiB.
    log_length: U32,
    /// Byte 72: whole MiB.
    log_offset: U64,
    /// Byte 80.
    reserved: [u8; 4016],
}
const _: () = assert!(size_of::<RawHeader>() == 4096);

/// A valid header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Where it lies.
    pub(super) offset: u64,
    pub(super) sequence_number: u64,
    pub(super) file_write_guid: Guid,
    pub(super) data_write_guid: Guid,
    /// Nil when the log is empty.
    pub(super) log_guid: Guid,
    pub(super) log_version: u16,
    version: u16,
    pub(super) log_offset: u64,
    pub(super) log_len: u64,
}

/// What the first MiB says.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) current: Header,
    pub(super) creator: String,
    /// What is wrong with the other header, if anything.
    pub(super) findings: Vec<String>,
}

impl Headers {
    /// Reads and checks the identifier and the headers.
    pub(super) fn read(range: &FileRange) -> Result<Self> {
        if range.len() > MAX_FILE_LEN {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected a VHDX file of at most {MAX_FILE_LEN} bytes, found {}",
                    range.len()
                ),
            ));
        }
        let id = range.read_vec(0, size_of::<RawFileId>())?;
        let creator = match RawFileId::read_from_bytes(&id) {
            Ok(id) if id.signature == FILE_SIGNATURE => creator_of(&id),
            _ => {
                return Err(Error::corrupt(
                    "expected the file identifier `vhdxfile`, found other bytes",
                )
                .at(0));
            }
        };
        let [first, second] = HEADER_OFFSETS.map(|offset| Header::read(range, offset));
        let (current, findings) = choose(first, second)?;
        current
            .check()
            .map_err(|e| e.in_file(range.label()).at(current.offset))?;
        Ok(Self {
            current,
            creator,
            findings,
        })
    }
}

fn creator_of(id: &RawFileId) -> String {
    let units = id.creator.iter().map(|unit| unit.get());
    char::decode_utf16(units.take_while(|&unit| unit != 0))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// The current header of the two, and what is wrong: MS-VHDX 2.2.2. Two that are alike, as Disk2vhd writes them, are
/// as good as one.
fn choose(first: Result<Header>, second: Result<Header>) -> Result<(Header, Vec<String>)> {
    match (first, second) {
        (Ok(first), Ok(second)) => {
            let (old, new) = if first.sequence_number > second.sequence_number {
                (second, first)
            } else {
                (first, second)
            };
            let same = Header {
                offset: new.offset,
                ..old.clone()
            } == new;
            if old.sequence_number == new.sequence_number && !same {
                return Err(Error::corrupt(format!(
                    "expected one current header, found two that differ with sequence number {}",
                    new.sequence_number
                ))
                .at(new.offset));
            }
            let findings = if old.sequence_number == new.sequence_number {
                vec![format!(
                    "expected headers of different sequence numbers, found {} twice",
                    new.sequence_number
                )]
            } else {
                Vec::new()
            };
            Ok((new, findings))
        }
        (Ok(header), Err(error)) | (Err(error), Ok(header)) => {
            Ok((header, vec![format!("one of two headers: {error}")]))
        }
        (Err(first), Err(second)) => Err(Error::corrupt(format!(
            "expected a valid header, found none; the first: {first}; the second: {second}"
        ))
        .at(HEADER_OFFSETS[0])),
    }
}

impl Header {
    /// Reads the header at `offset`; what is wrong with its frame is an error.
    fn read(range: &FileRange, offset: u64) -> Result<Self> {
        let bytes = range.read_vec(offset, size_of::<RawHeader>())?;
        let bad = |message: String| Error::corrupt(message).at(offset);
        let raw = RawHeader::ref_from_bytes(&bytes).map_err(|_| bad("short header".to_owned()))?;
        if raw.signature != SIGNATURE {
            return Err(bad(format!(
                "expected the signature `head`, found {}",
                raw.signature.escape_ascii()
            )));
        }
        let checksum = crc32c::of_structure(&bytes);
        if raw.checksum.get() != checksum {
            return Err(bad(format!(
                "expected the checksum {:#010x}, found {checksum:#010x}",
                raw.checksum
            )));
        }
        Ok(Self {
            offset,
            sequence_number: raw.sequence_number.get(),
            file_write_guid: raw.file_write_guid,
            data_write_guid: raw.data_write_guid,
            log_guid: raw.log_guid,
            log_version: raw.log_version.get(),
            version: raw.version.get(),
            log_offset: raw.log_offset.get(),
            log_len: raw.log_length.get().into(),
        })
    }

    /// Checks what the header says.
    fn check(&self) -> Result<()> {
        if self.version != VERSION {
            return Err(Error::unsupported(format!(
                "expected version {VERSION} of the VHDX format, found {}",
                self.version
            )));
        }
        if self.is_dirty() && self.log_version != LOG_VERSION {
            return Err(Error::unsupported(format!(
                "expected version {LOG_VERSION} of the VHDX log, found {}",
                self.log_version
            )));
        }
        let whole = self.log_offset.is_multiple_of(MIB) && self.log_len.is_multiple_of(MIB);
        let after_header = self.log_len == 0 || self.log_offset >= MIB;
        if !whole || !after_header || self.log_offset.checked_add(self.log_len).is_none() {
            return Err(Error::corrupt(format!(
                "expected a log in whole MiB from 1 MiB on, found {:#x} bytes at {:#x}",
                self.log_len, self.log_offset
            )));
        }
        Ok(())
    }

    /// True when the log may hold what the file lacks.
    pub(super) fn is_dirty(&self) -> bool {
        self.log_guid != Guid::NIL
    }

    /// The 4 KiB of a header for a new file, its log empty.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut raw = RawHeader::new_zeroed();
        raw.signature = SIGNATURE;
        raw.sequence_number = self.sequence_number.into();
        raw.file_write_guid = self.file_write_guid;
        raw.data_write_guid = self.data_write_guid;
        raw.log_guid = self.log_guid;
        raw.log_version = self.log_version.into();
        raw.version = self.version.into();
        raw.log_length = u32::try_from(self.log_len).unwrap_or(u32::MAX).into();
        raw.log_offset = self.log_offset.into();
        raw.checksum = crc32c::of_structure(raw.as_bytes()).into();
        raw.as_bytes().to_vec()
    }

    /// A header of a new file with an empty log.
    pub(super) fn new(
        sequence_number: u64,
        guids: [Guid; 2],
        log_offset: u64,
        log_len: u64,
    ) -> Self {
        let [file_write_guid, data_write_guid] = guids;
        Self {
            offset: 0,
            sequence_number,
            file_write_guid,
            data_write_guid,
            log_guid: Guid::NIL,
            log_version: LOG_VERSION,
            version: VERSION,
            log_offset,
            log_len,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn fields_lie_where_the_specification_says() {
        assert_eq!(offset_of!(RawFileId, creator), 8);
        assert_eq!(offset_of!(RawHeader, checksum), 4);
        assert_eq!(offset_of!(RawHeader, sequence_number), 8);
        assert_eq!(offset_of!(RawHeader, file_write_guid), 16);
        assert_eq!(offset_of!(RawHeader, data_write_guid), 32);
        assert_eq!(offset_of!(RawHeader, log_guid), 48);
        assert_eq!(offset_of!(RawHeader, log_version), 64);
        assert_eq!(offset_of!(RawHeader, version), 66);
        assert_eq!(offset_of!(RawHeader, log_length), 68);
        assert_eq!(offset_of!(RawHeader, log_offset), 72);
    }

    #[test]
    fn the_greater_sequence_number_is_current() {
        let header = |n| Ok(Header::new(n, [Guid::NIL; 2], MIB, MIB));
        let bad = || Err(Error::corrupt("torn"));
        assert_eq!(choose(header(7), header(6)).unwrap().0.sequence_number, 7);
        assert_eq!(choose(header(6), header(7)).unwrap().0.sequence_number, 7);
        assert_eq!(choose(bad(), header(6)).unwrap().0.sequence_number, 6);
        assert_eq!(choose(header(6), bad()).unwrap().1.len(), 1);
        assert_eq!(choose(header(6), header(6)).unwrap().1.len(), 1);
        assert!(choose(bad(), bad()).is_err());
        let other = Header::new(6, [Guid::of(1); 2], MIB, MIB);
        assert!(choose(header(6), Ok(other)).is_err());
    }
}
