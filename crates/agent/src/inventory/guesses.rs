//! What seems to be installed, from superblocks and the firmware's boot entries alone. The server's inspection says it
//! for certain, later.

use std::collections::BTreeSet;

use wire::inventory::{Firmware, OsGuess};

use super::Paths;
use super::disks::{self, FoundDisk};
use super::read::Device;
use super::superblock::{self, Signature};
use super::sysfs;
use super::table::TableKind;

/// Folders below \EFI and who installs there.
const LOADERS: &[(&str, &str)] = &[
    ("debian", "Debian GNU/Linux"),
    ("ubuntu", "Ubuntu"),
    ("fedora", "Fedora Linux"),
    ("redhat", "Red Hat Enterprise Linux"),
    ("centos", "CentOS"),
    ("rocky", "Rocky Linux"),
    ("almalinux", "AlmaLinux"),
    ("oracle", "Oracle Linux"),
    ("opensuse", "openSUSE"),
    ("sles", "SUSE Linux Enterprise Server"),
    ("arch", "Arch Linux"),
    ("microsoft", "Windows"),
];
/// Name for a system of which only the kernel is known.
pub(crate) const LINUX: &str = "Linux";
/// Name for a system of which only the file system is known.
pub(crate) const WINDOWS: &str = "Windows";

/// One guess for each root.
pub(crate) fn guesses(paths: &Paths, firmware: &Firmware, found: &[FoundDisk]) -> Vec<OsGuess> {
    let named = loaders(firmware, found);
    let linux: BTreeSet<&str> = named
        .iter()
        .map(|(_, name)| *name)
        .filter(|name| *name != WINDOWS)
        .collect();
    // One Linux that the firmware starts, and one root: they belong together.
    let linux_name = match linux.len() {
        1 => linux.first().copied().unwrap_or(LINUX),
        _ => LINUX,
    };
    let mut all: Vec<OsGuess> = Vec::new();
    for found in found.iter().filter(|found| found.disk.left_out.is_empty()) {
        for (device, signature) in found.contents.signatures(&found.disk.name) {
            all.extend(guess(device, signature, linux_name));
        }
        all.extend(windows(found));
    }
    all.extend(volumes(paths, linux_name));
    // Boot entries of systems whose root nothing shows: XFS and btrfs do not say where they were mounted.
    for (device, name) in named {
        let is_known = all.iter().any(|guess| {
            guess.product_name == name || (name != WINDOWS && guess.product_name == LINUX)
        });
        if !is_known {
            all.push(OsGuess {
                device,
                product_name: name.to_owned(),
            });
        }
    }
    all
}

fn guess(device: String, found: &Signature, linux: &str) -> Option<OsGuess> {
    let label = found.label.to_ascii_lowercase();
    let is_root = found.mounted_on == "/"
        || (found.content.starts_with("ext") && ["root", "rootfs"].contains(&&*label));
    let product_name = match found.content {
        "crypto_LUKS" => "LUKS, encrypted".to_owned(),
        "BitLocker" => "Windows, encrypted with BitLocker".to_owned(),
        _ if is_root => linux.to_owned(),
        _ => return None,
    };
    Some(OsGuess {
        device,
        product_name,
    })
}

/// NTFS where Windows would be started from: the largest one beside an active one, or beside a Microsoft reserved
/// partition. A lone NTFS is a data disk.
fn windows(found: &FoundDisk) -> Option<OsGuess> {
    let table = found.contents.table.as_ref()?;
    let parts = &found.contents.parts;
    let is_ntfs = |signature: &Option<Signature>| {
        signature
            .as_ref()
            .is_some_and(|found| found.content == "ntfs")
    };
    let is_bootable = match table.kind {
        TableKind::Gpt => {
            parts.iter().any(|(part, _)| part.role == "msr")
                && parts.iter().any(|(part, _)| part.role == "esp")
        }
        TableKind::Dos => parts
            .iter()
            .any(|(part, found)| part.active && is_ntfs(found)),
    };
    let (part, _) = parts
        .iter()
        .filter(|(_, signature)| is_ntfs(signature))
        .max_by_key(|(part, _)| part.len)?;
    is_bootable.then(|| OsGuess {
        device: found.device.partition_name(part.number),
        product_name: WINDOWS.to_owned(),
    })
}

/// Partition and system of each boot entry whose partition is on a disk that is sent.
fn loaders(firmware: &Firmware, found: &[FoundDisk]) -> Vec<(String, &'static str)> {
    let mut all: Vec<(String, &'static str)> = Vec::new();
    for entry in &firmware.boot_entries {
        let folder = entry
            .loader
            .trim_start_matches('\\')
            .split('\\')
            .nth(1)
            .unwrap_or_default()
            .to_ascii_lowercase();
        let name = LOADERS.iter().find(|(dir, _)| folder.starts_with(dir));
        let device = found
            .iter()
            .filter(|found| found.disk.left_out.is_empty())
            .find_map(|found| {
                let mut parts = found.contents.parts.iter();
                let (part, _) = parts.find(|(part, _)| {
                    !part.partuuid.is_empty() && part.partuuid == entry.partuuid
                })?;
                Some(found.device.partition_name(part.number))
            });
        if let (Some((_, name)), Some(device)) = (name, device)
            && !all.iter().any(|(_, known)| known == name)
        {
            all.push((device, name));
        }
    }
    all
}

/// Logical volumes that are active in the agent's system: vg0/root.
fn volumes(paths: &Paths, linux: &str) -> Vec<OsGuess> {
    let root = paths.sys.join("block");
    sysfs::names(&root)
        .into_iter()
        .filter(|name| name.starts_with("dm-"))
        .filter_map(|name| {
            let dir = root.join(&name);
            let is_lvm = sysfs::text(dir.join("dm/uuid"))?.starts_with("LVM-");
            let len = sysfs::number(dir.join("size"))?.checked_mul(512)?;
            let volume = volume_name(&sysfs::text(dir.join("dm/name"))?)?;
            let disk = Device::open(&disks::dev_path(paths, &name), len).ok()?;
            let found = superblock::probe(&disk).ok().flatten()?;
            is_lvm.then(|| guess(volume, &found, linux)).flatten()
        })
        .collect()
}

/// `vg0-root` is vg0/root; a dash in a name is doubled.
fn volume_name(map: &str) -> Option<String> {
    let hidden = map.replace("--", "\0");
    let (group, volume) = hidden.split_once('-')?;
    Some(format!("{group}/{volume}").replace('\0', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_logical_volumes_keep_their_dashes() {
        assert_eq!(volume_name("vg0-root").as_deref(), Some("vg0/root"));
        assert_eq!(volume_name("my--vg-my--lv").as_deref(), Some("my-vg/my-lv"));
        assert_eq!(volume_name("plain"), None);
    }
}
