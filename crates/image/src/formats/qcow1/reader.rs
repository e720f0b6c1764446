//! Reads the image as a disk.

use crate::formats::context::Context;
use crate::formats::raw;
use crate::{BlockSource, Error, Extent, FileRange, Result};

/// An image.
#[derive(Debug)]
pub struct Reader(raw::Reader);

impl Reader {
    /// Opens the image as the next of a chain.
    pub(in crate::formats) fn open_in(range: FileRange, context: &mut Context) -> Result<Self> {
        context.enter(&range)?;
        Err(Error::unsupported("disk format qcow is not read yet").in_file(range.label()))
    }
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.0.virtual_size()
    }

    fn format(&self) -> &'static str {
        "qcow"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        self.0.extent_at(offset, max_len)
    }
}
