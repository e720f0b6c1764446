//! Linux software RAID. Arrays start read-only (`start_ro`) and with resynchronisation frozen: nothing is written
//! until a file system on them is, and then only that.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use types::DeviceKind;

use super::{Storage, blkid, block_device, partitions, size};
use crate::init;
use crate::tool::Tool;

const MDADM: &str = "/usr/sbin/mdadm";

/// Contents of which mdadm makes arrays.
pub(super) const MEMBERS: [&str; 3] = ["linux_raid_member", "isw_raid_member", "ddf_raid_member"];

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
    let mut devices = Vec::new();
    for kname in arrays()? {
        if !storage.knows(&node(&kname)) && setting(&kname, "level") != "container" {
            add(storage, &kname, &mut devices)?;
        }
    }
    let mut probes = blkid::probe(devices.iter().map(|(kname, _)| kname.as_str()))?;
    for (kname, name) in devices {
        let probe = probes.remove(&kname).unwrap_or_default();
        let device = block_device(
            format!("/dev/md/{name}"),
            DeviceKind::Md { name },
            &kname,
            probe,
        )?;
        storage.add(node(&kname), device);
    }
    Ok(())
}

/// Puts one array and its partitions on the list, unless it does not run; says what it lacks.
fn add(storage: &mut Storage, kname: &str, devices: &mut Vec<(String, String)>) -> Result<()> {
    let detail = Tool::new(MDADM)
        .args(["--detail", "--export"])
        .arg(node(kname))
        .run()?
        .success()?;
    let taken: Vec<String> = devices
        .iter()
        .map(|(_, name)| name.clone())
        .chain(
            storage
                .map()
                .devices
                .iter()
                .filter_map(|device| match &device.kind {
                    DeviceKind::Md { name } => Some(name.clone()),
                    _ => None,
                }),
        )
        .collect();
    // The oldest superblocks hold no name but a number.
    let number = kname.strip_prefix("md").unwrap_or(kname);
    let name = array_name(&detail).unwrap_or_else(|| number.to_owned());
    let name = unused(name, &taken);
    let (level, disks) = (setting(kname, "level"), setting(kname, "raid_disks"));
    if size(kname)? == 0 {
        storage.warn(
            format!("the array {name} ({level}) of {disks} disks does not run: too many of them are missing"),
            Some("convert all disks of the array together".to_owned()),
        );
        return Ok(());
    }
    init::set(format!("/sys/block/{kname}/md/sync_action"), "frozen");
    let missing: u32 = setting(kname, "degraded").parse().unwrap_or(0);
    if missing > 0 {
        storage.warn(
            format!("the array {name} ({level}) lacks {missing} of its {disks} disks, and runs without"),
            Some(format!(
                "convert all disks of the array together, or after the conversion add a disk (mdadm --add) or make it \
                 smaller (mdadm --grow /dev/md/{name} --raid-devices=N)"
            )),
        );
    }
    for (partition, number) in partitions(kname)? {
        devices.push((partition, format!("{name}p{number}")));
    }
    devices.push((kname.to_owned(), name));
    Ok(())
}

fn node(kname: &str) -> PathBuf {
    PathBuf::from("/dev").join(kname)
}

/// What the kernel says of an array (Documentation/admin-guide/md.rst); empty when it says nothing.
fn setting(kname: &str, file: &str) -> String {
    let text = fs::read_to_string(format!("/sys/block/{kname}/md/{file}"));
    text.unwrap_or_default().trim().to_owned()
}

/// As mdadm does: a number behind a name that another array has already.
fn unused(name: String, taken: &[String]) -> String {
    let is_free = |choice: &String| !taken.contains(choice);
    let numbered = (0u32..).map(|number| format!("{name}_{number}"));
    let found = std::iter::once(name.clone()).chain(numbered).find(is_free);
    found.unwrap_or(name)
}

/// Stops every array on which nothing stands, which marks it as clean; gives how many are left.
pub(super) fn stop() -> Result<usize> {
    if arrays()?.is_empty() {
        return Ok(0);
    }
    let outcome = Tool::new(MDADM).args(["--stop", "--scan"]).run()?;
    if outcome.code() != Some(0) {
        tracing::debug!("{}", outcome.complaint());
    }
    Ok(arrays()?.len())
}

/// Kernel names of all arrays, running or not.
fn arrays() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let kname = entry?.file_name().to_string_lossy().into_owned();
        if Path::new("/sys/block").join(&kname).join("md").is_dir() {
            found.push(kname);
        }
    }
    found.sort();
    Ok(found)
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
    fn a_second_array_of_one_name_gets_a_number() {
        let taken = ["0", "0_0"].map(str::to_owned);
        assert_eq!(unused("0".into(), &taken), "0_1");
        assert_eq!(unused("root".into(), &taken), "root");
    }

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
