//! What Windows says of itself: the registry read, nothing changed.

use types::{BlockDevice, GuestInfo, Mountpoint, StorageMap};

use crate::windows::files;
use crate::{Result, Root};

/// True when this file system holds a Windows.
pub(crate) fn is_root(root: &Root) -> bool {
    system_root(root).is_some()
}

/// Its directory as it is spelled on the disk; it need not be called Windows.
pub(crate) fn system_root(root: &Root) -> Option<String> {
    files::find(root, "/Windows/System32/config/SYSTEM").map(|_| "/Windows".to_owned())
}

/// Describes it.
pub(crate) fn inspect(
    root: &Root,
    storage: &StorageMap,
    mountpoints: &[Mountpoint],
) -> Result<GuestInfo> {
    let _ = (root, storage, mountpoints, None::<BlockDevice>);
    unimplemented!()
}
