//! The header.

use std::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::{Error, ErrorKind, FileRange, Result};

/// Places in sectors.
const MAGIC_SECTORS: [u8; 16] = *b"WithoutFreeSpace";
/// Places in clusters.
const MAGIC_CLUSTERS: [u8; 16] = *b"WithouFreSpacExt";
/// The one version.
const VERSION: u32 = 2;
/// Bytes of the header; the BAT follows.
pub(super) const HEADER_LEN: usize = 64;
/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// Largest cluster: what Parallels writes is 1 MiB at most.
const MAX_CLUSTER_SECTORS: u32 = (1 << 30) / 512;
/// `in_use` of an image that a program has open, or had when it died.
const IN_USE: u32 = 0x746f_6e59;
/// `in_use` of a closed image; older programs write 0.
const CLOSED: u32 = 0x312e_3276;
/// `flags`: the image is to be considered clear.
const FLAG_EMPTY: u32 = 1 << 0;

/// PEIF, Header. Little-endian; sizes in sectors unless said otherwise.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 16],
    version: U32,
    heads: U32,
    cylinders: U32,
    /// Sectors of a cluster.
    tracks: U32,
    bat_entries: U32,
    /// Of `WithoutFreeSpace` the lower half counts.
    sectors: U64,
    in_use: U32,
    data_offset: U32,
    flags: U32,
    extension_offset: U64,
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN);

/// The checked header. Bytes.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// `WithouFreSpacExt`.
    pub(super) places_in_clusters: bool,
    pub(super) virtual_size: u64,
    pub(super) cluster_size: u64,
    /// Where the first cluster can be.
    pub(super) data_offset: u64,
    /// A program has, or had, the image open.
    pub(super) in_use: bool,
    pub(super) empty: bool,
    /// Where the format extension is.
    pub(super) extension: Option<u64>,
}

impl Header {
    /// Reads and checks the header.
    pub(super) fn read(range: &FileRange) -> Result<Self> {
        if range.len() < HEADER_LEN as u64 {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected a Parallels header of {HEADER_LEN} bytes, found a file of {} bytes",
                    range.len()
                ),
            ));
        }
        let mut bytes = [0; HEADER_LEN];
        range.read_exact_at(&mut bytes, 0)?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self> {
        let (raw, _) = RawHeader::ref_from_prefix(bytes)
            .map_err(|_| Error::corrupt(format!("expected a header of {HEADER_LEN} bytes")))?;
        let at = |field: usize| move |e: Error| e.at(field as u64);
        let places_in_clusters = match raw.magic {
            MAGIC_SECTORS => false,
            MAGIC_CLUSTERS => true,
            other => {
                return Err(Error::corrupt(format!(
                    "expected the magic `WithoutFreeSpace` or `WithouFreSpacExt`, found `{}`",
                    other.escape_ascii()
                )));
            }
        };
        if raw.version.get() != VERSION {
            return Err(Error::unsupported(format!(
                "version {} of the Parallels image format is not supported (2 is)",
                raw.version.get()
            ))
            .at(offset_of!(RawHeader, version) as u64));
        }
        let cluster = raw.tracks.get();
        check_cluster(cluster).map_err(at(offset_of!(RawHeader, tracks)))?;
        let cluster_size = u64::from(cluster) * SECTOR;
        let virtual_size = raw
            .virtual_size(places_in_clusters)
            .map_err(at(offset_of!(RawHeader, sectors)))?;
        let clusters = virtual_size.div_ceil(cluster_size);
        if clusters > u64::from(raw.bat_entries.get()) {
            return Err(Error::corrupt(format!(
                "expected a BAT of {clusters} entries for {virtual_size} bytes of disk, found {}",
                raw.bat_entries.get()
            ))
            .at(offset_of!(RawHeader, bat_entries) as u64));
        }
        let bat_end = HEADER_LEN as u64 + u64::from(raw.bat_entries.get()) * 4;
        let data_offset = match u64::from(raw.data_offset.get()) * SECTOR {
            0 => bat_end.next_multiple_of(SECTOR),
            stated => stated,
        };
        let in_use = raw.in_use().map_err(at(offset_of!(RawHeader, in_use)))?;
        let extension = raw.extension_offset.get();
        Ok(Self {
            places_in_clusters,
            virtual_size,
            cluster_size,
            // An old image may state a sector within the BAT, whose entries decide.
            data_offset: data_offset.max(bat_end),
            in_use,
            empty: raw.flags.get() & FLAG_EMPTY != 0,
            extension: (extension != 0).then(|| extension.saturating_mul(SECTOR)),
        })
    }
}

impl RawHeader {
    fn virtual_size(&self, all_bits: bool) -> Result<u64> {
        let sectors = self.sectors.get();
        let sectors = if all_bits {
            sectors
        } else {
            sectors & 0xffff_ffff
        };
        sectors
            .checked_mul(SECTOR)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Limit,
                    format!("a disk of {sectors} sectors is beyond {} bytes", i64::MAX),
                )
            })
    }

    fn in_use(&self) -> Result<bool> {
        match self.in_use.get() {
            IN_USE => Ok(true),
            CLOSED | 0 => Ok(false),
            other => Err(Error::corrupt(format!(
                "expected the in-use mark {IN_USE:#x}, {CLOSED:#x} or 0, found {other:#x}"
            ))),
        }
    }
}

fn check_cluster(sectors: u32) -> Result<()> {
    if sectors == 0 {
        return Err(Error::corrupt("expected clusters of some sectors, found 0"));
    }
    if sectors > MAX_CLUSTER_SECTORS {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected clusters of at most {MAX_CLUSTER_SECTORS} sectors, found {sectors}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        assert_eq!(offset_of!(RawHeader, version), 16);
        assert_eq!(offset_of!(RawHeader, tracks), 28);
        assert_eq!(offset_of!(RawHeader, bat_entries), 32);
        assert_eq!(offset_of!(RawHeader, sectors), 36);
        assert_eq!(offset_of!(RawHeader, in_use), 44);
        assert_eq!(offset_of!(RawHeader, data_offset), 48);
        assert_eq!(offset_of!(RawHeader, flags), 52);
        assert_eq!(offset_of!(RawHeader, extension_offset), 56);
    }

    /// The first bytes of what VirtualBox writes for 4 MiB.
    fn virtualbox() -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..16].copy_from_slice(b"WithoutFreeSpace");
        for (at, value) in [(16, 2), (20, 16), (24, 8), (28, 63), (32, 131), (36, 8192)] {
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        bytes
    }

    #[test]
    fn a_real_header_is_understood() {
        let header = Header::parse(&virtualbox()).unwrap();
        assert_eq!((header.virtual_size, header.cluster_size), (4 << 20, 32256));
        assert_eq!(header.data_offset, 1024);
        assert!(!header.places_in_clusters && !header.in_use && !header.empty);
    }

    #[test]
    fn only_the_extended_kind_has_sectors_of_64_bits() {
        let mut bytes = virtualbox();
        bytes[40] = 1;
        assert_eq!(Header::parse(&bytes).unwrap().virtual_size, 4 << 20);
        bytes[..16].copy_from_slice(b"WithouFreSpacExt");
        let error = Header::parse(&bytes).unwrap_err();
        assert!(error.to_string().contains("2199027449856 bytes"), "{error}");
    }

    #[test]
    fn each_bad_field_is_refused() {
        for (at, value, kind, text) in [
            (6, b'x', ErrorKind::Corrupt, "Withoux"),
            (16, 3, ErrorKind::Unsupported, "version 3"),
            (28, 0, ErrorKind::Corrupt, "found 0"),
            (31, 1, ErrorKind::Limit, "clusters of at most"),
            (32, 130, ErrorKind::Corrupt, "131 entries"),
            (44, 1, ErrorKind::Corrupt, "in-use"),
        ] {
            let mut bytes = virtualbox();
            bytes[at] = value;
            let error = Header::parse(&bytes).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error} lacks {text}");
        }
    }
}
