//! Converts one guest: everything mounted writable, the crate `guest` at work, everything unmounted and checked.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use types::{ConvertOptions, ConvertOutcome};

use crate::fsck;
use crate::mounts::{Access, GuestMounts};
use crate::payload;
use crate::run_guest::RunGuest;
use crate::service::State;

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
    let lent = guest::Lent {
        payload: payload::open(options, guest.os)?,
        guest_code: Some(&RunGuest),
        programs: Some(std::path::Path::new("/usr/lib/v2v/windows")),
    };
    let mut mounts = GuestMounts::new(&state.storage, Access::Write);
    let root_options = state.root_options.get(root).map_or("", String::as_str);
    for mountpoint in &guest.mountpoints {
        mounts.mount(mountpoint, root_options)?;
    }
    let handle = mounts.root()?;
    let outcome = guest::convert_with(&handle, guest, state.storage.map(), options, &lent, step)?;
    drop(handle);
    mounts.still_writable()?;
    mounts.unmount().context("unmounting the converted guest")?;
    let mut checked = BTreeSet::new();
    for mountpoint in &guest.mountpoints {
        if checked.insert(&mountpoint.device) {
            let node = state.storage.node(&mountpoint.device)?;
            fsck::verify(node, &mountpoint.device, &mountpoint.fs_type)?;
        }
    }
    Ok(outcome)
}
