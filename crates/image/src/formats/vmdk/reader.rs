//! A VMDK as a disk: looks at what the file is, refuses what is not read yet by name, opens the rest.

use super::descriptor::{Descriptor, SIGNATURE};
use super::geometry::SECTOR;
use super::header::{Header, MAGIC};
use super::sparse::SparseExtent;
use crate::formats::context::Context;
use crate::{BlockSource, Error, ErrorKind, Extent, FileRange, Files, Result};

/// `COWD`: a sparse extent of ESX Server and GSX (VDF 1.1, ESX Server Sparse Extents).
const COWD_MAGIC: &[u8] = b"COWD";
/// Constant header of an seSparse extent, 0xcafebabe in little-endian order.
const SE_SPARSE_MAGIC: &[u8] = &0xcafe_babe_u64.to_le_bytes();
/// Longest descriptor file that is looked at.
const MAX_DESCRIPTOR_LEN: usize = 1 << 20;

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
            _ if head.starts_with(COWD_MAGIC) => Some(Self::Cowd),
            _ if head.starts_with(SE_SPARSE_MAGIC) => Some(Self::SeSparse),
            _ => is_text.then_some(Self::Descriptor),
        }
    }
}

/// A VMDK that is read: `monolithicSparse` or `streamOptimized`.
#[derive(Debug)]
pub struct Reader {
    label: String,
    extent: SparseExtent,
    descriptor: Option<Descriptor>,
}

impl Reader {
    /// Opens the image. Reads the header, the descriptor and the grain directory; tables are read when wanted.
    /// Files that the image names are looked for among `files`.
    pub fn open(range: FileRange, files: Files) -> Result<Self> {
        Self::open_in(range, &mut Context::new(files, None))
    }

    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        context.enter(&range)?;
        let label = range.label().to_owned();
        Self::open_inner(range).map_err(|e| e.in_file(label))
    }

    fn open_inner(range: FileRange) -> Result<Self> {
        let head_len = usize::try_from(range.len().min(SECTOR)).unwrap_or(0);
        let head = range.read_vec(0, head_len)?;
        match Signature::of(&head) {
            Some(Signature::Sparse) => {}
            Some(Signature::Cowd) => {
                return Err(Error::unsupported(
                    "VMDK extent format COWD (ESX sparse) is not read yet",
                ));
            }
            Some(Signature::SeSparse) => {
                return Err(Error::unsupported(
                    "VMDK extent format seSparse is not read yet",
                ));
            }
            Some(Signature::Descriptor) => {
                let len = usize::try_from(range.len())
                    .unwrap_or(usize::MAX)
                    .min(MAX_DESCRIPTOR_LEN);
                return Err(Descriptor::parse(&range.read_vec(0, len)?)?.refuse_file());
            }
            None => {
                let found = head.get(..MAGIC.len()).unwrap_or(&head);
                return Err(Error::corrupt(format!(
                    "expected the VMDK magic {MAGIC:02x?} (KDMV) or a descriptor, found {found:02x?}"
                ))
                .at(0));
            }
        }
        let header = Header::read(&range, 0)?;
        let descriptor = read_descriptor(&range, &header)?;
        Ok(Self {
            label: range.label().to_owned(),
            extent: SparseExtent::open(range, &header)?,
            descriptor,
        })
    }

    /// The embedded descriptor, where there is one.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }
}

fn read_descriptor(range: &FileRange, header: &Header) -> Result<Option<Descriptor>> {
    let Some(bytes) = &header.descriptor else {
        if header.compressed {
            return Ok(None);
        }
        return Err(Error::unsupported(
            "a VMDK sparse extent without a descriptor is one of several files of a disk (twoGbMaxExtentSparse), \
             which is not read yet",
        ));
    };
    let len = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
    let text = range.read_vec(bytes.start, len)?;
    let descriptor = Descriptor::parse(&text).map_err(|e| e.at(bytes.start))?;
    descriptor.check_one_sparse_file()?;
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

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.extent.capacity()
    }

    fn format(&self) -> &'static str {
        "vmdk"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let size = self.virtual_size();
        if offset
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > size)
        {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "expected a range within the disk of {size} bytes, found {} from {offset:#x}",
                    buf.len()
                ),
            )
            .in_file(&self.label));
        }
        self.extent.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        self.extent.extent_at(offset, max_len)
    }

    fn read_granularity(&self) -> u64 {
        self.extent.grain_size()
    }
}
