//! The footer: last in every image, and copied to the front of dynamic and differencing ones.

use std::mem::offset_of;

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::geometry::Geometry;
use crate::{Error, ErrorKind, FileRange, Result};

/// `Cookie`.
pub(super) const COOKIE: [u8; 8] = *b"conectix";
/// Bytes of a footer.
pub(super) const FOOTER_LEN: usize = 512;
/// Bytes of a footer of Virtual PC before 2004 (VHD 1.0, Hard Disk Footer Format).
const OLD_FOOTER_LEN: usize = 511;
/// `File Format Version` 1.0; the upper half is the major version.
const VERSION: u32 = 0x0001_0000;
/// `Features`: the disk is temporary, to be deleted on shutdown.
const FEATURE_TEMPORARY: u32 = 1 << 0;
/// `Features`: always set.
const FEATURE_RESERVED: u32 = 1 << 1;
/// `Data Offset` of a fixed disk.
const NO_DATA_OFFSET: u64 = u64::MAX;

/// VHD 1.0, Hard Disk Footer Format. Big-endian; sizes and offsets in bytes.
#[derive(Clone, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawFooter {
    cookie: [u8; 8],
    features: U32,
    file_format_version: U32,
    data_offset: U64,
    /// Seconds since 2000-01-01 00:00 UTC.
    time_stamp: U32,
    creator_application: [u8; 4],
    creator_version: U32,
    creator_host_os: [u8; 4],
    original_size: U64,
    current_size: U64,
    cylinders: U16,
    heads: u8,
    sectors_per_track: u8,
    disk_type: U32,
    checksum: U32,
    unique_id: [u8; 16],
    saved_state: u8,
    reserved: [u8; 427],
}
const _: () = assert!(size_of::<RawFooter>() == FOOTER_LEN);

/// `Disk Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskType {
    Fixed,
    Dynamic,
    Differencing,
}

impl DiskType {
    fn parse(number: u32) -> Result<Self> {
        match number {
            2 => Ok(Self::Fixed),
            3 => Ok(Self::Dynamic),
            4 => Ok(Self::Differencing),
            other => Err(Error::unsupported(format!(
                "VHD disk type {other} is not supported (2, fixed, 3, dynamic, and 4, differencing, are)"
            ))),
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Fixed => 2,
            Self::Dynamic => 3,
            Self::Differencing => 4,
        }
    }

    /// The type as the specification calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Dynamic => "dynamic",
            Self::Differencing => "differencing",
        }
    }
}

/// The checked footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) disk_type: DiskType,
    /// Offset of the dynamic header.
    pub(super) data_offset: u64,
    pub(super) time_stamp: u32,
    pub(super) creator_application: [u8; 4],
    pub(super) creator_version: u32,
    pub(super) current_size: u64,
    pub(super) geometry: Geometry,
    pub(super) unique_id: [u8; 16],
    pub(super) saved_state: bool,
    /// `Features` that the specification does not know.
    pub(super) unknown_features: u32,
    pub(super) temporary: bool,
}

/// The footer of an image, and what else was seen.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) footer: Footer,
    /// Length of everything before the footer at the end; the whole file where the end has none.
    pub(super) body_len: u64,
    /// What is wrong with the footer that was not used.
    pub(super) damage: Option<String>,
}

impl Found {
    /// The footer at the end; where that is damaged, the copy at the front.
    pub(super) fn read(range: &FileRange) -> Result<Self> {
        let at_end = Footer::at_end(range);
        let at_front = Footer::at(range, 0, FOOTER_LEN);
        match (at_end, at_front) {
            (Ok((footer, body_len)), front) => {
                let damage = (footer.disk_type != DiskType::Fixed)
                    .then(|| copy_damage(&footer, front))
                    .flatten();
                Ok(Self {
                    footer,
                    body_len,
                    damage,
                })
            }
            (Err(end), Ok(footer)) if footer.disk_type != DiskType::Fixed => Ok(Self {
                footer,
                body_len: range.len(),
                damage: Some(format!("the footer at the end is damaged: {end}")),
            }),
            // What the end says is of more use: a fixed disk has data at the front.
            (Err(end), _) => Err(end),
        }
        .map_err(|e: Error| e.in_file(range.label()))
    }
}

fn copy_damage(footer: &Footer, front: Result<Footer>) -> Option<String> {
    match front {
        Ok(copy) if copy == *footer => None,
        Ok(_) => Some("the footer and its copy at the front differ".to_owned()),
        Err(error) => Some(format!(
            "the footer's copy at the front is damaged: {error}"
        )),
    }
}

impl Footer {
    /// The last 512 bytes, or 511, and the length of what is before.
    fn at_end(range: &FileRange) -> Result<(Self, u64)> {
        let read = |len: usize| {
            let start = range.len().checked_sub(len as u64).ok_or_else(|| {
                Error::new(
                    ErrorKind::Truncated,
                    format!(
                        "expected a VHD footer of {FOOTER_LEN} bytes, found a file of {} bytes",
                        range.len()
                    ),
                )
            })?;
            Ok((Self::at(range, start, len)?, start))
        };
        read(FOOTER_LEN).or_else(|error| read(OLD_FOOTER_LEN).map_err(|_: Error| error))
    }

    fn at(range: &FileRange, offset: u64, len: usize) -> Result<Self> {
        let mut bytes = [0; FOOTER_LEN];
        range.read_exact_at(&mut bytes[..len], offset)?;
        Self::parse(&bytes).map_err(|e| e.at(offset))
    }

    /// Checks the bytes of a footer; one of 511 bytes is completed by a zero.
    fn parse(bytes: &[u8; FOOTER_LEN]) -> Result<Self> {
        let (raw, _) = RawFooter::ref_from_prefix(bytes)
            .map_err(|_| Error::corrupt(format!("expected a footer of {FOOTER_LEN} bytes")))?;
        if raw.cookie != COOKIE {
            return Err(Error::corrupt(format!(
                "expected the VHD footer's cookie {COOKIE:02x?} (conectix), found {:02x?}",
                raw.cookie
            )));
        }
        let expected = checksum(bytes, offset_of!(RawFooter, checksum));
        if raw.checksum.get() != expected {
            return Err(Error::corrupt(format!(
                "expected the VHD footer's checksum {expected:#010x}, found {:#010x}",
                raw.checksum.get()
            )));
        }
        let version = raw.file_format_version.get();
        if version >> 16 != VERSION >> 16 {
            return Err(Error::unsupported(format!(
                "version {}.{} of the VHD format is not supported (1.0 is)",
                version >> 16,
                version & 0xffff
            )));
        }
        let features = raw.features.get();
        Ok(Self {
            disk_type: DiskType::parse(raw.disk_type.get())?,
            data_offset: raw.data_offset.get(),
            time_stamp: raw.time_stamp.get(),
            creator_application: raw.creator_application,
            creator_version: raw.creator_version.get(),
            current_size: raw.current_size.get(),
            geometry: Geometry {
                cylinders: raw.cylinders.get(),
                heads: raw.heads,
                sectors_per_track: raw.sectors_per_track,
            },
            unique_id: raw.unique_id,
            saved_state: raw.saved_state != 0,
            unknown_features: features & !(FEATURE_TEMPORARY | FEATURE_RESERVED),
            temporary: features & FEATURE_TEMPORARY != 0,
        })
    }

    /// The bytes of a new footer.
    pub(super) fn to_bytes(&self) -> [u8; FOOTER_LEN] {
        let mut raw = RawFooter {
            cookie: COOKIE,
            features: U32::new(FEATURE_RESERVED),
            file_format_version: U32::new(VERSION),
            data_offset: U64::new(match self.disk_type {
                DiskType::Fixed => NO_DATA_OFFSET,
                DiskType::Dynamic | DiskType::Differencing => self.data_offset,
            }),
            time_stamp: U32::new(self.time_stamp),
            creator_application: self.creator_application,
            creator_version: U32::new(self.creator_version),
            // There is no code for hosts other than Windows and Macintosh.
            creator_host_os: *b"Wi2k",
            original_size: U64::new(self.current_size),
            current_size: U64::new(self.current_size),
            cylinders: U16::new(self.geometry.cylinders),
            heads: self.geometry.heads,
            sectors_per_track: self.geometry.sectors_per_track,
            disk_type: U32::new(self.disk_type.number()),
            checksum: U32::new(0),
            unique_id: self.unique_id,
            saved_state: 0,
            reserved: [0; 427],
        };
        raw.checksum
            .set(checksum(raw.as_bytes(), offset_of!(RawFooter, checksum)));
        let mut bytes = [0; FOOTER_LEN];
        bytes.copy_from_slice(raw.as_bytes());
        bytes
    }
}

/// The one's complement of the sum of all bytes but those of the checksum, which lies at `field` (VHD 1.0, Hard Disk
/// Footer Format, Checksum). For the fuzzer every structure has the right one.
pub(super) fn checksum(bytes: &[u8], field: usize) -> u32 {
    if cfg!(fuzzing)
        && let Some(stored) = bytes.get(field..).and_then(|rest| rest.first_chunk())
    {
        return u32::from_be_bytes(*stored);
    }
    let sum = bytes
        .iter()
        .enumerate()
        .filter(|(at, _)| !(field..field + 4).contains(at))
        .fold(0u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)));
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        assert_eq!(offset_of!(RawFooter, features), 8);
        assert_eq!(offset_of!(RawFooter, data_offset), 16);
        assert_eq!(offset_of!(RawFooter, time_stamp), 24);
        assert_eq!(offset_of!(RawFooter, creator_application), 28);
        assert_eq!(offset_of!(RawFooter, creator_host_os), 36);
        assert_eq!(offset_of!(RawFooter, current_size), 48);
        assert_eq!(offset_of!(RawFooter, cylinders), 56);
        assert_eq!(offset_of!(RawFooter, sectors_per_track), 59);
        assert_eq!(offset_of!(RawFooter, disk_type), 60);
        assert_eq!(offset_of!(RawFooter, checksum), 64);
        assert_eq!(offset_of!(RawFooter, unique_id), 68);
        assert_eq!(offset_of!(RawFooter, saved_state), 84);
    }

    fn footer() -> Footer {
        Footer {
            disk_type: DiskType::Dynamic,
            data_offset: 512,
            time_stamp: 0x1e56_f9c4,
            creator_application: *b"vpc ",
            creator_version: 0x1_0000,
            current_size: 127 << 30,
            geometry: Geometry::of(127 << 21),
            unique_id: [7; 16],
            saved_state: false,
            unknown_features: 0,
            temporary: false,
        }
    }

    #[test]
    fn a_footer_survives_its_bytes() {
        assert_eq!(Footer::parse(&footer().to_bytes()).unwrap(), footer());
        assert_eq!(
            super::super::geometry::virtual_size(&footer()),
            136_363_130_880
        );
    }

    #[test]
    fn each_bad_field_is_refused() {
        for (at, value, kind, text) in [
            (0, b'C', ErrorKind::Corrupt, "conectix"),
            (100, 1, ErrorKind::Corrupt, "checksum"),
            (13, 2, ErrorKind::Unsupported, "version 2.0"),
            (63, 5, ErrorKind::Unsupported, "type 5"),
        ] {
            let mut bytes = footer().to_bytes();
            bytes[at] = value;
            if !text.contains("checksum") {
                let sum = checksum(&bytes, 64);
                bytes[64..68].copy_from_slice(&sum.to_be_bytes());
            }
            let error = Footer::parse(&bytes).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error} lacks {text}");
        }
    }
}
