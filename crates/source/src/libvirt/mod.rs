//! libvirt domains by their XML (`-i libvirtxml`, `-i libvirt`).

use std::path::Path;

use crate::Prepared;
use crate::error::{Error, Result};
use crate::open::SourceOptions;

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare_file(path: &Path, options: &SourceOptions) -> Result<Prepared> {
    let _ = (path, options);
    Err(Error::unsupported("-i libvirt is not supported yet"))
}

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare(
    uri: Option<&str>,
    domain: &str,
    options: &SourceOptions,
) -> Result<Prepared> {
    let _ = (uri, domain, options);
    Err(Error::unsupported("-i libvirt is not supported yet"))
}
