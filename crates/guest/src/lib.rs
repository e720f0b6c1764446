//! Inspects and converts a guest's mounted file systems, on a directory handle.
//!
//! Knows nothing of virtual machines or of how the tree came to be mounted: `applianced` calls it on a real
//! guest, the tests on a directory.
//!
//! ```text
//!   is_os_root ──> mountpoints ──> (caller mounts them) ──> inspect ──> convert
//! ```

mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hostcmd;
mod linux;
mod payload;
mod recorder;
mod root;
mod windows;
mod words;

use types::{ConvertOptions, ConvertOutcome, GuestInfo, Mountpoint, OsType, StorageMap};

pub use error::{Error, ErrorKind, Result};
pub use linux::customise::GuestCode;
pub use linux::hibernation::{
    SWAP_SIGNATURE_END, has_suspend_signature, hibernated, refuse_hibernated,
    refuse_hibernated_files, resume_places,
};
pub use linux::mounts::root_subvolume;
pub use payload::{Member, MemberKind, Payload};
pub use recorder::Recorder;
pub use root::{CONFIG_MAX, Entry, INITRD_MAX, Kind, Meta, Root};

/// True when this file system is the root of an operating system (only it is mounted).
pub fn is_os_root(root: &Root) -> bool {
    linux::inspect::is_root(root) || windows::inspect::is_root(root)
}

/// File systems that the guest mounts by itself at boot, from its fstab, resolved to names of the storage map: root
/// first, parents before children. Swap, network and missing `nofail` ones are left out.
pub fn mountpoints(
    root: &Root,
    storage: &StorageMap,
    root_device: &str,
) -> Result<Vec<Mountpoint>> {
    if windows::inspect::is_root(root) {
        let fs_type = storage.get(root_device);
        return Ok(vec![Mountpoint {
            device: root_device.to_owned(),
            path: "/".to_owned(),
            fs_type: fs_type.map_or_else(String::new, |device| device.content.clone()),
        }]);
    }
    linux::mounts::mountpoints(root, storage, root_device)
}

/// True when this file system holds a Windows, whatever its folder is called.
pub fn is_windows_root(root: &Root) -> bool {
    windows::inspect::is_root(root)
}

/// A volume besides its own that Windows boots from: the EFI system partition, or "System Reserved". It has no path in the
/// guest.
#[derive(Debug)]
pub struct BootVolume {
    /// Device, as [`BlockDevice::name`](types::BlockDevice::name) spells it.
    pub device: String,
    /// Where it is mounted.
    pub root: Root,
}

/// Volumes besides its own that this Windows may boot from, the likeliest first; none for other systems.
pub fn boot_candidates(root: &Root, storage: &StorageMap, root_device: &str) -> Vec<String> {
    if windows::inspect::is_root(root) {
        windows::inspect::boot::candidates(storage, root_device)
    } else {
        Vec::new()
    }
}

/// Reads bytes as Windows' boot configuration data, for the fuzzer.
#[doc(hidden)]
pub fn probe_bcd(bytes: &[u8]) {
    windows::bcd::probe(bytes);
}

/// Describes the guest; everything in `mountpoints` is mounted below `root`. Changes nothing.
pub fn inspect(root: &Root, storage: &StorageMap, mountpoints: &[Mountpoint]) -> Result<GuestInfo> {
    inspect_with(root, storage, mountpoints, &[])
}

/// [`inspect`] with those [`boot_candidates`] that could be mounted; the one that it boots from becomes `boot_device`.
pub fn inspect_with(
    root: &Root,
    storage: &StorageMap,
    mountpoints: &[Mountpoint],
    boot: &[BootVolume],
) -> Result<GuestInfo> {
    let mut guest = if windows::inspect::is_root(root) {
        windows::inspect::inspect(root, storage, mountpoints, boot)?
    } else {
        linux::inspect::inspect(root, storage, mountpoints)?
    };
    for text in [
        &mut guest.product_name,
        &mut guest.version,
        &mut guest.distro,
    ]
    .into_iter()
    .chain(&mut guest.hostname)
    {
        *text = linux::escapes::printable(text).into_owned();
    }
    Ok(guest)
}

/// Converts the guest in place. `step` is called with the name of each step as it begins.
///
/// Refuses a hibernated guest, and a guest whose file systems are too full, before anything is changed.
pub fn convert(
    root: &Root,
    guest: &GuestInfo,
    storage: &StorageMap,
    options: &ConvertOptions,
    step: &mut dyn FnMut(&str),
) -> Result<ConvertOutcome> {
    convert_with(root, guest, storage, options, &Lent::default(), step)
}

/// What a conversion may use besides the guest.
#[derive(Debug, Default)]
pub struct Lent<'a> {
    /// Files of the host.
    pub payload: Payload,
    /// Runs the guest's programs.
    pub guest_code: Option<&'a dyn GuestCode>,
    /// Directory of our programs for Windows: `v2v-firstboot-x86.exe`, `v2v-firstboot-amd64.exe`.
    pub programs: Option<&'a std::path::Path>,
    /// The volume `boot_device` of a Windows, writable.
    pub boot: Option<&'a BootVolume>,
}

/// [`convert`] with files of the host, and perhaps programs of the guest.
pub fn convert_with(
    root: &Root,
    guest: &GuestInfo,
    storage: &StorageMap,
    options: &ConvertOptions,
    lent: &Lent<'_>,
    step: &mut dyn FnMut(&str),
) -> Result<ConvertOutcome> {
    match guest.os {
        OsType::Windows => windows::convert::convert(root, guest, storage, options, lent, step),
        _ => linux::convert::convert(root, guest, storage, options, lent, step),
    }
}

/// Says what of an expression of `--edit` is not understood.
pub fn check_edit(expression: &str) -> Result<()> {
    linux::customise::substitution::Program::parse(expression).map(drop)
}

#[cfg(test)]
mod tests;
