//! A VMDK as a disk: looks at what the file is, opens its extents and its parent, and reads through them.

use std::sync::Arc;

use types::CancelToken;

use super::descriptor::{Descriptor, SIGNATURE};
use super::extents::{self, Body, Placed};
use super::geometry::SECTOR;
use super::header::{Header, MAGIC};
use super::sparse::SparseExtent;
use super::{check, cowd, info, naming, parent, sesparse};
use crate::formats::context::{Context, Parent};
use crate::formats::raw::check_read;
use crate::{
    BlockSource, Error, Extent, ExtentKind, FileRange, Files, ImageInfo, MetadataCheck, Result,
};

/// Longest descriptor file that is looked at.
const MAX_DESCRIPTOR_LEN: usize = 1 << 20;
/// What is cheap to read at once of a file that has no grains.
const FLAT_GRANULARITY: u64 = 64 << 10;

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::formats) enum Signature {
    Sparse,
    Descriptor,
    Cowd,
    SeSparse,
}

impl Signature {
    /// Looks at the first bytes of a file. None when they are not of VMware.
    pub(in crate::formats) fn of(head: &[u8]) -> Option<Self> {
        let text = head
            .strip_prefix(b"\xef\xbb\xbf".as_slice())
            .unwrap_or(head)
            .trim_ascii_start();
        let is_text = text
            .get(..SIGNATURE.len())
            .is_some_and(|text| text.eq_ignore_ascii_case(SIGNATURE.as_bytes()));
        match head {
            _ if head.starts_with(&MAGIC) => Some(Self::Sparse),
            _ if head.starts_with(&cowd::MAGIC) => Some(Self::Cowd),
            _ if head.starts_with(&sesparse::MAGIC.to_le_bytes()) => Some(Self::SeSparse),
            _ => is_text.then_some(Self::Descriptor),
        }
    }

    /// The signature of a file.
    pub(super) fn read(range: &FileRange) -> Result<Option<Self>> {
        let len = usize::try_from(range.len().min(SECTOR)).unwrap_or(0);
        Ok(Self::of(&range.read_vec(0, len)?))
    }
}

/// A VMDK of any subformat, with its parents.
#[derive(Debug)]
pub struct Reader {
    range: FileRange,
    extents: Vec<Placed>,
    virtual_size: u64,
    descriptor: Option<Descriptor>,
    parent: Option<Parent>,
}

impl Reader {
    /// Opens the image. Reads headers, the descriptor and the grain directories; tables are read when wanted.
    /// Files that the image names are looked for among `files`.
    pub fn open(range: FileRange, files: Files) -> Result<Self> {
        Self::open_in(range, &mut Context::new(files, None))
    }

    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        context.enter(&range)?;
        let label = range.label().to_owned();
        Self::open_inner(range, context).map_err(|e| e.in_file(label))
    }

    fn open_inner(range: FileRange, context: &mut Context) -> Result<Self> {
        let (extents, descriptor) = match Signature::read(&range)? {
            Some(Signature::Sparse) => open_single(&range)?,
            Some(Signature::Descriptor) => {
                let descriptor = read_file(&range)?;
                descriptor.check_create_type()?;
                let extents = extents::open_all(&range, &descriptor, context)?;
                (extents, Some(descriptor))
            }
            Some(Signature::Cowd) => return Err(data_file(&range, "a COWD extent (ESX sparse)")),
            Some(Signature::SeSparse) => return Err(data_file(&range, "a seSparse extent")),
            None => return Err(no_signature(&range)),
        };
        let parent = match &descriptor {
            Some(descriptor) => parent::open(&range, descriptor, context)?,
            None => None,
        };
        Ok(Self {
            virtual_size: extents.last().map_or(0, |extent| extent.place.end),
            range,
            extents,
            descriptor,
            parent: parent.map(|parent| Parent::new(parent)),
        })
    }

    /// The descriptor, embedded or a file of its own, where there is one.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }

    pub(super) fn label(&self) -> &str {
        self.range.label()
    }

    pub(super) fn extents(&self) -> &[Placed] {
        &self.extents
    }

    /// The extent that holds byte `offset` of the disk.
    fn at(&self, offset: u64) -> Option<&Placed> {
        let index = self
            .extents
            .partition_point(|extent| extent.place.end <= offset);
        self.extents.get(index)
    }
}

/// The descriptor of a disk without its extents; `None` for a file that has none.
pub(super) fn descriptor_of(range: &FileRange) -> Result<Option<Descriptor>> {
    match Signature::read(range)? {
        Some(Signature::Sparse) => read_embedded(range, &Header::read(range, 0)?),
        Some(Signature::Descriptor) => read_file(range).map(Some),
        _ => Ok(None),
    }
}

fn read_file(range: &FileRange) -> Result<Descriptor> {
    let len = usize::try_from(range.len()).unwrap_or(usize::MAX);
    Descriptor::parse(&range.read_vec(0, len.min(MAX_DESCRIPTOR_LEN))?)
}

/// One file with header and embedded descriptor.
fn open_single(range: &FileRange) -> Result<(Vec<Placed>, Option<Descriptor>)> {
    let header = Header::read(range, 0)?;
    let descriptor = read_embedded(range, &header)?;
    let extent = SparseExtent::open(range.clone(), &header)?;
    let placed = Placed {
        place: 0..extent.capacity(),
        kind: "SPARSE".to_owned(),
        body: Body::Sparse(Box::new(extent)),
    };
    Ok((vec![placed], descriptor))
}

fn read_embedded(range: &FileRange, header: &Header) -> Result<Option<Descriptor>> {
    let Some(bytes) = &header.descriptor else {
        if header.compressed {
            return Ok(None);
        }
        return Err(data_file(range, "a sparse extent without a descriptor"));
    };
    let len = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
    let text = range.read_vec(bytes.start, len)?;
    let descriptor = Descriptor::parse(&text).map_err(|e| e.at(bytes.start))?;
    descriptor.check_embedded()?;
    let capacity = header.geometry.capacity() / SECTOR;
    if let [extent] = descriptor.extents.as_slice()
        && extent.sectors != capacity
    {
        tracing::warn!(
            file = range.label(),
            descriptor = extent.sectors,
            header = capacity,
            "descriptor and header disagree on the capacity; taking the header's"
        );
    }
    Ok(Some(descriptor))
}

/// The refusal of a file that holds data of a disk that a descriptor describes.
fn data_file(range: &FileRange, what: &str) -> Error {
    Error::unsupported(format!(
        "{what} is only a data file of a VMDK; {}",
        naming::hint(range.label())
    ))
}

/// Refuses a file without any magic whose name is that of a part of a VMDK: all of it may be the disk, or one piece
/// of many, and only the descriptor tells.
pub(in crate::formats) fn refuse_data_file(range: &FileRange) -> Result<()> {
    match naming::descriptor_of(range.label()) {
        Some(name) => Err(Error::unsupported(format!(
            "a file without header of this name is only a data file of a VMDK; hint: open its descriptor, {name}, or \
             say that the format is raw"
        ))
        .in_file(range.label())),
        None => Ok(()),
    }
}

fn no_signature(range: &FileRange) -> Error {
    if naming::descriptor_of(range.label()).is_some() {
        return data_file(range, "a file without header");
    }
    let found = range.read_vec(0, usize::try_from(range.len().min(4)).unwrap_or(0));
    let found = found.unwrap_or_default();
    Error::corrupt(format!(
        "expected the VMDK magic {MAGIC:02x?} (KDMV) or a descriptor, found {found:02x?}"
    ))
    .at(0)
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn format(&self) -> &'static str {
        "vmdk"
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_read(offset, buf.len(), self.virtual_size).map_err(|e| e.in_file(self.label()))?;
        while !buf.is_empty() {
            let Some(Placed { place, body, .. }) = self.at(offset) else {
                return Ok(());
            };
            let left = usize::try_from(place.end - offset).unwrap_or(usize::MAX);
            let (part, rest) = buf.split_at_mut(left.min(buf.len()));
            let len = part.len() as u64;
            match &self.parent {
                Some(parent) => body.read_at(part, offset - place.start, &|buf, offset| {
                    parent.read_at(buf, place.start + offset)
                })?,
                None => body.read_at(part, offset - place.start, &|buf, _| {
                    buf.fill(0);
                    Ok(())
                })?,
            }
            buf = rest;
            offset += len;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let Some(Placed { place, body, .. }) = self.at(offset) else {
            return check_read(offset, 1, self.virtual_size).map(|()| Extent {
                offset,
                len: max_len,
                kind: ExtentKind::Unallocated,
            });
        };
        let found = body.extent_at(offset - place.start, max_len.min(place.end - offset))?;
        match &self.parent {
            Some(parent) if found.kind == ExtentKind::Unallocated => {
                parent.extent_at(offset, found.len)
            }
            _ => Ok(Extent { offset, ..found }),
        }
    }

    fn read_granularity(&self) -> u64 {
        let own = self.extents.iter().map(|extent| match &extent.body {
            Body::Sparse(extent) => extent.grain_size(),
            Body::Flat { .. } | Body::Zero => FLAT_GRANULARITY,
        });
        let parents = self.parent.as_ref();
        let parents = parents.map(|parent| parent.source().read_granularity());
        own.chain(parents).max().unwrap_or(FLAT_GRANULARITY)
    }

    fn info(&self) -> ImageInfo {
        info::of(self)
    }

    fn parent(&self) -> Option<Arc<dyn BlockSource>> {
        Some(Arc::clone(self.parent.as_ref()?.source()))
    }

    fn check_metadata(&self, cancel: &CancelToken) -> Result<Option<MetadataCheck>> {
        check::check(self, cancel)
    }
}
