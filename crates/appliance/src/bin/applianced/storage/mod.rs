//! Assembles block devices from the disks: partitions by the kernel, then md arrays, LUKS and LVM, round after round
//! until nothing new appears, in whatever order they are stacked.

mod blkid;
mod disks;
mod luks;
mod lvm;
mod md;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use types::{BlockDevice, StorageMap};
use wire::appliance::Key;

use blkid::Probe;

/// More layers than any sane machine has; ends a loop over devices that contain each other.
const MAX_ROUNDS: u32 = 8;

/// The devices, by the names that the host and the guest use, and where the kernel has them.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    map: StorageMap,
    /// Kernel's device node for each entry of the map.
    nodes: Vec<PathBuf>,
    /// Names of LVM snapshots: old states of other volumes.
    snapshots: BTreeSet<String>,
}

impl Storage {
    /// Waits for `disks` disks, and assembles what is on them with these keys.
    pub(crate) fn assemble(disks: u32, keys: &[Key]) -> Result<Storage> {
        let mut storage = Storage::default();
        disks::add(&mut storage, disks)?;
        let mut tried = BTreeSet::new();
        for _ in 0..MAX_ROUNDS {
            let before = storage.nodes.len();
            let fresh: Vec<BlockDevice> = storage
                .map
                .devices
                .iter()
                .filter(|device| tried.insert(device.name.clone()))
                .cloned()
                .collect();
            let holds = |content: &str| fresh.iter().any(|device| device.content == content);
            if holds("linux_raid_member") {
                md::assemble(&mut storage)?;
            }
            luks::open(&mut storage, &fresh, keys)?;
            if holds("LVM2_member") {
                lvm::activate(&mut storage)?;
            }
            if storage.nodes.len() == before {
                break;
            }
        }
        for device in &storage.map.devices {
            tracing::debug!(
                "{}: {} bytes, {}",
                device.name,
                device.virtual_size,
                if device.content.is_empty() {
                    "nothing known"
                } else {
                    &device.content
                }
            );
        }
        Ok(storage)
    }

    /// What the host is told.
    pub(crate) fn map(&self) -> &StorageMap {
        &self.map
    }

    /// The kernel's node of the device called `name`.
    pub(crate) fn node(&self, name: &str) -> Result<&Path> {
        let index = self
            .map
            .devices
            .iter()
            .position(|device| device.name == name);
        index
            .and_then(|index| self.nodes.get(index))
            .map(PathBuf::as_path)
            .with_context(|| format!("no device {name}"))
    }

    /// True for an old state of another volume.
    pub(crate) fn is_snapshot(&self, name: &str) -> bool {
        self.snapshots.contains(name)
    }

    /// True when a device with this node is known.
    fn knows(&self, node: &Path) -> bool {
        self.nodes.iter().any(|known| known == node)
    }

    fn add(&mut self, node: PathBuf, device: BlockDevice) {
        self.nodes.push(node);
        self.map.devices.push(device);
    }

    /// Everything that was written is on the disks when this returns.
    pub(crate) fn flush(&self) -> Result<()> {
        rustix::fs::sync();
        for (node, device) in self.nodes.iter().zip(&self.map.devices) {
            if matches!(device.kind, types::DeviceKind::Disk { .. }) {
                let file = File::options().write(true).open(node);
                let flushed = file.and_then(|file| file.sync_all());
                flushed.with_context(|| format!("flushing {}", device.name))?;
            }
        }
        Ok(())
    }

    /// Takes everything apart, the last first: md notes in its superblocks that the arrays are clean.
    pub(crate) fn deactivate(&self) -> Result<()> {
        crate::mounts::unmount_below(crate::mounts::GUEST)?;
        let has = |test: fn(&types::DeviceKind) -> bool| {
            self.map.devices.iter().any(|device| test(&device.kind))
        };
        if has(|kind| matches!(kind, types::DeviceKind::Lv { .. })) {
            lvm::deactivate()?;
        }
        luks::close(&self.map)?;
        if has(|kind| matches!(kind, types::DeviceKind::Md { .. })) {
            md::stop()?;
        }
        Ok(())
    }
}

/// A device of the map, as blkid describes it.
fn block_device(
    name: String,
    kind: types::DeviceKind,
    kname: &str,
    probe: Probe,
) -> Result<BlockDevice> {
    Ok(BlockDevice {
        name,
        kind,
        virtual_size: size(kname)?,
        content: probe.content,
        uuid: probe.uuid,
        label: probe.label,
        partuuid: probe.partuuid,
        partlabel: probe.partlabel,
        parttype: probe.parttype,
    })
}

/// A number that the kernel shows below /sys/class/block; sizes and offsets there are in units of 512 bytes.
fn sysfs_number(kname: &str, file: &str) -> Result<u64> {
    let path = format!("/sys/class/block/{kname}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("{path} holds `{}`, expected a number", text.trim()))
}

fn size(kname: &str) -> Result<u64> {
    sysfs_number(kname, "size")?
        .checked_mul(512)
        .context("a device larger than 16 EiB")
}

/// Kernel names of the partitions of `disk` with their numbers, in order.
fn partitions(disk: &str) -> Result<Vec<(String, u32)>> {
    let mut found = Vec::new();
    let folder = format!("/sys/class/block/{disk}");
    for entry in fs::read_dir(&folder).with_context(|| format!("listing {folder}"))? {
        let entry = entry?;
        if entry.path().join("partition").is_file() {
            let kname = entry.file_name().to_string_lossy().into_owned();
            let number = sysfs_number(&kname, "partition")?;
            found.push((kname, u32::try_from(number)?));
        }
    }
    found.sort_by_key(|(_, number)| *number);
    Ok(found)
}
