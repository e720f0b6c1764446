//! The machine around its processors and disks: SMBIOS strings, memory, TPM, NUMA nodes, sound, removable drives.

use wire::inventory::{Bus, Dmi, Removable};

use super::Paths;
use super::smbios;
use super::sysfs;

/// The SMBIOS table is at most this long; a large server's has some 100 KiB.
const MAX_DMI: usize = 4 << 20;
/// Unit to which the kernel's memory is rounded up, in bytes: what firmware and kernel keep for themselves is less.
const MEMORY_UNIT: u64 = 128 << 20;
/// PCI classes of sound: multimedia audio, HD audio.
const SOUND_CLASSES: [u32; 2] = [0x0401, 0x0403];

/// SMBIOS types 0 to 3.
pub(crate) fn dmi(paths: &Paths) -> Dmi {
    let text =
        |name: &str| sysfs::text(paths.sys.join("class/dmi/id").join(name)).unwrap_or_default();
    Dmi {
        system_vendor: text("sys_vendor"),
        product_name: text("product_name"),
        product_version: text("product_version"),
        product_serial: text("product_serial"),
        product_uuid: text("product_uuid").to_ascii_lowercase(),
        product_sku: text("product_sku"),
        product_family: text("product_family"),
        board_vendor: text("board_vendor"),
        board_name: text("board_name"),
        board_serial: text("board_serial"),
        chassis_serial: text("chassis_serial"),
        chassis_asset_tag: text("chassis_asset_tag"),
        bios_vendor: text("bios_vendor"),
        bios_version: text("bios_version"),
    }
}

/// Installed memory: what SMBIOS lists, unless that is less than the kernel has.
pub(crate) fn memory_bytes(paths: &Paths) -> u64 {
    let table = sysfs::bytes(paths.sys.join("firmware/dmi/tables/DMI"), MAX_DMI);
    let installed = smbios::memory_bytes(&table.unwrap_or_default());
    let info = sysfs::whole(paths.proc.join("meminfo")).unwrap_or_default();
    let total = info
        .lines()
        .find_map(|line| {
            let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?;
            kib.trim().parse::<u64>().ok()?.checked_mul(1024)
        })
        .unwrap_or_default();
    if installed >= total {
        installed
    } else {
        total.checked_next_multiple_of(MEMORY_UNIT).unwrap_or(total)
    }
}

/// CD and floppy drives.
pub(crate) fn removables(paths: &Paths) -> Vec<Removable> {
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    let root = paths.sys.join("block");
    sysfs::names(&root)
        .into_iter()
        .filter_map(|name| {
            let is_cdrom = name.strip_prefix("sr").is_some_and(digits);
            let is_floppy = name.strip_prefix("fd").is_some_and(digits);
            let real = sysfs::real(root.join(&name)).unwrap_or_default();
            let has = |what: &str| real.to_string_lossy().contains(what);
            let bus = if has("/usb") {
                Bus::Usb
            } else if has("/ata") {
                Bus::Sata
            } else if is_floppy {
                Bus::Unspecified
            } else {
                Bus::Scsi
            };
            (is_cdrom || is_floppy).then(|| Removable {
                name,
                floppy: is_floppy,
                bus: bus.into(),
            })
        })
        .collect()
}

/// uname -r.
pub(crate) fn kernel_release(paths: &Paths) -> String {
    sysfs::text(paths.proc.join("sys/kernel/osrelease")).unwrap_or_default()
}

/// Nodes that have processors, at least 1.
pub(crate) fn numa_nodes(paths: &Paths) -> u32 {
    let root = paths.sys.join("devices/system/node");
    let count = sysfs::names(&root)
        .into_iter()
        .filter(|name| name.starts_with("node"))
        .filter(|name| sysfs::text(root.join(name).join("cpulist")).is_some())
        .count();
    u32::try_from(count).unwrap_or(1).max(1)
}

/// "1.2" or "2.0"; empty without a TPM.
pub(crate) fn tpm_version(paths: &Paths) -> String {
    let tpm = paths.sys.join("class/tpm/tpm0");
    let major = sysfs::text(tpm.join("tpm_version_major"));
    match major.as_deref() {
        Some("2") => "2.0",
        Some("1") => "1.2",
        // Kernels before 5.6 show the version of a 1.2 only.
        _ if tpm.join("device/caps").exists() => "1.2",
        _ if tpm.exists() => "2.0",
        _ => "",
    }
    .to_owned()
}

/// A sound card is there, with a driver or without.
pub(crate) fn sound(paths: &Paths) -> bool {
    let cards = sysfs::names(paths.sys.join("class/sound"));
    let root = paths.sys.join("bus/pci/devices");
    cards.iter().any(|name| name.starts_with("card"))
        || sysfs::names(&root).iter().any(|name| {
            let class = sysfs::hex(root.join(name).join("class"));
            class.is_some_and(|class| SOUND_CLASSES.contains(&(class >> 8)))
        })
}
