//! The numbers that the PC BIOS gave the disks (Enhanced Disk Drive services, /sys/firmware/edd, module edd).

use super::Paths;
use super::sysfs;

/// One disk of the BIOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EddDevice {
    /// 0x80, 0x81, ….
    pub(crate) number: u32,
    pub(crate) mbr_signature: Option<u32>,
    /// Bytes.
    pub(crate) len: Option<u64>,
}

/// What is matched with a BIOS disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) mbr_signature: Option<u32>,
    /// Bytes.
    pub(crate) len: u64,
}

/// All BIOS disks in their order; empty without the module or under UEFI.
pub(crate) fn list(paths: &Paths) -> Vec<EddDevice> {
    let root = paths.sys.join("firmware/edd");
    let mut all: Vec<EddDevice> = sysfs::names(&root)
        .into_iter()
        .filter_map(|name| {
            let number = u32::from_str_radix(name.strip_prefix("int13_dev")?, 16).ok()?;
            let dir = root.join(&name);
            Some(EddDevice {
                number,
                mbr_signature: sysfs::hex(dir.join("mbr_signature")).filter(|&s| s != 0),
                len: sysfs::number(dir.join("sectors")).and_then(|n| n.checked_mul(512)),
            })
        })
        .filter(|device| device.number >= 0x80)
        .collect();
    all.sort_by_key(|device| device.number);
    all
}

/// For each candidate its BIOS number: by the signature in its MBR if that is no other's, else by a size that is no
/// other's.
pub(crate) fn assign(devices: &[EddDevice], disks: &[Candidate]) -> Vec<Option<u32>> {
    let mut numbers = vec![None; disks.len()];
    let mut give = |is_same: &dyn Fn(&EddDevice, &Candidate) -> bool| {
        for device in devices {
            let twins = devices
                .iter()
                .filter(|other| {
                    disks
                        .iter()
                        .any(|d| is_same(device, d) && is_same(other, d))
                })
                .count();
            let mut same = (0..disks.len()).filter(|&i| is_same(device, &disks[i]));
            if let (1, Some(index), None) = (twins, same.next(), same.next())
                && numbers[index].is_none()
                && !numbers.contains(&Some(device.number))
            {
                numbers[index] = Some(device.number);
            }
        }
    };
    give(&|device, disk| {
        device.mbr_signature.is_some() && device.mbr_signature == disk.mbr_signature
    });
    give(&|device, disk| device.len == Some(disk.len));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edd(number: u32, signature: u32, len: u64) -> EddDevice {
        EddDevice {
            number,
            mbr_signature: (signature != 0).then_some(signature),
            len: Some(len),
        }
    }

    fn disk(signature: u32, len: u64) -> Candidate {
        Candidate {
            mbr_signature: (signature != 0).then_some(signature),
            len,
        }
    }

    #[test]
    fn signatures_go_before_sizes_and_doubt_gives_no_number() {
        let devices = [edd(0x80, 7, 100), edd(0x81, 8, 100), edd(0x82, 0, 50)];
        let disks = [disk(8, 100), disk(0, 50), disk(7, 100)];
        assert_eq!(
            assign(&devices, &disks),
            [Some(0x81), Some(0x82), Some(0x80)]
        );
        // Cloned disks have one signature and one size.
        let twins = [edd(0x80, 7, 100), edd(0x81, 7, 100)];
        assert_eq!(assign(&twins, &[disk(7, 100), disk(7, 100)]), [None, None]);
    }
}
