//! Creates an image of any format that can be written.

use std::path::Path;

use crate::{BlockSink, Error, Preallocation, Result};

/// A format that can be written (`-of`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// Bytes as they are, with holes.
    Raw,
    /// qcow2 version 3.
    Qcow2,
}

/// Creates a new image file at `path`, which must not exist.
pub fn create(
    path: &Path,
    _format: OutputFormat,
    _virtual_size: u64,
    _preallocation: Preallocation,
) -> Result<Box<dyn BlockSink>> {
    Err(Error::unsupported("writing is being written").in_path(path))
}
