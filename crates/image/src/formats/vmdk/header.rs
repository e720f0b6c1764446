//! The header of a hosted sparse extent, which is also the footer of a stream.

use std::mem::offset_of;
use std::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::geometry::{Geometry, SECTOR};
use super::tables::{Entries, Layout};
use crate::{Error, ErrorKind, FileRange, Result};

/// `KDMV`, VDF 1.1, Hosted Sparse Extent Header, `magicNumber` in little-endian order.
pub(super) const MAGIC: [u8; 4] = *b"KDMV";
/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 512;
/// `gdOffset` of a stream, whose directory is named by the footer (VDF 1.1, Stream-Optimized Compressed Sparse
/// Extents).
const GD_AT_END: u64 = u64::MAX;
/// A descriptor is text of a few hundred bytes in 20 sectors; extents and a long disk database fit many times over.
const MAX_DESCRIPTOR_LEN: u64 = 1 << 20;

/// Newline detection bytes are valid.
const FLAG_NEWLINES: u32 = 1 << 0;
/// `rgdOffset` names a second directory with own tables.
const FLAG_REDUNDANT: u32 = 1 << 1;
/// A grain table entry of 1 is a grain of zeroes (VDF 5.0).
const FLAG_ZEROED_GRAIN: u32 = 1 << 2;
/// Grains are compressed.
const FLAG_COMPRESSED: u32 = 1 << 16;
/// Grains and metadata are preceded by markers.
const FLAG_MARKERS: u32 = 1 << 17;
/// Flags of the upper half change the meaning of the file: an unknown one cannot be passed over.
const INCOMPATIBLE_FLAGS: u32 = 0xffff_0000;

/// `compressAlgorithm`: none, and deflate as RFC 1950 wraps it.
const COMPRESSION_NONE: u16 = 0;
const COMPRESSION_DEFLATE: u16 = 1;

/// `SparseExtentHeader` as it lies in the first sector (VDF 1.1, Hosted Sparse Extent Header). Little-endian;
/// sizes and offsets in sectors.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 4],
    version: U32,
    flags: U32,
    capacity: U64,
    grain_size: U64,
    descriptor_offset: U64,
    descriptor_size: U64,
    num_gtes_per_gt: U32,
    rgd_offset: U64,
    gd_offset: U64,
    over_head: U64,
    unclean_shutdown: u8,
    newlines: [u8; 4],
    compress_algorithm: U16,
    pad: [u8; 433],
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN);

/// The newline detection bytes: LF, a space, CR LF. A transfer in text mode changes them.
const NEWLINES: [u8; 4] = [b'\n', b' ', b'\r', b'\n'];

/// What the header of a new stream says.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewStream {
    pub(super) capacity_sectors: u64,
    pub(super) grain_sectors: u64,
    pub(super) table_entries: u32,
    pub(super) descriptor_sectors: u64,
    pub(super) overhead_sectors: u64,
    /// Sector of the directory, in the footer.
    pub(super) directory: Option<u64>,
}

/// The header or the footer of a new stream. Version 3, as VMware writes its streams.
pub(super) fn stream_header(new: &NewStream) -> [u8; HEADER_LEN] {
    let raw = RawHeader {
        magic: MAGIC,
        version: U32::new(3),
        flags: U32::new(FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS),
        capacity: U64::new(new.capacity_sectors),
        grain_size: U64::new(new.grain_sectors),
        descriptor_offset: U64::new(1),
        descriptor_size: U64::new(new.descriptor_sectors),
        num_gtes_per_gt: U32::new(new.table_entries),
        rgd_offset: U64::new(0),
        gd_offset: U64::new(new.directory.unwrap_or(GD_AT_END)),
        over_head: U64::new(new.overhead_sectors),
        unclean_shutdown: 0,
        newlines: NEWLINES,
        compress_algorithm: U16::new(COMPRESSION_DEFLATE),
        pad: [0; 433],
    };
    zerocopy::transmute!(raw)
}

/// Where the grain directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirectoryAt {
    /// At this byte of the file.
    Offset(u64),
    /// Where the footer says.
    Footer,
}

/// The checked header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) geometry: Geometry,
    pub(super) zeroed_grains: bool,
    pub(super) compressed: bool,
    pub(super) directory: DirectoryAt,
    /// Byte offset of the directory copy.
    pub(super) redundant_directory: Option<u64>,
    /// Bytes of the embedded descriptor.
    pub(super) descriptor: Option<Range<u64>>,
    /// Byte offset of the first grain.
    pub(super) overhead: u64,
    /// VMware did not close the file.
    pub(super) unclean: bool,
}

impl Header {
    /// How the extent behind the header is laid out.
    pub(super) fn layout(&self) -> Layout {
        Layout {
            geometry: self.geometry,
            entries: Entries::Sectors {
                zeroed: self.zeroed_grains,
            },
            compressed: self.compressed,
            reserved: self.descriptor.clone().unwrap_or_default(),
        }
    }

    /// Reads and checks the header at byte `base` of the file: 0, or the footer's place.
    pub(super) fn read(range: &FileRange, base: u64) -> Result<Self> {
        let mut bytes = [0; HEADER_LEN];
        if range.len().saturating_sub(base) < HEADER_LEN as u64 {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected a header of {HEADER_LEN} bytes, but the file ends at {:#x}",
                    range.len()
                ),
            )
            .at(base)
            .in_file(range.label()));
        }
        range.read_exact_at(&mut bytes, base)?;
        Self::parse(&bytes, base).map_err(|e| e.at(base).in_file(range.label()))
    }

    fn parse(bytes: &[u8; HEADER_LEN], base: u64) -> Result<Self> {
        let (raw, _) = RawHeader::ref_from_prefix(bytes)
            .map_err(|_| Error::corrupt(format!("expected a header of {HEADER_LEN} bytes")))?;
        let at = |field: usize| move |e: Error| e.at(base + field as u64);
        if raw.magic != MAGIC {
            return Err(Error::corrupt(format!(
                "expected the magic {MAGIC:02x?} (KDMV), found {:02x?}",
                raw.magic
            )));
        }
        raw.check_version()
            .map_err(at(offset_of!(RawHeader, version)))?;
        raw.check_newlines()
            .map_err(at(offset_of!(RawHeader, newlines)))?;
        let compressed = raw
            .check_flags()
            .map_err(at(offset_of!(RawHeader, flags)))?;
        let geometry = Geometry::new(
            raw.capacity.get(),
            raw.grain_size.get(),
            raw.num_gtes_per_gt.get(),
        )
        .map_err(at(offset_of!(RawHeader, capacity)))?;
        let directory = match raw.gd_offset.get() {
            GD_AT_END => DirectoryAt::Footer,
            sector => DirectoryAt::Offset(
                byte_offset(sector, "grain directory")
                    .map_err(at(offset_of!(RawHeader, gd_offset)))?,
            ),
        };
        // A redundant directory is a second chance only, so a bad offset of it harms nothing.
        let redundant = (raw.flags.get() & FLAG_REDUNDANT != 0).then(|| raw.rgd_offset.get());
        Ok(Self {
            geometry,
            zeroed_grains: raw.flags.get() & FLAG_ZEROED_GRAIN != 0,
            compressed,
            directory,
            redundant_directory: redundant
                .and_then(|sector| byte_offset(sector, "directory copy").ok()),
            descriptor: raw
                .descriptor()
                .map_err(at(offset_of!(RawHeader, descriptor_offset)))?,
            overhead: raw.over_head.get().saturating_mul(SECTOR),
            unclean: raw.unclean_shutdown != 0,
        })
    }
}

impl RawHeader {
    fn check_version(&self) -> Result<()> {
        match self.version.get() {
            1..=3 => Ok(()),
            0 => Err(Error::corrupt(
                "expected version 1, 2 or 3 of the sparse extent, found 0",
            )),
            other => Err(Error::unsupported(format!(
                "version {other} of the VMDK sparse extent is not supported (1, 2 and 3 are)"
            ))),
        }
    }

    fn check_newlines(&self) -> Result<()> {
        if self.flags.get() & FLAG_NEWLINES != 0 && self.newlines != NEWLINES {
            return Err(Error::corrupt(format!(
                "expected the newline detection bytes {NEWLINES:02x?}, found {:02x?}: the file was changed by a \
                 transfer in text mode (FTP ASCII); fetch it again in binary mode",
                self.newlines
            )));
        }
        Ok(())
    }

    /// Checks flags and compression against each other; true when grains are compressed.
    fn check_flags(&self) -> Result<bool> {
        let flags = self.flags.get();
        let unknown = flags & INCOMPATIBLE_FLAGS & !(FLAG_COMPRESSED | FLAG_MARKERS);
        if unknown != 0 {
            return Err(Error::unsupported(format!(
                "VMDK flags {unknown:#x} are not supported"
            )));
        }
        let (compressed, markers) = (flags & FLAG_COMPRESSED != 0, flags & FLAG_MARKERS != 0);
        match (compressed, self.compress_algorithm.get()) {
            (_, other @ 2..) => Err(Error::unsupported(format!(
                "VMDK compression algorithm {other} is not supported (deflate, 1, is)"
            ))),
            (true, COMPRESSION_DEFLATE) if markers => Ok(true),
            (true, COMPRESSION_DEFLATE) => Err(Error::unsupported(
                "VMDK with compressed grains that have no markers is not supported",
            )),
            (false, COMPRESSION_NONE) if markers => Err(Error::unsupported(
                "VMDK with markers and grains that are not compressed is not supported",
            )),
            (false, COMPRESSION_NONE) => Ok(false),
            (_, algorithm) => Err(Error::corrupt(format!(
                "expected flags and compression algorithm to agree, found flags {flags:#x} and algorithm {algorithm}"
            ))),
        }
    }

    fn descriptor(&self) -> Result<Option<Range<u64>>> {
        if self.descriptor_offset.get() == 0 || self.descriptor_size.get() == 0 {
            return Ok(None);
        }
        let start = byte_offset(self.descriptor_offset.get(), "descriptor")?;
        let len = self.descriptor_size.get().saturating_mul(SECTOR);
        if len > MAX_DESCRIPTOR_LEN {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("expected a descriptor of at most {MAX_DESCRIPTOR_LEN} bytes, found {len}"),
            ));
        }
        let end = start.checked_add(len).ok_or_else(|| {
            Error::corrupt(format!("the descriptor at {start:#x} ends beyond 2^64"))
        })?;
        Ok(Some(start..end))
    }
}

/// The byte offset of a metadata sector, which cannot be the header's own.
fn byte_offset(sector: u64, what: &str) -> Result<u64> {
    sector
        .checked_mul(SECTOR)
        .filter(|offset| *offset != 0)
        .ok_or_else(|| {
            Error::corrupt(format!(
                "expected the {what} behind the header, found sector {sector:#x}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        assert_eq!(offset_of!(RawHeader, magic), 0);
        assert_eq!(offset_of!(RawHeader, version), 4);
        assert_eq!(offset_of!(RawHeader, flags), 8);
        assert_eq!(offset_of!(RawHeader, capacity), 12);
        assert_eq!(offset_of!(RawHeader, grain_size), 20);
        assert_eq!(offset_of!(RawHeader, descriptor_offset), 28);
        assert_eq!(offset_of!(RawHeader, descriptor_size), 36);
        assert_eq!(offset_of!(RawHeader, num_gtes_per_gt), 44);
        assert_eq!(offset_of!(RawHeader, rgd_offset), 48);
        assert_eq!(offset_of!(RawHeader, gd_offset), 56);
        assert_eq!(offset_of!(RawHeader, over_head), 64);
        assert_eq!(offset_of!(RawHeader, unclean_shutdown), 72);
        assert_eq!(offset_of!(RawHeader, newlines), 73);
        assert_eq!(offset_of!(RawHeader, compress_algorithm), 77);
        assert_eq!(offset_of!(RawHeader, pad), 79);
    }

    /// The first 80 bytes of a stream that VMware's ovftool made (`iotest-version3.vmdk`).
    fn ovftool_stream() -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(b"KDMV");
        bytes[4] = 3;
        bytes[8..12].copy_from_slice(&0x0003_0001_u32.to_le_bytes());
        bytes[12..20].copy_from_slice(&0x0200_0000_u64.to_le_bytes());
        bytes[20] = 128;
        bytes[28] = 1;
        bytes[36] = 1;
        bytes[45] = 2;
        bytes[56..64].fill(0xff);
        bytes[64] = 128;
        bytes[73..77].copy_from_slice(&[0x0a, 0x20, 0x0d, 0x0a]);
        bytes[77] = 1;
        bytes
    }

    #[test]
    fn a_real_stream_header_is_understood() {
        let header = Header::parse(&ovftool_stream(), 0).unwrap();
        assert_eq!(header.geometry.capacity(), 16 << 30);
        assert_eq!(header.geometry.grain_size(), 65536);
        assert_eq!(header.geometry.table_entries(), 512);
        assert_eq!(header.directory, DirectoryAt::Footer);
        assert_eq!(header.redundant_directory, None);
        assert_eq!(header.descriptor, Some(512..1024));
        assert_eq!(header.overhead, 65536);
        assert!(header.compressed && !header.unclean && !header.zeroed_grains);
    }

    #[test]
    fn each_bad_field_is_refused_with_its_offset() {
        let cases: &[(usize, &[u8], ErrorKind, u64, &str)] = &[
            (0, b"KDMX", ErrorKind::Corrupt, 0, "KDMV"),
            (4, &[0], ErrorKind::Corrupt, 4, "found 0"),
            (4, &[4], ErrorKind::Unsupported, 4, "version 4"),
            (10, &[7], ErrorKind::Unsupported, 8, "flags 0x40000"),
            (10, &[1], ErrorKind::Unsupported, 8, "no markers"),
            (10, &[2], ErrorKind::Corrupt, 8, "agree"),
            (12, &[0; 8], ErrorKind::Corrupt, 12, "capacity"),
            (20, &[127], ErrorKind::Corrupt, 12, "power of two"),
            (36, &[1, 9], ErrorKind::Limit, 28, "descriptor of at most"),
            (
                28,
                &[0xff; 8],
                ErrorKind::Corrupt,
                28,
                "descriptor behind the header",
            ),
            (44, &[0, 0], ErrorKind::Corrupt, 12, "512 entries"),
            (56, &[0; 8], ErrorKind::Corrupt, 56, "grain directory"),
            (73, b"\n \n\n", ErrorKind::Corrupt, 73, "text mode"),
            (77, &[2], ErrorKind::Unsupported, 8, "algorithm 2"),
            (77, &[0], ErrorKind::Corrupt, 8, "agree"),
        ];
        for (offset, patch, kind, at, text) in cases {
            let mut bytes = ovftool_stream();
            bytes[*offset..offset + patch.len()].copy_from_slice(patch);
            let error = Header::parse(&bytes, 0).unwrap_err();
            assert_eq!(error.kind(), *kind, "{error}");
            assert_eq!(error.offset().unwrap_or(0), *at, "{error}");
            assert!(error.to_string().contains(text), "{error} lacks {text}");
        }
    }
}
