//! Tells the host what need not be copied: free blocks of every file system, and all of swap space but its header.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use types::BlockDevice;

use crate::mounts::{self, Access, GUEST};
use crate::service::State;
use crate::tool::Tool;
use crate::volume;

/// Of swap space this much is kept: its header is one page, and pages are up to 64 KiB (arm64, ppc64).
const SWAP_HEADER: u64 = 64 << 10;
/// File systems that can be trimmed while mounted.
const TRIMMABLE: &[&str] = &[
    "ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "f2fs", "jfs",
];

/// Discards on all devices but those mounted at `skip` in the guest `root`; gives the bytes discarded.
pub(crate) fn run(state: &State, root: &str, skip: &[String]) -> Result<u64> {
    let skipped: BTreeSet<&str> = state
        .guests
        .iter()
        .filter(|guest| guest.root == root)
        .flat_map(|guest| &guest.mountpoints)
        .filter(|mountpoint| skip.contains(&mountpoint.path))
        .map(|mountpoint| mountpoint.device.as_str())
        .collect();
    let mut total: u64 = 0;
    for device in &state.storage.map().devices {
        if skipped.contains(device.name.as_str()) || state.storage.is_hidden(&device.name) {
            continue;
        }
        let discarded = match device.content.as_str() {
            "swap" => discard_swap(state, device),
            "ntfs" => volume::trim(&state.storage, device),
            content if TRIMMABLE.contains(&content) => trim(state, device),
            _ => continue,
        };
        match discarded {
            Ok(bytes) => {
                tracing::debug!("{}: {bytes} bytes discarded", device.name);
                total = total.saturating_add(bytes);
            }
            // Then more is copied than need be; that is all.
            Err(error) => tracing::warn!("{} is copied whole: {error:#}", device.name),
        }
    }
    Ok(total)
}

fn trim(state: &State, device: &BlockDevice) -> Result<u64> {
    let node = state.storage.node(&device.name)?;
    mounts::mount(
        node,
        &device.name,
        &device.content,
        GUEST.as_ref(),
        Access::Write,
        "",
    )?;
    let result = Tool::new("/usr/sbin/fstrim")
        .args(["--verbose", GUEST])
        .run()
        .and_then(crate::tool::Outcome::success);
    mounts::unmount_below(GUEST)?;
    trimmed(&result?).context("fstrim did not say how much it discarded")
}

/// `/guest: 1.2 GiB (1288490188 bytes) trimmed`
fn trimmed(words: &str) -> Option<u64> {
    words
        .split_once('(')?
        .1
        .split_once(" bytes")?
        .0
        .parse()
        .ok()
}

fn discard_swap(state: &State, device: &BlockDevice) -> Result<u64> {
    let Some(len) = device
        .virtual_size
        .checked_sub(SWAP_HEADER)
        .filter(|len| *len > 0)
    else {
        return Ok(0);
    };
    Tool::new("/usr/sbin/blkdiscard")
        .args([
            "--force",
            "--offset",
            &SWAP_HEADER.to_string(),
            "--length",
            &len.to_string(),
        ])
        .arg(state.storage.node(&device.name)?)
        .run()?
        .success()?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstrim_says_how_much() {
        assert_eq!(
            trimmed("/guest: 5.3 GiB (5707014144 bytes) trimmed\n"),
            Some(5_707_014_144)
        );
        assert_eq!(trimmed("/guest: 0 B (0 bytes) trimmed"), Some(0));
        assert_eq!(trimmed("fstrim: no"), None);
    }
}
