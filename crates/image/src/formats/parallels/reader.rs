//! Reads the image as a disk.

use types::CancelToken;

use super::header::{HEADER_LEN, Header, SECTOR};
use crate::formats::blocks::{BlockMap, Layout};
use crate::formats::context::Context;
use crate::formats::raw::check_read;
use crate::{
    BlockSource, Error, Extent, Fact, FileRange, FindingKind, ImageInfo, MetadataCheck, Result,
};

/// A BAT entry of a cluster that is not there: zero (PEIF, BAT).
const FREE: u32 = 0;

/// An image.
#[derive(Debug)]
pub struct Reader {
    range: FileRange,
    header: Header,
    map: BlockMap,
}

impl Reader {
    /// Opens the image in `range`.
    pub fn open(range: FileRange) -> Result<Self> {
        let label = range.label().to_owned();
        Self::open_labelled(range).map_err(|e| e.in_file(label))
    }

    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        context.enter(&range)?;
        Self::open(range)
    }

    fn open_labelled(range: FileRange) -> Result<Self> {
        let header = Header::read(&range)?;
        if header.in_use {
            tracing::warn!(
                file = range.label(),
                "the image is marked as in use: a program has it open, or died with it open"
            );
        }
        let map = BlockMap::open(
            range.clone(),
            Layout {
                table_offset: HEADER_LEN as u64,
                entries: header.virtual_size.div_ceil(header.cluster_size),
                decode: u32::from_le_bytes,
                block_size: header.cluster_size,
                virtual_size: header.virtual_size,
                base: 0,
                unit: if header.places_in_clusters {
                    header.cluster_size
                } else {
                    SECTOR
                },
                lead: 0,
                free: FREE,
                zero: None,
                reserved: reserved(&header),
            },
        )?;
        if header.empty && map.allocated() > 0 {
            return Err(Error::corrupt(format!(
                "expected no clusters in an image whose flags say that it is empty, found {}",
                map.allocated()
            )));
        }
        Ok(Self { range, header, map })
    }
}

/// Header and BAT, and the cluster of the format extension.
fn reserved(header: &Header) -> Vec<std::ops::Range<u64>> {
    let extension = header
        .extension
        .map(|offset| offset..offset.saturating_add(header.cluster_size));
    std::iter::once(0..header.data_offset)
        .chain(extension)
        .collect()
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.header.virtual_size
    }

    fn format(&self) -> &'static str {
        "parallels"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_read(offset, buf.len(), self.header.virtual_size)
            .map_err(|e| e.in_file(self.range.label()))?;
        self.map.read_at(buf, offset, None)
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        self.map.extent_at(offset, max_len, None)
    }

    fn read_granularity(&self) -> u64 {
        // Clusters of old images are 63 sectors, no power of two.
        let cluster_size = self.header.cluster_size;
        if cluster_size.is_power_of_two() {
            cluster_size.max(64 << 10)
        } else {
            64 << 10
        }
    }

    fn info(&self) -> ImageInfo {
        let header = &self.header;
        let variant = if header.places_in_clusters {
            "WithouFreSpacExt"
        } else {
            "WithoutFreeSpace"
        };
        ImageInfo {
            variant: variant.to_owned(),
            cluster_size: Some(header.cluster_size),
            facts: vec![
                ("in use", Fact::Flag(header.in_use)),
                ("format extension", Fact::Flag(header.extension.is_some())),
                ("allocated clusters", Fact::Number(self.map.allocated())),
            ],
            ..ImageInfo::default()
        }
    }

    fn check_metadata(&self, _cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
        // Clusters that overlap, or lie outside of the file, were refused on opening.
        let mut check = MetadataCheck::default();
        if self.header.in_use {
            check.note(
                FindingKind::Corruption,
                1,
                "the image is marked as in use: it was not closed",
            );
        }
        // The clusters of dirty bitmaps are known to the format extension only.
        let leaks = self.map.leaks();
        if leaks > 0 && self.header.extension.is_none() {
            let message = format!("{leaks} clusters of the file belong to no cluster of the disk");
            check.note(FindingKind::Leak, leaks, message);
        }
        Ok(Some(check))
    }
}
