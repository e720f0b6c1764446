//! What the appliance found on the disks.

use serde::{Deserialize, Serialize};

/// Every block device that was assembled from the disks, disks themselves included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageMap {
    /// Disks first, in the machine's order, each followed by its partitions; then logical volumes, arrays, ….
    pub devices: Vec<BlockDevice>,
}

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// Stable name for people and requests: `/dev/sda`, `/dev/sda1`, `/dev/VG/LV`, `/dev/md/NAME`, where `sda`
    /// is disk 0 of the machine whatever the appliance's kernel calls it.
    pub name: String,
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// Its size in bytes.
    pub virtual_size: u64,
    /// Where a partition begins on its disk, in bytes.
    #[serde(default)]
    pub start: Option<u64>,
    /// What it holds, in blkid's words: `ext4`, `xfs`, `vfat`, `swap`, `swsuspend` (hibernated), `ntfs`,
    /// `LVM2_member`, `crypto_LUKS`, `linux_raid_member`, or empty.
    pub content: String,
    /// UUID of the content, as blkid spells it.
    pub uuid: Option<String>,
    /// Label of the content.
    pub label: Option<String>,
    /// GPT partition UUID, or `DISKSIG-NN` for MBR, as /dev/disk/by-partuuid has it.
    pub partuuid: Option<String>,
    /// GPT partition name.
    pub partlabel: Option<String>,
    /// GPT type UUID (lower case) or MBR type as `0x83`.
    pub parttype: Option<String>,
}

/// Kind of block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum DeviceKind {
    /// A whole disk.
    Disk {
        /// Index among the machine's disks.
        disk: u32,
        /// `gpt`, `dos`, or empty.
        table: String,
    },
    /// A partition.
    Partition {
        /// Index of its disk.
        disk: u32,
        /// Number in the table, from 1.
        number: u32,
    },
    /// An LVM logical volume.
    Lv {
        /// Volume group.
        vg: String,
        /// Logical volume.
        lv: String,
    },
    /// An md array.
    Md {
        /// Name of it.
        name: String,
    },
    /// An opened LUKS or BitLocker volume.
    Crypt {
        /// Name of the device it was opened from.
        parent: String,
    },
}

impl StorageMap {
    /// The device of this name.
    pub fn get(&self, name: &str) -> Option<&BlockDevice> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// Partition `number` of disk `disk`.
    pub fn partition(&self, disk: u32, number: u32) -> Option<&BlockDevice> {
        self.devices
            .iter()
            .find(|device| device.kind == DeviceKind::Partition { disk, number })
    }
}

/// The letters that Linux gives disk `index` after its `sd` or `vd`: 0 is `a`, 25 `z`, 26 `aa`.
pub fn disk_letters(index: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = u64::from(index) + 1;
    while rest > 0 {
        let digit = (rest - 1) % 26;
        letters.push(char::from(b'a' + u8::try_from(digit).unwrap_or(0)));
        rest = (rest - 1) / 26;
    }
    letters.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_letters_count_as_the_kernel_does() {
        for (index, want) in [
            (0, "a"),
            (25, "z"),
            (26, "aa"),
            (51, "az"),
            (52, "ba"),
            (701, "zz"),
            (702, "aaa"),
        ] {
            assert_eq!(disk_letters(index), want);
        }
    }
}
