//! The header.

use std::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::formats::blocks::uuid;
use crate::{Error, ErrorKind, FileRange, Result};

/// Signature at byte 64, little-endian.
const SIGNATURE: u32 = 0xbeda_107f;
/// Bytes of everything before the map, the text included.
const HEADER_LEN: usize = 456;
/// `header_size` of version 1.0; 1.1 appends a geometry.
const MIN_HEADER_SIZE: u32 = 384;
/// Least block: a sector.
const SECTOR: u32 = 512;
/// Largest block, and largest space before it: what VirtualBox writes is 1 MiB and nothing.
const MAX_BLOCK_SIZE: u32 = 1 << 30;

/// Everything before the block map (VDI, header). Little-endian; sizes and offsets in bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// `<<< Oracle VM VirtualBox Disk Image >>>` or what the maker was called before.
    text: [u8; 64],
    signature: U32,
    minor: U16,
    major: U16,
    /// Bytes of what follows, itself included.
    header_size: U32,
    image_type: U32,
    flags: U32,
    comment: [u8; 256],
    map_offset: U32,
    data_offset: U32,
    cylinders: U32,
    heads: U32,
    sectors: U32,
    sector_size: U32,
    unused: U32,
    disk_size: U64,
    block_size: U32,
    /// Bytes before the data of each block.
    block_extra: U32,
    blocks: U32,
    blocks_allocated: U32,
    id: [u8; 16],
    modification_id: [u8; 16],
    parent_id: [u8; 16],
    parent_modification_id: [u8; 16],
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN);

/// What sort of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImageType {
    Dynamic,
    Fixed,
    Differencing,
}

/// A UUID as it lies in the file: the first three groups little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Id(pub(super) [u8; 16]);

impl Id {
    /// True for the identifier that stands for none.
    pub(super) fn is_nil(self) -> bool {
        self.0 == [0; 16]
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        f.write_str(&uuid(&bytes))
    }
}

/// The checked header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: (u16, u16),
    pub(super) image_type: ImageType,
    pub(super) map_offset: u64,
    pub(super) data_offset: u64,
    pub(super) virtual_size: u64,
    pub(super) block_size: u32,
    pub(super) block_extra: u32,
    pub(super) blocks_allocated: u32,
    pub(super) id: Id,
    pub(super) modification_id: Id,
    pub(super) parent_id: Id,
    pub(super) parent_modification_id: Id,
    pub(super) comment: String,
}

impl Header {
    /// Reads and checks the header.
    pub(super) fn read(range: &FileRange) -> Result<Self> {
        if range.len() < HEADER_LEN as u64 {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "expected a VDI header of {HEADER_LEN} bytes, found a file of {} bytes",
                    range.len()
                ),
            ));
        }
        let mut bytes = [0; HEADER_LEN];
        range.read_exact_at(&mut bytes, 0)?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self> {
        let (raw, _) = RawHeader::ref_from_prefix(bytes)
            .map_err(|_| Error::corrupt(format!("expected a header of {HEADER_LEN} bytes")))?;
        let at = |field: usize| move |e: Error| e.at(field as u64);
        if raw.signature.get() != SIGNATURE {
            return Err(at(offset_of!(RawHeader, signature))(Error::corrupt(
                format!(
                    "expected the VDI signature {SIGNATURE:#x}, found {:#x}",
                    raw.signature.get()
                ),
            )));
        }
        raw.check_version()
            .map_err(at(offset_of!(RawHeader, minor)))?;
        let image_type = raw
            .image_type()
            .map_err(at(offset_of!(RawHeader, image_type)))?;
        raw.check_sizes()
            .map_err(at(offset_of!(RawHeader, disk_size)))?;
        let comment = raw.comment.split(|byte| *byte == 0).next();
        Ok(Self {
            version: (raw.major.get(), raw.minor.get()),
            image_type,
            map_offset: raw.map_offset.get().into(),
            data_offset: raw.data_offset.get().into(),
            virtual_size: raw.disk_size.get(),
            block_size: raw.block_size.get(),
            block_extra: raw.block_extra.get(),
            blocks_allocated: raw.blocks_allocated.get(),
            id: Id(raw.id),
            modification_id: Id(raw.modification_id),
            parent_id: Id(raw.parent_id),
            parent_modification_id: Id(raw.parent_modification_id),
            comment: String::from_utf8_lossy(comment.unwrap_or_default()).into_owned(),
        })
    }
}

impl RawHeader {
    fn check_version(&self) -> Result<()> {
        let (major, minor) = (self.major.get(), self.minor.get());
        if major != 1 || minor > 1 {
            return Err(Error::unsupported(format!(
                "version {major}.{minor} of the VDI format is not supported (1.0 and 1.1 are); hint: VBoxManage \
                 clonemedium writes a new image"
            )));
        }
        if self.header_size.get() < MIN_HEADER_SIZE {
            return Err(Error::corrupt(format!(
                "expected a VDI header of at least {MIN_HEADER_SIZE} bytes, found {}",
                self.header_size.get()
            )));
        }
        Ok(())
    }

    fn image_type(&self) -> Result<ImageType> {
        match self.image_type.get() {
            1 => Ok(ImageType::Dynamic),
            2 => Ok(ImageType::Fixed),
            3 => Err(Error::unsupported("a VDI undo image is not supported")),
            4 => Ok(ImageType::Differencing),
            other => Err(Error::unsupported(format!(
                "VDI image type {other} is not supported (1, dynamic, 2, fixed, and 4, differencing, are)"
            ))),
        }
    }

    fn check_sizes(&self) -> Result<()> {
        let (disk, block) = (self.disk_size.get(), self.block_size.get());
        if !disk.is_multiple_of(u64::from(SECTOR)) {
            return Err(Error::corrupt(format!(
                "expected a disk in whole sectors, found {disk} bytes"
            )));
        }
        if block == 0 || !block.is_multiple_of(SECTOR) {
            return Err(Error::corrupt(format!(
                "expected a block size in whole sectors, found {block} bytes"
            )));
        }
        if block > MAX_BLOCK_SIZE || self.block_extra.get() > MAX_BLOCK_SIZE {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "expected blocks of at most {MAX_BLOCK_SIZE} bytes, found {block} and {} extra",
                    self.block_extra.get()
                ),
            ));
        }
        let blocks = disk.div_ceil(u64::from(block));
        if u64::from(self.blocks.get()) < blocks {
            return Err(Error::corrupt(format!(
                "expected {blocks} blocks for {disk} bytes of disk, found {}",
                self.blocks.get()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_real_files_have_them() {
        assert_eq!(offset_of!(RawHeader, signature), 0x40);
        assert_eq!(offset_of!(RawHeader, major), 0x46);
        assert_eq!(offset_of!(RawHeader, header_size), 0x48);
        assert_eq!(offset_of!(RawHeader, image_type), 0x4c);
        assert_eq!(offset_of!(RawHeader, comment), 0x54);
        assert_eq!(offset_of!(RawHeader, map_offset), 0x154);
        assert_eq!(offset_of!(RawHeader, sector_size), 0x168);
        assert_eq!(offset_of!(RawHeader, disk_size), 0x170);
        assert_eq!(offset_of!(RawHeader, block_extra), 0x17c);
        assert_eq!(offset_of!(RawHeader, blocks_allocated), 0x184);
        assert_eq!(offset_of!(RawHeader, id), 0x188);
        assert_eq!(offset_of!(RawHeader, parent_id), 0x1a8);
    }

    #[test]
    fn identifiers_are_spelled_as_virtualbox_spells_them() {
        // Of the snapshot {4664ba10-e748-4b86-b40c-92a5fb1fdff2}.vdi.
        let id = Id([
            0x10, 0xba, 0x64, 0x46, 0x48, 0xe7, 0x86, 0x4b, 0xb4, 0x0c, 0x92, 0xa5, 0xfb, 0x1f,
            0xdf, 0xf2,
        ]);
        assert_eq!(id.to_string(), "4664ba10-e748-4b86-b40c-92a5fb1fdff2");
    }
}
