//! Reads the image as a disk.

use std::sync::Arc;

use types::CancelToken;

use super::header::{Header, ImageType};
use super::parent;
use crate::formats::blocks::{BlockMap, Layout};
use crate::formats::context::{Context, Parent};
use crate::formats::raw::check_read;
use crate::{
    BlockSource, Extent, Fact, FileRange, Files, FindingKind, ImageInfo, MetadataCheck, Result,
};

/// A map entry of a block that was never written: the parent's content, or zero.
const FREE: u32 = 0xffff_ffff;
/// A map entry of a block that is zero, whatever the parent holds: discarded, or written with zeroes.
const ZERO: u32 = 0xffff_fffe;

/// An image.
#[derive(Debug)]
pub struct Reader {
    range: FileRange,
    header: Header,
    map: BlockMap,
    parent: Option<Parent>,
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
        let header = Header::read(&range)?;
        let (block_size, block_extra) =
            (u64::from(header.block_size), u64::from(header.block_extra));
        let map = BlockMap::open(
            range.clone(),
            Layout {
                table_offset: header.map_offset,
                entries: header.virtual_size.div_ceil(block_size),
                decode: u32::from_le_bytes,
                block_size,
                virtual_size: header.virtual_size,
                base: header.data_offset,
                unit: block_extra + block_size,
                lead: block_extra,
                free: FREE,
                zero: Some(ZERO),
                reserved: vec![
                    0..HEADER_END,
                    header.map_offset
                        ..header.map_offset + header.virtual_size.div_ceil(block_size) * 4,
                    // Nothing that a block number could mean is before it.
                    0..header.data_offset,
                ],
            },
        )?;
        let parent = match header.image_type {
            ImageType::Differencing => Some(Parent::new(Arc::new(parent::open(
                &range, &header, context,
            )?))),
            ImageType::Dynamic | ImageType::Fixed => None,
        };
        Ok(Self {
            range,
            header,
            map,
            parent,
        })
    }
}

/// Bytes of the file that hold the header.
const HEADER_END: u64 = 512;

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.header.virtual_size
    }

    fn format(&self) -> &'static str {
        "vdi"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_read(offset, buf.len(), self.header.virtual_size)
            .map_err(|e| e.in_file(self.range.label()))?;
        self.map.read_at(buf, offset, self.parent.as_ref())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        self.map.extent_at(offset, max_len, self.parent.as_ref())
    }

    fn read_granularity(&self) -> u64 {
        let block_size = u64::from(self.header.block_size);
        if block_size.is_power_of_two() {
            block_size.max(64 << 10)
        } else {
            64 << 10
        }
    }

    fn info(&self) -> ImageInfo {
        let header = &self.header;
        let variant = match header.image_type {
            ImageType::Dynamic => "dynamic",
            ImageType::Fixed => "static",
            ImageType::Differencing => "differencing",
        };
        let text = |id: super::header::Id| Fact::Text(id.to_string());
        let mut facts = vec![
            (
                "version",
                Fact::Text(format!("{}.{}", header.version.0, header.version.1)),
            ),
            ("uuid", text(header.id)),
            ("modification uuid", text(header.modification_id)),
            ("allocated blocks", Fact::Number(self.map.allocated())),
        ];
        if header.block_extra != 0 {
            facts.push((
                "extra bytes per block",
                Fact::Number(header.block_extra.into()),
            ));
        }
        if header.image_type == ImageType::Differencing {
            facts.push(("parent uuid", text(header.parent_id)));
            facts.push((
                "parent modification uuid",
                text(header.parent_modification_id),
            ));
        }
        if !header.comment.is_empty() {
            facts.push(("comment", Fact::Text(header.comment.clone())));
        }
        ImageInfo {
            variant: variant.to_owned(),
            cluster_size: Some(header.block_size.into()),
            parent_name: self
                .parent
                .as_ref()
                .map(|_| format!("{{{}}}", header.parent_id)),
            parent_format: self.parent.as_ref().map(|_| "vdi".to_owned()),
            facts,
            ..ImageInfo::default()
        }
    }

    fn parent(&self) -> Option<Arc<dyn BlockSource>> {
        self.parent
            .as_ref()
            .map(|parent| Arc::clone(parent.source()))
    }

    fn check_metadata(&self, _cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
        // Blocks that overlap, or lie outside of the file, were refused on opening.
        let mut check = MetadataCheck::default();
        let (stated, found) = (
            u64::from(self.header.blocks_allocated),
            self.map.allocated(),
        );
        if stated != found {
            check.note(
                FindingKind::Corruption,
                1,
                format!("expected {found} allocated blocks in the header, found {stated}"),
            );
        }
        let leaks = self.map.leaks();
        if leaks > 0 {
            let message = format!("{leaks} blocks of the file belong to no block of the disk");
            check.note(FindingKind::Leak, leaks, message);
        }
        Ok(Some(check))
    }
}
