//! The first cluster of a new image: header, extensions, name of the backing file.

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

use crate::{Error, ErrorKind, Result};

use super::geometry::Geometry;
use super::header::{COMPRESSION_TYPE, Compression, EXTENDED_L2, LAZY_REFCOUNTS, MAGIC, RawHeader};
use super::options::Backing;
use super::to_usize;

/// Header extension "Backing file format name string": qcow2 "Header extensions".
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Longest name of a backing file: qcow2 "Header", `backing_file_size`.
const MAX_BACKING_NAME: usize = 1023;

/// What the header of a new image says.
#[derive(Debug)]
pub(super) struct NewImage<'a> {
    /// 2 or 3.
    pub(super) version: u32,
    pub(super) geometry: Geometry,
    pub(super) virtual_size: u64,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    pub(super) refcount_order: u32,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u64,
    pub(super) compression: Compression,
    pub(super) lazy_refcounts: bool,
    pub(super) backing: Option<&'a Backing>,
}

impl NewImage<'_> {
    /// The bytes from the start of the file. The hole after them reads as the end of the extensions.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let zstd = self.compression == Compression::Zstd;
        let flag = |on: bool, bits: u64| if on { bits } else { 0 };
        let mut raw = RawHeader {
            magic: MAGIC,
            version: U32::new(self.version),
            backing_file_offset: U64::ZERO,
            backing_file_size: U32::ZERO,
            cluster_bits: U32::new(self.geometry.cluster_bits),
            size: U64::new(self.virtual_size),
            crypt_method: U32::ZERO,
            l1_size: u32_of(self.l1_entries)?,
            l1_table_offset: U64::new(self.l1_offset),
            refcount_table_offset: U64::new(self.refcount_table_offset),
            refcount_table_clusters: u32_of(self.refcount_table_clusters)?,
            nb_snapshots: U32::ZERO,
            snapshots_offset: U64::ZERO,
            incompatible_features: U64::new(
                flag(zstd, COMPRESSION_TYPE) | flag(self.geometry.extended_l2, EXTENDED_L2),
            ),
            compatible_features: U64::new(flag(self.lazy_refcounts, LAZY_REFCOUNTS)),
            autoclear_features: U64::ZERO,
            refcount_order: U32::new(self.refcount_order),
            header_length: u32_of(size_of::<RawHeader>() as u64)?,
            compression_type: u8::from(zstd),
            padding: [0; 7],
        };
        let header_len = match self.version {
            2 => to_usize(super::header::V2_BYTES),
            _ => size_of::<RawHeader>(),
        };
        let Some(backing) = self.backing else {
            return Ok(raw.as_bytes()[..header_len].to_vec());
        };
        let mut tail = Vec::new();
        if let Some(format) = &backing.format {
            tail.extend_from_slice(&BACKING_FORMAT.to_be_bytes());
            tail.extend_from_slice(u32_of(format.len() as u64)?.as_bytes());
            tail.extend_from_slice(format.as_bytes());
            tail.resize(tail.len().next_multiple_of(8), 0);
        }
        // The end of the extensions.
        tail.extend_from_slice(&[0; 8]);
        let name = backing.name.as_encoded_bytes();
        raw.backing_file_offset = U64::new((header_len + tail.len()) as u64);
        raw.backing_file_size = u32_of(name.len() as u64)?;
        tail.extend_from_slice(name);
        let bytes = [&raw.as_bytes()[..header_len], &tail].concat();
        if name.len() > MAX_BACKING_NAME || bytes.len() as u64 > self.geometry.cluster_size() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "expected a backing file name of at most {MAX_BACKING_NAME} bytes that fits the first cluster, \
                     found {} bytes",
                    name.len()
                ),
            ));
        }
        Ok(bytes)
    }
}

fn u32_of(n: u64) -> Result<U32> {
    u32::try_from(n).map(U32::new).map_err(|_| {
        Error::new(
            ErrorKind::Limit,
            format!(
                "expected a table of at most {} entries, found {n}",
                u32::MAX
            ),
        )
    })
}
