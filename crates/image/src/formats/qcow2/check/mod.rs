//! The check of all metadata: every reference to a host cluster is counted and compared with the refcount that is
//! stored for it: qcow2 "Host cluster management".
//!
//! ```text
//! header ─> L1, snapshot table ─> L1s, refcount table ─> blocks, bitmap directory ─> tables ─> bits    (regions)
//!           all L1s ─> distinct L2 tables with the number of their references ─> data clusters
//! ```
//!
//! Counts are kept for a window of host clusters at a time, so memory is bounded; an image that has more is walked
//! once a window. Found are: refcounts too low (a corruption: a write would change what else uses the cluster) or
//! too high (a leak), clusters used for two purposes, entries that are misaligned, past the end or have reserved
//! bits, and copied flags that contradict the refcount. Last the corrupt and the dirty bit are told.

mod counts;
mod regions;
mod stored;
mod tables;

use types::CancelToken;

use crate::{Error, ErrorKind, FileRange, FindingKind, MetadataCheck, Result};

use super::geometry::ENTRY_BYTES;
use super::header::{CORRUPT, DIRTY, Header};
use super::to_usize;
use counts::{Counts, Kind};
use stored::Stored;

/// Host clusters counted at a time: 64 MiB of counters; with clusters of 64 KiB that is 1 TiB of file.
const WINDOW: u64 = 16 << 20;
/// Most windows: 64 TiB of file with clusters of 64 KiB. Each costs a walk over all tables.
const MAX_WINDOWS: u64 = 64;
/// Most bytes of a table read at once.
const READ_BYTES: u64 = 1 << 20;

/// What is looked at, and what was found.
struct Check<'a> {
    range: &'a FileRange,
    header: &'a Header,
    cancel: &'a CancelToken,
    cluster_size: u64,
    /// Clusters of the file; the last may be short.
    clusters: u64,
    report: MetadataCheck,
}

/// Checks the image.
pub(super) fn run(
    range: &FileRange,
    header: &Header,
    cancel: &CancelToken,
) -> Result<MetadataCheck> {
    let cluster_size = header.geometry.cluster_size();
    let mut check = Check {
        range,
        header,
        cancel,
        cluster_size,
        clusters: range.len().div_ceil(cluster_size),
        report: MetadataCheck::default(),
    };
    if check.clusters > WINDOW * MAX_WINDOWS {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "expected at most {} clusters to check, found {}",
                WINDOW * MAX_WINDOWS,
                check.clusters
            ),
        ));
    }
    if header.incompatible & CORRUPT != 0 {
        check.corrupt("the image is marked corrupt (incompatible feature bit 1)");
    }
    if header.incompatible & DIRTY != 0 {
        check.report.note(
            FindingKind::Leak,
            0,
            "the image is marked dirty (incompatible feature bit 0): refcounts may be stale",
        );
    }
    let stored = Stored::read(&mut check)?;
    let regions = regions::all(&mut check, &stored)?;
    let l2 = tables::distinct(&mut check, &regions.l1)?;
    let mut first = 0;
    while first < check.clusters {
        let mut counts = Counts::new(first, (check.clusters - first).min(WINDOW));
        for region in &regions.used {
            check.cancelled()?;
            counts.add(&mut check, region.first, region.clusters, 1, region.kind);
        }
        for table in &l2 {
            tables::count(&mut check, &mut counts, table, first == 0)?;
        }
        stored.compare(&mut check, &counts)?;
        first += WINDOW;
    }
    tables::check_copied(&mut check, &stored)?;
    Ok(check.report)
}

impl Check<'_> {
    fn corrupt(&mut self, message: impl Into<String>) {
        self.report.note(FindingKind::Corruption, 1, message);
    }

    fn cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        Ok(())
    }

    /// Calls `each` with the index and value of every non-zero 64-bit entry of a table that lies within the file.
    fn entries(
        &mut self,
        offset: u64,
        entries: u64,
        mut each: impl FnMut(&mut Self, u64, u64) -> Result<()>,
    ) -> Result<()> {
        let (mut at, end) = (offset, offset + entries * ENTRY_BYTES);
        while at < end {
            self.cancelled()?;
            let mut len = READ_BYTES.min(end - at);
            if self.range.is_sparse() {
                let (data, run) = self.range.run_at(at, len);
                // Holes may begin anywhere; entries do not.
                len = run.next_multiple_of(ENTRY_BYTES).min(end - at);
                if !data && run.is_multiple_of(ENTRY_BYTES) {
                    at += len;
                    continue;
                }
            }
            let bytes = self.range.read_vec(at, to_usize(len))?;
            let first = (at - offset) / ENTRY_BYTES;
            for (index, entry) in (first..).zip(bytes.as_chunks().0) {
                let entry = u64::from_be_bytes(*entry);
                if entry != 0 {
                    each(self, index, entry)?;
                }
            }
            at += len;
        }
        Ok(())
    }

    /// True for whole bytes of the file that begin at a cluster; else what is wrong is noted.
    fn is_placed(&mut self, what: &str, offset: u64, len: u64) -> bool {
        if !offset.is_multiple_of(self.cluster_size) {
            self.corrupt(format!(
                "expected the {what} at a multiple of {:#x}, found {offset:#x}",
                self.cluster_size
            ));
            return false;
        }
        if offset
            .checked_add(len)
            .is_none_or(|end| end > self.range.len())
        {
            self.corrupt(format!(
                "expected {len} bytes of {what} at {offset:#x}, but the file ends at {:#x}",
                self.range.len()
            ));
            return false;
        }
        true
    }
}

/// A run of clusters that one thing of the metadata uses.
struct Region {
    first: u64,
    clusters: u64,
    kind: Kind,
}
