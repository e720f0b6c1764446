//! Disks of phony guests: a GPT with ESP, or an MBR with "System Reserved", or one partition alone.

use types::{BlockDevice, DeviceKind, StorageMap};

use super::version::Version;

/// GUID of the partition of Windows on a GPT.
pub(crate) const PARTITION: &str = "0a1b2c3d-1111-4222-8333-445566778899";
/// Signature of a disk with an MBR.
pub(crate) const SIGNATURE: u32 = 0x5cbe_a03e;

/// A partition.
pub(crate) fn partition(
    number: u32,
    content: &str,
    size: u64,
    parttype: &str,
    partuuid: &str,
) -> BlockDevice {
    BlockDevice {
        name: format!("/dev/sda{number}"),
        kind: DeviceKind::Partition { disk: 0, number },
        virtual_size: size,
        start: None,
        content: content.to_owned(),
        uuid: None,
        label: None,
        partuuid: Some(partuuid.to_owned()),
        partlabel: None,
        parttype: Some(parttype.to_owned()),
    }
}

/// The disks of this release; Windows is on the last partition.
pub(crate) fn map(version: &Version) -> StorageMap {
    let basic = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7";
    let mbr = |number: u32| format!("{SIGNATURE:08x}-{number:02x}");
    let (table, partitions) = if version.uefi {
        let partitions = vec![
            partition(
                1,
                "vfat",
                100 << 20,
                crate::linux::mounts::ESP_TYPE,
                "e5e5e5e5-0000-4000-8000-000000000001",
            ),
            partition(
                2,
                "",
                16 << 20,
                "e3c9e316-0b5c-4db8-817d-f92df00215ae",
                "e5e5e5e5-0000-4000-8000-000000000002",
            ),
            partition(3, "ntfs", 60 << 30, basic, PARTITION),
        ];
        ("gpt", partitions)
    } else if (version.major, version.minor) >= (6, 1) {
        let partitions = vec![
            partition(1, "ntfs", 100 << 20, "0x7", &mbr(1)),
            partition(2, "ntfs", 60 << 30, "0x7", &mbr(2)),
        ];
        ("dos", partitions)
    } else {
        ("dos", vec![partition(1, "ntfs", 40 << 30, "0x7", &mbr(1))])
    };
    let mut disk = partition(0, "", 64 << 30, "", "");
    disk.name = "/dev/sda".to_owned();
    disk.kind = DeviceKind::Disk {
        disk: 0,
        table: table.to_owned(),
    };
    (disk.partuuid, disk.parttype) = (None, None);
    StorageMap {
        devices: std::iter::once(disk).chain(partitions).collect(),
    }
}
