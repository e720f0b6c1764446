//! Which file systems a guest mounts at boot.

use types::{BlockDevice, Concern, DeviceKind, Mountpoint, Severity, StorageMap};

use crate::linux::devices::Devices;
use crate::linux::fstab::{self, FstabEntry};
use crate::{CONFIG_MAX, Error, ErrorKind, Result, Root};

/// GPT type of an EFI system partition (UEFI Specification 2.10, section 5.3.3, table 5.7).
pub(crate) const ESP_TYPE: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// MBR type of an EFI system partition (UEFI Specification 2.10, section 5.2.2).
pub(crate) const ESP_MBR_TYPE: &str = "0xef";

/// GPT type of an extended boot loader partition (Boot Loader Specification, "The Partitions").
const XBOOTLDR_TYPE: &str = "bc13c2ff-59e6-4262-a352-b275fd6f7172";

/// Types that live in the kernel, on the network, or on removable media.
const NOT_ON_DISK: [&str; 35] = [
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
    "zfs",
];
/// Where the kernel arguments of the root are written.
const ROOTFLAGS_FILES: [&str; 5] = [
    "/boot/grub2/grub.cfg",
    "/boot/grub/grub.cfg",
    "/etc/kernel/cmdline",
    "/etc/default/grub",
    "/boot/grub2/grubenv",
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
    let devices = Devices::new(root, storage).near(root_device);
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
    if let Some(boot) = automatic_boot(root, storage, &found) {
        found.push(boot);
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

/// `subvol=…` or `subvolid=…` that a btrfs root is started with: what the boot loader says counts, then fstab.
pub fn root_subvolume(root: &Root) -> Option<String> {
    let entries = root.names("/boot/loader/entries");
    let entries = entries
        .iter()
        .filter(|name| name.ends_with(".conf"))
        .map(|name| format!("/boot/loader/entries/{name}"));
    let files = ROOTFLAGS_FILES.iter().map(|path| (*path).to_owned());
    let by_loader = files.chain(entries).find_map(|path| {
        let bytes = root.read(&path, CONFIG_MAX).ok()?;
        rootflags_subvolume(&String::from_utf8_lossy(&bytes))
    });
    by_loader.or_else(|| {
        let entries = fstab::parse(&root.text("/etc/fstab")?);
        let entry = entries.iter().find(|entry| entry.target == "/")?;
        entry
            .options
            .iter()
            .find(|option| is_subvolume(option))
            .cloned()
    })
}

/// Of the first `rootflags=` in the text that names a subvolume without variables.
fn rootflags_subvolume(text: &str) -> Option<String> {
    let tokens = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'')));
    let mut flags =
        tokens.filter_map(|token| token.split_once("rootflags=").map(|(_, flags)| flags));
    flags.find_map(|flags| {
        let mut options = flags.split(',');
        options
            .find(|option| is_subvolume(option) && !option.contains('$'))
            .map(str::to_owned)
    })
}

fn is_subvolume(option: &str) -> bool {
    option.starts_with("subvol=") || option.starts_with("subvolid=")
}

/// Lines of fstab that keep the guest from starting, or make it wait, where it finds only these disks: systemd waits 90
/// seconds for a device that a line without `nofail` names, and then starts the emergency shell (systemd.mount(5)).
pub(crate) fn fstab_concerns(root: &Root, storage: &StorageMap, root_device: &str) -> Vec<Concern> {
    let devices = Devices::new(root, storage).near(root_device);
    let entries = fstab::parse(&root.text("/etc/fstab").unwrap_or_default());
    let missing = entries.iter().filter(|entry| {
        let waited_for = !entry.has("noauto") && !entry.has("nofail");
        waited_for
            && clean(&entry.target) != "/"
            && names_a_device(entry)
            && devices.resolve(&entry.spec, Some(&entry.fs_type)).is_none()
    });
    missing
        .map(|entry| {
            let FstabEntry { spec, target, fs_type, .. } = entry;
            let (what, wait) = if fs_type == "swap" {
                (
                    format!("/etc/fstab: the swap space {spec} is on none of the disks"),
                    "the guest waits for it 90 seconds at each start",
                )
            } else {
                (
                    format!("/etc/fstab: {spec} for {target} is on none of the disks"),
                    "the guest waits for it 90 seconds and then starts the emergency shell",
                )
            };
            Concern {
                severity: Severity::Warning,
                what: format!("{what}, and the line lacks nofail: {wait}"),
                fix: Some(format!(
                    "convert its disk, too, or add nofail to the line of {spec} in /etc/fstab, or take the line out"
                )),
            }
        })
        .collect()
}

/// A block device that is neither made at boot nor found by its network.
fn names_a_device(entry: &FstabEntry) -> bool {
    let spec = entry.spec.trim_matches(['"', '\'']);
    let tag = spec
        .split_once('=')
        .map(|(tag, _)| tag.to_ascii_uppercase());
    let tagged =
        tag.is_some_and(|tag| ["UUID", "LABEL", "PARTUUID", "PARTLABEL"].contains(&tag.as_str()));
    let made_at_boot = [
        "/dev/zram",
        "/dev/ram",
        "/dev/loop",
        "/dev/shm",
        "/dev/root",
        "/dev/disk/by-id/dm-uuid-",
    ]
    .iter()
    .any(|start| spec.starts_with(start));
    let by_network = entry.has("_netdev")
        || ["nbd", "rbd", "drbd"]
            .iter()
            .any(|kind| spec.starts_with(&format!("/dev/{kind}")));
    let bind = entry.has("bind") || entry.has("rbind") || entry.has("loop");
    // What is decrypted with a new key at each boot has no content to be found by.
    let new_each_time = entry.fs_type == "swap" && spec.starts_with("/dev/mapper/");
    (tagged || (spec.starts_with("/dev/") && !made_at_boot))
        && !by_network
        && !bind
        && !new_each_time
        && entry.fs_type != "tmpfs"
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

/// systemd-gpt-auto-generator mounts an extended boot loader partition of the root's disk on an empty /boot that fstab does
/// not name (Boot Loader Specification, "The Partitions").
fn automatic_boot(root: &Root, storage: &StorageMap, found: &[Mountpoint]) -> Option<Mountpoint> {
    let root_disk = disk_of(storage, &found.first()?.device)?;
    let device = storage.devices.iter().find(|device| {
        let kind = device.parttype.as_deref().unwrap_or_default();
        kind.eq_ignore_ascii_case(XBOOTLDR_TYPE)
            && disk_of(storage, &device.name) == Some(root_disk)
    })?;
    let used = found
        .iter()
        .any(|mount| mount.path == "/boot" || mount.device == device.name);
    let free = !used && root.is_dir("/boot") && root.names("/boot").is_empty();
    (free && !device.content.is_empty()).then(|| mountpoint(device, "/boot", ""))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tree::{device, part, put_at};

    fn guest(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            put_at(dir.path(), path, text.as_bytes());
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn the_boot_loader_names_the_subvolume_before_fstab() {
        let fstab = ("etc/fstab", "UUID=1 / btrfs defaults,subvol=@old 0 0\n");
        let grub = (
            "boot/grub/grub.cfg",
            "# rootflags=subvol=@no\nlinux /vmlinuz root=UUID=1 ro rootflags=noatime,subvol=@ quiet\n",
        );
        let (_dir, root) = guest(&[fstab]);
        assert_eq!(root_subvolume(&root).as_deref(), Some("subvol=@old"));
        let (_dir, root) = guest(&[fstab, grub]);
        assert_eq!(root_subvolume(&root).as_deref(), Some("subvol=@"));
        let entry = (
            "boot/loader/entries/a.conf",
            "options root=UUID=1 rootflags=subvolid=256\n",
        );
        let (_dir, root) = guest(&[fstab, entry]);
        assert_eq!(root_subvolume(&root).as_deref(), Some("subvolid=256"));
        let (_dir, root) = guest(&[("etc/fstab", "UUID=1 / btrfs defaults 0 0\n")]);
        assert_eq!(root_subvolume(&root), None);
    }

    #[test]
    fn lines_of_fstab_whose_device_is_missing_are_a_concern() {
        let fstab = "UUID=\"r-1\" / ext4 defaults 0 1\n\
            UUID=gone /data xfs defaults 0 2\n\
            UUID=gone /mnt xfs defaults,nofail 0 2\n\
            UUID=gone /later xfs noauto 0 2\n\
            LABEL=gone none swap sw 0 0\n\
            /dev/mapper/cryptswap none swap sw 0 0\n\
            /dev/disk/by-uuid/r-1 /again ext4 ro 0 0\n\
            rpool/data /tank zfs defaults 0 0\n\
            tmpfs /tmp tmpfs defaults 0 0\n\
            server:/x /nfs nfs defaults 0 0\n\
            /dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n\
            /dev/cdrom /cd iso9660 ro 0 0\n";
        let (_dir, root) = guest(&[("etc/fstab", fstab)]);
        let storage = StorageMap {
            devices: vec![part(0, 1, "ext4", Some("r-1"))],
        };
        let found = fstab_concerns(&root, &storage, "/dev/sda1");
        let whats: Vec<&str> = found.iter().map(|concern| concern.what.as_str()).collect();
        assert_eq!(found.len(), 3, "{whats:#?}");
        assert!(whats[0].contains("UUID=gone for /data") && whats[0].contains("emergency shell"));
        assert!(whats[1].contains("LABEL=gone") && whats[1].contains("90 seconds at each start"));
        assert!(whats[2].contains("/dev/cdrom for /cd"));
        assert!(found[0].fix.as_deref().unwrap().contains("nofail"));
    }

    #[test]
    fn an_empty_boot_directory_gets_the_extended_boot_loader_partition_of_its_disk() {
        let (dir, root) = guest(&[("etc/fstab", "")]);
        std::fs::create_dir_all(dir.path().join("boot")).unwrap();
        let boot = |disk| BlockDevice {
            parttype: Some(XBOOTLDR_TYPE.to_owned()),
            ..part(disk, 2, "ext4", None)
        };
        let devices = vec![boot(1), boot(0), part(0, 1, "ext4", Some("r-1"))];
        let storage = StorageMap { devices };
        let mounts = mountpoints(&root, &storage, "/dev/sda1").unwrap();
        assert_eq!(mounts[1], mountpoint(&storage.devices[1], "/boot", ""));
        put_at(dir.path(), "boot/vmlinuz", b"k");
        assert_eq!(mountpoints(&root, &storage, "/dev/sda1").unwrap().len(), 1);
    }

    #[test]
    fn copies_of_disks_and_volume_groups_do_not_lend_their_parts() {
        let fstab = "UUID=b-1 /boot ext4 defaults 0 2\n/dev/mapper/my--vg-var /var ext4 defaults 0 2\n/dev/my-vg/home /home ext4 defaults 0 2\n";
        let (_dir, root) = guest(&[("etc/fstab", fstab)]);
        let volume = |group: &str, lv: &str| {
            let kind = DeviceKind::Lv {
                vg: "my-vg".into(),
                lv: lv.into(),
            };
            device(&format!("/dev/{group}/{lv}"), kind, "ext4", None)
        };
        let mut devices = Vec::new();
        for group in ["my-vg", "my-vg@aaaaaa"] {
            devices.extend(["root", "var", "home"].map(|lv| volume(group, lv)));
        }
        devices.push(part(0, 1, "ext4", Some("b-1")));
        let storage = StorageMap { devices };
        let mounted = |root_device: &str| -> Vec<String> {
            let found = mountpoints(&root, &storage, root_device).unwrap();
            found.into_iter().map(|mount| mount.device).collect()
        };
        assert_eq!(
            mounted("/dev/my-vg/root"),
            [
                "/dev/my-vg/root",
                "/dev/sda1",
                "/dev/my-vg/var",
                "/dev/my-vg/home"
            ]
        );
        assert_eq!(
            mounted("/dev/my-vg@aaaaaa/root"),
            [
                "/dev/my-vg@aaaaaa/root",
                "/dev/sda1",
                "/dev/my-vg@aaaaaa/var",
                "/dev/my-vg@aaaaaa/home"
            ]
        );
        let copies = [0, 1].map(|disk| {
            [
                part(disk, 1, "ext4", Some("r-1")),
                part(disk, 2, "ext4", Some("b-1")),
            ]
        });
        let storage = StorageMap {
            devices: copies.concat(),
        };
        for (root_device, boot) in [("/dev/sda1", "/dev/sda2"), ("/dev/sdb1", "/dev/sdb2")] {
            let devices = Devices::new(&root, &storage).near(root_device);
            assert_eq!(devices.resolve("UUID=b-1", None).unwrap().name, boot);
        }
    }

    #[test]
    fn arrays_are_found_by_mdadm_conf_and_by_udevs_names() {
        let conf = "# mdadm.conf\nHOMEHOST <system>\nARRAY /dev/md/0 metadata=1.2 UUID=0a0b0c0d:11112222:33334444:55556666 name=web01:system\n\
            ARRAY /dev/md9 name=web01:data\n";
        let (_dir, root) = guest(&[("etc/mdadm/mdadm.conf", conf)]);
        let array = |name: &str| {
            let kind = DeviceKind::Md { name: name.into() };
            device(&format!("/dev/md/{name}"), kind, "ext4", None)
        };
        let member = BlockDevice {
            label: Some("web01:root".into()),
            ..part(
                0,
                1,
                "linux_raid_member",
                Some("0a0b0c0d-1111-2222-3333-444455556666"),
            )
        };
        let storage = StorageMap {
            devices: vec![
                member,
                array("root"),
                array("data"),
                array("7"),
                array("md127"),
                array("rootp2"),
            ],
        };
        let devices = Devices::new(&root, &storage);
        for (spec, want) in [
            ("/dev/md0", "/dev/md/root"),
            ("/dev/md/0", "/dev/md/root"),
            ("/dev/md9", "/dev/md/data"),
            ("/dev/md7", "/dev/md/7"),
            ("/dev/md127", "/dev/md/md127"),
            ("/dev/md/web01:data", "/dev/md/data"),
            (
                "/dev/disk/by-id/md-uuid-0a0b0c0d:11112222:33334444:55556666",
                "/dev/md/root",
            ),
            (
                "/dev/disk/by-id/md-uuid-0a0b0c0d:11112222:33334444:55556666-part2",
                "/dev/md/rootp2",
            ),
            ("/dev/disk/by-id/md-name-web01:data", "/dev/md/data"),
        ] {
            let found = devices
                .resolve(spec, None)
                .map(|device| device.name.as_str());
            assert_eq!(found, Some(want), "{spec}");
        }
    }
}
