//! Reads a QCOW image and its backing file as one disk.

use std::sync::Arc;

use crate::formats::context::{Context, Parent};
use crate::formats::qcow2::{Cache, Compression, Decoders};
use crate::formats::raw::check_read;
use crate::{
    BlockSource, Error, ErrorKind, Extent, ExtentKind, FileRange, ImageInfo, Reference, Result,
};

use super::header::{ENTRY_BYTES, Header};
use super::to_usize;

/// Bytes of L2 tables kept: with clusters of 4 KiB they map 2 GiB.
const TABLE_CACHE_BYTES: usize = 4 << 20;
/// Bytes of inflated clusters kept, for reads of less than a cluster.
const CLUSTER_CACHE_BYTES: usize = 2 << 20;
/// Entries that one [`extent_at`](BlockSource::extent_at) looks at before it returns what it has.
const MAX_EXTENT_STEPS: usize = 4096;
/// Bit 63 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 63;

/// A QCOW image.
#[derive(Debug)]
pub struct Reader {
    range: FileRange,
    header: Header,
    l1: Vec<u64>,
    tables: Cache<u64, u64>,
    /// Inflated clusters by host offset.
    clusters: Cache<u64, u8>,
    decoders: Decoders,
    backing: Option<Parent>,
}

/// Where a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    Unallocated,
    Data { host: u64 },
    Compressed { host: u64, len: u64 },
}

impl Reader {
    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        context.enter(&range)?;
        let in_file = |e: Error| e.in_file(range.label());
        let header = Header::read(&range).map_err(in_file)?;
        let bytes = range.read_vec(header.l1_offset, to_usize(header.l1_entries * ENTRY_BYTES))?;
        let l1 = words(&bytes);
        let backing = match &header.backing {
            Some(name) => {
                let found = context.find(&range, Reference::Host(name))?;
                tracing::warn!(
                    "{}: the format of its backing file {} cannot be given; going by its content",
                    range.label(),
                    found.label()
                );
                Some(Parent::new(context.open_next(found, None)?))
            }
            None => None,
        };
        Ok(Self {
            range,
            header,
            l1,
            tables: Cache::new(TABLE_CACHE_BYTES),
            clusters: Cache::new(CLUSTER_CACHE_BYTES),
            decoders: Decoders::new(Compression::Zlib),
            backing,
        })
    }

    fn cluster_size(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    /// The mapping at `offset`, and how many bytes share it at least.
    fn at(&self, offset: u64) -> Result<(Mapping, u64)> {
        let (cluster_bits, l2_bits) = (self.header.cluster_bits, self.header.l2_bits);
        let span = 1u64 << (cluster_bits + l2_bits);
        let index = offset / span;
        let table = self.l1.get(to_usize(index)).copied().unwrap_or(0);
        if table == 0 {
            return Ok((Mapping::Unallocated, span - offset % span));
        }
        let len = ENTRY_BYTES << l2_bits;
        let entry_at = self.header.l1_offset + index * ENTRY_BYTES;
        self.check_host(table, len, "L2 table")
            .map_err(|e| e.at(entry_at))?;
        let entries = match self.tables.get(table) {
            Some(entries) => entries,
            None => {
                let bytes = self.range.read_vec(table, to_usize(len))?;
                let entries: Arc<[u64]> = words(&bytes).into();
                self.tables.insert(table, Arc::clone(&entries));
                entries
            }
        };
        let index = (offset % span) >> cluster_bits;
        let entry = entries.get(to_usize(index)).copied().unwrap_or(0);
        let within = offset % self.cluster_size();
        let mapping = self
            .mapping(entry, within)
            .map_err(|e| e.at(table + index * ENTRY_BYTES))?;
        Ok((mapping, self.cluster_size() - within))
    }

    /// The meaning of an L2 entry: "The QCOW Image Format", 2-Level Lookups.
    fn mapping(&self, entry: u64, within: u64) -> Result<Mapping> {
        if entry & COMPRESSED != 0 {
            // The bits above the offset are the length in bytes.
            let offset_bits = 63 - self.header.cluster_bits;
            let host = entry & ((1 << offset_bits) - 1);
            let len = (entry & !COMPRESSED) >> offset_bits;
            if len == 0 {
                return Err(Error::corrupt(format!(
                    "compressed cluster {entry:#018x} has no length"
                )));
            }
            self.check_host(host, len, "compressed cluster")?;
            return Ok(Mapping::Compressed { host, len });
        }
        if entry == 0 {
            return Ok(Mapping::Unallocated);
        }
        if !entry.is_multiple_of(512) {
            return Err(Error::corrupt(format!(
                "expected a data cluster at a multiple of 512, found {entry:#x}"
            )));
        }
        self.check_host(entry, 1, "data cluster")?;
        Ok(Mapping::Data {
            host: entry + within,
        })
    }

    /// Host bytes are in the file, and neither the header's nor the L1 table's.
    fn check_host(&self, host: u64, len: u64, what: &str) -> Result<()> {
        let end = host.checked_add(len).filter(|&end| end <= self.range.len());
        let Some(end) = end else {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected {len} bytes of {what} at {host:#x}, but the file ends at {:#x}",
                    self.range.len()
                ),
            ));
        };
        let l1 = self.header.l1_offset;
        let l1_end = l1 + self.header.l1_entries * ENTRY_BYTES;
        if host < size_of::<super::header::RawHeader>() as u64 || (host < l1_end && end > l1) {
            return Err(Error::corrupt(format!(
                "{what} at {host:#x} overlaps the header or the L1 table"
            )));
        }
        Ok(())
    }

    /// The mapping at `offset`, and how many of at most `max_len` bytes go on in the same place.
    fn run(&self, offset: u64, max_len: u64) -> Result<(Mapping, u64)> {
        let (first, mut len) = self.at(offset)?;
        while len < max_len {
            let (next, more) = self.at(offset + len)?;
            let goes_on = match first {
                Mapping::Data { host } => next == Mapping::Data { host: host + len },
                Mapping::Unallocated => next == first,
                Mapping::Compressed { .. } => false,
            };
            if !goes_on {
                break;
            }
            len += more;
        }
        Ok((first, len.min(max_len)))
    }

    fn read_compressed(&self, host: u64, len: u64, buf: &mut [u8], within: u64) -> Result<()> {
        if buf.len() as u64 == self.cluster_size() {
            return self.decoders.decode(&self.range, host, len, buf);
        }
        let cluster = match self.clusters.get(host) {
            Some(cluster) => cluster,
            None => {
                let mut cluster = vec![0; to_usize(self.cluster_size())];
                self.decoders.decode(&self.range, host, len, &mut cluster)?;
                let cluster: Arc<[u8]> = cluster.into();
                self.clusters.insert(host, Arc::clone(&cluster));
                cluster
            }
        };
        let within = to_usize(within);
        buf.copy_from_slice(&cluster[within..within + buf.len()]);
        Ok(())
    }
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.header.virtual_size
    }

    fn format(&self) -> &'static str {
        "qcow"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let in_file = |e: Error| e.in_file(self.range.label());
        check_read(offset, buf.len(), self.header.virtual_size).map_err(in_file)?;
        let (mut buf, mut offset) = (buf, offset);
        while !buf.is_empty() {
            let (mapping, len) = self.run(offset, buf.len() as u64).map_err(in_file)?;
            let (part, rest) = buf.split_at_mut(to_usize(len));
            match (mapping, &self.backing) {
                (Mapping::Data { host }, _) => self.range.read_exact_at(part, host)?,
                (Mapping::Compressed { host, len }, _) => {
                    let within = offset % self.cluster_size();
                    self.read_compressed(host, len, part, within)?;
                }
                (Mapping::Unallocated, Some(backing)) => backing.read_at(part, offset)?,
                (Mapping::Unallocated, None) => part.fill(0),
            }
            (buf, offset) = (rest, offset + len);
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let in_file = |e: Error| e.in_file(self.range.label());
        let max_len = max_len.min(self.header.virtual_size - offset);
        let (first, mut len) = self.at(offset).map_err(in_file)?;
        let unallocated = first == Mapping::Unallocated;
        for _ in 0..MAX_EXTENT_STEPS {
            if len >= max_len {
                break;
            }
            let (next, more) = self.at(offset + len).map_err(in_file)?;
            if (next == Mapping::Unallocated) != unallocated {
                break;
            }
            len += more;
        }
        let len = len.min(max_len);
        match (&self.backing, unallocated) {
            (Some(backing), true) => backing.extent_at(offset, len),
            _ => Ok(Extent {
                offset,
                len,
                kind: if unallocated {
                    ExtentKind::Unallocated
                } else {
                    ExtentKind::Data
                },
            }),
        }
    }

    fn info(&self) -> ImageInfo {
        let name = self.header.backing.as_ref();
        ImageInfo {
            cluster_size: Some(self.cluster_size()),
            parent_name: name.map(|name| name.to_string_lossy().into_owned()),
            ..ImageInfo::default()
        }
    }

    fn parent(&self) -> Option<Arc<dyn BlockSource>> {
        let backing = self.backing.as_ref();
        backing.map(|backing| Arc::clone(backing.source()))
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let entries = bytes.as_chunks().0.iter();
    entries.map(|entry| u64::from_be_bytes(*entry)).collect()
}
