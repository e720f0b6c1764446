//! Every disk that could be sent, in order.
//!
//! The order is the kernel's (sd by letters, NVMe after them; an array or a map where its first member is), because the
//! installed system finds its disks in the same one. Two things go before it: the numbers that a PC BIOS gave
//! ([EDD](super::edd)), and under UEFI the disk that the first usable entry of BootOrder starts from. Whether a disk has
//! boot code or an ESP moves nothing: data disks often have an old one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use wire::inventory::{Bus, Disk, DiskKind, Firmware};

use super::Paths;
use super::block::{self, BlockDevice};
use super::compose::{self, Role};
use super::contents::Contents;
use super::edd;
use super::identity::{self, Identity};
use super::medium;
use super::read::Device;
use super::smart;

/// Disks that are read or asked for their health at the same time.
const AT_ONCE: usize = 8;
/// How long the contents of all disks may take to be read. A disk that hangs longer is sent without.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A disk with what stays on this side.
#[derive(Clone, Debug)]
pub(crate) struct FoundDisk {
    pub(crate) device: BlockDevice,
    pub(crate) disk: Disk,
    pub(crate) contents: Contents,
}

/// Every disk in order.
pub(crate) fn detect(paths: &Paths, firmware: &Firmware) -> Vec<FoundDisk> {
    let devices = block::list(paths);
    let identities: BTreeMap<String, Identity> = devices
        .iter()
        .map(|device| (device.name.clone(), identity::identity(paths, device)))
        .collect();
    let roles = compose::roles(&devices, &identities);
    let candidates: Vec<(BlockDevice, Role)> = devices
        .iter()
        .filter_map(|device| Some((device.clone(), roles.get(&device.name)?.clone())))
        .collect();
    let contents = read_all(paths, &candidates);
    let named = medium::named(paths);
    let mut found: Vec<FoundDisk> = candidates
        .into_iter()
        .zip(contents)
        .filter(|((device, _), contents)| !medium::is_medium(&named, device, contents))
        .map(|((device, role), contents)| {
            let disk = disk(&device, role, &identities, &contents);
            FoundDisk {
                device,
                disk,
                contents,
            }
        })
        .collect();
    ask_health(paths, &mut found);
    sort(paths, firmware, &mut found);
    found
}

/// Path of a device below /dev.
pub(crate) fn dev_path(paths: &Paths, name: &str) -> PathBuf {
    paths.dev.join(name)
}

/// Reads all disks but those that are paths or members of another, which may be slow to fail.
fn read_all(paths: &Paths, all: &[(BlockDevice, Role)]) -> Vec<Contents> {
    let jobs = all.iter().map(|(device, role)| {
        let path = dev_path(paths, &device.name);
        let sector = sector(device, "queue/logical_block_size");
        let len = device.len;
        let is_part = role.left_out.starts_with("path of")
            || role.left_out.starts_with("another path")
            || role.left_out.starts_with("member of");
        move || {
            if is_part {
                return Contents::default();
            }
            match Device::open(&path, len) {
                Ok(disk) => Contents::read(&disk, sector),
                Err(error) => Contents {
                    failure: Some(error.to_string()),
                    ..Contents::default()
                },
            }
        }
    });
    side_by_side(jobs.collect(), READ_TIMEOUT)
        .into_iter()
        .map(|contents| {
            contents.unwrap_or_else(|| Contents {
                failure: Some("it did not answer in time".to_owned()),
                ..Contents::default()
            })
        })
        .collect()
}

fn ask_health(paths: &Paths, found: &mut [FoundDisk]) {
    if smart::find(&paths.programs, "smartctl").is_none() {
        return;
    }
    let jobs = found.iter().map(|found| {
        let path = dev_path(paths, &found.disk.name);
        let programs = paths.programs.clone();
        let is_asked = found.device.slaves.is_empty();
        move || is_asked.then(|| smart::health(&programs, &path)).flatten()
    });
    let answers = side_by_side(jobs.collect(), READ_TIMEOUT);
    for (found, health) in found.iter_mut().zip(answers) {
        if let Some(health) = health.flatten() {
            found.disk.healthy = health.healthy;
            found.disk.health = health.text;
        }
    }
}

/// Runs jobs on a few threads; `None` for one that did not end in time. A thread that hangs in the kernel is left behind.
fn side_by_side<T: Send + 'static>(
    jobs: Vec<impl FnOnce() -> T + Send + 'static>,
    timeout: Duration,
) -> Vec<Option<T>> {
    let mut results: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
    let queue: Vec<_> = jobs.into_iter().enumerate().rev().collect();
    let threads = queue.len().min(AT_ONCE);
    let queue = std::sync::Arc::new(std::sync::Mutex::new(queue));
    let (sender, receiver) = std::sync::mpsc::channel();
    for _ in 0..threads {
        let (queue, sender) = (std::sync::Arc::clone(&queue), sender.clone());
        std::thread::spawn(move || {
            loop {
                let next = queue.lock().ok().and_then(|mut queue| queue.pop());
                let Some((index, job)) = next else { return };
                if sender.send((index, job())).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let deadline = std::time::Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match receiver.recv_timeout(left) {
            Ok((index, result)) => {
                if let Some(place) = results.get_mut(index) {
                    *place = Some(result);
                }
            }
            Err(_) => return results,
        }
    }
}

fn sector(device: &BlockDevice, attribute: &str) -> u32 {
    device
        .number_of(attribute)
        .and_then(|size| u32::try_from(size).ok())
        .filter(|size| size.is_power_of_two() && *size >= 512)
        .unwrap_or(512)
}

fn disk(
    device: &BlockDevice,
    role: Role,
    identities: &BTreeMap<String, Identity>,
    contents: &Contents,
) -> Disk {
    let own = identities.get(&device.name).cloned().unwrap_or_default();
    let first = role.members.first().and_then(|name| identities.get(name));
    let id = match (role.kind, first) {
        // A map is its disk; the map's uuid carries the world wide id.
        (DiskKind::Multipath, Some(path)) => {
            let map = device.text("dm/uuid").unwrap_or_default();
            let wwid = map.strip_prefix("mpath-").map(str::to_owned);
            Identity {
                wwid: wwid.unwrap_or_else(|| path.wwid.clone()),
                ..path.clone()
            }
        }
        (_, Some(member)) => Identity {
            model: device
                .text("md/level")
                .or_else(|| device.text("dm/name"))
                .unwrap_or_default(),
            serial: device.text("md/uuid").unwrap_or_default(),
            bus: member.bus,
            ..own
        },
        (_, None) => own,
    };
    let logical = sector(device, "queue/logical_block_size");
    let mut disk = Disk {
        name: device.name.clone(),
        kind: role.kind.into(),
        virtual_size: device.len,
        logical_sector_size: logical,
        physical_sector_size: sector(device, "queue/physical_block_size").max(logical),
        vendor: id.vendor,
        model: id.model,
        serial: id.serial,
        wwid: id.wwid,
        bus: id.bus.into(),
        removable: device.flag("removable"),
        rotational: device.flag("queue/rotational"),
        read_only: device.flag("ro"),
        members: role.members,
        contents: contents.to_wire(device.len),
        left_out: role.left_out,
        ..Disk::default()
    };
    if disk.left_out.is_empty() {
        disk.left_out = reason(&disk).to_owned();
    }
    disk
}

/// Why a disk of its own is not chosen unless somebody names it. That it is read-only is no reason: our own system
/// makes every disk so before anything else sees it.
fn reason(disk: &Disk) -> &'static str {
    if disk.bus() == Bus::Usb {
        "on USB"
    } else if disk.removable {
        "removable"
    } else {
        ""
    }
}

fn sort(paths: &Paths, firmware: &Firmware, found: &mut [FoundDisk]) {
    let devices = edd::list(paths);
    let candidates: Vec<_> = found
        .iter()
        .map(|found| edd::Candidate {
            // What is left out is not a disk to the BIOS, or is one that it shows twice.
            mbr_signature: found
                .contents
                .mbr_signature
                .filter(|_| found.disk.left_out.is_empty()),
            len: found.device.len,
        })
        .collect();
    for (found, number) in found.iter_mut().zip(edd::assign(&devices, &candidates)) {
        found.disk.edd_number = number;
    }
    let boot = efi_boot_disk(firmware, found);
    let kernel: BTreeMap<String, _> = found
        .iter()
        .map(|found| (found.disk.name.clone(), found.device.order()))
        .collect();
    found.sort_by_key(|found| {
        let first = found
            .disk
            .members
            .iter()
            .filter_map(|name| kernel.get(name));
        let own = kernel.get(&found.disk.name);
        let place = first.min().or(own).cloned();
        (
            boot.as_ref() != Some(&found.disk.name),
            found.disk.edd_number.unwrap_or(u32::MAX),
            place,
            // An array goes before its members.
            found.disk.members.is_empty(),
        )
    });
}

/// The disk with the partition that the firmware starts from first.
fn efi_boot_disk(firmware: &Firmware, found: &[FoundDisk]) -> Option<String> {
    firmware
        .boot_entries
        .iter()
        .filter(|entry| entry.ordered && entry.active && !entry.partuuid.is_empty())
        .find_map(|entry| {
            let is_there = |found: &&FoundDisk| {
                found
                    .contents
                    .parts
                    .iter()
                    .any(|(part, _)| part.partuuid == entry.partuuid)
            };
            // Of a mirror's members and their array, the one that is chosen.
            found
                .iter()
                .filter(|found| found.disk.left_out.is_empty())
                .find(is_there)
                .map(|found| found.disk.name.clone())
        })
}
