//! What the administrator should know before the disks are sent, one line each.

use wire::inventory::{DiskKind, Firmware};

use super::Paths;
use super::block::{self, Family};
use super::disks::FoundDisk;
use super::sysfs;
use super::table::TableKind;

/// Where the 32-bit sector numbers of an MBR end, with sectors of 512 bytes.
const MBR_LIMIT: u64 = 2 << 40;

/// All of them.
pub(crate) fn concerns(paths: &Paths, firmware: &Firmware, found: &[FoundDisk]) -> Vec<String> {
    let mut all = Vec::new();
    for found in found {
        disk(found, &mut all);
    }
    arrays(paths, &mut all);
    let mounts = sysfs::whole(paths.proc.join("mounts")).unwrap_or_default();
    let swaps = sysfs::whole(paths.proc.join("swaps")).unwrap_or_default();
    for found in found {
        in_use(found, &mounts, &swaps, &mut all);
    }
    if found.iter().all(|found| !found.disk.left_out.is_empty()) {
        all.push(
            "no disk is chosen: name one, or look whether its controller has a driver".to_owned(),
        );
    }
    if firmware.uefi && firmware.secure_boot.is_none() {
        all.push("the state of Secure Boot could not be read: efivarfs is not mounted".to_owned());
    }
    all
}

fn disk(found: &FoundDisk, all: &mut Vec<String>) {
    let (disk, contents) = (&found.disk, &found.contents);
    let name = &disk.name;
    if disk.healthy == Some(false) {
        all.push(format!("{name} is failing: {}", disk.health));
    }
    if let Some(failure) = &contents.failure {
        all.push(format!("{name} could not be read whole: {failure}"));
    }
    if !disk.left_out.is_empty() {
        return;
    }
    for (device, signature) in contents.signatures(name) {
        match signature.content {
            "crypto_LUKS" => all.push(format!(
                "{device} is encrypted with LUKS: its key has to be given at the server"
            )),
            "BitLocker" => all.push(format!(
                "{device} is encrypted with BitLocker: its key has to be given at the server"
            )),
            "isw_raid_member" | "ddf_raid_member" if disk.kind() == DiskKind::Plain => {
                all.push(format!(
                    "{device} is a member of a firmware array that is not assembled: it is sent as a disk of its own"
                ));
            }
            "swsuspend" => all.push(format!(
                "{device} holds a hibernated system: shut it down instead, its file systems are not clean"
            )),
            _ => {}
        }
    }
    if let Some(table) = &contents.table {
        if table.kind == TableKind::Dos
            && disk.virtual_size > MBR_LIMIT
            && disk.logical_sector_size == 512
        {
            all.push(format!(
                "{name} is larger than 2 TiB and has an MBR: what is behind 2 TiB is in no partition"
            ));
        }
        for (role, what) in [
            ("ldm", "a Windows dynamic disk"),
            ("storage_spaces", "part of Windows Storage Spaces"),
        ] {
            if table.parts.iter().any(|part| part.role == role) {
                all.push(format!("{name} is {what}: it is sent, but not converted"));
            }
        }
    }
}

fn arrays(paths: &Paths, all: &mut Vec<String>) {
    for device in block::list(paths) {
        if device.family != Family::Md {
            continue;
        }
        if let Some(missing) = device.number_of("md/degraded").filter(|&n| n > 0) {
            let members = match missing {
                1 => "1 member is".to_owned(),
                n => format!("{n} members are"),
            };
            all.push(format!("{} is degraded: {members} missing", device.name));
        }
    }
}

fn in_use(found: &FoundDisk, mounts: &str, swaps: &str, all: &mut Vec<String>) {
    let name = &found.disk.name;
    let is_of = |device: &str| {
        device
            .strip_prefix("/dev/")
            .and_then(|device| device.strip_prefix(name.as_str()))
            .is_some_and(|rest| {
                let rest = rest.strip_prefix('p').unwrap_or(rest);
                rest.bytes().all(|b| b.is_ascii_digit())
            })
    };
    let what = "it changes while it is sent";
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        if let (Some(device), Some(place), _, Some(options)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
            && is_of(device)
            && options.split(',').any(|option| option == "rw")
        {
            let place = sysfs::clean(place).unwrap_or_default();
            all.push(format!("{device} is mounted on {place}: {what}"));
        }
    }
    for line in swaps.lines() {
        let device = line.split_whitespace().next().unwrap_or_default();
        if is_of(device) {
            all.push(format!("{device} is used as swap: {what}"));
        }
    }
}
