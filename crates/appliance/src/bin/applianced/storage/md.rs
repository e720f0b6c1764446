//! Linux software RAID. Arrays start read-only (`start_ro`) and with resynchronisation frozen: nothing is written
//! until a file system on them is, and then only that.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use types::DeviceKind;

use super::{Storage, blkid, block_device, partitions, size};
use crate::init;
use crate::tool::Tool;

const MDADM: &str = "/usr/sbin/mdadm";

/// Assembles every array and adds those that are new, with their partitions.
pub(super) fn assemble(storage: &mut Storage) -> Result<()> {
    Tool::new("/usr/sbin/modprobe")
        .arg("md_mod")
        .run()?
        .success()?;
    init::set("/sys/module/md_mod/parameters/start_ro", "1");
    let arguments = [
        "--assemble",
        "--scan",
        "--run",
        "--config=partitions",
        "--homehost=<ignore>",
    ];
    let outcome = Tool::new(MDADM).args(arguments).run()?;
    if outcome.code() != Some(0) {
        // Some arrays may run all the same; the guest that needs another says so by its fstab.
        tracing::warn!("{}", outcome.complaint());
    }
    let mut arrays = Vec::new();
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let entry = entry?;
        let kname = entry.file_name().to_string_lossy().into_owned();
        let node = PathBuf::from("/dev").join(&kname);
        if !entry.path().join("md").is_dir() || storage.knows(&node) {
            continue;
        }
        if size(&kname)? == 0 {
            tracing::warn!("the array {kname} did not start: too many of its disks are missing");
            continue;
        }
        init::set(entry.path().join("md/sync_action"), "frozen");
        let detail = Tool::new(MDADM)
            .args(["--detail", "--export"])
            .arg(&node)
            .run()?
            .success()?;
        let name = array_name(&detail).unwrap_or_else(|| kname.clone());
        for (partition, number) in partitions(&kname)? {
            arrays.push((partition, format!("{name}p{number}")));
        }
        arrays.push((kname, name));
    }
    arrays.sort();
    let mut probes = blkid::probe(arrays.iter().map(|(kname, _)| kname.as_str()))?;
    for (kname, name) in arrays {
        let probe = probes.remove(&kname).unwrap_or_default();
        let device = block_device(
            format!("/dev/md/{name}"),
            DeviceKind::Md { name },
            &kname,
            probe,
        )?;
        storage.add(PathBuf::from("/dev").join(&kname), device);
    }
    Ok(())
}

/// Stops every array, which marks it as clean.
pub(super) fn stop() -> Result<()> {
    Tool::new(MDADM)
        .args(["--stop", "--scan"])
        .run()?
        .success()
        .map(drop)
}

/// MD_NAME is `HOST:NAME`, or `NAME` where the array belongs to any host; old superblocks have none.
fn array_name(detail: &str) -> Option<String> {
    let name = detail
        .lines()
        .find_map(|line| line.strip_prefix("MD_NAME="))?;
    let name = name.rsplit(':').next().unwrap_or(name);
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_called_as_their_superblock_says() {
        let detail =
            "MD_LEVEL=raid1\nMD_DEVICES=2\nMD_METADATA=1.2\nMD_UUID=a:b:c:d\nMD_NAME=web01:root\n";
        assert_eq!(array_name(detail).as_deref(), Some("root"));
        assert_eq!(array_name("MD_NAME=0\n").as_deref(), Some("0"));
        assert_eq!(array_name("MD_NAME=../../x\n"), None);
        assert_eq!(array_name("MD_LEVEL=raid1\n"), None);
    }
}
