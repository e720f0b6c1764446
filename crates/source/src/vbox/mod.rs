//! VirtualBox machines by their `.vbox` (`-i vbox`).

use std::path::Path;

use crate::Prepared;
use crate::error::{Error, Result};
use crate::open::SourceOptions;

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare(path: &Path, options: &SourceOptions) -> Result<Prepared> {
    let _ = (path, options);
    Err(Error::unsupported("-i vbox is not supported yet"))
}
