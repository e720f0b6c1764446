//! The header of a COWD extent, the sparse extent of ESX Server and GSX Server: `vmfsSparse` snapshots and old
//! copy-on-write disks (VDF 1.1, ESX Server Sparse Extents).
//!
//! ```text
//! header (4 sectors) | directory | table | grain | grain | … | table | grain | …
//! ```
//!
//! A grain is one sector as a rule; a table has 4096 entries, whatever the grain size. Tables and grains are
//! allocated as they are first written.

use std::mem::offset_of;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::directory;
use super::geometry::{Geometry, NARROW, SECTOR};
use super::sparse::SparseExtent;
use super::tables::{Entries, Layout};
use crate::{Error, ErrorKind, FileRange, Result};

/// `COWD`, `magicNumber`.
pub(super) const MAGIC: [u8; 4] = *b"COWD";
/// Bytes of the header.
const HEADER_LEN: usize = 2048;
/// Entries of a grain table.
const TABLE_ENTRIES: u32 = 4096;
/// The only version.
const VERSION: u32 = 1;

/// `COWDisk_Header`. Little-endian; sizes and offsets in sectors.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 4],
    version: U32,
    /// 3 in all that is known of.
    flags: U32,
    num_sectors: U32,
    grain_size: U32,
    gd_offset: U32,
    num_gd_entries: U32,
    free_sector: U32,
    /// Root: cylinders, heads, sectors. Child: the parent's name and generation. Descriptors say it today.
    root_or_child: [u8; 1028],
    generation: U32,
    name: [u8; 60],
    description: [u8; 512],
    saved_generation: U32,
    reserved: [u8; 8],
    unclean_shutdown: U32,
    padding: [u8; 396],
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN);

/// Opens the extent.
pub(super) fn open(range: FileRange) -> Result<SparseExtent> {
    let label = range.label().to_owned();
    open_inner(range).map_err(|e| e.in_file(label))
}

fn open_inner(range: FileRange) -> Result<SparseExtent> {
    if range.len() < HEADER_LEN as u64 {
        return Err(Error::new(
            ErrorKind::Truncated,
            format!(
                "expected a COWD header of {HEADER_LEN} bytes, but the file ends at {:#x}",
                range.len()
            ),
        )
        .at(0));
    }
    let bytes = range.read_vec(0, HEADER_LEN)?;
    let (raw, _) = RawHeader::ref_from_prefix(&bytes)
        .map_err(|_| Error::corrupt(format!("expected a header of {HEADER_LEN} bytes")))?;
    let at = |field: usize| move |e: Error| e.at(field as u64);
    if raw.magic != MAGIC {
        return Err(Error::corrupt(format!(
            "expected the magic {MAGIC:02x?} (COWD), found {:02x?}",
            raw.magic
        ))
        .at(0));
    }
    if raw.version.get() != VERSION {
        return Err(Error::unsupported(format!(
            "version {} of the COWD extent is not supported ({VERSION} is)",
            raw.version
        ))
        .at(offset_of!(RawHeader, version) as u64));
    }
    if raw.unclean_shutdown.get() != 0 {
        tracing::warn!(
            file = range.label(),
            "the COWD extent was not closed by its last writer; reading it as it is"
        );
    }
    let geometry = Geometry::of(
        u64::from(raw.num_sectors.get()),
        u64::from(raw.grain_size.get()),
        TABLE_ENTRIES,
        NARROW,
    )
    .map_err(at(offset_of!(RawHeader, num_sectors)))?;
    if raw.num_gd_entries.get() < geometry.tables() {
        return Err(Error::corrupt(format!(
            "expected a grain directory of at least {} entries for {} sectors in grains of {}, found {}",
            geometry.tables(),
            raw.num_sectors,
            raw.grain_size,
            raw.num_gd_entries
        ))
        .at(offset_of!(RawHeader, num_gd_entries) as u64));
    }
    let directory = u64::from(raw.gd_offset.get()) * SECTOR;
    if directory < HEADER_LEN as u64 {
        return Err(Error::corrupt(format!(
            "expected the grain directory behind the header, found sector {:#x}",
            raw.gd_offset
        ))
        .at(offset_of!(RawHeader, gd_offset) as u64));
    }
    let map = directory::read(&range, &geometry, directory)?;
    let layout = Layout {
        geometry,
        entries: Entries::Sectors { zeroed: false },
        compressed: false,
        reserved: 0..HEADER_LEN as u64,
    };
    Ok(SparseExtent::new(range, &layout, map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        assert_eq!(offset_of!(RawHeader, num_sectors), 12);
        assert_eq!(offset_of!(RawHeader, grain_size), 16);
        assert_eq!(offset_of!(RawHeader, gd_offset), 20);
        assert_eq!(offset_of!(RawHeader, num_gd_entries), 24);
        assert_eq!(offset_of!(RawHeader, free_sector), 28);
        assert_eq!(offset_of!(RawHeader, generation), 1060);
        assert_eq!(offset_of!(RawHeader, name), 1064);
        assert_eq!(offset_of!(RawHeader, unclean_shutdown), 1648);
    }
}
