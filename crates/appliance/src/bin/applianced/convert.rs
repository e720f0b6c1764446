//! Converts one guest: everything mounted writable, the crate `guest` at work, everything unmounted and checked.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use types::{ConvertOptions, ConvertOutcome, OsType};

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
    let is_forced = options.force_hibernated && guest.os == OsType::Windows;
    let mut dirty = BTreeSet::new();
    for (device, _) in volumes.iter().filter(|(_, content)| *content == "ntfs") {
        let found = volume::writable(&state.storage, device, is_forced)?;
        if found.is_dirty {
            dirty.insert(*device);
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
        payload: payload::open(options)?,
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
        if content == "ntfs" {
            volume::verify(node, device, dirty.contains(device))?;
        } else {
            fsck::verify(node, device, content)?;
        }
    }
    Ok(outcome)
}
