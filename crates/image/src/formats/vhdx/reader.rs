//! Reads a VHDX image and its parents as one disk.

use std::sync::Arc;

use types::CancelToken;

use super::bat::{Bat, Geometry};
use super::content::Content;
use super::header::Headers;
use super::map::{Map, Mapping, Walk};
use super::metadata::Metadata;
use super::pages::Pages;
use super::region::Regions;
use super::{check, log, parent, to_usize};
use crate::formats::context::{Context, Parent};
use crate::formats::raw::check_read;
use crate::{BlockSource, Extent, ExtentKind, FileRange, Files, ImageInfo, MetadataCheck, Result};

/// Pieces that one [`extent_at`](BlockSource::extent_at) looks at before it returns what it has.
const MAX_EXTENT_STEPS: usize = 1024;
/// Blocks that are asked of the parent, or of the host's file system, at once. What comes back may be shorter, and
/// then the looking was in vain.
const MAX_RUN_STEPS: usize = 64;
/// Read granularity: blocks are far larger than what is worth reading at once.
const READ_GRANULARITY: u64 = 1 << 20;

/// A VHDX image.
#[derive(Debug)]
pub struct Reader {
    pub(super) content: Content,
    pub(super) headers: Headers,
    pub(super) regions: Regions,
    pub(super) metadata: Metadata,
    pub(super) map: Map,
    pages: Arc<Pages>,
    layer: usize,
    parent: Option<Parent>,
}

impl Reader {
    /// Opens the image in `range`; parents are looked for among `files`.
    pub fn open(range: FileRange, files: Files) -> Result<Self> {
        Self::open_in(range, &mut Context::new(files, None))
    }

    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        Self::open_layer(range, context, &Arc::new(Pages::default()))
    }

    /// Opens one image of a chain, and with it all below. The pages of all are kept together.
    pub(super) fn open_layer(
        range: FileRange,
        context: &mut Context,
        pages: &Arc<Pages>,
    ) -> Result<Self> {
        let layer = context.enter(&range)?;
        let label = range.label().to_owned();
        let mut reader = Self::open_alone(range, pages, layer).map_err(|e| e.in_file(&label))?;
        if let Some(locator) = &reader.metadata.parent {
            let range = reader.content.range();
            reader.parent = Some(parent::open(range, locator, context, pages)?);
        }
        Ok(reader)
    }

    fn open_alone(range: FileRange, pages: &Arc<Pages>, layer: usize) -> Result<Self> {
        let headers = Headers::read(&range)?;
        let replay = log::replay(&range, &headers.current)?;
        if let Some(replay) = &replay {
            tracing::debug!(
                file = range.label(),
                entries = replay.entries,
                "replaying the log in memory"
            );
        }
        let content = Content::new(range, replay);
        let regions = Regions::read(&content, &headers.current)?;
        let metadata = Metadata::read(&content, regions.metadata.clone())?;
        let bat = Bat::new(&regions.bat, Geometry::new(&metadata))?;
        let map = Map::open(&content, pages, layer, bat, &regions.reserved)?;
        Ok(Self {
            content,
            headers,
            regions,
            metadata,
            map,
            pages: Arc::clone(pages),
            layer,
            parent: None,
        })
    }

    fn label(&self) -> &str {
        self.content.range().label()
    }

    pub(super) fn walk(&self) -> Walk<'_> {
        self.map.walk(&self.content, &self.pages, self.layer)
    }

    pub(super) fn cursor(&self) -> super::pages::Cursor<'_> {
        super::pages::Cursor::new(&self.content, &self.pages, self.layer)
    }

    /// The mapping at `offset`, and how many bytes of at most `max_len` go on in the same place.
    fn run(
        &self,
        walk: &mut Walk<'_>,
        offset: u64,
        max_len: u64,
        max_steps: usize,
    ) -> Result<(Mapping, u64)> {
        let (first, mut len) = walk.at(offset, max_len)?;
        for _ in 1..max_steps {
            if len >= max_len {
                break;
            }
            let (next, more) = walk.at(offset + len, max_len - len)?;
            let goes_on = match first {
                Mapping::Data { host } => next == Mapping::Data { host: host + len },
                _ => next == first,
            };
            if !goes_on {
                break;
            }
            len += more;
        }
        Ok((first, len))
    }

    fn read_run(&self, mapping: Mapping, buf: &mut [u8], offset: u64) -> Result<()> {
        match (mapping, &self.parent) {
            (Mapping::Data { host }, _) => self.content.read_exact_at(buf, host),
            (Mapping::Parent, Some(parent)) => parent.read_at(buf, offset),
            (Mapping::Parent | Mapping::Unallocated | Mapping::Zero, _) => {
                buf.fill(0);
                Ok(())
            }
        }
    }

    /// The kind of what is at `offset`, and for how many bytes of at most `max_len`.
    fn piece(&self, walk: &mut Walk<'_>, offset: u64, max_len: u64) -> Result<(ExtentKind, u64)> {
        let (mapping, len) = self.run(walk, offset, max_len, MAX_RUN_STEPS)?;
        Ok(match (mapping, &self.parent) {
            (Mapping::Data { host }, _) if self.content.is_sparse() => {
                match self.content.run_at(host, len) {
                    (true, len) => (ExtentKind::Data, len),
                    (false, len) => (ExtentKind::Zero, len),
                }
            }
            (Mapping::Data { .. }, _) => (ExtentKind::Data, len),
            (Mapping::Zero, _) => (ExtentKind::Zero, len),
            (Mapping::Parent, Some(parent)) => {
                let extent = parent.extent_at(offset, len)?;
                (extent.kind, extent.len)
            }
            (Mapping::Parent | Mapping::Unallocated, _) => (ExtentKind::Unallocated, len),
        })
    }
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.metadata.virtual_size
    }

    fn logical_sector_size(&self) -> u32 {
        self.metadata.logical_sector_size
    }

    fn format(&self) -> &'static str {
        "vhdx"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let in_file = |e: crate::Error| e.in_file(self.label());
        check_read(offset, buf.len(), self.virtual_size()).map_err(in_file)?;
        let mut walk = self.walk();
        let (mut buf, mut offset) = (buf, offset);
        while !buf.is_empty() {
            let (mapping, len) = self
                .run(&mut walk, offset, buf.len() as u64, usize::MAX)
                .map_err(in_file)?;
            let (part, rest) = buf.split_at_mut(to_usize(len));
            self.read_run(mapping, part, offset)?;
            (buf, offset) = (rest, offset + len);
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let in_file = |e: crate::Error| e.in_file(self.label());
        let max_len = max_len.min(self.virtual_size() - offset);
        let mut walk = self.walk();
        let (kind, mut len) = self.piece(&mut walk, offset, max_len).map_err(in_file)?;
        for _ in 1..MAX_EXTENT_STEPS {
            if len >= max_len {
                break;
            }
            let (next, more) = self
                .piece(&mut walk, offset + len, max_len - len)
                .map_err(in_file)?;
            if next != kind {
                break;
            }
            len += more;
        }
        Ok(Extent { offset, len, kind })
    }

    fn read_granularity(&self) -> u64 {
        READ_GRANULARITY
    }

    fn info(&self) -> ImageInfo {
        check::info(self)
    }

    fn parent(&self) -> Option<Arc<dyn BlockSource>> {
        self.parent
            .as_ref()
            .map(|parent| Arc::clone(parent.source()))
    }

    fn check_metadata(&self, cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
        check::check(self, cancel)
            .map(Some)
            .map_err(|e| e.in_file(self.label()))
    }
}
