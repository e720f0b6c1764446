//! VMware machines by their `.vmx` (`-i vmx`).

use crate::Prepared;
use crate::error::{Error, Result};
use crate::open::{SourceOptions, VmxPlace};

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare(place: &VmxPlace, options: &SourceOptions) -> Result<Prepared> {
    let _ = (place, options);
    Err(Error::unsupported("-i vmx is not supported yet"))
}
