//! Reads a QED image and its backing file as one disk.

use std::sync::Arc;

use types::CancelToken;

use crate::formats::Format;
use crate::formats::context::{Context, Parent};
use crate::formats::qcow2::Cache;
use crate::formats::raw::check_read;
use crate::{
    BlockSource, Error, Extent, ExtentKind, FileRange, ImageInfo, MetadataCheck, Reference, Result,
};

use super::header::{ENTRY_BYTES, Header};
use super::{check, to_usize};

/// Bytes of tables kept: with the usual clusters of 64 KiB they map 32 GiB.
const TABLE_CACHE_BYTES: usize = 4 << 20;
/// Most bytes of a table read at once.
const SLICE_BYTES: u64 = 64 << 10;
/// Entries that one [`extent_at`](BlockSource::extent_at) looks at before it returns what it has.
const MAX_EXTENT_STEPS: usize = 1024;
/// An entry of this value is a cluster of zeroes: qed "Data cluster offset".
const ZERO: u64 = 1;

/// A QED image.
#[derive(Debug)]
pub struct Reader {
    range: FileRange,
    header: Header,
    /// Slices of L1 and L2 tables by host offset.
    slices: Cache<u64, u64>,
    /// The file has holes on the host.
    sparse: bool,
    backing: Option<Parent>,
}

/// Where a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    Unallocated,
    Zero,
    Data { host: u64 },
}

impl Reader {
    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        context.enter(&range)?;
        let in_file = |e: Error| e.in_file(range.label());
        let header = Header::read(&range).map_err(in_file)?;
        if header.need_check {
            let report = check::run(&range, &header, &CancelToken::default()).map_err(in_file)?;
            if report.corruptions > 0 {
                let first = report.findings.first();
                let first = first.map_or("", |finding| finding.message.as_str());
                return Err(in_file(Error::corrupt(format!(
                    "the image was not closed (feature bit 1), and its tables are inconsistent: {first}; hint: \
                     qemu-img check -r all FILE"
                ))));
            }
        }
        let backing = match &header.backing {
            Some(name) => {
                let found = context.find(&range, Reference::Host(name))?;
                let format = header.backing_is_raw.then_some(Format::Raw);
                Some(Parent::new(context.open_next(found, format)?))
            }
            None => None,
        };
        Ok(Self {
            sparse: range.is_sparse(),
            range,
            header,
            slices: Cache::new(TABLE_CACHE_BYTES),
            backing,
        })
    }

    /// Entry `index` of a table that is in the file, and where it is.
    fn entry(&self, table: u64, index: u64) -> Result<(u64, u64)> {
        let at = table + index * ENTRY_BYTES;
        let slice_bytes = SLICE_BYTES.min(self.header.table_bytes);
        // Tables begin at multiples of a power of two that is not smaller than 4 KiB.
        let start = table + (at - table) / slice_bytes * slice_bytes;
        let slice = match self.slices.get(start) {
            Some(slice) => slice,
            None => {
                let bytes = self.range.read_vec(start, to_usize(slice_bytes))?;
                let entries = bytes.as_chunks().0.iter();
                let slice: Arc<[u64]> = entries.map(|entry| u64::from_le_bytes(*entry)).collect();
                self.slices.insert(start, Arc::clone(&slice));
                slice
            }
        };
        let entry = slice.get(to_usize((at - start) / ENTRY_BYTES));
        Ok((entry.copied().unwrap_or(0), at))
    }

    /// The mapping at `offset`, and how many bytes share it at least: qed "Translation".
    fn at(&self, offset: u64) -> Result<(Mapping, u64)> {
        let (header, span) = (&self.header, self.header.l2_span());
        let (table, at) = self.entry(header.l1_offset, offset / span)?;
        if table == 0 {
            return Ok((Mapping::Unallocated, span - offset % span));
        }
        header
            .check_place(&self.range, table, header.table_bytes, "L2 table")
            .and_then(|()| self.check_not_l1(table, header.table_bytes, "L2 table"))
            .map_err(|e| e.at(at))?;
        let (entry, at) = self.entry(table, offset % span / header.cluster_size)?;
        let within = offset % header.cluster_size;
        let rest = header.cluster_size - within;
        let mapping = match entry {
            0 => Mapping::Unallocated,
            ZERO => Mapping::Zero,
            host => {
                let used = header.used_bytes(offset - within);
                header
                    .check_place(&self.range, host, used, "data cluster")
                    .and_then(|()| self.check_not_l1(host, used, "data cluster"))
                    .map_err(|e| e.at(at))?;
                Mapping::Data {
                    host: host + within,
                }
            }
        };
        Ok((mapping, rest))
    }

    fn check_not_l1(&self, host: u64, len: u64, what: &str) -> Result<()> {
        let l1 = self.header.l1_offset;
        if host < l1 + self.header.table_bytes && host + len > l1 {
            return Err(Error::corrupt(format!(
                "{what} at {host:#x} overlaps the L1 table"
            )));
        }
        Ok(())
    }

    /// The mapping at `offset`, and how many of at most `max_len` bytes go on in the same place.
    fn run(&self, offset: u64, max_len: u64, max_steps: usize) -> Result<(Mapping, u64)> {
        let (first, mut len) = self.at(offset)?;
        for _ in 0..max_steps {
            if len >= max_len {
                break;
            }
            let (next, more) = self.at(offset + len)?;
            let goes_on = match first {
                Mapping::Data { host } => next == Mapping::Data { host: host + len },
                Mapping::Unallocated | Mapping::Zero => next == first,
            };
            if !goes_on {
                break;
            }
            len += more;
        }
        Ok((first, len.min(max_len)))
    }
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.header.virtual_size
    }

    fn format(&self) -> &'static str {
        "qed"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let in_file = |e: Error| e.in_file(self.range.label());
        check_read(offset, buf.len(), self.header.virtual_size).map_err(in_file)?;
        let (mut buf, mut offset) = (buf, offset);
        while !buf.is_empty() {
            let (mapping, len) = self
                .run(offset, buf.len() as u64, usize::MAX)
                .map_err(in_file)?;
            let (part, rest) = buf.split_at_mut(to_usize(len));
            match (mapping, &self.backing) {
                (Mapping::Data { host }, _) => self.range.read_exact_at(part, host)?,
                (Mapping::Unallocated, Some(backing)) => backing.read_at(part, offset)?,
                (Mapping::Zero | Mapping::Unallocated, _) => part.fill(0),
            }
            (buf, offset) = (rest, offset + len);
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let max_len = max_len.min(self.header.virtual_size - offset);
        let (mapping, len) = self
            .run(offset, max_len, MAX_EXTENT_STEPS)
            .map_err(|e| e.in_file(self.range.label()))?;
        let (kind, len) = match (mapping, &self.backing) {
            (Mapping::Unallocated, Some(backing)) => return backing.extent_at(offset, len),
            (Mapping::Unallocated, None) => (ExtentKind::Unallocated, len),
            (Mapping::Zero, _) => (ExtentKind::Zero, len),
            (Mapping::Data { host }, _) if self.sparse => match self.range.run_at(host, len) {
                (true, len) => (ExtentKind::Data, len),
                (false, len) => (ExtentKind::Zero, len),
            },
            (Mapping::Data { .. }, _) => (ExtentKind::Data, len),
        };
        Ok(Extent { offset, len, kind })
    }

    fn read_granularity(&self) -> u64 {
        self.header.cluster_size
    }

    fn info(&self) -> ImageInfo {
        let name = self.header.backing.as_ref();
        ImageInfo {
            cluster_size: Some(self.header.cluster_size),
            parent_name: name.map(|name| name.to_string_lossy().into_owned()),
            parent_format: self.header.backing_is_raw.then(|| "raw".to_owned()),
            ..ImageInfo::default()
        }
    }

    fn parent(&self) -> Option<Arc<dyn BlockSource>> {
        let backing = self.backing.as_ref();
        backing.map(|backing| Arc::clone(backing.source()))
    }

    fn check_metadata(&self, cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
        check::run(&self.range, &self.header, cancel)
            .map(Some)
            .map_err(|e| e.in_file(self.range.label()))
    }
}
