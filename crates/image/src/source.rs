//! What every disk looks like to the rest of the program.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use types::CancelToken;

use crate::{ImageInfo, MetadataCheck, Result};

/// A read-only disk with random access, shared between threads, that knows where its data are without reading them.
pub trait BlockSource: Send + Sync + fmt::Debug {
    /// Capacity that the guest sees, in bytes; a multiple of 512.
    fn virtual_size(&self) -> u64;

    /// Logical sector size of the disk, in bytes.
    fn logical_sector_size(&self) -> u32 {
        512
    }

    /// Name of the format in qemu-img's words: `raw`, `qcow2`, `vmdk`, ….
    fn format(&self) -> &'static str;

    /// Fills `buf` from byte `offset` of the disk. A range past [`virtual_size`](Self::virtual_size) is an error
    /// of kind [`Usage`](crate::ErrorKind::Usage).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// The extent that starts at `offset`: between 1 and `max_len` bytes of one kind. It costs no reads of data,
    /// only of tables. Neighbours may have the same kind. `offset < virtual_size` and `max_len > 0` are the
    /// caller's promise; the result is clipped to the end of the disk.
    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent>;

    /// The same, and where the bytes are stored, for `v2v image map`. A format that does not say has no more than
    /// its extents.
    fn stored_at(&self, offset: u64, max_len: u64) -> Result<Stored> {
        Ok(Stored {
            extent: self.extent_at(offset, max_len)?,
            depth: self.parent().is_none().then_some(0),
            host: None,
            compressed: None,
        })
    }

    /// These ranges, ascending and apart, will be read soon and in this order. A source that fetches from afar begins
    /// to fetch; others have nothing to do.
    fn will_need(&self, ranges: &[Range<u64>]) {
        let _ = ranges;
    }

    /// Bytes in which reads are cheapest: whole grains, clusters or blocks. A power of two.
    fn read_granularity(&self) -> u64 {
        64 * 1024
    }

    /// What the image says of itself. No data are read.
    fn info(&self) -> ImageInfo {
        ImageInfo::default()
    }

    /// The image that is read where this one holds nothing: backing file, parent of a differencing disk.
    fn parent(&self) -> Option<Arc<dyn BlockSource>> {
        None
    }

    /// Looks for contradictions in the metadata: overlaps, leaks, wrong counts. `None` for a format that has nothing
    /// to check beyond what opening and reading it checks.
    fn check_metadata(&self, cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
        let _ = cancel;
        Ok(None)
    }
}

/// A run of bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte on the disk.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// What is there.
    pub kind: ExtentKind,
}

/// An extent and where it is stored; `None` where that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The bytes of the disk.
    pub extent: Extent,
    /// Which image of the chain decides over them: 0 is this one, 1 its parent.
    pub depth: Option<u32>,
    /// Byte offset in that image's file where they lie as they are.
    pub host: Option<u64>,
    /// They lie there compressed.
    pub compressed: Option<bool>,
}

/// What an extent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes that must be read to be known.
    Data,
    /// Bytes that are known to be zero.
    Zero,
    /// Bytes that nothing ever wrote; they read as zero.
    Unallocated,
}

impl ExtentKind {
    /// True when the bytes read as zero without being read.
    pub fn reads_zero(self) -> bool {
        self != Self::Data
    }
}

/// Walks the extents of `range`, neighbours of one kind merged.
pub fn extents(
    source: &dyn BlockSource,
    range: Range<u64>,
) -> impl Iterator<Item = Result<Extent>> + '_ {
    let end = range.end.min(source.virtual_size());
    let mut next = range.start;
    let mut held: Option<Extent> = None;
    std::iter::from_fn(move || {
        while next < end {
            let extent = match source.extent_at(next, end - next) {
                Ok(extent) => extent,
                Err(error) => {
                    next = end;
                    return Some(Err(error));
                }
            };
            debug_assert!(extent.offset == next && extent.len > 0 && extent.len <= end - next);
            next = extent.offset + extent.len;
            match &mut held {
                Some(run) if run.kind == extent.kind => run.len += extent.len,
                _ => {
                    if let Some(done) = held.replace(extent) {
                        return Some(Ok(done));
                    }
                }
            }
        }
        held.take().map(Ok)
    })
}
