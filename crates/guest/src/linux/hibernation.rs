//! A hibernated guest holds its file systems in memory; writing to them now would damage them when it resumes.

use types::{GuestInfo, StorageMap};

use crate::linux::fstab;
use crate::{Error, ErrorKind, Result, Root};

/// The last ten bytes of the first page of swap space that holds a hibernation image (kernel/power/swap.c).
const SUSPEND_SIGNATURES: [&[u8; 9]; 2] = [b"S1SUSPEND", b"S2SUSPEND"];
/// Offset of that signature with pages of 4 KiB.
const SIGNATURE_OFFSET: u64 = 4096 - 10;

/// Fails when swap space on these disks holds a hibernated system.
pub fn refuse_hibernated(storage: &StorageMap) -> Result<()> {
    match storage
        .devices
        .iter()
        .find(|device| device.content == "swsuspend")
    {
        Some(device) => Err(refusal(&device.name)),
        None => Ok(()),
    }
}

/// The same for swap files, with everything mounted.
pub(crate) fn refuse_hibernated_files(root: &Root, guest: &GuestInfo) -> Result<()> {
    let entries = fstab::parse(&root.text("/etc/fstab").unwrap_or_default());
    for entry in entries
        .iter()
        .filter(|entry| entry.fs_type == "swap" && !entry.spec.starts_with("/dev/"))
    {
        if entry.spec.starts_with('/')
            && root.is_file(&entry.spec)
            && has_signature(root, &entry.spec)?
        {
            return Err(refusal(&format!("{} on {}", entry.spec, guest.root)));
        }
    }
    Ok(())
}

fn has_signature(root: &Root, path: &str) -> Result<bool> {
    let file = root.open_file(path)?;
    let mut bytes = [0u8; 9];
    match std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, SIGNATURE_OFFSET) {
        Ok(()) => Ok(SUSPEND_SIGNATURES.contains(&&bytes)),
        Err(_) => Ok(false),
    }
}

fn refusal(place: &str) -> Error {
    let message = format!(
        "the guest is hibernated (its memory is saved in swap space {place}); start it at its source, let it resume, \
         shut it down properly, and convert it again"
    );
    Error::new(ErrorKind::Refused, message)
}
