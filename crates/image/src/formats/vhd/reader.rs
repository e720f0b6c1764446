//! Reads the image as a disk.

use std::sync::Arc;

use types::CancelToken;

use super::bitmap::Bitmaps;
use super::footer::{DiskType, Footer, Found};
use super::geometry::{MAX_VIRTUAL_SIZE, SECTOR, virtual_size};
use super::header::Header;
use super::{locator, parent};
use crate::formats::blocks::{BlockMap, Layout, Place, to_usize, uuid};
use crate::formats::context::{Context, Parent};
use crate::formats::raw::check_read;
use crate::{
    BlockSource, Error, ErrorKind, Extent, ExtentKind, Fact, FileRange, Files, FindingKind,
    ImageInfo, MetadataCheck, Result,
};

/// A BAT entry of a block that is not there (VHD 1.0, Block Allocation Table and Data Blocks).
const UNUSED: u32 = 0xffff_ffff;
/// Runs of sectors that one `extent_at` joins.
const MAX_STEPS: usize = 64;

/// An image.
#[derive(Debug)]
pub struct Reader {
    range: FileRange,
    footer: Footer,
    virtual_size: u64,
    damage: Option<String>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Byte n of the file is byte n of the disk.
    Fixed,
    Blocks(Box<Blocks>),
}

/// A dynamic or differencing disk.
#[derive(Debug)]
struct Blocks {
    map: BlockMap,
    bitmaps: Bitmaps,
    parent: Option<Parent>,
    parent_names: Vec<String>,
}

/// Where a run of sectors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    File(u64),
    /// In the block, but never written.
    Unwritten,
    /// In no block.
    Free,
}

impl Reader {
    /// Opens the image in `range`; parents are looked for among `files`.
    pub fn open(range: FileRange, files: Files) -> Result<Self> {
        Self::open_in(range, &mut Context::new(files, None))
    }

    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        context.enter(&range)?;
        let label = range.label().to_owned();
        Self::open_entered(range, context).map_err(|e| e.in_file(label))
    }

    fn open_entered(range: FileRange, context: &mut Context) -> Result<Self> {
        let Found {
            footer,
            body_len,
            damage,
        } = Found::read(&range)?;
        if let Some(damage) = &damage {
            tracing::warn!(file = range.label(), "{damage}");
        }
        if footer.saved_state {
            tracing::warn!(
                file = range.label(),
                "the machine of this disk was suspended, not shut down: its file systems are not clean"
            );
        }
        let virtual_size = checked_virtual_size(&footer)?;
        let body = match footer.disk_type {
            DiskType::Fixed if virtual_size > body_len => {
                return Err(Error::new(
                    ErrorKind::Truncated,
                    format!(
                        "expected {virtual_size} bytes of disk before the footer, found {body_len}"
                    ),
                ));
            }
            DiskType::Fixed => Body::Fixed,
            DiskType::Dynamic | DiskType::Differencing => Body::Blocks(Box::new(Blocks::open(
                &range,
                &footer,
                virtual_size,
                body_len,
                context,
            )?)),
        };
        Ok(Self {
            range,
            footer,
            virtual_size,
            damage,
            body,
        })
    }

    fn variant(&self) -> &'static str {
        self.footer.disk_type.name()
    }
}

fn checked_virtual_size(footer: &Footer) -> Result<u64> {
    let virtual_size = virtual_size(footer);
    if !virtual_size.is_multiple_of(SECTOR) {
        return Err(Error::corrupt(format!(
            "expected a current size in whole sectors, found {virtual_size} bytes"
        )));
    }
    // A fixed disk has no table that could limit it.
    if footer.disk_type != DiskType::Fixed && virtual_size > MAX_VIRTUAL_SIZE {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected a VHD of at most {MAX_VIRTUAL_SIZE} bytes, found {virtual_size}"),
        ));
    }
    Ok(virtual_size)
}

impl Blocks {
    fn open(
        range: &FileRange,
        footer: &Footer,
        virtual_size: u64,
        body_len: u64,
        context: &mut Context,
    ) -> Result<Self> {
        let header = Header::read(range, footer.data_offset)?;
        let block_size = u64::from(header.block_size);
        let entries = virtual_size.div_ceil(block_size);
        if entries > u64::from(header.table_entries) {
            return Err(Error::corrupt(format!(
                "expected a BAT of {entries} entries for {virtual_size} bytes of disk, found {}",
                header.table_entries
            ))
            .at(header.offset));
        }
        let bitmap_len = header.bitmap_len();
        // The end footer is no place for a block.
        let body = range.slice(0, body_len, range.label())?;
        let map = BlockMap::open(
            body.clone(),
            Layout {
                table_offset: header.table_offset,
                entries,
                decode: u32::from_be_bytes,
                block_size,
                virtual_size,
                base: 0,
                unit: SECTOR,
                lead: bitmap_len,
                free: UNUSED,
                zero: None,
                reserved: header.reserved(),
            },
        )?;
        let (mut parent, mut parent_names) = (None, Vec::new());
        if footer.disk_type == DiskType::Differencing {
            parent_names = locator::parent_names(range, &header)?;
            let found = parent::open(range, &header, &parent_names, context)?;
            parent = Some(Parent::new(Arc::new(found)));
        }
        Ok(Self {
            bitmaps: Bitmaps::new(body, block_size, bitmap_len),
            map,
            parent,
            parent_names,
        })
    }

    /// Where the sectors at `offset` are, and how many bytes of at most `max_len` are alike.
    fn run(&self, offset: u64, max_len: u64) -> Result<(Run, u64)> {
        let (place, len) = self.map.at(offset, max_len)?;
        let Place::File { at, block } = place else {
            return Ok((Run::Free, len));
        };
        let block_size = self.map.layout().block_size;
        let within = offset % block_size;
        let bits = self.bitmaps.get(offset / block_size, block)?;
        let first = within / SECTOR;
        let sectors = (within + len).div_ceil(SECTOR) - first;
        let (set, run) = bits.run(first, sectors);
        let len = (run * SECTOR - within % SECTOR).min(len);
        Ok((if set { Run::File(at) } else { Run::Unwritten }, len))
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let (run, len) = self.run(offset, buf.len() as u64)?;
            let (part, rest) = buf.split_at_mut(to_usize(len));
            match (run, &self.parent) {
                (Run::File(at), _) => self.map.range().read_exact_at(part, at)?,
                (Run::Unwritten | Run::Free, Some(parent)) => parent.read_at(part, offset)?,
                (Run::Unwritten | Run::Free, None) => part.fill(0),
            }
            (buf, offset) = (rest, offset + len);
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let (first, mut len) = self.run(offset, max_len)?;
        let kind = |run| match (run, &self.parent) {
            (Run::File(_), _) => Some(ExtentKind::Data),
            (Run::Unwritten | Run::Free, Some(_)) => None,
            (Run::Unwritten, None) => Some(ExtentKind::Zero),
            (Run::Free, None) => Some(ExtentKind::Unallocated),
        };
        let found = kind(first);
        match first {
            Run::File(at) if self.map.range().is_sparse() => {
                let (data, len) = self.map.range().run_at(at, len);
                let kind = if data {
                    ExtentKind::Data
                } else {
                    ExtentKind::Zero
                };
                return Ok(Extent { offset, len, kind });
            }
            _ => {}
        }
        for _ in 0..MAX_STEPS {
            if len >= max_len {
                break;
            }
            let (next, more) = self.run(offset + len, max_len - len)?;
            if kind(next) != found {
                break;
            }
            len += more;
        }
        match (found, &self.parent) {
            (None, Some(parent)) => parent.extent_at(offset, len),
            (kind, _) => Ok(Extent {
                offset,
                len,
                kind: kind.unwrap_or(ExtentKind::Unallocated),
            }),
        }
    }
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn format(&self) -> &'static str {
        "vpc"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_read(offset, buf.len(), self.virtual_size)
            .map_err(|e| e.in_file(self.range.label()))?;
        match &self.body {
            Body::Fixed => self.range.read_exact_at(buf, offset),
            Body::Blocks(blocks) => blocks.read_at(buf, offset),
        }
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let max_len = max_len.min(self.virtual_size - offset);
        match &self.body {
            Body::Fixed => {
                let (data, len) = self.range.run_at(offset, max_len);
                let kind = if data {
                    ExtentKind::Data
                } else {
                    ExtentKind::Zero
                };
                Ok(Extent { offset, len, kind })
            }
            Body::Blocks(blocks) => blocks.extent_at(offset, max_len),
        }
    }

    fn read_granularity(&self) -> u64 {
        match &self.body {
            Body::Fixed => 64 << 10,
            Body::Blocks(blocks) => blocks.map.layout().block_size.max(64 << 10),
        }
    }

    fn info(&self) -> ImageInfo {
        let footer = &self.footer;
        let geometry = footer.geometry;
        let mut facts = vec![
            (
                "creator application",
                Fact::Text(printable(&footer.creator_application)),
            ),
            (
                "creator version",
                Fact::Text(format!("{:#010x}", footer.creator_version)),
            ),
            ("unique id", Fact::Text(uuid(&footer.unique_id))),
            ("current size", Fact::Number(footer.current_size)),
            (
                "geometry",
                Fact::Text(format!(
                    "{}/{}/{}",
                    geometry.cylinders, geometry.heads, geometry.sectors_per_track
                )),
            ),
            ("saved state", Fact::Flag(footer.saved_state)),
            ("temporary", Fact::Flag(footer.temporary)),
        ];
        if footer.unknown_features != 0 {
            let features = format!("{:#x}", footer.unknown_features);
            facts.push(("unknown features", Fact::Text(features)));
        }
        if let Some(damage) = &self.damage {
            facts.push(("damage", Fact::Text(damage.clone())));
        }
        let blocks = match &self.body {
            Body::Fixed => None,
            Body::Blocks(blocks) => Some(blocks),
        };
        if let Some(blocks) = blocks {
            facts.push(("allocated blocks", Fact::Number(blocks.map.allocated())));
        }
        ImageInfo {
            variant: self.variant().to_owned(),
            cluster_size: blocks.map(|blocks| blocks.map.layout().block_size),
            parent_name: blocks.and_then(|blocks| blocks.parent_names.first().cloned()),
            parent_format: blocks
                .and_then(|blocks| blocks.parent.as_ref())
                .map(|_| "vpc".to_owned()),
            facts,
            ..ImageInfo::default()
        }
    }

    fn parent(&self) -> Option<Arc<dyn BlockSource>> {
        match &self.body {
            Body::Blocks(blocks) => blocks
                .parent
                .as_ref()
                .map(|parent| Arc::clone(parent.source())),
            Body::Fixed => None,
        }
    }

    fn check_metadata(&self, cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
        let mut check = MetadataCheck::default();
        if let Some(damage) = &self.damage {
            check.note(FindingKind::Corruption, 1, damage.clone());
        }
        if let Body::Blocks(blocks) = &self.body {
            // Blocks that overlap, or lie outside of the file, were refused on opening.
            check_bitmaps(blocks, self.virtual_size, cancel)?;
            let leaks = blocks.map.leaks();
            if leaks > 0 {
                let message = format!("{leaks} blocks of the file belong to no block of the disk");
                check.note(FindingKind::Leak, leaks, message);
            }
        }
        Ok(Some(check))
    }
}

/// Reads every bitmap once: a bad sector of the host under one would surface only during the copy.
fn check_bitmaps(blocks: &Blocks, virtual_size: u64, cancel: &CancelToken) -> Result<()> {
    let mut offset = 0;
    while offset < virtual_size {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let (place, len) = blocks.map.at(offset, virtual_size - offset)?;
        if let Place::File { block, .. } = place {
            let index = offset / blocks.map.layout().block_size;
            blocks.bitmaps.get(index, block)?;
        }
        offset += len;
    }
    Ok(())
}

/// A code of four characters as it can be shown.
fn printable(code: &[u8; 4]) -> String {
    code.escape_ascii().to_string().trim_end().to_owned()
}
