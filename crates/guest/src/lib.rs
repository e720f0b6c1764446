//! Inspects and converts a guest's mounted file systems, on a directory handle.
//!
//! Knows nothing of virtual machines or of how the tree came to be mounted: `applianced` calls it on a real
//! guest, the tests on a directory.

use std::path::Path;

use types::{ConvertOptions, ConvertOutcome, GuestInfo, Mountpoint, StorageMap};

/// A failure of inspection or conversion.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The root directory of a mounted guest; every path is resolved inside it by the kernel (openat2 RESOLVE_IN_ROOT).
#[derive(Debug)]
pub struct Root;

impl Root {
    /// Opens the directory where the guest's root file system is mounted.
    pub fn open(_dir: &Path) -> Result<Self> {
        Err(Error("being written".into()))
    }
}

/// True when this file system is the root of an operating system (only it is mounted).
pub fn is_os_root(_root: &Root) -> bool {
    false
}

/// File systems that the guest mounts by itself at boot, from its fstab, resolved to names of the storage map: root
/// first, parents before children. Swap, network and missing `nofail` ones are left out.
pub fn mountpoints(_root: &Root, _storage: &StorageMap, _root_device: &str) -> Result<Vec<Mountpoint>> {
    Err(Error("being written".into()))
}

/// Describes the guest; everything in `mountpoints` is mounted below `root`. Changes nothing.
pub fn inspect(_root: &Root, _storage: &StorageMap, _mountpoints: &[Mountpoint]) -> Result<GuestInfo> {
    Err(Error("being written".into()))
}

/// Converts the guest in place. `step` is called with the name of each step as it begins.
pub fn convert(
    _root: &Root,
    _guest: &GuestInfo,
    _storage: &StorageMap,
    _options: &ConvertOptions,
    _step: &mut dyn FnMut(&str),
) -> Result<ConvertOutcome> {
    Err(Error("being written".into()))
}
