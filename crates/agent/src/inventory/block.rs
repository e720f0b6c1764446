//! The kernel's block devices that may be disks, as /sys/block shows them.
//!
//! Left out here: loop, ram, zram, sr, fd, nbd and whatever else is no disk of a machine; the hidden paths of NVMe
//! (nvme0c0n1), boot and RPMB areas of eMMC (mmcblk0boot0); devices without a medium (size 0).

use std::path::PathBuf;

use super::Paths;
use super::sysfs;

/// Which driver's names a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Scsi,
    Ide,
    Virtio,
    Xen,
    /// cciss, ida, rd (DAC960): RAID controllers with block drivers of their own.
    Controller,
    Mmc,
    Dasd,
    Nvme,
    Pmem,
    /// Software and firmware arrays.
    Md,
    /// Device mapper.
    Dm,
}

/// One block device.
#[derive(Clone, Debug)]
pub(crate) struct BlockDevice {
    /// The kernel's name: below /dev, with the slash that sysfs writes as `!`.
    pub(crate) name: String,
    pub(crate) family: Family,
    /// /sys/block/NAME.
    pub(crate) dir: PathBuf,
    /// The same without symbolic links: its place among the devices.
    pub(crate) real: PathBuf,
    /// Bytes.
    pub(crate) len: u64,
    /// MAJOR:MINOR.
    pub(crate) number: String,
    /// Whole disks and partitions that it is made of.
    pub(crate) slaves: Vec<Slave>,
}

/// What an array or a map is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slave {
    /// Name of the whole disk.
    pub(crate) disk: String,
    /// It is a partition of that disk.
    pub(crate) is_partition: bool,
}

impl BlockDevice {
    /// An attribute below /sys/block/NAME.
    pub(crate) fn text(&self, attribute: &str) -> Option<String> {
        sysfs::text(self.dir.join(attribute))
    }

    /// A numeric attribute.
    pub(crate) fn number_of(&self, attribute: &str) -> Option<u64> {
        sysfs::number(self.dir.join(attribute))
    }

    /// True for an attribute that is `1`.
    pub(crate) fn flag(&self, attribute: &str) -> bool {
        sysfs::flag(self.dir.join(attribute))
    }

    /// Its name for the partition of this number.
    pub(crate) fn partition_name(&self, number: u32) -> String {
        partition_name(&self.name, number)
    }

    /// Sort key: the order in which Linux finds disks, SCSI by letters first.
    pub(crate) fn order(&self) -> (Family, Vec<(usize, String)>) {
        (self.family, sysfs::natural(&self.name))
    }
}

/// sda1, nvme0n1p1, cciss/c0d0p1; the disk itself for number 0.
pub(crate) fn partition_name(disk: &str, number: u32) -> String {
    match number {
        0 => disk.to_owned(),
        number if disk.ends_with(|c: char| c.is_ascii_digit()) => format!("{disk}p{number}"),
        number => format!("{disk}{number}"),
    }
}

/// Every device that may be a disk, in natural order, arrays and maps included.
pub(crate) fn list(paths: &Paths) -> Vec<BlockDevice> {
    let root = paths.sys.join("block");
    sysfs::names(&root)
        .into_iter()
        .filter_map(|entry| {
            let name = entry.replace('!', "/");
            let family = family(&name)?;
            let dir = root.join(&entry);
            let len = sysfs::number(dir.join("size"))?.checked_mul(512)?;
            // The container of a firmware array has no size, but names the array's spares.
            let is_there = (len > 0 || family == Family::Md) && !sysfs::flag(dir.join("hidden"));
            is_there.then(|| BlockDevice {
                family,
                real: sysfs::real(&dir).unwrap_or_else(|| dir.clone()),
                number: sysfs::text(dir.join("dev")).unwrap_or_default(),
                slaves: slaves(paths, &dir),
                name,
                dir,
                len,
            })
        })
        .collect()
}

fn slaves(paths: &Paths, dir: &std::path::Path) -> Vec<Slave> {
    sysfs::names(dir.join("slaves"))
        .into_iter()
        .map(|entry| {
            let is_disk = paths.sys.join("block").join(&entry).exists();
            // A partition lies in the folder of its disk.
            let parent = || {
                let real = sysfs::real(paths.sys.join("class/block").join(&entry))?;
                Some(real.parent()?.file_name()?.to_str()?.to_owned())
            };
            let disk = if is_disk { None } else { parent() };
            Slave {
                is_partition: disk.is_some(),
                disk: disk.unwrap_or(entry).replace('!', "/"),
            }
        })
        .collect()
}

/// Prefix of a name, its family, what has to follow.
type Rule<'a> = (&'a str, Family, &'a dyn Fn(&str) -> bool);

/// The family of a kernel name; `None` for what is no disk.
pub(crate) fn family(name: &str) -> Option<Family> {
    let letters = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase());
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    let pair = |rest: &str, between: char| {
        rest.split_once(between)
            .is_some_and(|(a, b)| digits(a) && digits(b))
    };
    // Xen may show a single partition as a device: xvda1.
    let xen = |rest: &str| letters(rest.trim_end_matches(|c: char| c.is_ascii_digit()));
    let rules: [Rule<'_>; 13] = [
        ("sd", Family::Scsi, &letters),
        ("hd", Family::Ide, &letters),
        ("vd", Family::Virtio, &letters),
        ("xvd", Family::Xen, &xen),
        ("nvme", Family::Nvme, &|rest| pair(rest, 'n')),
        ("mmcblk", Family::Mmc, &digits),
        ("cciss/c", Family::Controller, &|rest| pair(rest, 'd')),
        ("ida/c", Family::Controller, &|rest| pair(rest, 'd')),
        ("rd/c", Family::Controller, &|rest| pair(rest, 'd')),
        ("pmem", Family::Pmem, &digits),
        ("dasd", Family::Dasd, &letters),
        ("md", Family::Md, &|rest| {
            digits(rest) || rest.starts_with("_d")
        }),
        ("dm-", Family::Dm, &digits),
    ];
    rules.iter().find_map(|(prefix, family, is_rest)| {
        let rest = name.strip_prefix(prefix)?;
        is_rest(rest).then_some(*family)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_have_a_family() {
        for name in [
            "sda",
            "sdaa",
            "hda",
            "vdb",
            "xvda",
            "xvda1",
            "nvme0n1",
            "mmcblk0",
            "cciss/c0d0",
            "pmem0",
            "dasda",
            "md126",
            "md_d1",
            "dm-0",
        ] {
            assert!(family(name).is_some(), "{name}");
        }
        for name in [
            "loop0",
            "ram0",
            "zram0",
            "sr0",
            "fd0",
            "nbd0",
            "nvme0c0n1",
            "mmcblk0boot0",
            "mmcblk0rpmb",
            "sda1",
            "mtdblock0",
            "drbd0",
            "",
        ] {
            assert!(family(name).is_none(), "{name}");
        }
    }

    #[test]
    fn partitions_of_names_that_end_with_a_digit_have_a_p() {
        assert_eq!(partition_name("sda", 2), "sda2");
        assert_eq!(partition_name("nvme0n1", 2), "nvme0n1p2");
        assert_eq!(partition_name("cciss/c0d0", 1), "cciss/c0d0p1");
        assert_eq!(partition_name("sda", 0), "sda");
    }
}
