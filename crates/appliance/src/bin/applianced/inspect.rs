//! Finds the operating systems on the assembled devices and describes each.
//!
//! Every file system is first looked at read-only with its journal left alone; only those of an operating system are
//! made consistent and mounted together.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Result, bail};
use types::{BlockDevice, Concern, GuestInfo, Severity};

use crate::fsck;
use crate::mounts::{self, Access, GUEST, GuestMounts};
use crate::storage::Storage;
use crate::subvolumes;
use crate::volume;

/// So many volumes are looked at for one that a Windows boots from.
const BOOT_VOLUMES: usize = 8;

/// Mount options of roots that need any, by device name.
pub(crate) type RootOptions = BTreeMap<String, String>;

/// Describes every operating system on the devices.
pub(crate) fn run(storage: &Storage) -> Result<(Vec<GuestInfo>, RootOptions)> {
    // Its file systems are in the memory of a sleeping system: not even their journals may be replayed.
    guest::refuse_hibernated(storage.map())?;
    let (mut guests, mut root_options) = (Vec::new(), RootOptions::new());
    let (mut failed, mut unread) = (None, Vec::new());
    for device in &storage.map().devices {
        if mounts::driver(&device.content).is_none() || storage.is_hidden(&device.name) {
            continue;
        }
        match peek(storage, device) {
            Ok(Some(options)) => {
                tracing::debug!("{} is the root of an operating system", device.name);
                match describe(storage, device, &options) {
                    Ok(guest) => {
                        guests.push(guest);
                        root_options.insert(device.name.clone(), options);
                    }
                    Err(error) => {
                        let error =
                            error.context(format!("inspecting the system on {}", device.name));
                        tracing::warn!("{error:#}");
                        failed.get_or_insert(error);
                    }
                }
            }
            Ok(None) => {}
            // A damaged data disk is no reason to refuse, beside a system that is sound.
            Err(error) => {
                tracing::warn!("{error:#}");
                let node = storage.node(&device.name)?;
                let words = fsck::explain(node, &device.name, &device.content);
                unread.push(words.unwrap_or_else(|| format!("{error:#}")));
            }
        }
    }
    if guests.is_empty() && failed.is_none() && unread.is_empty() {
        // Damage may hide a system: a directory that can't be read looks like one that is not there.
        unread = damaged(storage)?;
    }
    for guest in &mut guests {
        guest.concerns.extend(unread.iter().map(|what| Concern {
            severity: Severity::Warning,
            what: what.clone(),
            fix: None,
        }));
    }
    match (failed, unread.first()) {
        // A second system beside a sound one, a rescue partition perhaps, does not matter.
        (Some(error), _) if guests.is_empty() => Err(error),
        (None, Some(words)) if guests.is_empty() => bail!("{words}"),
        _ => Ok((guests, root_options)),
    }
}

/// What checkers say of the file systems that are sound enough to be mounted, where they can tell without a replay.
fn damaged(storage: &Storage) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for device in &storage.map().devices {
        if matches!(device.content.as_str(), "xfs" | "btrfs") && !storage.is_hidden(&device.name) {
            let node = storage.node(&device.name)?;
            words.extend(fsck::explain(node, &device.name, &device.content));
        }
    }
    Ok(words)
}

/// Mount options of the root of an operating system.
fn peek(storage: &Storage, device: &BlockDevice) -> Result<Option<String>> {
    if device.content == "btrfs" {
        return subvolumes::find_root(storage, device);
    }
    let node = storage.node(&device.name)?;
    let mount = |access| {
        let (name, content) = (&device.name, &device.content);
        mounts::mount(node, name, content, GUEST.as_ref(), access, "")
    };
    // A journal may hold what makes the difference: whole directories of a machine that lost its power.
    let accesses: &[Access] = if has_journal(&device.content) {
        &[Access::Peek, Access::Read]
    } else {
        &[Access::Peek]
    };
    let mut found = Ok(None);
    for access in accesses {
        found = mount(*access).and_then(|()| {
            let found = look();
            mounts::unmount_below(GUEST)?;
            found
        });
        if matches!(found, Ok(Some(_))) {
            break;
        }
    }
    found
}

fn has_journal(content: &str) -> bool {
    matches!(content, "ext3" | "ext4" | "xfs" | "f2fs")
}

fn look() -> Result<Option<String>> {
    let root = guest::Root::open(GUEST.as_ref())?;
    Ok(guest::is_os_root(&root).then(String::new))
}

fn describe(storage: &Storage, device: &BlockDevice, root_options: &str) -> Result<GuestInfo> {
    storage.refuse_dynamic(&device.name)?;
    fsck::replay(storage.node(&device.name)?, &device.name, &device.content)?;
    let volumes = volume::concerns_of(storage, device);
    let mut mounts = GuestMounts::new(storage, Access::Read);
    let root_mount = types::Mountpoint {
        device: device.name.clone(),
        path: "/".into(),
        fs_type: device.content.clone(),
    };
    mounts.mount(&root_mount, root_options)?;
    let root = mounts.root()?;
    let all = guest::mountpoints(&root, storage.map(), &device.name)?;
    let mut mounted = Vec::new();
    for mountpoint in all {
        if mountpoint.path == "/" {
            mounted.push(mountpoint);
            continue;
        }
        // The root's own device again is a subvolume of it, mounted already.
        if mountpoint.device != device.name {
            fsck::replay(
                storage.node(&mountpoint.device)?,
                &mountpoint.device,
                &mountpoint.fs_type,
            )?;
        }
        if mounts.mount(&mountpoint, root_options)? {
            mounted.push(mountpoint);
        }
    }
    refuse_hibernated_file(storage, &root, &device.name)?;
    let boot = mount_boot(storage, &mounts, &root, &device.name)?;
    let mut guest = guest::inspect_with(&root, storage.map(), &mounted, &boot)?;
    guest.concerns.extend(storage.concerns().iter().cloned());
    volume::add_concerns(&mut guest, volumes);
    guest
        .concerns
        .sort_by_key(|concern| std::cmp::Reverse(concern.severity));
    drop((root, boot));
    mounts.unmount()?;
    Ok(guest)
}

/// Volumes that a Windows may boot from, which it does not show in its tree.
fn mount_boot(
    storage: &Storage,
    mounts: &GuestMounts<'_>,
    root: &guest::Root,
    device: &str,
) -> Result<Vec<guest::BootVolume>> {
    let mut volumes = Vec::new();
    for (index, name) in guest::boot_candidates(root, storage.map(), device)
        .iter()
        .take(BOOT_VOLUMES)
        .enumerate()
    {
        match mounts.mount_boot(name, index) {
            Ok(root) => volumes.push(guest::BootVolume {
                device: name.clone(),
                root,
            }),
            Err(error) => tracing::warn!("left out: {error:#}"),
        }
    }
    Ok(volumes)
}

/// A swap file need not be in fstab for a system to sleep in it: the kernel is told where it is.
fn refuse_hibernated_file(storage: &Storage, root: &guest::Root, device: &str) -> Result<()> {
    guest::refuse_hibernated_files(root, device)?;
    for (device, offset) in guest::resume_places(root, storage.map(), device) {
        let mut page = [0; guest::SWAP_SIGNATURE_END];
        let read = File::open(storage.node(&device)?)
            .and_then(|file| file.read_exact_at(&mut page, offset));
        if read.is_ok() && guest::has_suspend_signature(&page) {
            bail!(
                "{}",
                guest::hibernated(&format!("the swap file at byte {offset} of {device}"))
            );
        }
    }
    Ok(())
}
