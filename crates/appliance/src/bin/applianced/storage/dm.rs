//! Device mapper: what is active, whoever made it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tool::Tool;

const DMSETUP: &str = "/usr/sbin/dmsetup";

/// An active device of device mapper.
#[derive(Debug)]
pub(super) struct Device {
    /// `dm-0`.
    pub(super) kname: String,
    /// Its name there.
    pub(super) name: String,
    /// `LVM-…`, `CRYPT-…`.
    pub(super) uuid: String,
}

/// All of them.
pub(super) fn devices() -> Result<Vec<Device>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let entry = entry?;
        let read = |file: &str| fs::read_to_string(entry.path().join("dm").join(file));
        if let (Ok(name), Ok(uuid)) = (read("name"), read("uuid")) {
            all.push(Device {
                kname: entry.file_name().to_string_lossy().into_owned(),
                name: name.trim_end().to_owned(),
                uuid: uuid.trim_end().to_owned(),
            });
        }
    }
    Ok(all)
}

/// Gives a device another name, in this kernel's memory only.
pub(super) fn rename(from: &str, to: &str) -> Result<()> {
    Tool::new(DMSETUP)
        .args(["rename", from, to])
        .run()?
        .success()
        .map(drop)
}

/// Removes all on which nothing else stands; gives how many are gone and how many are left.
pub(super) fn remove_topmost() -> Result<(usize, usize)> {
    let all = devices()?;
    let mut removed = 0;
    for device in all.iter().filter(|device| holders(&device.kname) == 0) {
        let outcome = Tool::new(DMSETUP)
            .args(["remove", "--retry", &device.name])
            .run()?;
        removed += usize::from(outcome.code() == Some(0));
    }
    Ok((removed, all.len() - removed))
}

fn holders(kname: &str) -> usize {
    let folder = Path::new("/sys/block").join(kname).join("holders");
    fs::read_dir(folder).map_or(0, Iterator::count)
}
