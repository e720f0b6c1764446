//! Writes a dynamic or a fixed disk.
//!
//! ```text
//! dynamic  footer copy | header | BAT | blocks as they come, each bitmap then data | footer
//! fixed    data | footer
//! ```
//!
//! Every block is written by one call of [`BlockSink::write_at`], so places are handed out by adding to one number.
//! The data of a block begin on 4 KiB, as Hyper-V lays them out for disks with such sectors; the bitmap is the
//! sector before. Header, BAT and footers are written last: until then the file is no image.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::footer::{DiskType, FOOTER_LEN, Footer};
use super::geometry::{Geometry, MAX_VIRTUAL_SIZE, SECTOR};
use super::header::{HEADER_LEN, bitmap_len, new_header};
use crate::formats::blocks::to_usize;
use crate::formats::raw::{OutputFile, check_not_failed, check_virtual_size, check_write};
use crate::{BlockSink, Error, ErrorKind, Preallocation, Result, SinkStats, data_runs};

/// Bytes of a block, as every program makes them ("The default value is 0x00200000 (2 MB)", VHD 1.0, Dynamic Disk
/// Header Format, Block Size).
const BLOCK: u64 = 2 << 20;
/// Unit of the zero scan within a block, and of the alignment of data in the file.
const UNIT: usize = 4096;
/// Where the BAT lies: behind the footer's copy and the header.
const TABLE_OFFSET: u64 = (FOOTER_LEN + HEADER_LEN) as u64;
/// A BAT entry of a block that is not there.
const UNUSED: u32 = 0xffff_ffff;
/// Creator of a disk whose size is the current size, in the word that QEMU since 2.6 and Azure's tools know for it:
/// others are taken for a disk whose size is the geometry.
const CREATOR_EXACT: [u8; 4] = *b"qem2";
/// Creator of a disk whose size is its geometry.
const CREATOR_GEOMETRY: [u8; 4] = *b"qemu";
/// `Creator Version`, ours to choose.
const CREATOR_VERSION: u32 = 0x0001_0000;
/// Seconds from 1970 to 2000, where time stamps begin.
const EPOCH: u64 = 946_684_800;

/// What sort of VHD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subformat {
    /// Only blocks that hold something.
    #[default]
    Dynamic,
    /// All bytes, then a footer. What Azure takes.
    Fixed,
}

/// How an image is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `subformat=dynamic|fixed`.
    pub subformat: Subformat,
    /// `force_size`: the disk is exactly as long as it should be, in Hyper-V and Azure as in QEMU. Otherwise it
    /// is rounded up to whole cylinders, as Virtual PC needs it, and as qemu-img does it by default. Azure takes
    /// only disks of whole MiB, so it needs `force_size=on` (our default) and a source whose size is so.
    pub force_size: bool,
    /// What is allocated beforehand; of a fixed disk only, a dynamic one is sparse by nature.
    pub preallocation: Preallocation,
}

impl Default for Options {
    /// Dynamic, of exact size.
    fn default() -> Self {
        Self {
            subformat: Subformat::Dynamic,
            force_size: true,
            preallocation: Preallocation::Sparse,
        }
    }
}

impl Options {
    /// Chooses what is allocated beforehand: the VHD that is wholly allocated is the fixed one.
    pub(in crate::formats) fn preallocate(&mut self, preallocation: Preallocation) {
        self.preallocation = preallocation;
        if preallocation == Preallocation::Falloc {
            self.subformat = Subformat::Fixed;
        }
    }

    /// The defaults, with what `-o KEY=VALUE` say.
    pub(in crate::formats) fn parse(pairs: &[(String, String)]) -> Result<Self> {
        let mut options = Self::default();
        for (key, value) in pairs {
            options.set(key, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let refuse = |expected: &str| {
            Error::new(
                ErrorKind::Usage,
                format!("expected {expected} for the option {key}, found {value:?}"),
            )
        };
        match (key, value) {
            ("subformat", "dynamic") => self.subformat = Subformat::Dynamic,
            ("subformat", "fixed") => self.subformat = Subformat::Fixed,
            ("subformat", _) => return Err(refuse("`dynamic` or `fixed`")),
            ("force_size", "on" | "true" | "yes") => self.force_size = true,
            ("force_size", "off" | "false" | "no") => self.force_size = false,
            ("force_size", _) => return Err(refuse("`on` or `off`")),
            _ => {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("the output format vpc has no option `{key}`"),
                ));
            }
        }
        Ok(())
    }
}

/// A VHD being written. Dropped without [`finish`](BlockSink::finish) it leaves a file that is no image; the
/// caller removes it.
#[derive(Debug)]
pub struct Writer {
    file: OutputFile,
    /// What the caller writes.
    virtual_size: u64,
    /// What the guest sees: the same, or rounded up.
    disk_size: u64,
    footer: Footer,
    body: Body,
    data_bytes: AtomicU64,
    failed: AtomicBool,
}

#[derive(Debug)]
enum Body {
    Fixed,
    Dynamic {
        /// The sector of each block, as in the file.
        table: Vec<AtomicU32>,
        /// First byte of the file that is free, on 4 KiB.
        next: AtomicU64,
    },
}

impl Writer {
    /// Creates the file at `path`, which must not exist.
    pub fn create(path: &Path, virtual_size: u64, options: Options) -> Result<Self> {
        let (disk_size, geometry) =
            disk_size(virtual_size, options.force_size).map_err(|e| e.in_path(path))?;
        let unique_id = random_id().map_err(|e| e.in_path(path))?;
        let file = OutputFile::create(path)?;
        let body = match options.subformat {
            Subformat::Fixed => {
                match options.preallocation {
                    Preallocation::Sparse => file.set_len(disk_size)?,
                    Preallocation::Falloc => file.allocate(disk_size + FOOTER_LEN as u64)?,
                }
                Body::Fixed
            }
            Subformat::Dynamic => {
                let entries = disk_size.div_ceil(BLOCK);
                let data = TABLE_OFFSET + entries * 4;
                Body::Dynamic {
                    table: (0..entries).map(|_| AtomicU32::new(UNUSED)).collect(),
                    next: AtomicU64::new(data.next_multiple_of(UNIT as u64)),
                }
            }
        };
        let footer = Footer {
            disk_type: match options.subformat {
                Subformat::Fixed => DiskType::Fixed,
                Subformat::Dynamic => DiskType::Dynamic,
            },
            data_offset: FOOTER_LEN as u64,
            time_stamp: time_stamp(),
            creator_application: if options.force_size {
                CREATOR_EXACT
            } else {
                CREATOR_GEOMETRY
            },
            creator_version: CREATOR_VERSION,
            current_size: disk_size,
            geometry,
            unique_id,
            saved_state: false,
            unknown_features: 0,
            temporary: false,
        };
        Ok(Self {
            file,
            virtual_size,
            disk_size,
            footer,
            body,
            data_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    fn store(&self, buf: &[u8], offset: u64) -> Result<()> {
        match &self.body {
            Body::Fixed => self.store_runs(buf, offset),
            Body::Dynamic { table, next } => {
                // One range of the file for all blocks of the call: neighbours stay neighbours.
                let blocks: Vec<_> = buf
                    .chunks(to_usize(BLOCK))
                    .enumerate()
                    .filter(|(_, block)| !crate::is_zero(block))
                    .collect();
                let mut space = next.fetch_add(blocks.len() as u64 * SPACE, Ordering::Relaxed);
                for (at, block) in blocks {
                    self.store_block(block, space)?;
                    let index = to_usize(offset / BLOCK) + at;
                    if let Some(entry) = table.get(index) {
                        entry.store(sector(space + SPACE - BLOCK - BITMAP)?, Ordering::Relaxed);
                    }
                    space += SPACE;
                }
                Ok(())
            }
        }
    }

    /// Writes bitmap and data of one block into its space.
    fn store_block(&self, block: &[u8], space: u64) -> Result<()> {
        let data = space + SPACE - BLOCK;
        self.file.write(&[0xff; BITMAP_LEN], data - BITMAP)?;
        self.store_runs(block, data)
    }

    fn store_runs(&self, buf: &[u8], offset: u64) -> Result<()> {
        for run in data_runs(buf, UNIT) {
            let (at, len) = (offset + run.start as u64, run.len() as u64);
            self.file.write(&buf[run], at)?;
            self.data_bytes.fetch_add(len, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes footers, header and BAT; the length of the file.
    fn seal(&self) -> Result<u64> {
        let footer = self.footer.to_bytes();
        match &self.body {
            Body::Fixed => {
                self.file.sync()?;
                self.file.write(&footer, self.disk_size)?;
                Ok(self.disk_size + FOOTER_LEN as u64)
            }
            Body::Dynamic { table, next } => {
                self.seal_dynamic(&footer, table, next.load(Ordering::Relaxed))
            }
        }
    }

    fn seal_dynamic(&self, footer: &[u8], table: &[AtomicU32], end: u64) -> Result<u64> {
        let entries = u32::try_from(table.len()).unwrap_or(u32::MAX);
        // The BAT is whole sectors; what is behind its end is unused as well.
        let mut bat: Vec<u8> = table
            .iter()
            .flat_map(|entry| entry.load(Ordering::Relaxed).to_be_bytes())
            .collect();
        bat.resize(bat.len().next_multiple_of(to_usize(SECTOR)), 0xff);
        self.file.write(&bat, TABLE_OFFSET)?;
        let block_size = u32::try_from(BLOCK).unwrap_or(u32::MAX);
        self.file.write(
            &new_header(TABLE_OFFSET, entries, block_size),
            FOOTER_LEN as u64,
        )?;
        self.file.sync()?;
        self.file.write(footer, end)?;
        self.file.write(footer, 0)?;
        Ok(end + FOOTER_LEN as u64)
    }
}

impl BlockSink for Writer {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn granularity(&self) -> u64 {
        match self.body {
            Body::Fixed => UNIT as u64,
            Body::Dynamic { .. } => BLOCK,
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_write(offset, buf.len(), self.granularity(), self.virtual_size)
            .map_err(|e| e.in_file(self.file.label()))?;
        self.store(buf, offset)
            .map_err(|e| e.in_file(self.file.label()))
            .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        check_not_failed(&self.failed, &self.file)?;
        let file_len = self.seal()?;
        self.file.sync()?;
        Ok(SinkStats {
            data_bytes: self.data_bytes.into_inner(),
            file_len,
        })
    }
}

/// Bytes of a block's bitmap.
const BITMAP: u64 = 512;
/// The same, for a buffer.
const BITMAP_LEN: usize = 512;
const _: () = assert!(BITMAP == BLOCK / SECTOR / 8);
/// Bytes of the file that a block takes: its bitmap at the end of 4 KiB, then its data.
const SPACE: u64 = UNIT as u64 + BLOCK;

/// A place as the BAT writes it.
fn sector(offset: u64) -> Result<u32> {
    u32::try_from(offset / SECTOR).map_err(|_| {
        Error::new(
            ErrorKind::Limit,
            format!("a block at {offset:#x} is beyond what a VHD can refer to"),
        )
    })
}

/// Bytes of the disk and its geometry.
fn disk_size(virtual_size: u64, force_size: bool) -> Result<(u64, Geometry)> {
    check_virtual_size(virtual_size)?;
    debug_assert_eq!(bitmap_len(BLOCK), BITMAP);
    if virtual_size > MAX_VIRTUAL_SIZE {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "a VHD holds at most {MAX_VIRTUAL_SIZE} bytes (2040 GiB), the disk has {virtual_size}; hint: write \
                 vhdx, or qcow2"
            ),
        ));
    }
    let sectors = virtual_size / SECTOR;
    if force_size {
        return Ok((virtual_size, Geometry::of(sectors)));
    }
    let geometry = Geometry::holding(sectors);
    let rounded = if geometry.is_max() {
        virtual_size
    } else {
        geometry.sectors() * SECTOR
    };
    Ok((rounded, geometry))
}

/// Seconds since 2000.
fn time_stamp() -> u32 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    u32::try_from(now.saturating_sub(EPOCH)).unwrap_or(u32::MAX)
}

/// A random UUID (RFC 9562, version 4).
fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    let mut filled = 0;
    while filled < id.len() {
        filled += rustix::rand::getrandom(&mut id[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::io("getting a random identifier", e.into()))?;
    }
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_or_whole_cylinders() {
        let size = |bytes, force| disk_size(bytes, force).unwrap().0;
        assert_eq!(size(100 << 20, true), 100 << 20);
        // As qemu-img create -f vpc rounds them.
        assert_eq!(size(1 << 20, false), 1_079_296);
        assert_eq!(size(4 << 20, false), 4_212_736);
        assert_eq!(size(100 << 20, false), 104_865_792);
        assert_eq!(size(130 << 30, false), 130 << 30);
        let error = disk_size(MAX_VIRTUAL_SIZE + 512, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(disk_size(MAX_VIRTUAL_SIZE, true).is_ok());
    }

    #[test]
    fn options_are_named_as_qemu_img_names_them() {
        let mut options = Options::default();
        options.set("subformat", "fixed").unwrap();
        options.set("force_size", "off").unwrap();
        assert_eq!(options.subformat, Subformat::Fixed);
        assert!(!options.force_size);
        for (key, value) in [("subformat", "x"), ("force_size", "2"), ("block", "1")] {
            let error = options.set(key, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
