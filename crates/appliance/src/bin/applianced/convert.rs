//! Converts one guest: everything mounted writable, the crate `guest` at work, everything unmounted and checked.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use types::{Concern, ConvertOptions, ConvertOutcome, OsType, Severity};

use crate::fsck;
use crate::mounts::{Access, GuestMounts};
use crate::payload;
use crate::run_guest::RunGuest;
use crate::service::State;
use crate::volume;

/// Converts the guest whose root is `root`.
pub(crate) fn run(
    state: &State,
    root: &str,
    options: &ConvertOptions,
    step: &mut dyn FnMut(&str),
) -> Result<ConvertOutcome> {
    let guest = state
        .guests
        .iter()
        .find(|guest| guest.root == root)
        .with_context(|| format!("no operating system was found on {root}"))?;
    let boot_device = guest
        .windows
        .as_ref()
        .and_then(|windows| windows.boot_device.as_deref());
    let volumes: BTreeSet<(&str, &str)> = guest
        .mountpoints
        .iter()
        .map(|mountpoint| (mountpoint.device.as_str(), mountpoint.fs_type.as_str()))
        .chain(boot_device.map(|device| {
            let content = state.storage.map().get(device);
            (device, content.map_or("", |device| device.content.as_str()))
        }))
        .collect();
    let is_windows = guest.os == OsType::Windows;
    let is_forced = options.force_hibernated && is_windows;
    let is_blocker = |concern: &&Concern| concern.severity == Severity::Blocker;
    // ntfs-3g would stumble over it, too, in words that do not tell hibernation from a crash.
    if is_windows
        && !is_forced
        && let Some(blocker) = guest.concerns.iter().find(is_blocker)
    {
        match &blocker.fix {
            Some(fix) => bail!("{}; {fix}", blocker.what),
            None => bail!("{}", blocker.what),
        }
    }
    let mut left = BTreeMap::new();
    for (device, _) in volumes.iter().filter(|(_, content)| *content == "ntfs") {
        match volume::writable(&state.storage, device, is_forced) {
            Ok(found) => {
                left.insert(*device, found);
            }
            Err(error) if is_windows => return Err(error),
            // A data volume of another system is left out when it can't be mounted.
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
    let access = if is_forced {
        Access::Force
    } else {
        Access::Write
    };
    let mut mounts = GuestMounts::new(&state.storage, access);
    let root_options = state.root_options.get(root).map_or("", String::as_str);
    for mountpoint in &guest.mountpoints {
        mounts.mount(mountpoint, root_options)?;
    }
    let handle = mounts.root()?;
    let boot = boot_device.and_then(|device| match mounts.mount_boot(device, 0) {
        Ok(root) => Some(guest::BootVolume {
            device: device.to_owned(),
            root,
        }),
        // The step that wants it says what is not done.
        Err(error) => {
            tracing::warn!("{error:#}");
            None
        }
    });
    let lent = guest::Lent {
        payload: payload::open(options, guest.os)?,
        guest_code: Some(&RunGuest),
        programs: Some(std::path::Path::new("/usr/lib/v2v/windows")),
        boot: boot.as_ref(),
    };
    let map = state.storage.map();
    let mut outcome = guest::convert_with(&handle, guest, map, options, &lent, step)?;
    drop(lent);
    drop((handle, boot));
    mounts.still_writable()?;
    mounts.unmount().context("unmounting the converted guest")?;
    outcome
        .changes
        .extend(volume::fix_geometry(&state.storage, guest)?);
    for (device, content) in volumes {
        let node = state.storage.node(device)?;
        match left.get(device) {
            Some(before) => volume::verify(node, device, before.is_dirty)?,
            None => fsck::verify(node, device, content)?,
        }
    }
    Ok(outcome)
}
