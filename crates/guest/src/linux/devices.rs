//! Device names as a guest's configuration spells them, and the devices of the storage map that they mean.
//!
//! A name is *positional* when it says where a disk hangs (`/dev/sda1`, `/dev/disk/by-path/…`, and by-id names, which
//! come from the hypervisor's virtual disk): such names change with the hypervisor. UUIDs, labels, LVM and md names do not.

use types::{BlockDevice, DeviceKind, StorageMap, disk_letters};

use crate::Root;
use crate::linux::mounts::disk_of;
use crate::linux::{escapes, fstab};

/// Resolves device names of one guest.
#[derive(Debug)]
pub(crate) struct Devices<'s> {
    storage: &'s StorageMap,
    /// Names and sources of crypttab.
    crypt: Vec<(String, String)>,
    /// Arrays of mdadm.conf.
    arrays: Vec<Array>,
    /// The guest's root, by which a disk is told from its copy.
    root: Option<&'s BlockDevice>,
}

/// `ARRAY` of mdadm.conf(5).
#[derive(Debug, Default)]
struct Array {
    /// `/dev/md0`.
    device: String,
    /// `name=`, without the host.
    name: Option<String>,
    /// `UUID=`, its digits alone.
    uuid: Option<String>,
}

/// Where a positional name points; `disk` is `None` when the name alone does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) disk: Option<u32>,
    pub(crate) part: Option<u32>,
}

/// How the reader of a file wants a stable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `UUID=…`, else `PARTUUID=…`: fstab.
    Tag,
    /// `UUID=…`, else a path: crypttab, swap of initramfs-tools.
    TagOrPath,
    /// `PARTUUID=…`, the only one that a kernel without an initramfs understands (init/do_mounts.c).
    PartTag,
}

/// Lines of crypttab that are known by name: each name on a list is looked for among them.
const CRYPT_MAX: usize = 1024;

impl<'s> Devices<'s> {
    /// Reads what the guest itself says of its names (crypttab).
    pub(crate) fn new(root: &Root, storage: &'s StorageMap) -> Self {
        let crypttab = root.text("/etc/crypttab").unwrap_or_default();
        let crypt = fstab::fields(&crypttab)
            .take(CRYPT_MAX)
            .filter_map(|line| Some(((*line.first()?).to_owned(), (*line.get(1)?).to_owned())))
            .collect();
        let arrays = ["/etc/mdadm.conf", "/etc/mdadm/mdadm.conf"]
            .iter()
            .filter_map(|path| root.text(path))
            .flat_map(|text| arrays(&text))
            .collect();
        Self {
            storage,
            crypt,
            arrays,
            root: None,
        }
    }

    /// The same for the guest whose root is `name`: of devices that are called the same, the one on its disk or in its
    /// volume group is meant.
    pub(crate) fn near(mut self, name: &str) -> Self {
        self.root = self.storage.get(name);
        self
    }

    /// The storage map.
    pub(crate) fn storage(&self) -> &'s StorageMap {
        self.storage
    }

    /// The device that a name in fstab, crypttab or on a kernel command line means. `fs_type` breaks a tie.
    pub(crate) fn resolve(&self, spec: &str, fs_type: Option<&str>) -> Option<&'s BlockDevice> {
        let spec = spec.trim_matches(['"', '\'']);
        if let Some((tag, value)) = spec.split_once('=') {
            return self.by_tag(tag, value.trim_matches(['"', '\'']));
        }
        let path = spec.strip_prefix("/dev/")?;
        if let Some(rest) = path.strip_prefix("disk/by-") {
            let (by, value) = rest.split_once('/')?;
            let value = escapes::hexadecimal(value);
            match by {
                "uuid" | "label" | "partuuid" | "partlabel" => return self.by_tag(by, &value),
                "id" => {
                    if let Some(name) = value.strip_prefix("dm-name-") {
                        return self.by_mapper(name);
                    }
                    if let Some(array) = value.strip_prefix("md-") {
                        return self.by_md_id(array);
                    }
                }
                _ => {}
            }
        }
        if let Some(name) = path.strip_prefix("mapper/") {
            return self.by_mapper(name);
        }
        if let Some(position) = position(spec, self.disk_count()) {
            return self.by_position(position, fs_type);
        }
        self.by_volume(path)
            .or_else(|| self.storage.get(spec))
            .or_else(|| self.by_md(path))
    }

    /// A name that survives the move, for a positional one. `None` when the name is not positional or not known here.
    pub(crate) fn stable(
        &self,
        spec: &str,
        fs_type: Option<&str>,
        form: Form,
        prefix: &str,
    ) -> Option<String> {
        position(spec, self.disk_count())?;
        let device = self.resolve(spec, fs_type)?;
        let uuid = device
            .uuid
            .as_ref()
            .filter(|_| form != Form::PartTag && self.uuid_is_unique(device));
        if let Some(uuid) = uuid {
            return Some(format!("UUID={uuid}"));
        }
        if let Some(partuuid) = &device.partuuid {
            return Some(match form {
                Form::TagOrPath => format!("/dev/disk/by-partuuid/{partuuid}"),
                Form::Tag | Form::PartTag => format!("PARTUUID={partuuid}"),
            });
        }
        Some(self.renamed(device, prefix)?).filter(|name| name != spec)
    }

    /// `/dev/vda1` for partition 1 of disk 0, when `prefix` is `vd`.
    pub(crate) fn renamed(&self, device: &BlockDevice, prefix: &str) -> Option<String> {
        match device.kind {
            DeviceKind::Disk { disk, .. } => Some(format!("/dev/{prefix}{}", disk_letters(disk))),
            DeviceKind::Partition { disk, number } => {
                Some(format!("/dev/{prefix}{}{number}", disk_letters(disk)))
            }
            _ => None,
        }
    }

    /// True when a positional name is one (whatever it points to).
    pub(crate) fn is_positional(&self, spec: &str) -> bool {
        position(spec, self.disk_count()).is_some()
    }

    fn disk_count(&self) -> u32 {
        let disks = self
            .storage
            .devices
            .iter()
            .filter(|device| matches!(device.kind, DeviceKind::Disk { .. }));
        u32::try_from(disks.count()).unwrap_or(u32::MAX)
    }

    fn uuid_is_unique(&self, device: &BlockDevice) -> bool {
        let same =
            |other: &&BlockDevice| other.uuid == device.uuid && other.content == device.content;
        self.storage.devices.iter().filter(same).count() == 1
    }

    fn by_tag(&self, tag: &str, value: &str) -> Option<&'s BlockDevice> {
        let devices = &self.storage.devices;
        let same = |field: &Option<String>| {
            field
                .as_deref()
                .is_some_and(|text| text.eq_ignore_ascii_case(value))
        };
        // An md member and its array, or a multipath leg, may share a UUID or label; the assembled device comes later.
        match tag.to_ascii_lowercase().as_str() {
            "uuid" => self.nearest(devices.iter().filter(|device| same(&device.uuid))),
            "label" => self.nearest(
                devices
                    .iter()
                    .filter(|device| device.label.as_deref() == Some(value)),
            ),
            "partuuid" => {
                self.nearest(devices.iter().rev().filter(|device| same(&device.partuuid)))
            }
            "partlabel" => {
                let called = |device: &&BlockDevice| device.partlabel.as_deref() == Some(value);
                self.nearest(devices.iter().rev().filter(called))
            }
            _ => None,
        }
    }

    /// The last of those that are nearest to the guest's root.
    fn nearest<'d>(
        &self,
        devices: impl Iterator<Item = &'d BlockDevice>,
    ) -> Option<&'d BlockDevice> {
        devices.max_by_key(|device| self.nearness(device))
    }

    /// 2 in the volume group of the root, 1 on its disk.
    fn nearness(&self, device: &BlockDevice) -> u32 {
        let Some(root) = self.root else { return 0 };
        let group = |device: &BlockDevice| match device.kind {
            DeviceKind::Lv { .. } => device
                .name
                .rsplit_once('/')
                .map(|(group, _)| group.to_owned()),
            _ => None,
        };
        let disk = |device: &BlockDevice| disk_of(self.storage, &device.name);
        if group(root).is_some() && group(root) == group(device) {
            return 2;
        }
        u32::from(disk(root).is_some() && disk(root) == disk(device))
    }

    /// `VG/LV`.
    fn by_volume(&self, path: &str) -> Option<&'s BlockDevice> {
        let (group, volume) = path.split_once('/')?;
        let called = |device: &&BlockDevice| matches!(&device.kind, DeviceKind::Lv { vg, lv } if vg == group && lv == volume);
        // The first in the map keeps its name; so it is taken when the root does not tell.
        self.nearest(self.storage.devices.iter().rev().filter(called))
    }

    /// Device mapper doubles the dashes inside names of volume group and volume, and joins them by a single one.
    fn by_mapper(&self, name: &str) -> Option<&'s BlockDevice> {
        self.by_mapper_volume(name).or_else(|| {
            let (_, source) = self.crypt.iter().find(|(crypt, _)| crypt == name)?;
            // crypttab names what is below it; a name that leads to itself ends here.
            let below = match source.strip_prefix("/dev/mapper/") {
                Some(volume) => self.by_mapper_volume(volume),
                None => self.resolve(source, None),
            }?;
            self.storage
                .devices
                .iter()
                .find(|device| matches!(&device.kind, DeviceKind::Crypt { parent } if *parent == below.name))
        })
        .or_else(|| self.storage.get(&format!("/dev/mapper/{name}")))
    }

    fn by_mapper_volume(&self, name: &str) -> Option<&'s BlockDevice> {
        let double = |text: &str| text.replace('-', "--");
        let called = |device: &&BlockDevice| match &device.kind {
            DeviceKind::Lv { vg, lv } => name == format!("{}-{}", double(vg), double(lv)),
            _ => false,
        };
        self.nearest(self.storage.devices.iter().rev().filter(called))
    }

    /// `uuid-A:B:C:D` and `name-HOST:NAME`, as udev links arrays in /dev/disk/by-id.
    fn by_md_id(&self, id: &str) -> Option<&'s BlockDevice> {
        let (id, part) = split_part_suffix(id);
        let name = match id.strip_prefix("uuid-") {
            Some(uuid) => self.array_of(&digits(uuid))?,
            None => bare_array(id.strip_prefix("name-")?),
        };
        self.by_array(&part.map_or(name.clone(), |part| format!("{name}p{part}")))
    }

    /// Name of the array with these digits in its UUID, as its members tell it (their label: `HOST:NAME`).
    fn array_of(&self, uuid: &str) -> Option<String> {
        let is_member = |device: &&BlockDevice| {
            device.content == "linux_raid_member"
                && device.uuid.as_deref().map(digits).as_deref() == Some(uuid)
        };
        let member = self.storage.devices.iter().find(is_member)?;
        member.label.as_deref().map(bare_array)
    }

    fn by_array(&self, wanted: &str) -> Option<&'s BlockDevice> {
        self.storage.devices.iter().find(
            |device| matches!(&device.kind, DeviceKind::Md { name } if bare_array(name) == wanted),
        )
    }

    /// `md0`, `md/NAME`, and `md/HOST:NAME`: as mdadm.conf says, else as the array itself does.
    fn by_md(&self, path: &str) -> Option<&'s BlockDevice> {
        let wanted = path
            .strip_prefix("md/")
            .or_else(|| path.strip_prefix("md"))?;
        let spelled = |device: &str| {
            let name = device.strip_prefix("/dev/").unwrap_or(device);
            name == path
                || name
                    .strip_prefix("md")
                    .map(|name| name.trim_start_matches('/'))
                    == Some(wanted)
        };
        let array = self.arrays.iter().find(|array| spelled(&array.device));
        let configured = array.and_then(|array| {
            let by_uuid = array.uuid.as_deref().and_then(|uuid| self.array_of(uuid));
            self.by_array(&by_uuid.or_else(|| array.name.clone())?)
        });
        configured.or_else(|| {
            self.storage
                .devices
                .iter()
                .find(|device| match &device.kind {
                    DeviceKind::Md { name } => {
                        let (bare, wanted) = (bare_array(name), bare_array(wanted));
                        bare == wanted
                            || bare.strip_prefix("md") == Some(&wanted)
                            || *name == wanted
                    }
                    _ => false,
                })
        })
    }

    fn by_position(&self, position: Position, fs_type: Option<&str>) -> Option<&'s BlockDevice> {
        let matches = |device: &&BlockDevice| match (&device.kind, position.part) {
            (DeviceKind::Disk { disk, .. }, None) => {
                position.disk.is_none_or(|wanted| wanted == *disk)
            }
            (DeviceKind::Partition { disk, number }, Some(part)) => {
                *number == part && position.disk.is_none_or(|wanted| wanted == *disk)
            }
            _ => false,
        };
        let found: Vec<_> = self.storage.devices.iter().filter(matches).collect();
        if let [only] = found.as_slice() {
            return Some(only);
        }
        let mut fitting = found
            .into_iter()
            .filter(|device| fs_type == Some(device.content.as_str()));
        fitting.next().filter(|_| fitting.next().is_none())
    }
}

/// The `ARRAY` lines of mdadm.conf(5).
fn arrays(text: &str) -> Vec<Array> {
    let lines = fstab::fields(text).filter_map(|line| {
        let (first, rest) = line.split_first()?;
        if !first.eq_ignore_ascii_case("ARRAY") {
            return None;
        }
        let mut array = Array::default();
        for word in rest {
            match word.split_once('=') {
                None if array.device.is_empty() => array.device = (*word).to_owned(),
                Some((key, value)) if key.eq_ignore_ascii_case("name") => {
                    array.name = Some(bare_array(value))
                }
                Some((key, value)) if key.eq_ignore_ascii_case("uuid") => {
                    array.uuid = Some(digits(value))
                }
                _ => {}
            }
        }
        Some(array)
    });
    lines.collect()
}

/// Name of an array without its host and without what names devices.
fn bare_array(name: &str) -> String {
    let bare = name.rsplit_once(':').map_or(name, |(_, bare)| bare);
    bare.trim_start_matches("/dev/")
        .trim_start_matches("md/")
        .to_owned()
}

/// A UUID without what separates its parts: mdadm has colons, blkid dashes.
fn digits(uuid: &str) -> String {
    uuid.chars()
        .filter(char::is_ascii_hexdigit)
        .collect::<String>()
        .to_ascii_lowercase()
}

/// Reads a positional name; `None` when it is not one.
pub(crate) fn position(spec: &str, disks: u32) -> Option<Position> {
    let name = spec.strip_prefix("/dev/")?;
    if let Some(rest) = name.strip_prefix("disk/by-path/") {
        let (base, part) = split_part_suffix(rest);
        let disk = if disks == 1 { Some(0) } else { path_slot(base) };
        return Some(Position { disk, part });
    }
    if let Some(rest) = name.strip_prefix("disk/by-id/") {
        if ["dm-", "md-", "lvm-"]
            .iter()
            .any(|prefix| rest.starts_with(prefix))
        {
            return None;
        }
        let (_, part) = split_part_suffix(rest);
        return Some(Position {
            disk: (disks == 1).then_some(0),
            part,
        });
    }
    if let Some(rest) = name.strip_prefix("nvme") {
        let (controller, rest) = number(rest)?;
        let (namespace, rest) = number(rest.strip_prefix('n')?)?;
        // VMware shows the disks of one NVMe controller as its namespaces.
        let disk = controller.checked_add(namespace.checked_sub(1)?)?;
        return Some(Position {
            disk: Some(disk),
            part: p_number(rest)?,
        });
    }
    if let Some(rest) = name.strip_prefix("mmcblk") {
        let (disk, rest) = number(rest)?;
        return Some(Position {
            disk: Some(disk),
            part: p_number(rest)?,
        });
    }
    if let Some(rest) = name.strip_prefix("cciss/c") {
        let (_, rest) = number(rest)?;
        let (disk, rest) = number(rest.strip_prefix('d')?)?;
        return Some(Position {
            disk: Some(disk),
            part: p_number(rest)?,
        });
    }
    let rest = ["xvd", "sd", "hd", "vd"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = rest.strip_prefix(letters)?;
    let part = if digits.is_empty() {
        None
    } else {
        Some(digits.parse().ok()?)
    };
    Some(Position {
        disk: Some(letters_index(letters)?),
        part,
    })
}

/// Splits `NAME-part3`.
fn split_part_suffix(name: &str) -> (&str, Option<u32>) {
    match name.rsplit_once("-part") {
        Some((base, number)) => match number.parse() {
            Ok(number) => (base, Some(number)),
            Err(_) => (name, None),
        },
        None => (name, None),
    }
}

/// Disk number that a by-path name suggests: SCSI target, SAS phy, NVMe namespace, ATA port, or LUN of a vmbus disk.
fn path_slot(base: &str) -> Option<u32> {
    let after = |marker: &str| base.rsplit_once(marker).map(|(_, rest)| rest);
    if let Some(address) = after("-scsi-") {
        let target: u32 = address.split(':').nth(2)?.parse().ok()?;
        // On VMware's SCSI controllers target 7 is the controller itself.
        return Some(if target > 7 { target - 1 } else { target });
    }
    if let Some(rest) = after("-phy") {
        return number(rest).map(|(phy, _)| phy);
    }
    if let Some(rest) = after("-nvme-").or_else(|| after("-ata-")) {
        return number(rest).and_then(|(count, _)| count.checked_sub(1));
    }
    after("-lun-").and_then(number).map(|(lun, _)| lun)
}

fn number(text: &str) -> Option<(u32, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (digits, rest) = text.split_at(digits);
    Some((digits.parse().ok()?, rest))
}

/// An empty rest, or `pN`.
fn p_number(rest: &str) -> Option<Option<u32>> {
    if rest.is_empty() {
        return Some(None);
    }
    rest.strip_prefix('p')?.parse().ok().map(Some)
}

/// The reverse of [`disk_letters`].
fn letters_index(letters: &str) -> Option<u32> {
    if letters.is_empty() || letters.len() > 4 {
        return None;
    }
    let mut index = 0u32;
    for byte in letters.bytes() {
        if !byte.is_ascii_lowercase() {
            return None;
        }
        index = index * 26 + u32::from(byte - b'a') + 1;
    }
    index.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positional_names_give_disk_and_partition() {
        let at = |disk, part| Some(Position { disk, part });
        for (name, want) in [
            ("/dev/sda1", at(Some(0), Some(1))),
            ("/dev/sdb", at(Some(1), None)),
            ("/dev/sdaa12", at(Some(26), Some(12))),
            ("/dev/hdc3", at(Some(2), Some(3))),
            ("/dev/xvdb2", at(Some(1), Some(2))),
            ("/dev/nvme0n1p2", at(Some(0), Some(2))),
            ("/dev/nvme0n2", at(Some(1), None)),
            ("/dev/cciss/c0d1p5", at(Some(1), Some(5))),
            (
                "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part2",
                at(Some(1), Some(2)),
            ),
            (
                "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:8:0",
                at(Some(7), None),
            ),
            (
                "/dev/disk/by-path/pci-0000:02:03.0-ata-2",
                at(Some(1), None),
            ),
            ("/dev/disk/by-id/scsi-36000c29abc-part1", at(None, Some(1))),
            ("/dev/disk/by-id/dm-name-vg-root", None),
            ("/dev/mapper/vg-root", None),
            ("/dev/sr0", None),
            ("/dev/sd1", None),
            ("/dev/nvme0n0", None),
            ("UUID=1234", None),
        ] {
            assert_eq!(position(name, 2), want, "{name}");
        }
        assert_eq!(
            position("/dev/disk/by-id/wwn-0x5000-part3", 1),
            at(Some(0), Some(3))
        );
    }

    #[test]
    fn udev_escapes_are_undone() {
        assert_eq!(escapes::hexadecimal(r"my\x20disk\x2fx"), "my disk/x");
        assert_eq!(escapes::hexadecimal(r"odd\x2"), r"odd\x2");
    }
}
