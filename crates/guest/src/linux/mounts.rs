//! Which file systems a guest mounts at boot.

use types::{BlockDevice, DeviceKind, Mountpoint, StorageMap};

use crate::linux::devices::Devices;
use crate::linux::fstab::{self, FstabEntry};
use crate::{Error, ErrorKind, Result, Root};

/// GPT type of an EFI system partition (UEFI Specification 2.10, section 5.3.3, table 5.7).
pub(crate) const ESP_TYPE: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// MBR type of an EFI system partition (UEFI Specification 2.10, section 5.2.2).
pub(crate) const ESP_MBR_TYPE: &str = "0xef";

/// Types that live in the kernel, on the network, or on removable media.
const NOT_ON_DISK: [&str; 34] = [
    "swap",
    "proc",
    "sysfs",
    "tmpfs",
    "ramfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "overlay",
    "aufs",
    "debugfs",
    "tracefs",
    "securityfs",
    "hugetlbfs",
    "mqueue",
    "binfmt_misc",
    "usbfs",
    "configfs",
    "efivarfs",
    "fusectl",
    "bpf",
    "nfs",
    "nfs4",
    "cifs",
    "smbfs",
    "smb3",
    "ceph",
    "glusterfs",
    "9p",
    "virtiofs",
    "vboxsf",
    "iso9660",
    "udf",
];
/// Without these a conversion would miss parts of the system, so they must be found.
const ESSENTIAL: [&str; 6] = ["/boot", "/boot/efi", "/efi", "/usr", "/var", "/etc"];

/// See [`crate::mountpoints`].
pub(crate) fn mountpoints(
    root: &Root,
    storage: &StorageMap,
    root_device: &str,
) -> Result<Vec<Mountpoint>> {
    let device = storage.get(root_device).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("root device {root_device} is not in the storage map"),
        )
    })?;
    let devices = Devices::new(root, storage);
    let entries = fstab::parse(&root.read_text("/etc/fstab")?.unwrap_or_default());
    let root_type = entries
        .iter()
        .find(|entry| entry.target == "/")
        .map_or("", |entry| entry.fs_type.as_str());
    let mut found = vec![mountpoint(device, "/", root_type)];
    for entry in entries.iter().filter(|entry| is_mounted_at_boot(entry)) {
        let path = clean(&entry.target);
        if path == "/" || found.iter().any(|have| have.path == path) {
            continue;
        }
        match devices.resolve(&entry.spec, Some(&entry.fs_type)) {
            Some(device) if device.content != "swsuspend" => {
                found.push(mountpoint(device, &path, &entry.fs_type))
            }
            _ if entry.has("nofail") || !ESSENTIAL.contains(&path.as_str()) => {
                tracing::warn!(
                    "/etc/fstab: {} for {path} is on none of the disks; left out",
                    entry.spec
                );
            }
            _ => {
                let message = format!("expected a disk with {} for {path}, found none", entry.spec);
                return Err(Error::new(ErrorKind::NotFound, message).at("/etc/fstab"));
            }
        }
    }
    if let Some(esp) = automatic_esp(root, storage, &found) {
        found.push(esp);
    }
    // Stable: mounts of one depth stay in fstab's order, and a parent is always less deep than its children.
    found.sort_by_key(|mount| {
        if mount.path == "/" {
            0
        } else {
            mount.path.matches('/').count()
        }
    });
    Ok(found)
}

/// True for an entry that `mount -a` or an automount unit of systemd would bring up from a disk.
fn is_mounted_at_boot(entry: &FstabEntry) -> bool {
    let on_disk = !entry
        .fs_type
        .split(',')
        .any(|name| NOT_ON_DISK.contains(&name) || name.starts_with("fuse."));
    let automatic = !entry.has("noauto") || entry.has("x-systemd.automount");
    let bind = entry.has("bind") || entry.has("rbind") || entry.has("loop") || entry.has("_netdev");
    on_disk && automatic && !bind && entry.target.starts_with('/') && entry.spec != "none"
}

fn mountpoint(device: &BlockDevice, path: &str, fs_type: &str) -> Mountpoint {
    let fs_type = if device.content.is_empty() {
        fs_type
    } else {
        &device.content
    };
    Mountpoint {
        device: device.name.clone(),
        path: path.to_owned(),
        fs_type: fs_type.to_owned(),
    }
}

/// A mount point without doubled or trailing slashes.
fn clean(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    format!("/{}", parts.join("/"))
}

/// True for an EFI system partition.
pub(crate) fn is_esp(device: &BlockDevice) -> bool {
    let esp_type = device.parttype.as_deref().is_some_and(|kind| {
        kind.eq_ignore_ascii_case(ESP_TYPE) || kind.eq_ignore_ascii_case(ESP_MBR_TYPE)
    });
    esp_type && device.content == "vfat"
}

/// systemd-gpt-auto-generator mounts an ESP that fstab does not name on an existing, empty /efi or /boot
/// (systemd-gpt-auto-generator(8)); distributions that have it elsewhere keep /boot/efi.
fn automatic_esp(root: &Root, storage: &StorageMap, found: &[Mountpoint]) -> Option<Mountpoint> {
    let esp: Vec<_> = storage
        .devices
        .iter()
        .filter(|device| is_esp(device))
        .collect();
    if esp
        .iter()
        .any(|device| found.iter().any(|mount| mount.device == device.name))
    {
        return None;
    }
    let root_disk = disk_of(storage, &found.first()?.device);
    let on_root_disk = esp
        .iter()
        .find(|device| root_disk.is_some() && disk_of(storage, &device.name) == root_disk);
    let device = on_root_disk.or_else(|| esp.first())?;
    let path = ["/boot/efi", "/efi", "/boot"].into_iter().find(|path| {
        let free = !found.iter().any(|mount| mount.path == *path);
        // What lies below another mount cannot be looked at yet.
        let visible =
            !path.starts_with("/boot/") || !found.iter().any(|mount| mount.path == "/boot");
        free && (!visible || (root.is_dir(path) && root.names(path).is_empty()))
    })?;
    Some(mountpoint(device, path, "vfat"))
}

/// Index of the disk that holds a partition or is the device itself.
pub(crate) fn disk_of(storage: &StorageMap, name: &str) -> Option<u32> {
    match &storage.get(name)?.kind {
        DeviceKind::Disk { disk, .. } | DeviceKind::Partition { disk, .. } => Some(*disk),
        DeviceKind::Crypt { parent } if parent != name => match &storage.get(parent)?.kind {
            DeviceKind::Disk { disk, .. } | DeviceKind::Partition { disk, .. } => Some(*disk),
            _ => None,
        },
        _ => None,
    }
}

/// Mount point of the file system that holds `path`.
pub(crate) fn mount_of<'m>(mountpoints: &'m [Mountpoint], path: &str) -> Option<&'m Mountpoint> {
    mountpoints
        .iter()
        .filter(|mount| {
            let below = path.strip_prefix(mount.path.trim_end_matches('/'));
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .max_by_key(|mount| mount.path.len())
}
