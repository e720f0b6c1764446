//! The disks as the server reads them: opened read-only, read with patience, what cannot be read remembered.
//!
//! ```text
//! session ──ReadRequest──> Pool (urgent before bulk) ──> Disk::read_chunk ──> Medium (file, device)
//!    ^                        │                             └── BadMap: what is not tried again
//!    └──── Outbox <── Chunk ──┴── HashMemory, CompressPolicy
//! ```

mod careful;
mod compress;
mod file;
mod memory;
mod outbox;
mod pool;
mod proof;
mod ranges;
#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]
pub(crate) mod tests;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wire::session::{ExtentsReply, ExtentsRequest, ReadRequest};
use wire::{BLOCK_LEN, MAX_CHUNK_LEN};

pub use careful::Patience;
pub use file::FileMedium;
pub use outbox::{Outbox, outbox};
pub use pool::{Pool, PoolOptions};
pub use ranges::RangeSet;

/// Most ranges that are asked of a file at once.
const MAX_EXTENTS: usize = wire::MAX_EXTENTS;

/// Where bytes come from: a device, a file, or a fake in a test.
pub trait Medium: Send + Sync {
    /// Fills `buf` from `offset`, or fails.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// The same past every cache and read-ahead, so that one unreadable sector takes no others with it. `offset` and
    /// length are multiples of the logical sector size.
    fn read_sectors(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(buf, offset)
    }

    /// Ranges with data, ascending and apart, at most `max` of them; `None` where that is not known.
    fn data_ranges(&self, range: Range<u64>, max: usize) -> io::Result<Option<Vec<Range<u64>>>> {
        let _ = (range, max);
        Ok(None)
    }

    /// The next read of the range is to come from the medium itself.
    fn forget_cached(&self, range: Range<u64>) {
        let _ = range;
    }
}

/// What must be known to open a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// Name for people.
    pub name: String,
    /// Device node or file.
    pub path: PathBuf,
    /// Capacity in bytes.
    pub virtual_size: u64,
    /// Logical sector size in bytes.
    pub logical_sector_size: u32,
    /// Physical sector size in bytes.
    pub physical_sector_size: u32,
}

/// Why nothing of a range could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The request is outside of the disk or not on blocks.
    #[error("disk {name} has {size} bytes: a read of {len} bytes at {offset:#x} is refused")]
    OutOfRange {
        /// Name of the disk.
        name: String,
        /// Its bytes.
        size: u64,
        /// Byte offset of the request.
        offset: u64,
        /// Bytes of the request.
        len: u64,
    },
    /// The device no longer answers.
    #[error("disk {name} is gone at {offset:#x}: {source}")]
    Gone {
        /// Name of the disk.
        name: String,
        /// Byte offset of the read.
        offset: u64,
        /// What the kernel says.
        source: io::Error,
    },
    /// There is no disk of this number.
    #[error("there is no disk number {0}")]
    NoDisk(u32),
}

/// One disk.
pub struct Disk {
    spec: DiskSpec,
    medium: Box<dyn Medium>,
    patience: Patience,
    bad: Mutex<RangeSet>,
    /// Chunks with failures, one after the other.
    streak: AtomicU32,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// A disk over any medium.
    pub fn new(spec: DiskSpec, medium: Box<dyn Medium>, patience: Patience) -> Self {
        Self {
            spec,
            medium,
            patience,
            bad: Mutex::default(),
            streak: AtomicU32::new(0),
        }
    }

    /// Opens the device or file of `spec`, read-only.
    pub fn open(spec: DiskSpec) -> io::Result<Self> {
        let medium = FileMedium::open(&spec.path)?;
        Ok(Self::new(spec, Box::new(medium), Patience::default()))
    }

    /// What was known at opening.
    pub fn spec(&self) -> &DiskSpec {
        &self.spec
    }

    /// What could not be read so far.
    pub fn bad(&self) -> RangeSet {
        self.bad
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last chunk had sectors that were found unreadable only then.
    fn is_failing(&self) -> bool {
        self.streak.load(Ordering::Relaxed) > 0
    }

    /// Reads one chunk of whole blocks into `buf`, which gets its length. What cannot be read is zero and in the ranges
    /// that are returned, ascending and apart. What failed before is not tried again unless `retry_bad`.
    pub fn read_chunk(
        &self,
        offset: u64,
        len: u32,
        retry_bad: bool,
        buf: &mut Vec<u8>,
    ) -> Result<Vec<Range<u64>>, ReadError> {
        let end = self.checked_end(offset, u64::from(len), u64::from(MAX_CHUNK_LEN))?;
        buf.clear();
        buf.resize(len as usize, 0);
        careful::read(self, offset..end, retry_bad, buf)
    }

    /// End of a range of whole blocks inside the disk; the last block may be short.
    fn checked_end(&self, offset: u64, len: u64, max: u64) -> Result<u64, ReadError> {
        let block = u64::from(BLOCK_LEN);
        let size = self.spec.virtual_size;
        let end = offset.checked_add(len).filter(|&end| {
            len > 0
                && len <= max
                && end <= size
                && offset.is_multiple_of(block)
                && (end.is_multiple_of(block) || end == size)
        });
        end.ok_or_else(|| ReadError::OutOfRange {
            name: self.spec.name.clone(),
            size,
            offset,
            len,
        })
    }

    fn extents(&self, request: &ExtentsRequest) -> Result<Vec<Range<u64>>, String> {
        let size = self.spec.virtual_size;
        let end = request.offset.checked_add(request.len);
        let range = match end {
            Some(end) if end <= size && request.len > 0 => request.offset..end,
            _ => {
                return Err(format!(
                    "disk {} has {size} bytes: {} bytes at {:#x} are outside of it",
                    self.spec.name, request.len, request.offset
                ));
            }
        };
        let found = self.medium.data_ranges(range.clone(), MAX_EXTENTS);
        let found = found
            .map_err(|error| format!("finding the data of disk {}: {error}", self.spec.name))?;
        Ok(found.unwrap_or_else(|| vec![range]))
    }
}

/// All disks of the inventory, by their place in it. Those that could not be opened say so when they are read.
#[derive(Debug)]
pub struct Disks {
    disks: Vec<Result<Arc<Disk>, String>>,
}

impl Disks {
    /// Given disks; for tests.
    pub fn new(disks: Vec<Disk>) -> Self {
        Self {
            disks: disks.into_iter().map(|disk| Ok(Arc::new(disk))).collect(),
        }
    }

    /// Opens what `wanted` says to be sent, by place. The others stay closed.
    pub fn open(specs: &[DiskSpec], wanted: &[u32]) -> Result<Self, String> {
        let opened = specs.iter().zip(0u32..).map(|(spec, place)| {
            if !wanted.contains(&place) {
                return Ok(Err(format!("disk {} is not to be sent", spec.name)));
            }
            Disk::open(spec.clone())
                .map(|disk| Ok(Arc::new(disk)))
                .map_err(|error| format!("opening {}: {error}", spec.path.display()))
        });
        let disks = opened.collect::<Result<_, String>>()?;
        Ok(Self { disks })
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.disks.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.disks.is_empty()
    }

    /// The disk at a place of the inventory.
    pub fn get(&self, place: u32) -> Result<&Arc<Disk>, String> {
        match self.disks.get(place as usize) {
            Some(Ok(disk)) => Ok(disk),
            Some(Err(why)) => Err(why.clone()),
            None => Err(ReadError::NoDisk(place).to_string()),
        }
    }

    /// Answers which ranges hold data.
    pub fn extents(&self, request: &ExtentsRequest) -> ExtentsReply {
        let found = self
            .get(request.disk)
            .and_then(|disk| disk.extents(request));
        let (data, error) = match found {
            Ok(data) => (data.iter().map(to_wire).collect(), String::new()),
            Err(error) => (Vec::new(), error),
        };
        ExtentsReply {
            id: request.id,
            data,
            error,
        }
    }
}

fn to_wire(range: &Range<u64>) -> wire::session::Range {
    wire::session::Range {
        offset: range.start,
        len: range.end - range.start,
    }
}

/// Reads what a request asks for: the disk, the bytes in `buf`, what is bad.
fn serve(
    disks: &Disks,
    request: &ReadRequest,
    buf: &mut Vec<u8>,
) -> Result<Vec<Range<u64>>, String> {
    let disk = disks.get(request.disk)?;
    disk.read_chunk(request.offset, request.len, request.retry_bad, buf)
        .map_err(|error| error.to_string())
}
