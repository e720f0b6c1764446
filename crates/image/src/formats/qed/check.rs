//! The check of all tables: each cluster of the file is the header's, a table's, a piece of data's, or nobody's:
//! qed "Consistency Checking".

use types::CancelToken;

use crate::{Error, ErrorKind, FileRange, FindingKind, MetadataCheck, Result};

use super::header::{ENTRY_BYTES, Header};
use super::to_usize;

/// Most clusters of a file: 64 MiB of notes, or 32 TiB with the usual clusters of 64 KiB.
const MAX_CLUSTERS: u64 = 1 << 29;
/// Most bytes of a table read at once.
const READ_BYTES: u64 = 1 << 20;

/// What is looked at, and what was found.
struct Check<'a> {
    range: &'a FileRange,
    header: &'a Header,
    cancel: &'a CancelToken,
    /// Clusters in use, a bit each.
    used: Vec<u64>,
    report: MetadataCheck,
}

/// Checks the image.
pub(super) fn run(
    range: &FileRange,
    header: &Header,
    cancel: &CancelToken,
) -> Result<MetadataCheck> {
    let clusters = range.len().div_ceil(header.cluster_size);
    if clusters > MAX_CLUSTERS {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected at most {MAX_CLUSTERS} clusters to check, found {clusters}"),
        ));
    }
    let mut check = Check {
        range,
        header,
        cancel,
        used: vec![0; to_usize(clusters.div_ceil(64))],
        report: MetadataCheck::default(),
    };
    check.take(0, header.header_bytes, "header");
    check.take(header.l1_offset, header.table_bytes, "L1 table");
    let mut tables = Vec::new();
    check.each_entry(header.l1_offset, |check, index, table| {
        if check.place(table, header.table_bytes, "L2 table") {
            tables.push((index, table));
        }
    })?;
    for (index, table) in tables {
        let start = index * header.l2_span();
        check.each_entry(table, |check, index, entry| {
            // 1 is a cluster of zeroes: qed "Data cluster offset".
            if entry != 1 {
                let used = header.used_bytes(start + index * header.cluster_size);
                check.place(entry, used, "data cluster");
            }
        })?;
    }
    check.note_leaks(clusters);
    Ok(check.report)
}

impl Check<'_> {
    fn corrupt(&mut self, message: String) {
        self.report.note(FindingKind::Corruption, 1, message);
    }

    /// Takes the clusters of something that must lie at a cluster of the file; false where it does not.
    fn place(&mut self, host: u64, len: u64, what: &str) -> bool {
        match self.header.check_place(self.range, host, len, what) {
            Ok(()) => self.take(host, len.max(1), what),
            Err(error) => {
                self.corrupt(error.to_string());
                false
            }
        }
    }

    /// Takes clusters; false where one is taken already.
    fn take(&mut self, host: u64, len: u64, what: &str) -> bool {
        let first = host / self.header.cluster_size;
        for cluster in first..(host + len).div_ceil(self.header.cluster_size) {
            let Some(word) = self.used.get_mut(to_usize(cluster / 64)) else {
                continue;
            };
            let bit = 1 << (cluster % 64);
            if *word & bit != 0 {
                self.corrupt(format!(
                    "{what} at {host:#x} overlaps other metadata or data"
                ));
                return false;
            }
            *word |= bit;
        }
        true
    }

    /// Calls `each` with the index and value of every entry that is not 0.
    fn each_entry(&mut self, table: u64, mut each: impl FnMut(&mut Self, u64, u64)) -> Result<()> {
        let mut at = 0;
        while at < self.header.table_bytes {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let len = READ_BYTES.min(self.header.table_bytes - at);
            if self.range.is_sparse() && self.range.run_at(table + at, len) == (false, len) {
                at += len;
                continue;
            }
            let bytes = self.range.read_vec(table + at, to_usize(len))?;
            for (index, entry) in (at / ENTRY_BYTES..).zip(bytes.as_chunks().0) {
                let entry = u64::from_le_bytes(*entry);
                if entry != 0 {
                    each(self, index, entry);
                }
            }
            at += len;
        }
        Ok(())
    }

    fn note_leaks(&mut self, clusters: u64) {
        let used: u64 = self
            .used
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        let leaked = clusters.saturating_sub(used);
        if leaked > 0 {
            self.report.note(
                FindingKind::Leak,
                leaked,
                format!("{leaked} clusters of the file are used by nothing"),
            );
        }
    }
}
