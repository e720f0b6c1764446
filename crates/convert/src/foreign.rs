//! What is known of a machine without looking into its file systems: foreign systems by the types of their
//! partitions, encrypted volumes that stayed closed, arrays that did not come up.

use types::{BlockDevice, Concern, DeviceKind, Severity, StorageMap};

/// Types of GPT partitions that only one system has (FreeBSD gpart(8), NetBSD gpt(8), OpenBSD fdisk(8), illumos
/// `sys/efi_partition.h`, `partedUtil showGuids` of ESXi).
const GPT_TYPES: [(&str, &str); 24] = [
    ("83bd6b9d-7f41-11dc-be0b-001560b84f0f", "FreeBSD"),
    ("516e7cb4-6ecf-11d6-8ff8-00022d09712b", "FreeBSD"),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD"),
    ("516e7cb8-6ecf-11d6-8ff8-00022d09712b", "FreeBSD"),
    ("516e7cba-6ecf-11d6-8ff8-00022d09712b", "FreeBSD"),
    ("824cc7a0-36a8-11e3-890a-952519ad3f61", "OpenBSD"),
    ("49f48d5a-b10e-11dc-b99b-0019d1879648", "NetBSD"),
    ("49f48d82-b10e-11dc-b99b-0019d1879648", "NetBSD"),
    ("6a82cb45-1dd2-11b2-99a6-080020736631", "Solaris"),
    ("6a85cf4d-1dd2-11b2-99a6-080020736631", "Solaris"),
    ("aa31e02a-400f-11db-9590-000c2911d1b8", "VMware ESXi"),
    ("9198effc-31c0-11db-8f78-000c2911d1b8", "VMware ESXi"),
    ("9d275380-40ad-11db-bf97-000c2911d1b8", "VMware ESXi"),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "macOS"),
    ("48465300-0000-11aa-aa11-00306543ecac", "macOS"),
    ("42465331-3ba3-10f1-802a-4861696b7521", "Haiku"),
    ("85d5e45a-237c-11e1-b4b3-e89a8f7fc3a7", "MidnightBSD"),
    ("9d087404-1ca5-11dc-8817-01301bb8a9f5", "DragonFly BSD"),
    ("fe3a2a5d-4f32-41a7-b725-accc3285a309", "ChromeOS"),
    ("cef5a9ad-73bc-4601-89f3-cdeeeee321a1", "QNX"),
    ("c91818f9-8025-47af-89d2-f030d7000c2c", "Plan 9"),
    ("5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6", "Flatcar"),
    // Windows' volume manager (Microsoft, `PARTITION_INFORMATION_GPT`).
    (
        "af9b60a0-1431-4f62-bc68-3311714a69ad",
        "Windows on a dynamic disk",
    ),
    (
        "e75caf8f-f680-4cee-afa3-b001e56efc2d",
        "Windows with Storage Spaces",
    ),
];
/// The same of MBR partitions.
const MBR_TYPES: [(&str, &str); 12] = [
    ("0xa5", "FreeBSD"),
    ("0xa6", "OpenBSD"),
    ("0xa9", "NetBSD"),
    ("0x6c", "DragonFly BSD"),
    ("0xbf", "Solaris"),
    ("0xbe", "Solaris"),
    ("0xfb", "VMware ESXi"),
    ("0xaf", "macOS"),
    ("0xeb", "Haiku"),
    ("0x4d", "QNX"),
    ("0x39", "Plan 9"),
    ("0x42", "Windows on a dynamic disk"),
];
/// What a file system says where the types do not, in blkid's words.
const CONTENTS: [(&str, &str); 7] = [
    ("ufs", "a BSD or Solaris"),
    ("apfs", "macOS"),
    ("hfsplus", "macOS"),
    ("VMFS", "VMware ESXi"),
    ("befs", "Haiku"),
    ("zfs_member", "a system on ZFS"),
    ("minix", "Minix"),
];
/// Names that Talos gives to its partitions (Talos Linux reference, disk layout).
const TALOS: [&str; 3] = ["META", "STATE", "EPHEMERAL"];
/// GPT type of the partition into which GRUB puts its core image for BIOS (GRUB manual 2.06, section 3.4), and of
/// FreeBSD's boot code for BIOS (gpart(8)).
const FOR_BIOS: [&str; 2] = [
    "21686148-6449-6e6f-744e-656564454649",
    "83bd6b9d-7f41-11dc-be0b-001560b84f0f",
];
/// GPT type of an EFI system partition (UEFI Specification 2.10, section 5.3.3, table 5.7).
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// A foreign system's name, where the disks tell it.
pub(crate) fn identify(storage: &StorageMap) -> Option<&'static str> {
    let devices = &storage.devices;
    let typed = |table: &[(&str, &'static str)]| {
        devices.iter().find_map(|device| {
            let found = device.parttype.as_deref()?;
            let known = |(kind, _): &&(&str, _)| found.eq_ignore_ascii_case(kind);
            table.iter().find(known).map(|(_, system)| *system)
        })
    };
    let named = |name: &&str| {
        let labels = devices.iter().filter_map(|d| d.partlabel.as_deref());
        labels.into_iter().any(|label| label == *name)
    };
    let content = || {
        let known = |device: &BlockDevice| {
            let mut contents = CONTENTS.iter();
            contents.find(|(content, _)| *content == device.content)
        };
        devices.iter().find_map(known).map(|(_, system)| *system)
    };
    typed(&GPT_TYPES)
        .or_else(|| typed(&MBR_TYPES))
        .or_else(|| TALOS.iter().all(named).then_some("Talos"))
        .or_else(content)
}

/// True where only UEFI can start these disks: an ESP, and nothing that BIOS starts.
pub(crate) fn is_for_uefi(storage: &StorageMap) -> bool {
    let has = |kind: &str| {
        let types = storage.devices.iter().filter_map(|d| d.parttype.as_deref());
        types
            .into_iter()
            .any(|found| found.eq_ignore_ascii_case(kind))
    };
    has(ESP) && !FOR_BIOS.into_iter().any(has)
}

/// Encrypted volumes that no key opened, with what they are.
pub(crate) fn locked(storage: &StorageMap) -> Vec<(&str, &'static str)> {
    let opened = |name: &str| {
        storage
            .devices
            .iter()
            .any(|device| matches!(&device.kind, DeviceKind::Crypt { parent } if parent == name))
    };
    let kind = |device: &BlockDevice| match device.content.as_str() {
        "crypto_LUKS" => Some("LUKS"),
        "BitLocker" => Some("BitLocker"),
        _ => None,
    };
    let encrypted = storage.devices.iter();
    encrypted
        .filter_map(|device| Some((device.name.as_str(), kind(device)?)))
        .filter(|(name, _)| !opened(name))
        .collect()
}

/// What the administrator should know of the disks, whatever the guest.
pub(crate) fn concerns(storage: &StorageMap) -> Vec<Concern> {
    let mut concerns = Vec::new();
    for (name, kind) in locked(storage) {
        concerns.push(Concern {
            severity: Severity::Warning,
            what: format!("{name} is encrypted ({kind}) and no key opened it: it is copied whole and not looked into"),
            fix: Some(if kind == "BitLocker" {
                format!("give its password or recovery password: --key {name}:key:PASSWORD")
            } else {
                format!("give its key: --key {name}:key:PASSPHRASE or --key {name}:file:FILE")
            }),
        });
    }
    let holds = |content: &str| storage.devices.iter().any(|d| d.content == content);
    let has = |test: fn(&DeviceKind) -> bool| storage.devices.iter().any(|d| test(&d.kind));
    if holds("linux_raid_member") && !has(|kind| matches!(kind, DeviceKind::Md { .. })) {
        concerns.push(Concern {
            severity: Severity::Warning,
            what: "disks of an md array are there, and the array could not be put together".into(),
            fix: Some("give all disks of the array as source".into()),
        });
    }
    if holds("LVM2_member") && !has(|kind| matches!(kind, DeviceKind::Lv { .. })) {
        concerns.push(Concern {
            severity: Severity::Warning,
            what: "physical volumes of LVM are there, and no logical volume could be activated"
                .into(),
            fix: Some("give all disks of the volume group as source".into()),
        });
    }
    if let (true, Some(system)) = (holds("zfs_member"), identify(storage)) {
        concerns.push(Concern {
            severity: Severity::Info,
            what: format!("a pool of ZFS is copied whole and not looked into ({system})"),
            fix: None,
        });
    }
    concerns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32, content: &str, parttype: &str) -> BlockDevice {
        BlockDevice {
            name: format!("/dev/sda{number}"),
            kind: DeviceKind::Partition { disk: 0, number },
            virtual_size: 1 << 30,
            start: None,
            content: content.into(),
            uuid: None,
            label: None,
            partuuid: None,
            partlabel: None,
            parttype: Some(parttype.into()),
        }
    }

    fn map(devices: &[BlockDevice]) -> StorageMap {
        StorageMap {
            devices: devices.to_vec(),
        }
    }

    #[test]
    fn systems_are_known_by_their_partitions() {
        for (device, want) in [
            (
                part(1, "", "516E7CB6-6ECF-11D6-8FF8-00022D09712B"),
                Some("FreeBSD"),
            ),
            (part(1, "ufs", "0xa6"), Some("OpenBSD")),
            (part(1, "ufs", "0x83"), Some("a BSD or Solaris")),
            (part(1, "zfs_member", "0xbf"), Some("Solaris")),
            (part(1, "VMFS", "0xfb"), Some("VMware ESXi")),
            (part(1, "", "0x42"), Some("Windows on a dynamic disk")),
            (part(1, "ext4", "0x83"), None),
        ] {
            assert_eq!(
                identify(&map(std::slice::from_ref(&device))),
                want,
                "{device:?}"
            );
        }
        let talos: Vec<_> = (1..4)
            .zip(TALOS)
            .map(|(number, name)| BlockDevice {
                partlabel: Some(name.into()),
                ..part(number, "xfs", "0fc63daf-8483-4772-8e79-3d69d8477de4")
            })
            .collect();
        assert_eq!(identify(&map(&talos)), Some("Talos"));
        assert_eq!(identify(&map(&talos[..2])), None);
    }

    #[test]
    fn firmware_follows_what_can_start_the_disks() {
        let esp = part(1, "vfat", ESP);
        assert!(is_for_uefi(&map(std::slice::from_ref(&esp))));
        assert!(!is_for_uefi(&map(&[esp, part(2, "", FOR_BIOS[1])])));
        assert!(!is_for_uefi(&map(&[part(1, "ufs", "0xa5")])));
    }

    #[test]
    fn closed_volumes_are_named_and_opened_ones_are_not() {
        let luks = part(2, "crypto_LUKS", "0x83");
        let opened = BlockDevice {
            name: "/dev/mapper/luks-x".into(),
            kind: DeviceKind::Crypt {
                parent: "/dev/sda2".into(),
            },
            ..part(9, "ext4", "")
        };
        assert_eq!(
            locked(&map(std::slice::from_ref(&luks))),
            [("/dev/sda2", "LUKS")]
        );
        let concern = &concerns(&map(std::slice::from_ref(&luks)))[0];
        assert!(concern.fix.as_deref().unwrap().contains("--key /dev/sda2:"));
        assert!(concerns(&map(&[luks, opened])).is_empty());
    }
}
