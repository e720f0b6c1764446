//! The header: the structs as they lie in the file, and what they mean once checked.
//!
//! ```text
//! 0        72             104 (v3: header_length)                              cluster_size
//! | fields | v3 fields … | extensions … end | backing file name (anywhere here) |
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, ErrorKind, FileRange, Result};

use super::extension::{self, BitmapsAt, Extensions};
use super::geometry::{ENTRY_BYTES, Geometry, MAX_CLUSTER_BITS, MAX_L1_BYTES, MIN_CLUSTER_BITS};
use super::map::L1At;
use super::to_usize;

/// `QFI\xfb`.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Length of the header of version 2: qcow2 "Header".
pub(super) const V2_BYTES: u64 = 72;
/// Least length of the header of version 3: qcow2 "Header".
const V3_MIN_BYTES: u64 = 104;
/// Longest name of a backing file: qcow2 "Header", `backing_file_size`.
const MAX_BACKING_NAME: u64 = 1023;
/// Largest `refcount_order`: qcow2 "Header".
const MAX_REFCOUNT_ORDER: u32 = 6;

/// Bit 0 of the incompatible features: refcounts may be stale; they are not needed to read.
pub(super) const DIRTY: u64 = 1 << 0;
/// Bit 1: metadata were found to be wrong; data are not read before a repair.
pub(super) const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA_FILE: u64 = 1 << 2;
pub(super) const COMPRESSION_TYPE: u64 = 1 << 3;
pub(super) const EXTENDED_L2: u64 = 1 << 4;
/// Incompatible features that can be opened.
const SUPPORTED: u64 = DIRTY | CORRUPT | EXTERNAL_DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2;
/// Bit 0 of the compatible features: a writer may postpone refcount updates.
pub(super) const LAZY_REFCOUNTS: u64 = 1 << 0;
/// Bit 0 of the autoclear features: the bitmaps are consistent with the disk.
const BITMAPS: u64 = 1 << 0;
/// Bit 1: the external data file is the disk byte for byte.
const DATA_FILE_RAW: u64 = 1 << 1;

/// The header in the file, big-endian: qcow2 "Header" and "Additional fields". Version 2 ends at `snapshots_offset`;
/// there the rest is not looked at.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    /// Byte 0: [`MAGIC`].
    pub(super) magic: [u8; 4],
    /// Byte 4: 2 or 3.
    pub(super) version: U32,
    /// Byte 8: offset of the backing file's name, 0 for none.
    pub(super) backing_file_offset: U64,
    /// Byte 16: its length in bytes.
    pub(super) backing_file_size: U32,
    /// Byte 20: the cluster size is 2 to the power of this.
    pub(super) cluster_bits: U32,
    /// Byte 24: virtual size in bytes.
    pub(super) size: U64,
    /// Byte 32: 0 none, 1 AES, 2 LUKS.
    pub(super) crypt_method: U32,
    /// Byte 36: entries of the active L1 table.
    pub(super) l1_size: U32,
    /// Byte 40: its offset, a multiple of the cluster size.
    pub(super) l1_table_offset: U64,
    /// Byte 48: offset of the refcount table, a multiple of the cluster size.
    pub(super) refcount_table_offset: U64,
    /// Byte 56: its length in clusters.
    pub(super) refcount_table_clusters: U32,
    /// Byte 60: number of internal snapshots.
    pub(super) nb_snapshots: U32,
    /// Byte 64: offset of the snapshot table.
    pub(super) snapshots_offset: U64,
    /// Byte 72: features without which the image must not be opened.
    pub(super) incompatible_features: U64,
    /// Byte 80: features that may be ignored.
    pub(super) compatible_features: U64,
    /// Byte 88: features that a writer must clear if it does not know them.
    pub(super) autoclear_features: U64,
    /// Byte 96: a refcount has 2 to the power of this bits.
    pub(super) refcount_order: U32,
    /// Byte 100: length of the header, a multiple of 8.
    pub(super) header_length: U32,
    /// Byte 104: 0 zlib, 1 zstd; present if the header is longer than 104 bytes.
    pub(super) compression_type: u8,
    /// Byte 105: zeroes up to the multiple of 8.
    pub(super) padding: [u8; 7],
}

const _: () = assert!(size_of::<RawHeader>() == 112);

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::formats) enum Compression {
    /// Raw deflate.
    Zlib,
    Zstd,
}

/// The backing file as the image names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BackingName {
    pub(super) name: OsString,
    pub(super) format: Option<String>,
}

/// The external data file as the image names it: qcow2 "Header extensions", external data file name string.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DataFileName {
    pub(super) name: OsString,
    /// Byte n of the file is byte n of the disk.
    pub(super) raw: bool,
}

/// A header that has been checked against the specification, QEMU's limits, and the length of the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) geometry: Geometry,
    /// Whole sectors: a size that ends within one is rounded up.
    pub(super) virtual_size: u64,
    pub(super) l1: L1At,
    pub(super) compression: Compression,
    pub(super) backing: Option<BackingName>,
    pub(super) data_file: Option<DataFileName>,
    pub(super) incompatible: u64,
    pub(super) compatible: u64,
    /// A refcount has 2 to the power of this bits.
    pub(super) refcount_order: u32,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u64,
    /// Number of internal snapshots, and where their table is; neither is checked.
    pub(super) snapshots: u64,
    pub(super) snapshots_offset: u64,
    /// The bitmaps, where they are consistent.
    pub(super) bitmaps: Option<BitmapsAt>,
}

impl Header {
    /// Reads and checks the header at the start of `range`.
    pub(super) fn read(range: &FileRange) -> Result<Self> {
        let raw = read_raw(range)?;
        let version = raw.version.get();
        let cluster_bits = raw.cluster_bits.get();
        if !(MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&cluster_bits) {
            return Err(Error::corrupt(format!(
                "expected cluster_bits from {MIN_CLUSTER_BITS} to {MAX_CLUSTER_BITS}, found {cluster_bits}"
            ))
            .at(20));
        }
        let cluster_size = 1u64 << cluster_bits;
        let header_length = header_length(&raw, cluster_size)?;
        check_length(range, header_length)?;
        let first_cluster = range.read_vec(0, to_usize(cluster_size.min(range.len())))?;
        let name_offset = raw.backing_file_offset.get();
        let extensions_end = if name_offset == 0 {
            cluster_size
        } else {
            name_offset
        };
        let mut extensions = extension::parse(&first_cluster, header_length, extensions_end)?;

        check_not_encrypted(raw.crypt_method.get())?;
        let (features, compatible, autoclear) = if version == 2 {
            (0, 0, 0)
        } else {
            (
                raw.incompatible_features.get(),
                raw.compatible_features.get(),
                raw.autoclear_features.get(),
            )
        };
        check_features(features, &extensions)?;
        let compression = compression(&raw, features, header_length)?;
        let geometry = Geometry {
            cluster_bits,
            extended_l2: features & EXTENDED_L2 != 0,
        };
        // qcow2 "Header", cluster_bits: a subcluster is at least 512 bytes.
        if geometry.extended_l2 && geometry.subcluster_size() < 1 << MIN_CLUSTER_BITS {
            return Err(Error::corrupt(format!(
                "expected cluster_bits of at least 14 with extended L2 entries, found {cluster_bits}"
            ))
            .at(20));
        }
        let refcount_order = if version == 2 {
            4
        } else {
            raw.refcount_order.get()
        };
        if refcount_order > MAX_REFCOUNT_ORDER {
            return Err(Error::corrupt(format!(
                "expected refcount_order of at most {MAX_REFCOUNT_ORDER}, found {refcount_order}"
            ))
            .at(96));
        }
        let virtual_size = check_size(raw.size.get())?;
        let l1 = check_l1(
            (raw.l1_table_offset.get(), raw.l1_size.get().into()),
            geometry,
            virtual_size,
            range.len(),
        )?;
        let backing = match name_offset {
            0 => None,
            offset => {
                let name = backing_name(
                    &first_cluster,
                    offset,
                    raw.backing_file_size.get().into(),
                    header_length,
                )?;
                name.map(|name| BackingName {
                    name,
                    format: extensions.backing_format.take(),
                })
            }
        };
        let data_file = data_file(features, autoclear, extensions.data_file.take())?;
        Ok(Self {
            version,
            geometry,
            virtual_size,
            l1,
            compression,
            backing,
            data_file,
            incompatible: features,
            compatible,
            refcount_order,
            refcount_table_offset: raw.refcount_table_offset.get(),
            refcount_table_clusters: raw.refcount_table_clusters.get().into(),
            snapshots: raw.nb_snapshots.get().into(),
            snapshots_offset: raw.snapshots_offset.get(),
            bitmaps: extensions.bitmaps.filter(|_| autoclear & BITMAPS != 0),
        })
    }

    /// Refuses to read data of an image that says of itself that they may be wrong.
    pub(super) fn check_not_corrupt(&self) -> Result<()> {
        if self.incompatible & CORRUPT == 0 {
            return Ok(());
        }
        Err(Error::corrupt(
            "the image is marked corrupt (incompatible feature bit 1); hint: qemu-img check -r all FILE",
        )
        .at(72))
    }
}

/// Magic and version, then as much of the struct as the version has; the rest stays zero.
fn read_raw(range: &FileRange) -> Result<RawHeader> {
    let mut raw = RawHeader::new_zeroed();
    let bytes = raw.as_mut_bytes();
    check_length(range, V2_BYTES)?;
    let stored = to_usize(range.len()).min(bytes.len());
    range.read_exact_at(&mut bytes[..stored], 0)?;
    if raw.magic != MAGIC {
        return Err(Error::corrupt(format!(
            "expected the qcow2 magic {MAGIC:02x?}, found {:02x?}",
            raw.magic
        ))
        .at(0));
    }
    match raw.version.get() {
        2 => Ok(raw),
        3 => check_length(range, V3_MIN_BYTES).map(|()| raw),
        1 => Err(Error::unsupported(
            "expected qcow2 version 2 or 3, found QCOW version 1; hint: -f qcow",
        )
        .at(4)),
        other => {
            Err(Error::unsupported(format!("expected qcow2 version 2 or 3, found {other}")).at(4))
        }
    }
}

fn check_not_encrypted(method: u32) -> Result<()> {
    let what = match method {
        0 => return Ok(()),
        1 => "AES encryption of qcow2 is not supported".to_owned(),
        2 => "LUKS encryption of qcow2 is not supported".to_owned(),
        other => format!("unknown crypt_method {other}"),
    };
    Err(Error::unsupported(what).at(32))
}

fn data_file(
    features: u64,
    autoclear: u64,
    name: Option<OsString>,
) -> Result<Option<DataFileName>> {
    if features & EXTERNAL_DATA_FILE == 0 {
        return Ok(None);
    }
    let name = name.ok_or_else(|| {
        Error::unsupported("the external data file is not named in the image").at(72)
    })?;
    Ok(Some(DataFileName {
        name,
        raw: autoclear & DATA_FILE_RAW != 0,
    }))
}

fn check_length(range: &FileRange, expected: u64) -> Result<()> {
    if range.len() >= expected {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Truncated,
        format!(
            "expected a qcow2 header of {expected} bytes, found a file of {}",
            range.len()
        ),
    ))
}

/// Length of the header, at most a cluster. Fields past it are not present: qcow2 "Additional fields".
fn header_length(raw: &RawHeader, cluster_size: u64) -> Result<u64> {
    if raw.version.get() == 2 {
        return Ok(V2_BYTES);
    }
    let length = u64::from(raw.header_length.get());
    if !(V3_MIN_BYTES..=cluster_size).contains(&length) || !length.is_multiple_of(8) {
        return Err(Error::corrupt(format!(
            "expected a header_length from {V3_MIN_BYTES} to {cluster_size} in steps of 8, found {length}"
        ))
        .at(100));
    }
    Ok(length)
}

fn check_features(features: u64, extensions: &Extensions) -> Result<()> {
    let unknown = features & !SUPPORTED;
    if unknown == 0 {
        return Ok(());
    }
    let bits = (0..64u8).filter(|bit| unknown & (1 << bit) != 0);
    let names: Vec<String> = bits
        .map(|bit| match extensions.incompatible_name(bit) {
            Some(name) => format!("{bit} ({name})"),
            None => bit.to_string(),
        })
        .collect();
    Err(Error::unsupported(format!(
        "unknown incompatible feature bit {}",
        names.join(", ")
    ))
    .at(72))
}

/// The bit and the field must agree: qcow2 "Additional fields", `compression_type`.
fn compression(raw: &RawHeader, features: u64, header_length: u64) -> Result<Compression> {
    let kind = if raw.version.get() > 2 && header_length > V3_MIN_BYTES {
        raw.compression_type
    } else {
        0
    };
    match (kind, features & COMPRESSION_TYPE != 0) {
        (0, false) => Ok(Compression::Zlib),
        (1, true) => Ok(Compression::Zstd),
        (0, true) => Err(Error::corrupt(
            "expected a compression type other than zlib, as the feature bit says",
        )
        .at(104)),
        (1, false) => Err(Error::corrupt("compression type zstd without its feature bit").at(104)),
        (other, _) => Err(Error::unsupported(format!("unknown compression type {other}")).at(104)),
    }
}

pub(super) fn check_size(size: u64) -> Result<u64> {
    size.checked_next_multiple_of(512)
        .filter(|&size| i64::try_from(size).is_ok())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Limit,
                format!(
                    "expected a virtual size of at most {} bytes, found {size}",
                    i64::MAX
                ),
            )
            .at(24)
        })
}

/// Checks offset and number of entries of the L1 table of the active state, or of a snapshot.
pub(super) fn check_l1(
    (offset, stored): (u64, u64),
    geometry: Geometry,
    virtual_size: u64,
    file_len: u64,
) -> Result<L1At> {
    let needed = geometry.l1_entries(virtual_size).map_err(|e| e.at(24))?;
    let bytes = stored * ENTRY_BYTES;
    if bytes > MAX_L1_BYTES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected an L1 table of at most {MAX_L1_BYTES} bytes, found {bytes}"),
        )
        .at(36));
    }
    if stored < needed {
        return Err(Error::corrupt(format!(
            "expected an L1 table of {needed} entries for {virtual_size} bytes of disk, found {stored}"
        ))
        .at(36));
    }
    if stored == 0 {
        return Ok(L1At {
            offset: 0,
            entries: 0,
            bytes: 0,
        });
    }
    let cluster_size = geometry.cluster_size();
    if offset < cluster_size || !offset.is_multiple_of(cluster_size) {
        return Err(Error::corrupt(format!(
            "expected the L1 table after the header at a multiple of {cluster_size:#x}, found {offset:#x}"
        ))
        .at(40));
    }
    if offset.checked_add(bytes).is_none_or(|end| end > file_len) {
        return Err(Error::new(
            ErrorKind::Truncated,
            format!("expected an L1 table of {bytes} bytes at {offset:#x}, but the file ends at {file_len:#x}"),
        )
        .at(40));
    }
    Ok(L1At {
        offset,
        entries: needed,
        bytes,
    })
}

/// The name lies between the header and the end of the first cluster: qcow2 "Header extensions".
fn backing_name(
    first_cluster: &[u8],
    offset: u64,
    len: u64,
    header_length: u64,
) -> Result<Option<OsString>> {
    if len > MAX_BACKING_NAME {
        return Err(Error::corrupt(format!(
            "expected a backing file name of at most {MAX_BACKING_NAME} bytes, found {len}"
        ))
        .at(16));
    }
    if len == 0 {
        return Ok(None);
    }
    let end = offset.checked_add(len).filter(|_| offset >= header_length);
    let name = end.and_then(|end| first_cluster.get(to_usize(offset)..to_usize(end))).ok_or_else(|| {
        Error::corrupt(format!("expected a backing file name in the first cluster, found {len} bytes at {offset:#x}"))
            .at(8)
    })?;
    Ok(Some(OsString::from_vec(name.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_at_the_bytes_of_the_specification() {
        let bytes: Vec<u8> = (0..112).collect();
        let raw = RawHeader::read_from_bytes(&bytes).unwrap();
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(raw.magic, [0, 1, 2, 3]);
        assert_eq!(raw.version.get(), u32_at(4));
        assert_eq!(raw.backing_file_offset.get(), u64_at(8));
        assert_eq!(raw.backing_file_size.get(), u32_at(16));
        assert_eq!(raw.cluster_bits.get(), u32_at(20));
        assert_eq!(raw.size.get(), u64_at(24));
        assert_eq!(raw.crypt_method.get(), u32_at(32));
        assert_eq!(raw.l1_size.get(), u32_at(36));
        assert_eq!(raw.l1_table_offset.get(), u64_at(40));
        assert_eq!(raw.refcount_table_offset.get(), u64_at(48));
        assert_eq!(raw.refcount_table_clusters.get(), u32_at(56));
        assert_eq!(raw.nb_snapshots.get(), u32_at(60));
        assert_eq!(raw.snapshots_offset.get(), u64_at(64));
        assert_eq!(raw.incompatible_features.get(), u64_at(72));
        assert_eq!(raw.compatible_features.get(), u64_at(80));
        assert_eq!(raw.autoclear_features.get(), u64_at(88));
        assert_eq!(raw.refcount_order.get(), u32_at(96));
        assert_eq!(raw.header_length.get(), u32_at(100));
        assert_eq!(raw.compression_type, 104);
        assert_eq!(raw.padding, [105, 106, 107, 108, 109, 110, 111]);
    }
}
