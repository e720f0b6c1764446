//! What Windows boots from: files on its own volume, on the EFI system partition, or on an active partition such as
//! "System Reserved".

use types::{BlockDevice, BootLoader, DeviceKind, StorageMap};

use crate::linux::mounts::{ESP_MBR_TYPE, ESP_TYPE};
use crate::windows::bcd::Bcd;
use crate::windows::files;
use crate::{BootVolume, Root};

/// GPT type of a recovery partition: nothing boots from it but recovery.
const RECOVERY_TYPE: &str = "de94bba4-06d1-4d40-a16a-bfd50179d6ac";
/// Volumes that are looked into.
const CANDIDATES_MAX: usize = 8;
/// A partition made to boot from is smaller.
const SMALL: u64 = 2 << 30;

/// BCD of a machine with UEFI.
pub(crate) const EFI_BCD: &str = "/EFI/Microsoft/Boot/BCD";
/// Boot manager of a machine with UEFI.
pub(crate) const EFI_MANAGER: &str = "/EFI/Microsoft/Boot/bootmgfw.efi";
/// BCD of a machine with BIOS.
pub(crate) const BIOS_BCD: &str = "/Boot/BCD";

/// Names of the devices that it may boot from, the likeliest first.
pub(crate) fn candidates(storage: &StorageMap, root_device: &str) -> Vec<String> {
    let own = storage.get(root_device);
    let own_disk = own.and_then(disk);
    let mut devices: Vec<&BlockDevice> = storage
        .devices
        .iter()
        .filter(|device| device.name != root_device)
        .filter(|device| matches!(device.content.as_str(), "vfat" | "ntfs"))
        .filter(|device| disk(device).is_some() && !has_type(device, RECOVERY_TYPE))
        .collect();
    // The sort is stable: within a class the order of the disks is kept.
    devices.sort_by_key(|device| {
        let elsewhere = disk(device) != own_disk;
        (!is_esp(device), elsewhere, device.virtual_size > SMALL)
    });
    let names = devices.into_iter().map(|device| device.name.clone());
    names.take(CANDIDATES_MAX).collect()
}

fn disk(device: &BlockDevice) -> Option<u32> {
    match device.kind {
        DeviceKind::Partition { disk, .. } => Some(disk),
        _ => None,
    }
}

fn has_type(device: &BlockDevice, wanted: &str) -> bool {
    let parttype = device.parttype.as_deref();
    parttype.is_some_and(|parttype| parttype.eq_ignore_ascii_case(wanted))
}

/// True for an EFI system partition.
pub(crate) fn is_esp(device: &BlockDevice) -> bool {
    has_type(device, ESP_TYPE) || has_type(device, ESP_MBR_TYPE)
}

/// What is on one volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Files {
    efi: bool,
    bootmgr: bool,
    ntldr: bool,
}

fn look(root: &Root) -> Files {
    let is_file = |path: &str| files::find(root, path).is_some_and(|path| root.is_file(&path));
    Files {
        efi: is_file(EFI_MANAGER) || is_file(EFI_BCD),
        // Windows 8 may have bootmgr without its BCD beside it on a volume that it does not boot from.
        bootmgr: is_file("/bootmgr") && is_file(BIOS_BCD),
        ntldr: is_file("/ntldr") && is_file("/boot.ini"),
    }
}

/// The volume that this Windows boots from, if that is another one than its own.
pub(crate) fn choose<'a>(
    root: &Root,
    system_root: &str,
    partuuid: Option<&str>,
    volumes: &'a [BootVolume],
) -> Option<&'a BootVolume> {
    let own = look(root);
    let useful: Vec<(&BootVolume, Files)> = volumes
        .iter()
        .map(|volume| (volume, look(&volume.root)))
        .filter(|(_, files)| *files != Files::default())
        // A volume with a boot manager of its own needs no second one for BIOS.
        .filter(|(_, files)| files.efi || !(own.bootmgr || own.ntldr))
        .collect();
    let named = useful.iter().find(|(volume, files)| {
        let bcd = if files.efi { EFI_BCD } else { BIOS_BCD };
        names(&volume.root, bcd, system_root, partuuid)
    });
    let chosen = named.or_else(|| useful.first());
    chosen.map(|(volume, _)| *volume)
}

/// True when the BCD has an entry for this Windows.
fn names(root: &Root, bcd: &str, system_root: &str, partuuid: Option<&str>) -> bool {
    let Ok(Some(bcd)) = Bcd::open(root, bcd) else {
        return false;
    };
    let loaders = bcd.loaders();
    loaders.iter().any(|loader| {
        let device = loader.os_device.as_ref().zip(partuuid);
        let same = loader.system_root.trim_matches('\\');
        same.eq_ignore_ascii_case(system_root.trim_matches('/'))
            && device.is_some_and(|(device, partuuid)| device.may_be(partuuid))
    })
}

/// Boot loaders, the likelier first; paths are on the volume that holds them.
pub(crate) fn boot_loaders(root: &Root, boot: Option<&BootVolume>) -> Vec<BootLoader> {
    let mut loaders: Vec<BootLoader> = Vec::new();
    for root in boot.map(|volume| &volume.root).into_iter().chain([root]) {
        let files = look(root);
        let kinds = [
            (files.efi, "windows-efi", EFI_BCD),
            (files.bootmgr, "windows-bios", BIOS_BCD),
            (files.ntldr, "windows-bios", "/boot.ini"),
        ];
        for (there, kind, config) in kinds {
            if there && !loaders.iter().any(|loader| loader.kind == kind) {
                loaders.push(BootLoader {
                    kind: kind.to_owned(),
                    config: files::find(root, config),
                });
            }
        }
    }
    loaders
}
