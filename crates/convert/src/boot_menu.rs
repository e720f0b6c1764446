//! The boot menu of the new machine's firmware.
//!
//! ```text
//! old machine's entries ── start from a partition that comes along? ── shortened to begin there ─┐
//!                                                                                                 ├─> one list
//! what the converted guest has on its ESP ── not in the list already? ───────────────────────────┘
//! ```
//!
//! The old machine's order stays, and so does what its entries tell their programs, unless that names disks by a bus. Entries
//! for networks, drives, firmware and disks that do not come along are left out. Where the old default's program is none that
//! the converted guest is known to have, the guest's own default goes first, so that the machine starts whatever has become of
//! the other.

use types::{BlockDevice, BootEntry, DeviceKind, Machine, StorageMap};
use uefi::LoadOption;
use uefi::device_path::{HardDrive, Signature};

/// Entries of a menu: it is for a person to choose from.
const MAX_ENTRIES: usize = 32;
/// Longest entry, in bytes: half of what OVMF's smaller build takes as one variable (0x2000; OvmfPkg, PcdMaxVariableSize).
const MAX_LEN: usize = 0x1000;

/// Names of disks that hang on the bus; those below /dev/mapper, /dev/disk and of volume groups stay.
const OLD_DISKS: [&str; 6] = [
    "/dev/sd",
    "/dev/hd",
    "/dev/vd",
    "/dev/xvd",
    "/dev/nvme",
    "/dev/mmcblk",
];

/// One entry and what it starts.
struct Entry {
    disk: u32,
    partition: u32,
    /// Empty for the fallback loader.
    path: String,
    option: LoadOption,
}

impl Entry {
    fn starts(&self, disk: u32, partition: u32, path: &str) -> bool {
        (self.disk, self.partition) == (disk, partition) && self.path.eq_ignore_ascii_case(path)
    }
}

/// The menu, the first entry first: EFI_LOAD_OPTIONs (UEFI 2.10, section 3.1.3). `found` is what conversion found on the ESP,
/// the default one first.
pub fn entries(machine: &Machine, storage: &StorageMap, found: &[BootEntry]) -> Vec<Vec<u8>> {
    let mut menu: Vec<Entry> = Vec::new();
    let old = machine.details.boot_options.iter();
    for mut entry in old.filter_map(|option| of_old_machine(option, storage)) {
        correct(&mut entry, found);
        // One kernel may be there several times, told different things.
        let is_same = |other: &Entry| {
            other.starts(entry.disk, entry.partition, &entry.path)
                && other.option.data == entry.option.data
        };
        if !menu.iter().any(is_same) {
            menu.push(entry);
        }
    }
    let is_known = |entry: &Entry| {
        let mut known = found.iter();
        known.any(|one| entry.starts(one.disk, one.partition, &one.path))
    };
    let own_default_first = menu.first().is_some_and(|first| !is_known(first));
    for (index, one) in found.iter().enumerate() {
        let own = menu
            .iter()
            .position(|entry| entry.starts(one.disk, one.partition, &one.path));
        let entry = match own {
            Some(place) if index == 0 && own_default_first => Some(menu.remove(place)),
            Some(_) => None,
            None => of_guest(one, machine, storage),
        };
        match entry {
            Some(entry) if index == 0 && own_default_first => menu.insert(0, entry),
            Some(entry) => menu.push(entry),
            None => {}
        }
    }
    menu.iter()
        .map(|entry| entry.option.to_bytes())
        .filter(|bytes| bytes.len() <= MAX_LEN)
        .take(MAX_ENTRIES)
        .collect()
}

/// What a kernel was told may name a disk by the old machine's bus; conversion knows better then.
fn correct(entry: &mut Entry, found: &[BootEntry]) {
    let mut found = found.iter();
    let known = found.find(|one| entry.starts(one.disk, one.partition, &one.path));
    let told = uefi::text(&entry.option.data);
    if let Some(arguments) = known.and_then(|known| known.arguments.as_deref())
        && OLD_DISKS.iter().any(|disk| told.contains(disk))
    {
        entry.option.data = uefi::utf16(arguments);
    }
}

/// An entry of the old machine, if it starts from a partition that comes along.
fn of_old_machine(bytes: &[u8], storage: &StorageMap) -> Option<Entry> {
    let option = LoadOption::parse(bytes).ok()?.shortened()?;
    let (drive, path) = option.file_on_partition()?;
    let wanted = drive.partuuid();
    let mut devices = storage.devices.iter();
    let (disk, partition) = devices.find_map(|device| {
        let partuuid = device.partuuid.as_deref();
        partition(device).filter(|_| partuuid.is_some_and(|id| id.eq_ignore_ascii_case(&wanted)))
    })?;
    Some(Entry {
        disk,
        partition,
        path,
        option,
    })
}

fn partition(device: &BlockDevice) -> Option<(u32, u32)> {
    match device.kind {
        DeviceKind::Partition { disk, number } => Some((disk, number)),
        _ => None,
    }
}

/// An entry for a program on the ESP.
fn of_guest(found: &BootEntry, machine: &Machine, storage: &StorageMap) -> Option<Entry> {
    let device = storage.partition(found.disk, found.partition)?;
    let sizes = &machine.details.sector_sizes;
    let sizes = sizes.get(usize::try_from(found.disk).ok()?).copied();
    let block = u64::from(sizes.unwrap_or_default().logical.max(512));
    let drive = HardDrive {
        number: found.partition,
        start_blocks: device.start? / block,
        size_blocks: device.virtual_size / block,
        signature: Signature::of_partuuid(device.partuuid.as_deref()?)?,
    };
    let data = found.arguments.as_deref().map(uefi::utf16);
    let data = data.unwrap_or_default();
    Some(Entry {
        disk: found.disk,
        partition: found.partition,
        path: found.path.clone(),
        option: LoadOption::new(&found.description, &drive, &found.path, data)?,
    })
}

#[cfg(test)]
mod tests;
