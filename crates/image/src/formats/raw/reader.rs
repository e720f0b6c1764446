//! Reads a raw image. Every file is a valid one; nothing is refused.

use crate::{BlockSource, Error, ErrorKind, Extent, ExtentKind, FileRange, Result, Stored};

/// Sectors are 512 bytes; a file that ends within one reads as if zeroes completed it.
const SECTOR: u64 = 512;

/// A raw image, or a part of a file read as one.
#[derive(Debug)]
pub struct Reader {
    range: FileRange,
    virtual_size: u64,
}

impl Reader {
    /// Reads `range` as a disk.
    pub fn open(range: FileRange) -> Result<Self> {
        let virtual_size = range
            .len()
            .checked_next_multiple_of(SECTOR)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Limit,
                    format!("{} bytes are too long for a disk", range.len()),
                )
                .in_file(range.label())
            })?;
        Ok(Self {
            range,
            virtual_size,
        })
    }
}

impl BlockSource for Reader {
    fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_read(offset, buf.len(), self.virtual_size)
            .map_err(|e| e.in_file(self.range.label()))?;
        let in_file =
            usize::try_from(self.range.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let (stored, tail) = buf.split_at_mut(in_file.min(buf.len()));
        tail.fill(0);
        if stored.is_empty() {
            Ok(())
        } else {
            self.range.read_exact_at(stored, offset)
        }
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        let (data, len) = self
            .range
            .run_at(offset, max_len.min(self.virtual_size - offset));
        let kind = if data {
            ExtentKind::Data
        } else {
            ExtentKind::Zero
        };
        Ok(Extent { offset, len, kind })
    }

    fn stored_at(&self, offset: u64, max_len: u64) -> Result<Stored> {
        Ok(Stored {
            extent: self.extent_at(offset, max_len)?,
            depth: Some(0),
            host: Some(offset),
            compressed: Some(false),
        })
    }
}

/// Refuses a read past the end of the disk.
pub(in crate::formats) fn check_read(offset: u64, len: usize, virtual_size: u64) -> Result<()> {
    if offset
        .checked_add(len as u64)
        .is_some_and(|end| end <= virtual_size)
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        format!(
            "read of {len} bytes at {offset:#x} passes the end of the disk at {virtual_size:#x}"
        ),
    ))
}
