//! Sizes of a sparse extent, checked once, and the arithmetic from disk offsets to tables and grains.

use crate::{Error, ErrorKind, Result};

/// A sector of every VMDK field, whatever the disk's own sector size is.
pub(super) const SECTOR: u64 = 512;
/// The same as a length in memory.
pub(super) const SECTOR_LEN: usize = 512;

/// Largest grain that is read. VMware writes 128 sectors; ESX goes to 2048 at most; a grain is inflated in one piece.
const MAX_GRAIN_SECTORS: u64 = 4096;
/// Smallest grain of a hosted extent: VDF 1.1, Hosted Sparse Extent Header, `grainSize`.
const MIN_GRAIN_SECTORS: u64 = 8;
/// Entries of a grain table: always 512 by the specification; smaller and somewhat larger ones are read.
const MAX_TABLE_ENTRIES: u32 = 4096;
/// Grain tables of one extent: 16 MiB of directory, 128 TiB of disk with common grains.
const MAX_TABLES: u64 = 4 << 20;
/// Bytes of an entry that is a sector number, as in all extents but seSparse.
pub(super) const NARROW: usize = 4;

/// Checked sizes of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    capacity: u64,
    grain_size: usize,
    table_entries: u32,
    entry_len: usize,
}

/// A part of one grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Number of the grain on the disk.
    pub(super) grain: u64,
    /// Its entry in the grain table.
    pub(super) slot: usize,
    /// Bytes of the grain before the part.
    pub(super) skip: usize,
    /// Bytes of the part.
    pub(super) len: usize,
    /// True when the part is all of the grain that lies on the disk.
    pub(super) whole: bool,
}

impl Geometry {
    /// Sizes of a hosted extent.
    pub(super) fn new(
        capacity_sectors: u64,
        grain_sectors: u64,
        table_entries: u32,
    ) -> Result<Self> {
        if grain_sectors < MIN_GRAIN_SECTORS {
            return Err(Error::corrupt(format!(
                "expected a grain size that is a power of two of at least {MIN_GRAIN_SECTORS} sectors, found \
                 {grain_sectors}"
            )));
        }
        Self::of(capacity_sectors, grain_sectors, table_entries, NARROW)
    }

    /// Sizes of an extent of any kind, whose grains may be single sectors, and whose directory and tables have
    /// entries of `entry_len` bytes.
    pub(super) fn of(
        capacity_sectors: u64,
        grain_sectors: u64,
        table_entries: u32,
        entry_len: usize,
    ) -> Result<Self> {
        let limit = |message: String| Err(Error::new(ErrorKind::Limit, message));
        if capacity_sectors == 0 {
            return Err(Error::corrupt(
                "expected a capacity of at least one sector, found 0",
            ));
        }
        if !grain_sectors.is_power_of_two() {
            return Err(Error::corrupt(format!(
                "expected a grain size that is a power of two, found {grain_sectors} sectors"
            )));
        }
        if grain_sectors > MAX_GRAIN_SECTORS {
            return limit(format!(
                "expected grains of at most {MAX_GRAIN_SECTORS} sectors, found {grain_sectors}"
            ));
        }
        if table_entries == 0 {
            return Err(Error::corrupt(
                "expected grain tables of 512 entries, found 0",
            ));
        }
        if table_entries > MAX_TABLE_ENTRIES {
            return limit(format!(
                "expected grain tables of at most {MAX_TABLE_ENTRIES} entries, found {table_entries}"
            ));
        }
        let grains = capacity_sectors.div_ceil(grain_sectors);
        let tables = grains.div_ceil(u64::from(table_entries));
        let capacity = capacity_sectors.checked_mul(SECTOR);
        let (Some(capacity), true, true) = (
            capacity,
            entry_len > NARROW || grains <= u64::from(u32::MAX),
            tables <= MAX_TABLES,
        ) else {
            return limit(format!(
                "expected a capacity of at most {MAX_TABLES} grain tables, found {capacity_sectors} sectors in \
                 grains of {grain_sectors}"
            ));
        };
        let grain_size = usize::try_from(grain_sectors * SECTOR)
            .map_err(|_| Error::new(ErrorKind::Limit, "grain size beyond the address space"))?;
        Ok(Self {
            capacity,
            grain_size,
            table_entries,
            entry_len,
        })
    }

    /// Bytes of an entry of the directory and of the tables in the file.
    pub(super) fn entry_len(&self) -> usize {
        self.entry_len
    }

    /// Bytes of the disk.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes of a full grain.
    pub(super) fn grain_size(&self) -> usize {
        self.grain_size
    }

    fn grain_bytes(&self) -> u64 {
        self.grain_size as u64
    }

    /// Sectors of a full grain.
    pub(super) fn grain_sectors(&self) -> u64 {
        self.grain_bytes() / SECTOR
    }

    /// Grains of the disk, the last one perhaps not full.
    pub(super) fn grains(&self) -> u64 {
        self.capacity.div_ceil(self.grain_bytes())
    }

    /// Bytes of `grain` that lie on the disk.
    pub(super) fn grain_len(&self, grain: u64) -> usize {
        let left = self
            .capacity
            .saturating_sub(grain.saturating_mul(self.grain_bytes()));
        usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.grain_size)
    }

    /// Grain tables of the disk.
    pub(super) fn tables(&self) -> u32 {
        let tables = self.grains().div_ceil(u64::from(self.table_entries));
        u32::try_from(tables).unwrap_or(u32::MAX)
    }

    /// Entries of every table.
    pub(super) fn table_entries(&self) -> u32 {
        self.table_entries
    }

    /// Entries of table `table` that stand for grains of the disk.
    pub(super) fn entries_in(&self, table: u32) -> usize {
        let first = u64::from(table) * u64::from(self.table_entries);
        let left = self
            .grains()
            .saturating_sub(first)
            .min(u64::from(self.table_entries));
        usize::try_from(left).unwrap_or(0)
    }

    /// Sectors that a grain table takes in the file.
    pub(super) fn table_sectors(&self) -> u64 {
        (u64::from(self.table_entries) * self.entry_len as u64).div_ceil(SECTOR)
    }

    /// Bytes of the disk under one table.
    pub(super) fn table_span(&self) -> u64 {
        u64::from(self.table_entries) * self.grain_bytes()
    }

    /// The table that byte `offset` of the disk belongs to.
    pub(super) fn table_of(&self, offset: u64) -> u32 {
        u32::try_from(offset / self.table_span()).unwrap_or(u32::MAX)
    }

    /// The part of the grain at `offset` that a request of `len` bytes wants.
    pub(super) fn piece(&self, offset: u64, len: usize) -> Piece {
        let grain = offset / self.grain_bytes();
        let skip = usize::try_from(offset % self.grain_bytes()).unwrap_or(0);
        let on_disk = self.grain_len(grain);
        let len = len.min(on_disk.saturating_sub(skip));
        let slot = usize::try_from(grain % u64::from(self.table_entries)).unwrap_or(0);
        Piece {
            grain,
            slot,
            skip,
            len,
            whole: skip == 0 && len == on_disk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_grain_and_the_last_table_are_clipped_to_the_disk() {
        let geometry = Geometry::new(128 * 513 + 5, 128, 512).unwrap();
        assert_eq!(geometry.grains(), 514);
        assert_eq!(geometry.tables(), 2);
        assert_eq!(geometry.entries_in(0), 512);
        assert_eq!(geometry.entries_in(1), 2);
        assert_eq!(geometry.grain_len(512), 65536);
        assert_eq!(geometry.grain_len(513), 5 * 512);
        let piece = geometry.piece(513 * 65536 + 512, 1 << 20);
        assert_eq!(
            piece,
            Piece {
                grain: 513,
                slot: 1,
                skip: 512,
                len: 4 * 512,
                whole: false
            }
        );
        assert!(geometry.piece(513 * 65536, 1 << 20).whole);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let kind =
            |capacity, grain, entries| Geometry::new(capacity, grain, entries).unwrap_err().kind();
        assert_eq!(kind(0, 128, 512), ErrorKind::Corrupt);
        assert_eq!(kind(100, 0, 512), ErrorKind::Corrupt);
        assert_eq!(kind(100, 96, 512), ErrorKind::Corrupt);
        assert_eq!(kind(100, 4, 512), ErrorKind::Corrupt);
        assert_eq!(kind(100, 1 << 40, 512), ErrorKind::Limit);
        assert_eq!(kind(100, 128, 0), ErrorKind::Corrupt);
        assert_eq!(kind(100, 128, 1 << 20), ErrorKind::Limit);
        assert_eq!(kind(u64::MAX, 128, 512), ErrorKind::Limit);
        assert_eq!(kind(1 << 40, 8, 512), ErrorKind::Limit);
        assert!(Geometry::new(2 << 31, 128, 512).is_ok(), "2 TiB");
    }
}
