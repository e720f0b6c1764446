//! Hyper-V machines: `.vmcx` and the older `.xml` (`-i hyperv`).

use std::path::Path;

use crate::Prepared;
use crate::error::{Error, Result};
use crate::open::SourceOptions;

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare(path: &Path, options: &SourceOptions) -> Result<Prepared> {
    let _ = (path, options);
    Err(Error::unsupported("-i hyperv is not supported yet"))
}
