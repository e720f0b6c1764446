//! Assembles block devices from the disks: partitions by the kernel, then md arrays, LUKS and LVM, round after round
//! until nothing new appears, in whatever order they are stacked.

mod blkid;
mod btrfs;
mod disks;
mod dm;
mod dynamic;
mod luks;
mod lvm;
mod md;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use types::{BlockDevice, Concern, DeviceKind, Severity, StorageMap};
use wire::appliance::Key;

use blkid::Probe;

/// More layers than any sane machine has; ends a loop over devices that contain each other.
const MAX_ROUNDS: u32 = 8;
/// The same for taking them apart: device mapper needs some devices below each volume of LVM.
const MAX_DEPTH: u32 = 64;

/// The devices, by the names that the host and the guest use, and where the kernel has them.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    map: StorageMap,
    /// Kernel's device node for each entry of the map.
    nodes: Vec<PathBuf>,
    /// Names of devices that are not looked into: snapshots, copies, further disks of one btrfs.
    hidden: BTreeSet<String>,
    /// What the administrator should know of the disks.
    concerns: Vec<Concern>,
}

impl Storage {
    /// Waits for `disks` disks, and assembles what is on them with these keys.
    pub(crate) fn assemble(disks: u32, keys: &[Key]) -> Result<Storage> {
        let mut storage = Storage::default();
        disks::add(&mut storage, disks)?;
        let mut tried = BTreeSet::new();
        for _ in 0..MAX_ROUNDS {
            let mut fresh: Vec<BlockDevice> = storage
                .map
                .devices
                .iter()
                .filter(|device| tried.insert(device.name.clone()))
                .cloned()
                .collect();
            if fresh.is_empty() {
                break;
            }
            if fresh
                .iter()
                .any(|device| md::MEMBERS.contains(&device.content.as_str()))
            {
                md::assemble(&mut storage)?;
                let parts = storage.remove_partitions_of_members();
                fresh.retain(|device| !parts.contains(&device.name));
            }
            luks::open(&mut storage, &fresh, keys)?;
            if fresh.iter().any(|device| device.content == lvm::MEMBER) {
                lvm::activate(&mut storage)?;
            }
        }
        luks::check_keys(&mut storage, keys);
        btrfs::gather(&mut storage)?;
        storage.name_what_is_strange();
        storage.name_what_is_dynamic();
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

    /// Where the partition of this name begins on its disk, in bytes.
    pub(crate) fn start_of(&self, name: &str) -> Result<u64> {
        let kname = self.node(name)?.file_name().unwrap_or_default();
        sysfs_number(&kname.to_string_lossy(), "start")?
            .checked_mul(512)
            .context("a partition behind 16 EiB")
    }

    /// True for an old state of another volume, a copy, or a further disk of a file system that is known already.
    pub(crate) fn is_hidden(&self, name: &str) -> bool {
        self.hidden.contains(name)
    }

    fn hide(&mut self, name: &str) {
        self.hidden.insert(name.to_owned());
    }

    /// What the administrator should know of the disks.
    pub(crate) fn concerns(&self) -> &[Concern] {
        &self.concerns
    }

    /// Notes a thing that the administrator should know, once.
    fn warn(&mut self, what: String, fix: Option<String>) {
        if self.concerns.iter().any(|known| known.what == what) {
            return;
        }
        match &fix {
            Some(fix) => tracing::warn!("{what}; {fix}"),
            None => tracing::warn!("{what}"),
        }
        self.concerns.push(Concern {
            severity: Severity::Warning,
            what,
            fix,
        });
    }

    /// A whole disk in an array with its superblock at the end (0.90, 1.0) shows the partitions of the array as its own;
    /// they must not be used beside it. Gives their names.
    fn remove_partitions_of_members(&mut self) -> BTreeSet<String> {
        let mut disks = BTreeSet::new();
        for (node, device) in self.nodes.iter().zip(&self.map.devices) {
            if let DeviceKind::Disk { disk, .. } = &device.kind
                && md::MEMBERS.contains(&device.content.as_str())
                && is_held_by_array(node)
            {
                disks.insert(*disk);
            }
        }
        let mut names = BTreeSet::new();
        let all = self.nodes.drain(..).zip(self.map.devices.drain(..));
        let (nodes, devices) = all
            .filter(|(_, device)| match device.kind {
                DeviceKind::Partition { disk, .. } if disks.contains(&disk) => {
                    names.insert(device.name.clone());
                    false
                }
                _ => true,
            })
            .unzip();
        (self.nodes, self.map.devices) = (nodes, devices);
        names
    }

    /// Kinds of storage of which nothing is read here.
    fn name_what_is_strange(&mut self) {
        let strange: Vec<(String, &str)> = self
            .map
            .devices
            .iter()
            .filter_map(|device| Some((device.name.clone(), strange(&device.content)?)))
            .collect();
        for (name, what) in strange {
            self.warn(
                format!("{name} holds {what}, which can't be read here; it is copied as it is"),
                None,
            );
        }
    }

    /// Disks that Windows manages in its own way: their volumes need not be where the partition table says.
    fn name_what_is_dynamic(&mut self) {
        let found: Vec<(String, &str)> = self
            .map
            .devices
            .iter()
            .filter_map(|device| Some((device.name.clone(), dynamic::kind(device)?)))
            .collect();
        for (name, what) in found {
            self.warn(
                format!("{name} is part of {what}, which is not put together here; it is copied as it is"),
                Some("in Windows it is found again when all disks of the machine are converted together".to_owned()),
            );
        }
    }

    /// Refuses a system whose volume is on such a disk.
    pub(crate) fn refuse_dynamic(&self, name: &str) -> Result<()> {
        match self.map.get(name).and_then(dynamic::kind) {
            Some(what) => bail!(
                "the system volume {name} is on {what}, which can't be converted: move it to a basic disk first (an image \
                 backup restored to a basic disk does it)"
            ),
            None => Ok(()),
        }
    }

    /// True when a device with this node is known.
    fn knows(&self, node: &Path) -> bool {
        self.nodes.iter().any(|known| known == node)
    }

    fn add(&mut self, node: PathBuf, device: BlockDevice) {
        if self.map.get(&device.name).is_some() {
            tracing::warn!("there is a second {}; it is left out", device.name);
            return;
        }
        self.nodes.push(node);
        self.map.devices.push(device);
    }

    /// Everything that was written is on the disks when this returns.
    pub(crate) fn flush(&self) -> Result<()> {
        rustix::fs::sync();
        for (node, device) in self.nodes.iter().zip(&self.map.devices) {
            if matches!(device.kind, DeviceKind::Disk { .. }) {
                let file = File::options().write(true).open(node);
                let flushed = file.and_then(|file| file.sync_all());
                flushed.with_context(|| format!("flushing {}", device.name))?;
            }
        }
        Ok(())
    }

    /// Takes everything apart, the last first: md notes in its superblocks that the arrays are clean.
    pub(crate) fn deactivate(&self) -> Result<()> {
        crate::mounts::unmount_below(crate::mounts::BOOT)?;
        crate::mounts::unmount_below(crate::mounts::GUEST)?;
        for _ in 0..MAX_DEPTH {
            let arrays = md::stop()?;
            let (removed, left) = dm::remove_topmost()?;
            if arrays + left == 0 {
                return Ok(());
            }
            if removed == 0 {
                bail!("{arrays} arrays and {left} volumes are still in use");
            }
        }
        Ok(())
    }
}

fn is_held_by_array(node: &Path) -> bool {
    let kname = node.file_name().unwrap_or_default().to_string_lossy();
    let holders = fs::read_dir(format!("/sys/class/block/{kname}/holders"));
    holders.is_ok_and(|mut names| {
        names
            .any(|name| name.is_ok_and(|name| name.file_name().to_string_lossy().starts_with("md")))
    })
}

/// The name for people of what blkid calls `content`, if no driver of the appliance reads it.
fn strange(content: &str) -> Option<&'static str> {
    Some(match content {
        "zfs_member" => "ZFS",
        "bcache" => "a bcache cache or backing device",
        "bcachefs" => "bcachefs",
        "ufs" => "a UFS file system",
        // Which of these the appliance's kernel has changes from one Debian to the next.
        "f2fs" | "jfs" | "reiserfs" if crate::mounts::is_supported(content) => return None,
        "f2fs" => "an f2fs file system",
        "reiserfs" | "reiser4" => "a ReiserFS file system",
        "jfs" => "a JFS file system",
        "nilfs2" => "a NILFS2 file system",
        "drbd" => "a DRBD device",
        "VMFS_volume_member" | "VMFS" => "VMFS",
        "apfs" | "hfsplus" => "a file system of macOS",
        "ddf_raid_member"
        | "isw_raid_member"
        | "promise_fasttrack_raid_member"
        | "silicon_medley_raid_member"
        | "nvidia_raid_member"
        | "via_raid_member"
        | "adaptec_raid_member"
        | "lsi_mega_raid_member"
        | "highpoint_raid_member"
        | "jmicron_raid_member" => "a part of a firmware RAID",
        _ => return None,
    })
}

/// A device of the map, as blkid describes it.
fn block_device(name: String, kind: DeviceKind, kname: &str, probe: Probe) -> Result<BlockDevice> {
    Ok(BlockDevice {
        name,
        kind,
        virtual_size: size(kname)?,
        start: None,
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
