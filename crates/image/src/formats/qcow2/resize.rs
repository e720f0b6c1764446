//! Makes a qcow2 image larger, in place.
//!
//! A larger L1 table goes behind the end of the file with whatever refcount blocks (and refcount table) it takes to
//! count it. The order keeps the image whole at every moment:
//!
//! ```text
//! 1. new L1 table, new refcount blocks and table: where nothing refers yet      fsync
//! 2. refcounts of the new clusters in blocks that exist: a crash here leaks     fsync
//! 3. header: size, L1 and refcount table in one write of one sector             fsync
//! 4. refcounts of the old tables to zero: a crash before leaks
//! ```
//!
//! **Refused by name**: internal snapshots, bitmaps and other autoclear features, an external data file, a dirty
//! image, a backing file longer than the disk (its hidden bytes would appear), entries beyond the old end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{BlockSource, Error, ErrorKind, FileRange, Result};

use super::geometry::{ENTRY_BYTES, MAX_L1_BYTES};
use super::header::Header;
use super::refcount::MAX_TABLE_BYTES;
use super::to_usize;

/// Bits of an entry that are a host offset: qcow2 "L1 table entry", "Refcount table".
const OFFSET_BITS: u64 = 0x00ff_ffff_ffff_fe00;
/// The cluster is used once: qcow2 "L1 table entry".
const COPIED: u64 = 1 << 63;
/// qcow2 "Header", incompatible features: refcounts are stale; an external data file.
const DIRTY: u64 = 1 << 0;
const EXTERNAL_DATA_FILE: u64 = 1 << 2;

/// The fields of the header that growing reads or writes, from byte 24: qcow2 "Header". One write of them lies in one
/// sector, which storage writes whole.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Fields {
    /// Byte 24.
    size: U64,
    /// Byte 32.
    crypt_method: U32,
    /// Byte 36.
    l1_size: U32,
    /// Byte 40.
    l1_table_offset: U64,
    /// Byte 48.
    refcount_table_offset: U64,
    /// Byte 56.
    refcount_table_clusters: U32,
    /// Byte 60.
    nb_snapshots: U32,
    /// Byte 64.
    snapshots_offset: U64,
}

const FIELDS_AT: u64 = 24;
const _: () = assert!(size_of::<Fields>() == 48);

/// The features of version 3, from byte 72.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Features {
    /// Byte 72.
    incompatible: U64,
    /// Byte 80.
    compatible: U64,
    /// Byte 88.
    autoclear: U64,
    /// Byte 96.
    refcount_order: U32,
}

const FEATURES_AT: u64 = 72;
const _: () = assert!(size_of::<Features>() == 28);

/// Grows the image in `range`, which is all of `file` and open as `source`, to `new_size` bytes.
pub(in crate::formats) fn grow(
    file: &File,
    range: &FileRange,
    source: &dyn BlockSource,
    new_size: u64,
) -> Result<()> {
    let header = Header::read(range)?;
    let mut image = Image::open(file, range, &header)?;
    image.check(&header, source)?;
    let l1_entries = header.geometry.l1_entries(new_size)?;
    if l1_entries * ENTRY_BYTES > MAX_L1_BYTES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "{new_size} bytes need an L1 table of {l1_entries} entries, expected at most {}; hint: larger clusters",
                MAX_L1_BYTES / ENTRY_BYTES
            ),
        ));
    }
    let old = image.fields;
    image.fields.size = U64::new(new_size);
    let mut unused = Vec::new();
    if l1_entries > u64::from(old.l1_size.get()) {
        unused = image.move_tables(l1_entries)?;
    }
    file.sync_all().map_err(|e| Error::io("syncing", e))?;
    image.put(image.fields.as_bytes(), FIELDS_AT)?;
    file.sync_all().map_err(|e| Error::io("syncing", e))?;
    for (offset, clusters) in unused {
        let first = offset / image.cluster_size;
        for cluster in first..first + clusters {
            image.set_refcount(cluster, 0)?;
        }
    }
    Ok(())
}

/// What goes behind the end of the file, in this order: L1 table, refcount table, refcount blocks. All in clusters,
/// but for the entries.
struct NewTables {
    start: u64,
    l1_entries: u64,
    l1_clusters: u64,
    table_clusters: u64,
    /// Indices of the blocks that are new.
    blocks: Vec<u64>,
    total: u64,
}

/// An image being grown.
struct Image<'a> {
    file: &'a File,
    file_len: u64,
    cluster_size: u64,
    fields: Fields,
    features: Option<Features>,
    /// Bits of a refcount.
    refcount_bits: u64,
    /// The refcount table: host offsets of blocks, 0 for none.
    table: Vec<u64>,
}

impl<'a> Image<'a> {
    fn open(file: &'a File, range: &FileRange, header: &Header) -> Result<Self> {
        let fields = Fields::read_from_bytes(&range.read_vec(FIELDS_AT, size_of::<Fields>())?)
            .map_err(|_| Error::corrupt("the header is too short"))?;
        let features = if header.version == 2 {
            None
        } else {
            let bytes = range.read_vec(FEATURES_AT, size_of::<Features>())?;
            Some(
                Features::read_from_bytes(&bytes)
                    .map_err(|_| Error::corrupt("the header is too short"))?,
            )
        };
        // Header::read has checked that the order is at most 6.
        let order = features.map_or(4, |features| features.refcount_order.get());
        let cluster_size = header.geometry.cluster_size();
        let table_offset = fields.refcount_table_offset.get();
        let table_bytes = u64::from(fields.refcount_table_clusters.get()) * cluster_size;
        if !table_offset.is_multiple_of(cluster_size)
            || table_offset == 0
            || table_bytes > MAX_TABLE_BYTES
        {
            return Err(Error::corrupt(format!(
                "expected a refcount table of at most {MAX_TABLE_BYTES} bytes on a cluster boundary, found {table_bytes} at {table_offset:#x}"
            ))
            .at(48));
        }
        let table = range.read_vec(table_offset, to_usize(table_bytes))?;
        let (entries, _) = table.as_chunks::<8>();
        Ok(Self {
            file,
            file_len: range.len(),
            cluster_size,
            fields,
            features,
            refcount_bits: 1 << order,
            table: entries
                .iter()
                .map(|entry| u64::from_be_bytes(*entry) & OFFSET_BITS)
                .collect(),
        })
    }

    /// Refuses what growing would break.
    fn check(&self, header: &Header, source: &dyn BlockSource) -> Result<()> {
        let refuse = |what: &str| {
            Err(Error::unsupported(format!(
                "an image with {what} is not resized; hint: qemu-img resize, or v2v image convert first"
            )))
        };
        if self.fields.nb_snapshots.get() != 0 {
            return refuse("internal snapshots");
        }
        if let Some(features) = self.features {
            if features.incompatible.get() & EXTERNAL_DATA_FILE != 0 {
                return refuse("an external data file");
            }
            if features.incompatible.get() & DIRTY != 0 {
                return refuse("stale refcounts (dirty bit)");
            }
            if features.autoclear.get() != 0 {
                return refuse("bitmaps or other autoclear features");
            }
        }
        let hides = |parent: Arc<dyn BlockSource>| parent.virtual_size() > header.virtual_size;
        if source.parent().map_or(header.backing.is_some(), hides) {
            return refuse("a backing file that is longer than the disk");
        }
        self.check_behind(header)
    }

    /// Entries behind the end of the disk would become part of it: they must be none.
    fn check_behind(&self, header: &Header) -> Result<()> {
        let used = header.geometry.l1_entries(header.virtual_size)?;
        let l1 = self.entries(
            self.fields.l1_table_offset.get(),
            u64::from(self.fields.l1_size.get()),
            "L1 table",
        )?;
        let mut behind = l1.iter().skip(to_usize(used));
        let mut found = behind.any(|&entry| entry != 0);
        let last = used
            .checked_sub(1)
            .and_then(|last| l1.get(to_usize(last)))
            .map_or(0, |entry| entry & OFFSET_BITS);
        let span = header.geometry.l2_span();
        if last != 0 && !header.virtual_size.is_multiple_of(span) {
            let words = header.geometry.entry_words();
            let used = (header.virtual_size % span).div_ceil(self.cluster_size) * words;
            let l2 = self.entries(last, self.cluster_size / ENTRY_BYTES, "L2 table")?;
            found |= l2.iter().skip(to_usize(used)).any(|&entry| entry != 0);
        }
        if found {
            return Err(Error::corrupt(
                "expected no clusters behind the end of the disk, found some; hint: v2v image convert first",
            ));
        }
        Ok(())
    }

    /// Puts a larger L1 table, and what counts it, behind all that is in use. Returns what is not used any more, as
    /// host offsets and clusters.
    fn move_tables(&mut self, l1_entries: u64) -> Result<Vec<(u64, u64)>> {
        let cluster_size = self.cluster_size;
        let per_block = cluster_size * 8 / self.refcount_bits;
        let start = self.first_free()?;
        let l1_clusters = (l1_entries * ENTRY_BYTES).div_ceil(cluster_size);
        // The blocks and the table that the new clusters need are new clusters too.
        // Each round counts those of the round before, and can only need more.
        let (mut total, mut table_clusters) = (l1_clusters, 0);
        let blocks = loop {
            let last_block = (start + total - 1) / per_block;
            let blocks: Vec<u64> = (start / per_block..=last_block)
                .filter(|&index| self.table.get(to_usize(index)).is_none_or(|&at| at == 0))
                .collect();
            if last_block >= self.table.len() as u64 {
                table_clusters = ((last_block + 1) * ENTRY_BYTES).div_ceil(cluster_size);
            }
            let needed = l1_clusters + table_clusters + blocks.len() as u64;
            if needed <= total {
                total = needed;
                break blocks;
            }
            total = needed;
        };
        if table_clusters * cluster_size > MAX_TABLE_BYTES {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected a refcount table of at most {MAX_TABLE_BYTES} bytes; hint: larger clusters"
                ),
            ));
        }
        let layout = NewTables {
            start,
            l1_entries,
            l1_clusters,
            table_clusters,
            blocks,
            total,
        };
        self.place(&layout)
    }

    /// Writes the new tables and counts them; the header comes later.
    fn place(&mut self, new: &NewTables) -> Result<Vec<(u64, u64)>> {
        let &NewTables {
            start,
            l1_entries,
            l1_clusters,
            table_clusters,
            ref blocks,
            total,
        } = new;
        let cluster_size = self.cluster_size;
        let mut unused = Vec::new();
        let old = self.fields;
        let old_l1_bytes = u64::from(old.l1_size.get()) * ENTRY_BYTES;
        // The new area reads as zero: it lies behind the end of the file, or is written over.
        let end = (start + total) * cluster_size;
        self.file
            .set_len(end.max(self.file_len))
            .map_err(|e| Error::io(format!("setting the length to {end}"), e))?;
        let l1_offset = start * cluster_size;
        let mut l1 = self.read(old.l1_table_offset.get(), old_l1_bytes)?;
        l1.resize(to_usize(l1_clusters * cluster_size), 0);
        self.put(&l1, l1_offset)?;
        unused.push((
            old.l1_table_offset.get(),
            old_l1_bytes.div_ceil(cluster_size),
        ));
        let mut next = start + l1_clusters;
        if table_clusters > 0 {
            let entries = to_usize(table_clusters * cluster_size / ENTRY_BYTES);
            self.table.resize(entries, 0);
            unused.push((
                old.refcount_table_offset.get(),
                u64::from(old.refcount_table_clusters.get()),
            ));
            self.fields.refcount_table_offset = U64::new(next * cluster_size);
            self.fields.refcount_table_clusters = u32_of(table_clusters)?;
            next += table_clusters;
        }
        for &block in blocks {
            let at = next * cluster_size;
            self.put(&vec![0; to_usize(cluster_size)], at)?;
            if let Some(entry) = self.table.get_mut(to_usize(block)) {
                *entry = at;
            }
            next += 1;
        }
        for cluster in start..start + total {
            self.set_refcount(cluster, 1)?;
        }
        self.sync()?;
        // The blocks count right: now the table may name them.
        if table_clusters > 0 {
            let bytes: Vec<u8> = self.table.iter().flat_map(|at| at.to_be_bytes()).collect();
            self.put(&bytes, self.fields.refcount_table_offset.get())?;
        } else {
            for &block in blocks {
                let entry = self.table.get(to_usize(block)).copied().unwrap_or(0);
                let at = self.fields.refcount_table_offset.get() + block * ENTRY_BYTES;
                self.put(&entry.to_be_bytes(), at)?;
            }
        }
        self.fields.l1_size = u32_of(l1_entries)?;
        self.fields.l1_table_offset = U64::new(l1_offset);
        unused.retain(|&(offset, clusters)| offset != 0 && clusters != 0);
        Ok(unused)
    }

    /// The first cluster behind both the file's end and every cluster that is counted.
    fn first_free(&self) -> Result<u64> {
        let by_len = self.file_len.div_ceil(self.cluster_size);
        let per_block = self.cluster_size * 8 / self.refcount_bits;
        for (index, &block) in self.table.iter().enumerate().rev() {
            if block == 0 {
                continue;
            }
            let bytes = self.read(block, self.cluster_size)?;
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                let in_block = ((last as u64 + 1) * 8).div_ceil(self.refcount_bits);
                let counted = index as u64 * per_block + in_block;
                return Ok(by_len.max(counted));
            }
        }
        Ok(by_len)
    }

    /// Sets the refcount of a cluster whose block exists. One that is neither 0 nor 1 is shared, or a mistake.
    fn set_refcount(&self, cluster: u64, count: u8) -> Result<()> {
        let per_block = self.cluster_size * 8 / self.refcount_bits;
        let block = self
            .table
            .get(to_usize(cluster / per_block))
            .copied()
            .filter(|&block| block != 0)
            .ok_or_else(|| Error::corrupt(format!("no refcount block counts cluster {cluster}")))?;
        let bit = cluster % per_block * self.refcount_bits;
        let at = block + bit / 8;
        let width = to_usize(self.refcount_bits.div_ceil(8));
        let mut bytes = self.read(at, width as u64)?;
        // Big-endian; counts of less than a byte begin at the low bits: qcow2 "Refcount blocks".
        let (shift, mask) = match self.refcount_bits {
            bits @ 1..8 => (bit % 8, (1u8 << bits) - 1),
            _ => (0, u8::MAX),
        };
        let (last, before) = match bytes.split_last_mut() {
            Some((last, before)) => (last, before),
            None => return Ok(()),
        };
        let old = (*last >> shift) & mask;
        if old == count && before.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        if old > 1 || before.iter().any(|&byte| byte != 0) {
            return Err(Error::corrupt(format!(
                "expected cluster {cluster} to be used once or not at all, found another count"
            ))
            .at(at));
        }
        *last = (*last & !(mask << shift)) | (count << shift);
        self.put(&bytes, at)
    }

    fn entries(&self, offset: u64, count: u64, what: &str) -> Result<Vec<u64>> {
        let bytes = self
            .read(offset, count * ENTRY_BYTES)
            .map_err(|e| Error::corrupt(format!("reading the {what}: {e}")).at(offset))?;
        let (entries, _) = bytes.as_chunks::<8>();
        Ok(entries
            .iter()
            .map(|entry| u64::from_be_bytes(*entry) & !COPIED)
            .collect())
    }

    /// Reads at most a table, whose size the header's check has capped; past the end of the file there are zeroes.
    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; to_usize(len)];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(format!("reading {len} bytes"), e).at(offset)),
            }
        }
        Ok(bytes)
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| Error::io(format!("writing {} bytes", bytes.len()), e).at(offset))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("syncing", e))
    }
}

fn u32_of(n: u64) -> Result<U32> {
    u32::try_from(n)
        .map(U32::new)
        .map_err(|_| Error::new(ErrorKind::Limit, format!("a table of {n} is too large")))
}
