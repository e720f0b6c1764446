//! The disks that the host attached, and their partitions.
//!
//! The host gives disk N of the machine the virtio serial `diskN` (virtio 1.2, section 5.2.6.1, "GET_ID"), because the
//! kernel's own order of disks is no one's promise.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use types::{BlockDevice, DeviceKind, disk_letters};

use super::blkid::{self, Probe};
use super::{Storage, block_device, partitions, sysfs_number};
use crate::tool::Tool;

/// Unit of `start` below /sys/class/block, in bytes, whatever the disk's own sectors are.
const SYSFS_SECTOR: u64 = 512;
/// How long disks may take to appear after their driver is loaded.
const PATIENCE: Duration = Duration::from_secs(30);

/// Adds `count` disks, each followed by its partitions.
pub(super) fn add(storage: &mut Storage, count: u32) -> Result<()> {
    Tool::new("/usr/sbin/modprobe")
        .arg("virtio_blk")
        .run()?
        .success()?;
    let disks = wait(count)?;
    let mut parts = BTreeMap::new();
    for (index, kname) in &disks {
        parts.insert(*index, partitions(kname)?);
    }
    let all = disks
        .values()
        .chain(parts.values().flatten().map(|(kname, _)| kname));
    let mut probes = blkid::probe(all.map(String::as_str))?;
    for (index, kname) in &disks {
        let name = format!("/dev/sd{}", disk_letters(*index));
        let probe = probes.remove(kname).unwrap_or_default();
        let kind = DeviceKind::Disk {
            disk: *index,
            table: probe.table.clone(),
        };
        storage.add(node(kname), block_device(name.clone(), kind, kname, probe)?);
        for (kname, number) in parts.get(index).into_iter().flatten() {
            let kind = DeviceKind::Partition {
                disk: *index,
                number: *number,
            };
            let name = format!("{name}{number}");
            let probe = probes.remove(kname).unwrap_or_default();
            let start = sysfs_number(kname, "start")?;
            let probe = agreed(probe, start, u64::from(*number), &name);
            let device = BlockDevice {
                start: start.checked_mul(SYSFS_SECTOR),
                ..block_device(name, kind, kname, probe)?
            };
            storage.add(node(kname), device);
        }
    }
    Ok(())
}

/// Kernel names by disk index, once all are there.
fn wait(count: u32) -> Result<BTreeMap<u32, String>> {
    let since = Instant::now();
    loop {
        let disks = present()?;
        let found = disks.len();
        if (0..count).all(|index| disks.contains_key(&index)) {
            return Ok(disks
                .into_iter()
                .filter(|(index, _)| *index < count)
                .collect());
        }
        if since.elapsed() > PATIENCE {
            bail!(
                "the host attached {count} disks, and {found} appeared: {:?}",
                disks.keys()
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn present() -> Result<BTreeMap<u32, String>> {
    let mut disks = BTreeMap::new();
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let entry = entry?;
        let serial = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if let Some(index) = serial
            .trim()
            .strip_prefix("disk")
            .and_then(|index| index.parse().ok())
        {
            disks.insert(index, entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(disks)
}

/// The table entry that blkid read is the one that the kernel made this partition from; else what the entry says
/// of it is not to be trusted.
fn agreed(probe: Probe, start: u64, number: u64, name: &str) -> Probe {
    match probe.entry {
        Some(entry) if entry != (start, number) => {
            tracing::warn!(
                "{name}: the kernel has it at sector {start} as number {number}, blkid reads {entry:?}"
            );
            Probe {
                partuuid: None,
                partlabel: None,
                parttype: None,
                ..probe
            }
        }
        _ => probe,
    }
}

fn node(kname: &str) -> PathBuf {
    PathBuf::from("/dev").join(kname)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_the_kernel_contradicts_is_not_believed() {
        let probe = Probe {
            partuuid: Some("x-01".into()),
            entry: Some((2048, 1)),
            ..Probe::default()
        };
        assert_eq!(agreed(probe.clone(), 2048, 1, "/dev/sda1"), probe);
        assert_eq!(agreed(probe, 4096, 1, "/dev/sda1").partuuid, None);
    }
}
