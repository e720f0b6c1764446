//! Markers of a stream: what precedes each grain and each piece of metadata
//! (VDF 1.1, Stream-Optimized Compressed Sparse Extents).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::geometry::SECTOR_LEN;

/// Bytes of a grain marker before its data.
pub(super) const GRAIN_MARKER_LEN: usize = 12;
/// Bytes of a metadata marker that mean something; it fills a sector.
pub(super) const MARKER_LEN: usize = 16;

/// Types of metadata markers: `MARKER_EOS`, `MARKER_GT`, `MARKER_GD`, `MARKER_FOOTER`.
pub(super) const END_OF_STREAM: u32 = 0;
pub(super) const TABLE: u32 = 1;
pub(super) const DIRECTORY: u32 = 2;
pub(super) const FOOTER: u32 = 3;

/// The sector before metadata of so many sectors.
pub(super) fn metadata(sectors: u64, kind: u32) -> [u8; SECTOR_LEN] {
    let marker = RawMarker {
        val: U64::new(sectors),
        size: U32::ZERO,
        kind: U32::new(kind),
    };
    let mut bytes = [0; SECTOR_LEN];
    let marker: [u8; MARKER_LEN] = zerocopy::transmute!(marker);
    bytes[..MARKER_LEN].copy_from_slice(&marker);
    bytes
}

/// What precedes a grain of `len` compressed bytes that begins at sector `lba` of the disk.
pub(super) fn grain(lba: u64, len: u32) -> [u8; GRAIN_MARKER_LEN] {
    let mut bytes = [0; GRAIN_MARKER_LEN];
    bytes[..8].copy_from_slice(&lba.to_le_bytes());
    bytes[8..].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// `Marker`: both shapes share the first two fields.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct RawMarker {
    /// Metadata: its sectors. Grain: first sector of the grain on the disk.
    val: U64,
    /// Metadata: 0. Grain: bytes of compressed data, which start right here.
    size: U32,
    /// Metadata only.
    kind: U32,
}
const _: () = assert!(size_of::<RawMarker>() == MARKER_LEN);

/// A marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// Type 0.
    EndOfStream,
    /// Type 1: a grain table of so many sectors follows.
    Table(u64),
    /// Type 2: the grain directory of so many sectors follows.
    Directory(u64),
    /// Type 3: the footer of so many sectors follows.
    Footer(u64),
    /// A compressed grain.
    Grain(GrainMarker),
    /// No type that the specification knows.
    Unknown(u32),
}

/// What precedes a compressed grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrainMarker {
    /// First sector of the grain on the disk.
    pub(super) lba: u64,
    /// Bytes of compressed data.
    pub(super) len: u32,
}

impl Marker {
    /// The marker at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8; MARKER_LEN]) -> Self {
        let raw: RawMarker = zerocopy::transmute!(*bytes);
        let val = raw.val.get();
        match (raw.size.get(), raw.kind.get()) {
            (0, END_OF_STREAM) => Self::EndOfStream,
            (0, TABLE) => Self::Table(val),
            (0, DIRECTORY) => Self::Directory(val),
            (0, FOOTER) => Self::Footer(val),
            (0, other) => Self::Unknown(other),
            (len, _) => Self::Grain(GrainMarker { lba: val, len }),
        }
    }
}

impl GrainMarker {
    /// The grain marker at the start of `bytes`, and what follows it. None when `bytes` is too short.
    pub(super) fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (lba, rest) = U64::read_from_prefix(bytes).ok()?;
        let (len, rest) = U32::read_from_prefix(rest).ok()?;
        Some((
            Self {
                lba: lba.get(),
                len: len.get(),
            },
            rest,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_told_apart() {
        let marker = |val: u64, size: u32, kind: u32| {
            let mut bytes = [0; MARKER_LEN];
            bytes[..8].copy_from_slice(&val.to_le_bytes());
            bytes[8..12].copy_from_slice(&size.to_le_bytes());
            bytes[12..].copy_from_slice(&kind.to_le_bytes());
            Marker::parse(&bytes)
        };
        assert_eq!(marker(0, 0, 0), Marker::EndOfStream);
        assert_eq!(marker(4, 0, 1), Marker::Table(4));
        assert_eq!(marker(1, 0, 2), Marker::Directory(1));
        assert_eq!(marker(1, 0, 3), Marker::Footer(1));
        assert_eq!(marker(1, 0, 9), Marker::Unknown(9));
        assert_eq!(
            marker(128, 77, 0xdead),
            Marker::Grain(GrainMarker { lba: 128, len: 77 })
        );
    }
}
