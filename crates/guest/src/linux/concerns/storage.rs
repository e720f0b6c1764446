//! Mounts, room, swap, encryption, multipath.

use crate::linux::fstab;

use super::{Found, Look};
use crate::words::list;

/// Less than this on `/` or `/boot` is worth a warning: an update of the guest's kernel needs more.
const ROOT_LOW: u64 = 200 << 20;
const BOOT_LOW: u64 = 60 << 20;
/// Types that come over a network.
const NETWORK: [&str; 10] = [
    "nfs",
    "nfs4",
    "cifs",
    "smbfs",
    "smb3",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "afs",
    "lustre",
];
/// Folders and drivers of the old machine's host, which the new one has not.
const OF_HOST: [&str; 3] = ["vboxsf", "fuse.vmhgfs-fuse", "vmhgfs"];

/// Entries that the new machine cannot mount; devices that are on none of the disks are
/// [`mounts::fstab_concerns`](crate::linux::mounts::fstab_concerns)'s.
pub(super) fn fstab(look: &Look<'_>, found: &mut Found) {
    let entries = fstab::parse(&look.root.text("/etc/fstab").unwrap_or_default());
    let (mut network, mut swap) = (Vec::new(), false);
    for entry in &entries {
        let kind = entry.fs_type.as_str();
        // Made of the volume's own UUID, which stays and is not known here: Ubuntu's installer mounts volumes by it.
        let by_volume = entry.spec.starts_with("/dev/disk/by-id/dm-uuid-");
        let there = || by_volume || look.devices.resolve(&entry.spec, Some(kind)).is_some();
        let is_device = entry.spec.starts_with("/dev/") || entry.spec.contains('=');
        if NETWORK.contains(&kind) {
            network.push(format!("{} ({kind} of {})", entry.target, entry.spec));
        } else if OF_HOST.contains(&kind) && !entry.has("noauto") {
            found.warning(
                format!(
                    "{} is a folder of the old host ({kind}), which the new one does not offer",
                    entry.target
                ),
                Some("take it out of /etc/fstab, or add nofail"),
            );
        } else if kind == "swap" {
            swap |= !is_device || there();
        }
    }
    if !network.is_empty() {
        found.info(
            format!("network file systems are mounted: {}", list(&network)),
            Some(
                "the new machine must reach their servers, and the servers must accept its address",
            ),
        );
    }
    let zram = look.any_file(&[
        "/usr/lib/systemd/zram-generator.conf",
        "/etc/systemd/zram-generator.conf",
    ]);
    if !swap && !zram && !entries.is_empty() {
        found.info("no swap space is configured", None);
    }
}

/// What is left on the file systems that fill up.
pub(super) fn room(look: &Look<'_>, found: &mut Found) {
    for mount in &look.guest.mountpoints {
        let low = match mount.path.as_str() {
            "/" => ROOT_LOW,
            "/boot" => BOOT_LOW,
            _ => continue,
        };
        let Ok(free) = look.root.free_bytes(&mount.path) else {
            continue;
        };
        if free < low {
            found.warning(
                format!("{} has only {} MiB free", mount.path, free >> 20),
                Some("remove old kernels and logs before the conversion: drivers are added to each kernel's initramfs"),
            );
        }
    }
}

/// Keys that are not in the guest.
pub(super) fn crypttab(look: &Look<'_>, found: &mut Found) {
    let text = look.root.text("/etc/crypttab").unwrap_or_default();
    for line in fstab::fields(&text) {
        let [name, _, key, ..] = line.as_slice() else {
            continue;
        };
        let elsewhere = key.starts_with("/dev/disk/")
            || key.contains(":/dev/")
            || key.contains(":LABEL=")
            || key.contains(":UUID=");
        if elsewhere {
            found.warning(
                format!("the key of the encrypted volume {name} is on another device ({key})"),
                Some("attach that device to the new machine, or have a passphrase at hand"),
            );
        }
    }
}

/// dm-multipath claims disks by their serial numbers, and those of virtual disks are others.
pub(super) fn multipath(look: &Look<'_>, found: &mut Found) {
    if look.starts(&["multipathd", "multipath-tools"]) && look.any_file(&["/etc/multipath.conf"]) {
        found.info(
            "multipath is in use: the new machine has one path to each disk, with another identity",
            Some("if disks have names of /dev/mapper/mpath… in applications, change them; else switch multipathd off"),
        );
    }
}

/// ZFS is not looked into.
pub(super) fn zfs(look: &Look<'_>, found: &mut Found) {
    let pools = look
        .devices
        .storage()
        .devices
        .iter()
        .filter(|device| device.content == "zfs_member");
    let names: Vec<String> = pools.map(|device| device.name.clone()).collect();
    if !names.is_empty() {
        found.info(
            format!("a pool of ZFS is on {}: it is copied whole and imported by the guest", list(&names)),
            Some("if it is imported by /dev/sd… names, run `zpool import -d /dev/disk/by-id POOL` once in the new machine"),
        );
    }
}
