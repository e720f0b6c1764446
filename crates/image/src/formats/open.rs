//! Opens an image of any format, by content.

use std::path::Path;
use std::sync::Arc;

use crate::{BlockSource, Error, FileRange, Result};

/// A format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Bytes as they are.
    Raw,
    /// QEMU copy-on-write, versions 2 and 3.
    Qcow2,
    /// VMware.
    Vmdk,
}

/// Opens the image file at `path`; `format` overrides detection.
pub fn open(path: &Path, format: Option<Format>) -> Result<Arc<dyn BlockSource>> {
    open_range(FileRange::open(path)?, format)
}

/// Opens an image that is part of a larger file.
pub fn open_range(range: FileRange, _format: Option<Format>) -> Result<Arc<dyn BlockSource>> {
    Err(Error::unsupported("reading is being written").in_file(range.label()))
}
