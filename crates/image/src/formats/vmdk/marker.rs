//! Markers of a stream: what precedes each grain and each piece of metadata
//! (VDF 1.1, Stream-Optimized Compressed Sparse Extents).

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Bytes of a grain marker before its data.
pub(super) const GRAIN_MARKER_LEN: usize = 12;
/// Bytes of a metadata marker that mean something; it fills a sector.
pub(super) const MARKER_LEN: usize = 16;

/// `Marker`: both shapes share the first two fields.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
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
            (0, 0) => Self::EndOfStream,
            (0, 1) => Self::Table(val),
            (0, 2) => Self::Directory(val),
            (0, 3) => Self::Footer(val),
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
