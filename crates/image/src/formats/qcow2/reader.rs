//! Reads a qcow2 image and its backing files as one disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use types::CancelToken;

use crate::formats::context::Context;
use crate::formats::raw::check_read;
use crate::{
    BlockSource, Error, ErrorKind, Extent, ExtentKind, FileRange, Files, ImageInfo, MetadataCheck,
    Reference, Result, Stored,
};

use super::cache::Cache;
use super::compressed::Decoders;
use super::header::{Header, check_l1, check_size};
use super::map::{Cursor, L1At, Map, Mapping, SliceCache};
use super::{backing, check, info, snapshots, to_usize};

/// Bytes of L2 tables kept per chain: with clusters of 64 KiB they map 64 GiB.
const SLICE_CACHE_BYTES: usize = 8 << 20;
/// Bytes of decompressed clusters kept per chain, for reads of less than a cluster.
const CLUSTER_CACHE_BYTES: usize = 8 << 20;
/// L2 entries that one [`extent_at`](BlockSource::extent_at) looks at before it returns what it has. The layers of
/// a chain, and the holes of the file, may each cut it shorter, and then the looking was in vain.
const MAX_EXTENT_STEPS: usize = 256;
/// Most bytes of L1 tables that a chain holds: two of the largest. Those of a disk of 1 TiB take 16 KiB.
const MAX_CHAIN_L1_BYTES: u64 = 64 << 20;
/// Least read granularity: below it the calls cost more than the bytes.
const MIN_READ: u64 = 64 << 10;

/// A qcow2 image.
#[derive(Debug)]
pub struct Reader {
    /// The image.
    range: FileRange,
    /// Where data clusters are: the image or its external data file.
    data: FileRange,
    header: Header,
    map: Map,
    cluster_size: u64,
    virtual_size: u64,
    decoders: Decoders,
    shared: Shared,
    layer: u32,
    /// The file has holes on the host, such as a preallocated image that was never filled.
    sparse: bool,
    backing: Option<Arc<dyn BlockSource>>,
}

/// What the images of a chain share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    slices: Arc<SliceCache>,
    /// Decompressed clusters by layer and guest offset.
    clusters: Arc<Cache<(u32, u64), u8>>,
    /// Bytes of L1 tables held.
    l1_bytes: Arc<AtomicU64>,
}

impl Shared {
    fn new() -> Self {
        Self {
            slices: Arc::new(Cache::new(SLICE_CACHE_BYTES)),
            clusters: Arc::new(Cache::new(CLUSTER_CACHE_BYTES)),
            l1_bytes: Arc::default(),
        }
    }

    /// Counts an L1 table before it is read.
    fn hold_l1(&self, entries: u64) -> Result<()> {
        let bytes = entries * 8;
        let before = self.l1_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= MAX_CHAIN_L1_BYTES {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Limit,
            format!(
                "expected at most {MAX_CHAIN_L1_BYTES} bytes of L1 tables in a chain, found {}",
                before + bytes
            ),
        ))
    }
}

impl Reader {
    /// Opens the image in `range`; backing files are looked for among `files`.
    pub fn open(range: FileRange, files: Files) -> Result<Self> {
        Self::open_in(range, &mut Context::new(files, None))
    }

    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        Self::open_layer(range, context, &Shared::new())
    }

    /// Opens one image of a chain, and with it all below.
    pub(super) fn open_layer(
        range: FileRange,
        context: &mut Context,
        shared: &Shared,
    ) -> Result<Self> {
        let layer = u32::try_from(context.enter(&range)?).unwrap_or(u32::MAX);
        let label = range.label().to_owned();
        let in_file = |e: crate::Error| e.in_file(&label);
        let header = Header::read(&range).map_err(in_file)?;
        let (mut l1, mut virtual_size) = (header.l1, header.virtual_size);
        if let Some(wanted) = context.take_snapshot() {
            (l1, virtual_size) = snapshot(&range, &header, &wanted).map_err(in_file)?;
        }
        shared.hold_l1(l1.entries).map_err(in_file)?;
        let data = match &header.data_file {
            Some(data_file) => context.find(&range, Reference::Host(&data_file.name))?,
            None => range.clone(),
        };
        let map = Map::open(
            range.clone(),
            &header,
            l1,
            Arc::clone(&shared.slices),
            layer,
            header.data_file.is_some().then(|| data.len()),
        )
        .map_err(in_file)?;
        let backing = match &header.backing {
            Some(name) => Some(backing::open(&range, name, context, shared)?),
            None => None,
        };
        Ok(Self {
            sparse: data.is_sparse(),
            range,
            data,
            map,
            cluster_size: header.geometry.cluster_size(),
            virtual_size,
            decoders: Decoders::new(header.compression),
            header,
            shared: shared.clone(),
            layer,
            backing,
        })
    }

    /// The mapping at `offset` and how many bytes of at most `max_len` go on in the same place.
    fn run(&self, cursor: &mut Cursor<'_>, offset: u64, max_len: u64) -> Result<(Mapping, u64)> {
        let (first, mut len) = cursor.at(offset)?;
        while len < max_len {
            let (next, more) = cursor.at(offset + len)?;
            let goes_on = match first {
                Mapping::Data { host } => next == Mapping::Data { host: host + len },
                Mapping::Unallocated | Mapping::Zero => next == first,
                Mapping::Compressed { .. } => false,
            };
            if !goes_on {
                break;
            }
            len += more;
        }
        Ok((first, len.min(max_len)))
    }

    fn read_run(&self, mapping: Mapping, buf: &mut [u8], offset: u64) -> Result<()> {
        match (mapping, &self.backing) {
            (Mapping::Data { host }, _) => self.data.read_exact_at(buf, host),
            (Mapping::Compressed { host, len }, _) => self.read_compressed(host, len, buf, offset),
            (Mapping::Unallocated, Some(backing)) => {
                // A backing file may be shorter than the disk: qcow2 "Cluster mapping".
                let inside = backing
                    .virtual_size()
                    .saturating_sub(offset)
                    .min(buf.len() as u64);
                let (inside, past_end) = buf.split_at_mut(to_usize(inside));
                past_end.fill(0);
                if inside.is_empty() {
                    Ok(())
                } else {
                    backing.read_at(inside, offset)
                }
            }
            (Mapping::Zero | Mapping::Unallocated, _) => {
                buf.fill(0);
                Ok(())
            }
        }
    }

    /// Reads inside one compressed cluster. A whole one is decoded in place; otherwise it is decoded once and kept.
    fn read_compressed(&self, host: u64, len: u64, buf: &mut [u8], offset: u64) -> Result<()> {
        if buf.len() as u64 == self.cluster_size {
            return self.decoders.decode(&self.range, host, len, buf);
        }
        let within = offset % self.cluster_size;
        let key = (self.layer, offset - within);
        let cluster = match self.shared.clusters.get(key) {
            Some(cluster) => cluster,
            None => {
                let mut cluster = vec![0; to_usize(self.cluster_size)];
                self.decoders.decode(&self.range, host, len, &mut cluster)?;
                let cluster: Arc<[u8]> = cluster.into();
                self.shared.clusters.insert(key, Arc::clone(&cluster));
                cluster
            }
        };
        let within = to_usize(within);
        buf.copy_from_slice(&cluster[within..within + buf.len()]);
        Ok(())
    }

    fn backing_extent(&self, offset: u64, len: u64) -> Result<Extent> {
        match &self.backing {
            Some(backing) if offset < backing.virtual_size() => backing.extent_at(offset, len),
            _ => Ok(Extent {
                offset,
                len,
                kind: ExtentKind::Unallocated,
            }),
        }
    }
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn format(&self) -> &'static str {
        "qcow2"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let in_file = |e: crate::Error| e.in_file(self.range.label());
        self.header.check_not_corrupt().map_err(in_file)?;
        check_read(offset, buf.len(), self.virtual_size).map_err(in_file)?;
        let mut cursor = self.map.cursor();
        let (mut buf, mut offset) = (buf, offset);
        while !buf.is_empty() {
            let (mapping, len) = self
                .run(&mut cursor, offset, buf.len() as u64)
                .map_err(in_file)?;
            let (part, rest) = buf.split_at_mut(to_usize(len));
            self.read_run(mapping, part, offset)?;
            (buf, offset) = (rest, offset + len);
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let in_file = |e: crate::Error| e.in_file(self.range.label());
        self.header.check_not_corrupt().map_err(in_file)?;
        let max_len = max_len.min(self.virtual_size - offset);
        let mut cursor = self.map.cursor();
        let (first, mut len) = cursor.at(offset).map_err(in_file)?;
        let kind = kind_of(first);
        for _ in 0..MAX_EXTENT_STEPS {
            if len >= max_len {
                break;
            }
            let (next, more) = cursor.at(offset + len).map_err(in_file)?;
            let same = match first {
                Mapping::Data { host } if self.sparse => next == Mapping::Data { host: host + len },
                _ => kind_of(next) == kind,
            };
            if !same {
                break;
            }
            len += more;
        }
        let len = len.min(max_len);
        match first {
            Mapping::Unallocated => self.backing_extent(offset, len),
            Mapping::Data { host } if self.sparse => {
                let (data, len) = self.data.run_at(host, len);
                Ok(Extent {
                    offset,
                    len,
                    kind: if data { kind } else { ExtentKind::Zero },
                })
            }
            _ => Ok(Extent { offset, len, kind }),
        }
    }

    fn stored_at(&self, offset: u64, max_len: u64) -> Result<Stored> {
        let in_file = |e: crate::Error| e.in_file(self.range.label());
        let max_len = max_len.min(self.virtual_size - offset);
        let (mapping, len) = self
            .run(&mut self.map.cursor(), offset, max_len)
            .map_err(in_file)?;
        let (kind, host) = match (mapping, &self.backing) {
            (Mapping::Unallocated, Some(backing)) if offset < backing.virtual_size() => {
                let below = backing.stored_at(offset, len)?;
                return Ok(Stored {
                    depth: below.depth.map(|depth| depth + 1),
                    ..below
                });
            }
            // The backing file that is too short stands for zeroes: qcow2 "Cluster mapping".
            (Mapping::Unallocated, Some(_)) => {
                return Ok(Stored {
                    extent: Extent {
                        offset,
                        len,
                        kind: ExtentKind::Zero,
                    },
                    depth: Some(1),
                    host: None,
                    compressed: Some(false),
                });
            }
            // A hole of the file below a cluster is the extents' business; qemu-img map does not tell it either.
            (Mapping::Data { host }, _) => (ExtentKind::Data, Some(host)),
            (other, _) => (kind_of(other), None),
        };
        Ok(Stored {
            extent: Extent { offset, len, kind },
            depth: Some(0),
            host,
            compressed: Some(matches!(mapping, Mapping::Compressed { .. })),
        })
    }

    fn read_granularity(&self) -> u64 {
        self.cluster_size.max(MIN_READ)
    }

    fn info(&self) -> ImageInfo {
        let data_file = (self.header.data_file.is_some()).then(|| self.data.label());
        info::of(&self.range, &self.header, data_file)
    }

    fn parent(&self) -> Option<Arc<dyn BlockSource>> {
        self.backing.clone()
    }

    fn check_metadata(&self, cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
        check::run(&self.range, &self.header, cancel)
            .map(Some)
            .map_err(|e| e.in_file(self.range.label()))
    }
}

/// Where the disk of an internal snapshot is, and its size.
fn snapshot(range: &FileRange, header: &Header, wanted: &str) -> Result<(L1At, u64)> {
    let table = snapshots::read(range, header)?;
    let entry = table.find(wanted)?;
    let virtual_size = match entry.virtual_size {
        Some(size) => check_size(size)?,
        None => header.virtual_size,
    };
    let l1 = check_l1(
        (entry.l1_offset, entry.l1_entries),
        header.geometry,
        virtual_size,
        range.len(),
    )
    .map_err(|e| e.at(table.offset))?;
    Ok((l1, virtual_size))
}

fn kind_of(mapping: Mapping) -> ExtentKind {
    match mapping {
        Mapping::Unallocated => ExtentKind::Unallocated,
        Mapping::Zero => ExtentKind::Zero,
        Mapping::Data { .. } | Mapping::Compressed { .. } => ExtentKind::Data,
    }
}
