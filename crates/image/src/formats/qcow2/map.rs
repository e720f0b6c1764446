//! From an offset of the disk to what the L1 and L2 tables say of it: qcow2 "Cluster mapping" and "Extended L2
//! Entries". The L1 table is read when the image is opened; L2 tables are read in slices on use.

use std::sync::Arc;

use crate::{Error, ErrorKind, FileRange, Result};

use super::cache::Cache;
use super::geometry::{COMPRESSED, COPIED, ENTRY_BYTES, Geometry, OFFSET_MASK, SUBCLUSTERS, ZERO};
use super::header::Header;
use super::to_usize;

/// Most bytes of an L2 table read at once.
const SLICE_BYTES: u64 = 64 << 10;
/// Sector in which the length of a compressed cluster is given.
pub(super) const SECTOR: u64 = 512;
/// Bits that must be 0 in an L1 entry.
pub(super) const L1_RESERVED: u64 = !(OFFSET_MASK | COPIED);
/// Bits that must be 0 in a standard L2 entry.
pub(super) const L2_RESERVED: u64 = !(OFFSET_MASK | COPIED | COMPRESSED | ZERO);
/// Bits of a host offset: qcow2 "Compressed Clusters Descriptor".
const HOST_OFFSET_BITS: u32 = 56;

/// L2 slices of all layers of a chain, by layer and host offset.
pub(super) type SliceCache = Cache<(u32, u64), u64>;

/// Where the bytes of a unit are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// In the backing file; zero without one.
    Unallocated,
    /// Nowhere: zeroes.
    Zero,
    /// At this host offset.
    Data { host: u64 },
    /// In a compressed cluster of `len` bytes at `host`.
    Compressed { host: u64, len: u64 },
}

/// The L1 table of the active state or of a snapshot, checked to lie within the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct L1At {
    pub(super) offset: u64,
    /// Entries that map the disk; a longer table holds the memory of a snapshot.
    pub(super) entries: u64,
    /// Bytes of the whole table.
    pub(super) bytes: u64,
}

/// The tables of one image.
#[derive(Debug)]
pub(super) struct Map {
    range: FileRange,
    version: u32,
    geometry: Geometry,
    l1_offset: u64,
    l1_end: u64,
    /// As they are in the file; checked on use, so that an image with a bad one can still be checked.
    l1: Vec<u64>,
    slices: Arc<SliceCache>,
    layer: u32,
    /// Length of the external data file, where data are in one.
    external_len: Option<u64>,
}

impl Map {
    /// Reads the L1 table.
    pub(super) fn open(
        range: FileRange,
        header: &Header,
        at: L1At,
        slices: Arc<SliceCache>,
        layer: u32,
        external_len: Option<u64>,
    ) -> Result<Self> {
        let bytes = range.read_vec(at.offset, to_usize(at.entries * ENTRY_BYTES))?;
        let entries = bytes.as_chunks().0.iter();
        Ok(Self {
            range,
            version: header.version,
            geometry: header.geometry,
            l1_offset: at.offset,
            l1_end: at.offset + at.bytes,
            l1: entries.map(|entry| u64::from_be_bytes(*entry)).collect(),
            slices,
            layer,
            external_len,
        })
    }

    /// Host offset of an L2 table, 0 for none.
    fn l2_table(&self, index: usize) -> Result<u64> {
        let entry = self.l1.get(index).copied().unwrap_or(0);
        let at = self.l1_offset + index as u64 * ENTRY_BYTES;
        if entry & L1_RESERVED != 0 {
            return Err(
                Error::corrupt(format!("reserved bits are set in L1 entry {entry:#018x}")).at(at),
            );
        }
        let table = entry & OFFSET_MASK;
        if table != 0 {
            self.check_host(table, "L2 table").map_err(|e| e.at(at))?;
            if table + self.geometry.cluster_size() > self.range.len() {
                return Err(past_end("L2 table", table, self.range.len()).at(at));
            }
        }
        Ok(table)
    }

    /// Looks up neighbouring offsets, holding on to the slice in use.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor {
            map: self,
            slice: None,
        }
    }

    /// A host cluster is aligned, starts inside the file, and is neither the header's nor the L1 table's.
    fn check_host(&self, host: u64, what: &str) -> Result<()> {
        let cluster_size = self.geometry.cluster_size();
        if !host.is_multiple_of(cluster_size) {
            return Err(Error::corrupt(format!(
                "expected a {what} at a multiple of {cluster_size:#x}, found {host:#x}"
            )));
        }
        if host < self.l1_end && host + cluster_size > self.l1_offset {
            return Err(Error::corrupt(format!(
                "{what} at {host:#x} overlaps the L1 table"
            )));
        }
        if host < cluster_size {
            return Err(Error::corrupt(format!(
                "{what} at {host:#x} overlaps the header"
            )));
        }
        if host >= self.range.len() {
            return Err(past_end(what, host, self.range.len()));
        }
        Ok(())
    }

    /// The place of a data cluster that the tables give for the disk's byte `offset`, which is `within` it.
    fn data(&self, host: u64, offset: u64, within: u64) -> Result<Mapping> {
        let Some(len) = self.external_len else {
            self.check_host(host, "data cluster")?;
            return Ok(Mapping::Data {
                host: host + within,
            });
        };
        // QEMU puts every cluster at its guest offset, raw or not, and refuses another place.
        if host != offset - within {
            return Err(Error::corrupt(format!(
                "expected the cluster at {:#x} of the external data file, as on the disk, found {host:#x}",
                offset - within
            )));
        }
        if offset >= len {
            return Err(past_end("cluster in the external data file", offset, len));
        }
        Ok(Mapping::Data { host: offset })
    }

    fn load(&self, host: u64, len: u64) -> Result<Arc<[u64]>> {
        let key = (self.layer, host);
        if let Some(slice) = self.slices.get(key) {
            return Ok(slice);
        }
        let bytes = self.range.read_vec(host, to_usize(len))?;
        let slice: Arc<[u64]> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|entry| u64::from_be_bytes(*entry))
            .collect();
        self.slices.insert(key, Arc::clone(&slice));
        Ok(slice)
    }

    /// The meaning of an L2 entry (with its bitmap, if extended) for the disk's byte `offset`, and the number of
    /// bytes from there on that share it.
    fn decode(&self, entry: u64, bitmap: u64, offset: u64) -> Result<(Mapping, u64)> {
        let within = offset % self.geometry.cluster_size();
        let rest = self.geometry.cluster_size() - within;
        if entry & COMPRESSED != 0 {
            if self.external_len.is_some() {
                return Err(Error::corrupt(format!(
                    "compressed cluster {entry:#018x} in an image with an external data file"
                )));
            }
            return Ok((self.decode_compressed(entry)?, rest));
        }
        if entry & L2_RESERVED != 0 {
            return Err(Error::corrupt(format!(
                "reserved bits are set in L2 entry {entry:#018x}"
            )));
        }
        let host = entry & OFFSET_MASK;
        // Offset 0 is a place in an external data file only: qcow2 "Standard Cluster Descriptor".
        let placed = host != 0 || (self.external_len.is_some() && entry & COPIED != 0);
        if !placed && entry & COPIED != 0 && entry & ZERO == 0 {
            return Err(Error::corrupt(format!(
                "L2 entry {entry:#018x} is in use without a host cluster"
            )));
        }
        if self.geometry.extended_l2 {
            return self.decode_subcluster(entry, bitmap, offset, placed);
        }
        if entry & ZERO != 0 {
            // qcow2 "Standard Cluster Descriptor": bit 0 came with version 3.
            return match self.version {
                2 => Err(Error::corrupt(format!(
                    "zero cluster {entry:#018x} in a version 2 image"
                ))),
                _ => Ok((Mapping::Zero, rest)),
            };
        }
        if !placed {
            return Ok((Mapping::Unallocated, rest));
        }
        Ok((self.data(host, offset, within)?, rest))
    }

    /// qcow2 "Subcluster Allocation Bitmap".
    fn decode_subcluster(
        &self,
        entry: u64,
        bitmap: u64,
        offset: u64,
        placed: bool,
    ) -> Result<(Mapping, u64)> {
        if entry & ZERO != 0 {
            return Err(Error::corrupt(format!(
                "zero bit is set in extended L2 entry {entry:#018x}"
            )));
        }
        let within = offset % self.geometry.cluster_size();
        let size = self.geometry.subcluster_size();
        let index = within / size;
        let rest = (index + 1) * size - within;
        let (allocated, zero) = (
            bitmap & (1 << index) != 0,
            bitmap & (1 << (index + SUBCLUSTERS)) != 0,
        );
        let host = entry & OFFSET_MASK;
        match (allocated, zero) {
            (false, false) => Ok((Mapping::Unallocated, rest)),
            (false, true) => Ok((Mapping::Zero, rest)),
            (true, false) if placed => Ok((self.data(host, offset, within)?, rest)),
            (true, false) => Err(Error::corrupt(format!(
                "subcluster {index} is in use without a host cluster"
            ))),
            (true, true) => Err(Error::corrupt(format!(
                "subcluster {index} is both in use and zero"
            ))),
        }
    }

    /// qcow2 "Compressed Clusters Descriptor". The last sector may be cut short by the end of the file.
    fn decode_compressed(&self, entry: u64) -> Result<Mapping> {
        let (host, end) = compressed_place(self.geometry, entry);
        let file_len = self.range.len();
        if host >> HOST_OFFSET_BITS != 0 {
            return Err(Error::corrupt(format!(
                "reserved bits are set in compressed cluster {entry:#018x}"
            )));
        }
        if host < self.geometry.cluster_size() {
            return Err(Error::corrupt(format!(
                "compressed cluster at {host:#x} overlaps the header"
            )));
        }
        if host >= file_len || end > file_len.next_multiple_of(SECTOR) {
            return Err(past_end("compressed cluster", host, file_len));
        }
        if host < self.l1_end && end > self.l1_offset {
            return Err(Error::corrupt(format!(
                "compressed cluster at {host:#x} overlaps the L1 table"
            )));
        }
        Ok(Mapping::Compressed {
            host,
            len: end.min(file_len) - host,
        })
    }
}

/// Bits of the host offset in a compressed cluster's descriptor; those above count sectors.
pub(super) fn compressed_offset_bits(geometry: Geometry) -> u32 {
    62 - (geometry.cluster_bits - 8)
}

/// Host offset of a compressed cluster, and the end of its last sector.
pub(super) fn compressed_place(geometry: Geometry, entry: u64) -> (u64, u64) {
    let offset_bits = compressed_offset_bits(geometry);
    let descriptor = entry & !(COMPRESSED | COPIED);
    let host = descriptor & ((1 << offset_bits) - 1);
    let sectors = (descriptor >> offset_bits) + 1;
    (host, (host / SECTOR + sectors) * SECTOR)
}

/// A walk over the map.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    map: &'a Map,
    slice: Option<(u64, Arc<[u64]>)>,
}

impl Cursor<'_> {
    /// The mapping at `offset`, which is below the virtual size, and how many bytes share it at least: up to the
    /// end of its cluster, subcluster, or absent L2 table.
    pub(super) fn at(&mut self, offset: u64) -> Result<(Mapping, u64)> {
        let map = self.map;
        let geometry = map.geometry;
        let span = geometry.l2_span();
        let table = map.l2_table(to_usize(offset / span))?;
        if table == 0 {
            return Ok((Mapping::Unallocated, span - offset % span));
        }
        let words = geometry.entry_words();
        let word = offset % span / geometry.cluster_size() * words;
        let slice_bytes = geometry.cluster_size().min(SLICE_BYTES);
        let slice_words = slice_bytes / ENTRY_BYTES;
        let host = table + word / slice_words * slice_bytes;
        let slice = match &mut self.slice {
            Some((held, slice)) if *held == host => slice,
            other => {
                let slice = map.load(host, slice_bytes)?;
                &mut other.insert((host, slice)).1
            }
        };
        let index = to_usize(word % slice_words);
        let entry = slice.get(index).copied().unwrap_or(0);
        let bitmap = if words == 2 {
            slice.get(index + 1).copied().unwrap_or(0)
        } else {
            0
        };
        map.decode(entry, bitmap, offset)
            .map_err(|e| e.at(host + index as u64 * ENTRY_BYTES))
    }
}

fn past_end(what: &str, host: u64, file_len: u64) -> Error {
    Error::new(
        ErrorKind::Truncated,
        format!("expected a {what} at {host:#x}, but the file ends at {file_len:#x}"),
    )
}
