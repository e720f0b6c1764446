//! Writes a qcow2 image, append-only.
//!
//! ```text
//! | header | data clusters and full L2 tables, as they come | other L2 tables | L1 | refcount table | blocks |
//! ```
//!
//! Threads write at the same time: each gets its place from the [`Store`] and writes there. Clusters of zeroes get no
//! place; where a backing file would show through, they are marked as zero. What is never written is read from the
//! backing file, if there is one. The header is written after all else is durable: until then the file starts with a
//! hole, which no program takes for an image.
//!
//! With a preallocation every guest cluster has its place from the start, in order, metadata included, as `qemu-img
//! create -o preallocation=` makes it: neither the copy nor the guest later runs out of space or allocates anything.
//!
//! With compression each cluster is compressed by the thread that writes it; one that does not get smaller is stored
//! plain.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::formats::create::Compression;
use crate::formats::raw::{
    Allocation, OutputFile, check_not_failed, check_virtual_size, check_write,
};
use crate::{BlockSink, Error, ErrorKind, Result, SinkStats, data_runs, is_zero};

use super::compress::{Encoder, Encoders};
use super::geometry::{COMPRESSED, COPIED, ENTRY_BYTES, Geometry, SUBCLUSTERS, ZERO};
use super::header;
use super::map::{SECTOR, compressed_offset_bits};
use super::new_header::NewImage;
use super::options::Options;
use super::refcount::{Layout, MAX_TABLE_BYTES};
use super::store::Store;
use super::tables::{L2Entry, Tables, write_mapped};
use super::to_usize;

/// Least unit in which the data of a cluster of subclusters is written: the block of the usual file systems.
const MIN_UNIT: u64 = 4096;

/// A qcow2 image being written. Dropped without [`finish`](BlockSink::finish) it leaves a file that is no image;
/// the caller removes it.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    geometry: Geometry,
    virtual_size: u64,
    options: Options,
    encoders: Encoders,
    place: Place,
    data_bytes: AtomicU64,
    failed: AtomicBool,
}

/// Where guest clusters go.
#[derive(Debug)]
enum Place {
    /// To the next free host clusters.
    Appended(Mutex<Tables>),
    /// Guest offset n to host offset `data` + n.
    Mapped { data: u64 },
}

impl Writer {
    /// Creates the file at `path`, which must not exist.
    pub fn create(path: &Path, virtual_size: u64, options: Options) -> Result<Self> {
        let plan = Plan::new(virtual_size, &options).map_err(|e| e.in_path(path))?;
        let (geometry, cluster_size) = (plan.geometry, plan.geometry.cluster_size());
        let file = OutputFile::create(path)?;
        let store = Store::new(file, cluster_size, options.compress);
        let place = match options.preallocation {
            Allocation::Off => Place::Appended(Mutex::new(Tables::new(geometry, plan.l1_entries))),
            how => {
                store
                    .file
                    .preallocate(plan.full.total_clusters() * cluster_size, how)?;
                Place::Mapped {
                    data: store.allocate(plan.clusters),
                }
            }
        };
        Ok(Self {
            store,
            geometry,
            virtual_size,
            encoders: Encoders::new(options.compression, cluster_size),
            options,
            place,
            data_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// Zeroes must be stored: the backing file would show through, and version 2 cannot mark them.
    fn stores_zeroes(&self) -> bool {
        self.options.backing.is_some() && self.options.version_2
    }

    /// The entry of a cluster of zeroes.
    fn zero_entry(&self) -> L2Entry {
        match (&self.options.backing, self.geometry.extended_l2) {
            (None, _) => L2Entry::default(),
            (Some(_), false) => L2Entry {
                word: ZERO,
                bitmap: 0,
            },
            (Some(_), true) => L2Entry {
                word: 0,
                bitmap: u64::MAX << SUBCLUSTERS,
            },
        }
    }

    /// The subcluster bitmap of a cluster that is stored plain at a place.
    fn bitmap(&self, cluster: &[u8]) -> u64 {
        if !self.geometry.extended_l2 {
            return 0;
        }
        let shown = self.options.backing.is_some();
        let size = to_usize(self.geometry.subcluster_size());
        (0..to_usize(SUBCLUSTERS))
            .map(|index| {
                let part = cluster.get(index * size..).unwrap_or_default();
                if !is_zero(&part[..part.len().min(size)]) {
                    1 << index
                } else if shown {
                    1 << (index + to_usize(SUBCLUSTERS))
                } else {
                    0
                }
            })
            .sum()
    }

    /// Stores whole clusters without compression, each run of them contiguously, and returns their entries.
    fn store_plain(
        &self,
        buf: &[u8],
        entries: &mut [L2Entry],
        is_plain: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let cluster_size = to_usize(self.geometry.cluster_size());
        let end_of = |cluster: usize| ((cluster + 1) * cluster_size).min(buf.len());
        let mut runs = Vec::new();
        let mut cluster = 0;
        while cluster < entries.len() {
            let first = cluster;
            while cluster < entries.len() && is_plain(cluster) {
                cluster += 1;
            }
            if cluster > first {
                runs.push(first..cluster);
            }
            cluster += 1;
        }
        let total: usize = runs.iter().map(ExactSizeIterator::len).sum();
        if total == 0 {
            return Ok(());
        }
        let mut host = self.store.allocate(total as u64);
        for run in runs {
            let bytes = &buf[run.start * cluster_size..end_of(run.end - 1)];
            self.write_run(bytes, host)?;
            for cluster in run {
                entries[cluster] = L2Entry {
                    word: host | COPIED,
                    bitmap: self.bitmap(&buf[cluster * cluster_size..end_of(cluster)]),
                };
                host += cluster_size as u64;
            }
        }
        Ok(())
    }

    /// Writes clusters in a row. Where subclusters say what is zero, that is left a hole.
    fn write_run(&self, bytes: &[u8], host: u64) -> Result<()> {
        self.data_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if !self.geometry.extended_l2 {
            return self.store.file.write(bytes, host);
        }
        let unit = self.geometry.subcluster_size().max(MIN_UNIT);
        for run in data_runs(bytes, to_usize(unit)) {
            let at = host + run.start as u64;
            self.store.file.write(&bytes[run], at)?;
        }
        Ok(())
    }

    /// Compresses the clusters, packs those that got smaller and writes each stretch at once.
    fn store_compressed(
        &self,
        encoder: &mut Encoder,
        buf: &[u8],
        entries: &mut [L2Entry],
    ) -> Result<()> {
        let cluster_size = to_usize(self.geometry.cluster_size());
        // Index of the cluster, and where it lies among the packed bytes.
        let mut packed = Vec::with_capacity(entries.len());
        let mut plain = vec![false; entries.len()];
        let zero = self.zero_entry();
        let mut padded = Vec::new();
        for (index, cluster) in buf.chunks(cluster_size).enumerate() {
            if is_zero(cluster) && !self.stores_zeroes() {
                entries[index] = zero;
                continue;
            }
            let whole = if cluster.len() == cluster_size {
                cluster
            } else {
                // The disk may end within a cluster; a compressed one is always whole.
                padded.extend_from_slice(cluster);
                padded.resize(cluster_size, 0);
                &padded
            };
            let start = encoder.packed.len();
            match encoder.compress(whole)? {
                Some(len) => {
                    packed.push((index, start..start + len));
                    self.data_bytes
                        .fetch_add(cluster.len() as u64, Ordering::Relaxed);
                }
                None => plain[index] = true,
            }
        }
        let places = self.store.pack(packed.iter().map(|(_, range)| range.len()));
        let mut next = 0;
        while next < packed.len() {
            let first = next;
            let start = packed[first].1.start;
            while next < packed.len()
                && places[next] - places[first] == (packed[next].1.start - start) as u64
            {
                let (index, range) = &packed[next];
                entries[*index] = self.compressed_entry(places[next], range.len());
                next += 1;
            }
            let end = packed[next - 1].1.end;
            self.store
                .file
                .write(&encoder.packed[start..end], places[first])?;
        }
        self.store_plain(buf, entries, |index| plain[index])
    }

    /// qcow2 "Compressed Clusters Descriptor": offset, and the number of sectors after the first.
    fn compressed_entry(&self, host: u64, len: usize) -> L2Entry {
        let sectors = (host + len as u64 - 1) / SECTOR - host / SECTOR;
        L2Entry {
            word: COMPRESSED | sectors << compressed_offset_bits(self.geometry) | host,
            bitmap: 0,
        }
    }

    fn store(&self, buf: &[u8], offset: u64) -> Result<()> {
        let cluster_size = self.geometry.cluster_size();
        let tables = match &self.place {
            Place::Appended(tables) => tables,
            Place::Mapped { data } => {
                for run in data_runs(buf, to_usize(cluster_size)) {
                    let at = data + offset + run.start as u64;
                    self.data_bytes
                        .fetch_add(run.len() as u64, Ordering::Relaxed);
                    self.store.file.write(&buf[run], at)?;
                }
                return Ok(());
            }
        };
        let mut entries = vec![L2Entry::default(); buf.len().div_ceil(to_usize(cluster_size))];
        if self.options.compress {
            self.encoders
                .lend(|encoder| self.store_compressed(encoder, buf, &mut entries))?;
        } else {
            let mut data = vec![self.stores_zeroes(); entries.len()];
            entries.fill(self.zero_entry());
            for run in data_runs(buf, to_usize(cluster_size)) {
                let end = run.end.div_ceil(to_usize(cluster_size));
                data[run.start / to_usize(cluster_size)..end].fill(true);
            }
            self.store_plain(buf, &mut entries, |index| data[index])?;
        }
        let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.set(&self.store, offset / cluster_size, &entries)
    }
}

impl BlockSink for Writer {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn granularity(&self) -> u64 {
        self.geometry.cluster_size()
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_write(offset, buf.len(), self.granularity(), self.virtual_size)
            .map_err(|e| e.in_file(self.store.file.label()))?;
        self.store(buf, offset)
            .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        let this = *self;
        check_not_failed(&this.failed, &this.store.file)?;
        let (store, options) = (this.store, this.options);
        let cluster_size = store.cluster_size;
        store.end_packing();
        let l1_offset = match this.place {
            Place::Appended(tables) => tables
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .finish(&store)?,
            Place::Mapped { data } => write_mapped(
                &store,
                this.geometry,
                data,
                this.virtual_size.div_ceil(cluster_size),
            )?,
        };
        let (file, used, counts) = store.into_parts();
        let layout = Layout::new(used, cluster_size, options.refcount_bits);
        layout.write(&file, counts.as_deref())?;
        let file_len = layout.total_clusters() * cluster_size;
        file.set_len(file_len)?;
        file.sync()?;
        let header = NewImage {
            version: if options.version_2 { 2 } else { 3 },
            geometry: this.geometry,
            virtual_size: this.virtual_size,
            l1_offset,
            // At least one, so that the table's cluster is in use even if the disk is empty.
            l1_entries: this.geometry.l1_entries(this.virtual_size)?.max(1),
            refcount_order: options.refcount_bits.trailing_zeros(),
            refcount_table_offset: layout.table_offset(),
            refcount_table_clusters: layout.table_clusters,
            compression: match options.compression {
                Compression::Zlib => header::Compression::Zlib,
                Compression::Zstd => header::Compression::Zstd,
            },
            lazy_refcounts: options.lazy_refcounts,
            backing: options.backing.as_ref(),
        };
        file.write(&header.bytes()?, 0)?;
        file.sync()?;
        Ok(SinkStats {
            data_bytes: this.data_bytes.into_inner(),
            file_len,
        })
    }
}

/// What is known of an image before it is created.
struct Plan {
    geometry: Geometry,
    l1_entries: u64,
    /// Guest clusters.
    clusters: u64,
    /// The refcounts of a wholly written image.
    full: Layout,
}

impl Plan {
    fn new(virtual_size: u64, options: &Options) -> Result<Self> {
        check_virtual_size(virtual_size)?;
        let geometry = options.geometry()?;
        let cluster_size = geometry.cluster_size();
        let l1_entries = geometry.l1_entries(virtual_size)?;
        let clusters = virtual_size.div_ceil(cluster_size);
        let l1_clusters = (l1_entries * ENTRY_BYTES).div_ceil(cluster_size).max(1);
        let full = Layout::new(
            1 + clusters + l1_entries + l1_clusters,
            cluster_size,
            options.refcount_bits,
        );
        if full.table_bytes() > MAX_TABLE_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "{virtual_size} bytes of disk in clusters of {cluster_size} bytes need a refcount table of {} \
                     bytes, expected at most {MAX_TABLE_BYTES}",
                    full.table_bytes(),
                ),
            ));
        }
        Ok(Self {
            geometry,
            l1_entries,
            clusters,
            full,
        })
    }
}
