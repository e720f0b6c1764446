//! Writes a qcow2 image, version 3, append-only.
//!
//! ```text
//! | header | data clusters and full L2 tables, as they come | other L2 tables | L1 | refcount table | blocks |
//! ```
//!
//! Host clusters are handed out by adding to one number, so threads write at the same time and a write of
//! neighbouring guest clusters is one contiguous write. Clusters of zeroes get no place. The header is written
//! after all else is durable: until then the file starts with a hole, which no program takes for an image.
//!
//! With [`Preallocation::Falloc`] every guest cluster has its place from the start, in order, in a file that is
//! wholly allocated, metadata included, as `qemu-img create -o preallocation=falloc` makes it: neither the copy
//! nor the guest later runs out of space or allocates anything.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use zerocopy::IntoBytes;

use crate::formats::raw::{OutputFile, check_not_failed, check_virtual_size, check_write};
use crate::{BlockSink, Error, ErrorKind, Preallocation, Result, SinkStats, data_runs};

use super::geometry::{ENTRY_BYTES, Geometry, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS};
use super::header::{NewImage, RawHeader};
use super::refcount::{Layout, MAX_TABLE_BYTES};
use super::tables::{Tables, write_mapped};
use super::to_usize;

/// How an image is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Cluster size in bytes: a power of two from 512 to 2 MiB.
    pub cluster_size: u32,
    /// What is allocated beforehand.
    pub preallocation: Preallocation,
}

impl Default for Options {
    /// Clusters of 64 KiB, as qemu-img makes them, and nothing allocated beforehand.
    fn default() -> Self {
        Self {
            cluster_size: 64 << 10,
            preallocation: Preallocation::Sparse,
        }
    }
}

/// A qcow2 image being written. Dropped without [`finish`](BlockSink::finish) it leaves a file that is no image;
/// the caller removes it.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    geometry: Geometry,
    virtual_size: u64,
    place: Place,
    data_bytes: AtomicU64,
    failed: AtomicBool,
}

/// The file and its allocator.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) file: OutputFile,
    pub(super) cluster_size: u64,
    next: AtomicU64,
}

impl Store {
    /// Host offset of `clusters` new contiguous clusters.
    pub(super) fn allocate(&self, clusters: u64) -> u64 {
        self.next
            .fetch_add(clusters * self.cluster_size, Ordering::Relaxed)
    }
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
        let plan = Plan::new(virtual_size, options).map_err(|e| e.in_path(path))?;
        let (geometry, cluster_size) = (plan.geometry, plan.geometry.cluster_size());
        let file = OutputFile::create(path)?;
        // The header's cluster.
        let store = Store {
            file,
            cluster_size,
            next: AtomicU64::new(cluster_size),
        };
        let place = match options.preallocation {
            Preallocation::Sparse => {
                Place::Appended(Mutex::new(Tables::new(geometry, plan.l1_entries)))
            }
            Preallocation::Falloc => {
                store
                    .file
                    .allocate(plan.full.total_clusters() * cluster_size)?;
                Place::Mapped {
                    data: store.allocate(plan.clusters),
                }
            }
        };
        Ok(Self {
            store,
            geometry,
            virtual_size,
            place,
            data_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    fn store_runs(&self, buf: &[u8], offset: u64) -> Result<()> {
        let cluster_size = self.geometry.cluster_size();
        let runs: Vec<_> = data_runs(buf, to_usize(cluster_size)).collect();
        let clusters_of = |len: usize| (len as u64).div_ceil(cluster_size);
        let total: u64 = runs.iter().map(|run| clusters_of(run.len())).sum();
        if total == 0 {
            return Ok(());
        }
        let mut next = match &self.place {
            Place::Appended(_) => self.store.allocate(total),
            Place::Mapped { .. } => 0,
        };
        let mut mappings = Vec::with_capacity(runs.len());
        for run in runs {
            let (guest, clusters) = (offset + run.start as u64, clusters_of(run.len()));
            let host = match &self.place {
                Place::Appended(_) => next,
                Place::Mapped { data } => data + guest,
            };
            self.data_bytes
                .fetch_add(run.len() as u64, Ordering::Relaxed);
            self.store.file.write(&buf[run], host)?;
            mappings.push((guest / cluster_size, host, clusters));
            next += clusters * cluster_size;
        }
        if let Place::Appended(tables) = &self.place {
            let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
            for (cluster, host, clusters) in mappings {
                tables.set(&self.store, cluster, host, clusters)?;
            }
        }
        Ok(())
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
        self.store_runs(buf, offset)
            .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        let this = *self;
        check_not_failed(&this.failed, &this.store.file)?;
        let store = this.store;
        let cluster_size = store.cluster_size;
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
        let layout = Layout::new(
            store.next.load(Ordering::Relaxed) / cluster_size,
            cluster_size,
        );
        layout.write(&store.file)?;
        let file_len = layout.total_clusters() * cluster_size;
        store.file.set_len(file_len)?;
        store.file.sync()?;
        let header = RawHeader::new(&NewImage {
            cluster_bits: this.geometry.cluster_bits,
            virtual_size: this.virtual_size,
            l1_offset,
            // At least one, so that the table's cluster is in use even if the disk is empty.
            l1_entries: this.geometry.l1_entries(this.virtual_size)?.max(1),
            refcount_table_offset: layout.table_offset(),
            refcount_table_clusters: layout.table_clusters,
        })?;
        store.file.write(header.as_bytes(), 0)?;
        store.file.sync()?;
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
    fn new(virtual_size: u64, options: Options) -> Result<Self> {
        check_virtual_size(virtual_size)?;
        let cluster_bits = options.cluster_size.trailing_zeros();
        if !options.cluster_size.is_power_of_two()
            || !(MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&cluster_bits)
        {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "expected a cluster size that is a power of two from 512 bytes to 2 MiB, found {}",
                    options.cluster_size
                ),
            ));
        }
        let geometry = Geometry {
            cluster_bits,
            extended_l2: false,
        };
        let cluster_size = geometry.cluster_size();
        let l1_entries = geometry.l1_entries(virtual_size)?;
        let clusters = virtual_size.div_ceil(cluster_size);
        let l1_clusters = (l1_entries * ENTRY_BYTES).div_ceil(cluster_size).max(1);
        let full = Layout::new(1 + clusters + l1_entries + l1_clusters, cluster_size);
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
