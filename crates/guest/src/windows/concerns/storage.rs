//! Filters, multipath, and volumes that are more than a partition.

use super::{Found, Look};
use crate::windows::files;
use crate::windows::inspect::reader::Keys;
use crate::words::list;

/// Setup classes whose filters sit between Windows and its disks.
const CLASSES: [(&str, &str); 4] = [
    ("{4D36E967-E325-11CE-BFC1-08002BE10318}", "disks"),
    ("{71A27CDD-812A-11D0-BEC7-08002BE2092F}", "volumes"),
    ("{4D36E97B-E325-11CE-BFC1-08002BE10318}", "SCSI adapters"),
    ("{4D36E96A-E325-11CE-BFC1-08002BE10318}", "IDE controllers"),
];
/// Filters that come with Windows.
const INBOX: [&str; 14] = [
    "partmgr",
    "ehstorclass",
    "ehstortcgdrv",
    "fvevol",
    "rdyboost",
    "ecache",
    "iorate",
    "volsnap",
    "crcdisk",
    "storflt",
    "vmstorfl",
    "sbp2port",
    "acpi",
    "storqosflt",
];
/// Filters of hypervisors' tools: conversion takes them away by itself.
const OF_HYPERVISORS: [&str; 9] = [
    "prl_strg",
    "prl_boot",
    "prl_vol",
    "xenfilt",
    "xencrsh",
    "scsifilt",
    "xendisk",
    "vsepflt",
    "vboxguest",
];

/// UpperFilters and LowerFilters: a filter that does not start on the new disks stops Windows before it can say so.
pub(super) fn filters(look: &Look<'_>, found: &mut Found) {
    let control = look.control();
    for (class, what) in CLASSES {
        let key = format!("Control\\Class\\{class}");
        let mut strange: Vec<String> = Vec::new();
        let mut missing: Vec<String> = Vec::new();
        for name in ["UpperFilters", "LowerFilters"] {
            for filter in control.list(&key, name) {
                let lower = filter.to_lowercase();
                if INBOX.contains(&lower.as_str()) || OF_HYPERVISORS.contains(&lower.as_str()) {
                    continue;
                }
                if control.has(&format!("Services\\{filter}")) {
                    strange.push(filter);
                } else {
                    missing.push(filter);
                }
            }
        }
        if !strange.is_empty() {
            found.warning(
                format!("drivers of other makers filter its {what}: {}", list(&strange)),
                "if Windows stops at its first start, uninstall the backup, encryption or multipath program that they belong to before the conversion",
            );
        }
        if !missing.is_empty() {
            found.warning(
                format!("filters of its {what} are named that are not installed: {}", list(&missing)),
                "uninstall what is left of their program before the conversion: new disks do not start without them",
            );
        }
    }
}

/// Drivers of multipath programs.
const MULTIPATH: &[(&str, &str)] = &[
    ("EmcpBase", "EMC PowerPath"),
    ("emcpmpx", "EMC PowerPath"),
    ("hpdsm", "HPE DSM"),
    ("hpeva", "HPE DSM"),
    ("hpmpdsm", "HPE DSM"),
    ("ontapdsm", "NetApp DSM"),
    ("mppdsm", "a SAN's DSM (mppdsm)"),
    ("dlmfdrv", "Hitachi HDLM"),
    ("hdlmdsm", "Hitachi HDLM"),
    ("sdddsm", "IBM SDDDSM"),
    ("vxdmp", "Veritas DMP"),
    ("nimbledsm", "Nimble DSM"),
    ("eqldsm", "EqualLogic DSM"),
    ("ftdsm", "FalconStor DSM"),
    ("qldsm", "QLogic DSM"),
];

/// Multipath.
pub(super) fn multipath(look: &Look<'_>, found: &mut Found) {
    let names = look.started(MULTIPATH);
    if !names.is_empty() {
        found.warning(
            format!("multipath software of a SAN is installed: {}", list(&names)),
            "uninstall it, before the conversion or after it: there is one path to a virtual disk",
        );
    } else if look.control().number("Services\\mpio", "Start") == Some(0) {
        found.info(
            "Multipath I/O is installed; the new machine has no use for it",
            "",
        );
    }
}

/// GPT types of partitions that dynamic disks and Storage Spaces are made of; MBR type of dynamic disks.
const DYNAMIC: [&str; 3] = [
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
    "af9b60a0-1431-4f62-bc68-3311714a69ad",
    "0x42",
];
const STORAGE_SPACES: &str = "e75caf8f-f680-4cee-afa3-b001e56efc2d";

/// Dynamic disks, Storage Spaces.
pub(super) fn disks(look: &Look<'_>, found: &mut Found) {
    let with = |types: &[&str]| -> Vec<&str> {
        let devices = look.storage.devices.iter().filter(|device| {
            let parttype = device.parttype.as_deref().unwrap_or_default();
            types
                .iter()
                .any(|wanted| parttype.eq_ignore_ascii_case(wanted))
        });
        devices.map(|device| device.name.as_str()).collect()
    };
    let dynamic = with(&DYNAMIC);
    if !dynamic.is_empty() {
        found.warning(
            format!("it has dynamic disks ({}); they are copied as they are, and are offline or \"foreign\" at the first start", list(&dynamic)),
            "import them in Disk Management (`diskpart`: `select disk N`, `online disk`, `import`) after the first start; convert all disks of a set together",
        );
    }
    let pools = with(&[STORAGE_SPACES]);
    if !pools.is_empty() {
        found.warning(
            format!("it has a storage pool (Storage Spaces) on {}; its disks are copied as they are", list(&pools)),
            "convert all disks of the pool together; if it is read-only at the first start, `Get-StoragePool | Set-StoragePool -IsReadOnly $false`",
        );
    }
}

/// Page files on other volumes.
pub(super) fn page_files(look: &Look<'_>, found: &mut Found) {
    let files = look
        .control()
        .list("Control\\Session Manager\\Memory Management", "PagingFiles");
    let elsewhere: Vec<&str> = files
        .iter()
        .filter_map(|line| line.split_once(':').map(|(drive, _)| drive))
        .filter(|drive| drive.len() == 1 && drive.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .filter(|drive| !drive.eq_ignore_ascii_case(&look.windows.drive))
        .collect();
    if !elsewhere.is_empty() {
        found.info(
            format!("it has a page file on another volume ({}:)", list(&elsewhere)),
            "convert the disk of that volume with it; without it Windows starts with a page file of its own making",
        );
    }
}

/// Shadow copies: nothing but Windows itself keeps them when a volume is written to.
pub(super) fn shadow_copies(look: &Look<'_>, found: &mut Found) {
    /// Names of the files that hold them (MS-SCMP, VSS).
    const STORE: &str = "{3808876b-c176-4e48-b7ae-04046e6cc752}";
    let Some(folder) = files::find(look.root, "/System Volume Information") else {
        return;
    };
    let names = look.root.names(&folder);
    let copies = names
        .iter()
        .filter(|name| name.to_lowercase().contains(STORE))
        .count();
    // One of them is the catalogue.
    if copies > 1 {
        found.info(
            "it has shadow copies (restore points, previous versions); files that the conversion changes are not kept in them",
            "after the first start, delete them with `vssadmin delete shadows /all`, and make a new restore point",
        );
    }
}

/// Disks by iSCSI.
pub(super) fn iscsi(look: &Look<'_>, found: &mut Found) {
    let control = look.control();
    let class = "Control\\Class\\{4D36E97B-E325-11CE-BFC1-08002BE10318}";
    let has_targets = |control: &Keys<'_>, key: &str| {
        !control
            .keys(&format!("{class}\\{key}\\PersistentTargets"))
            .is_empty()
    };
    if control
        .keys(class)
        .iter()
        .any(|key| has_targets(&control, key))
    {
        found.info(
            "it connects disks by iSCSI by itself; they are not copied, and the new machine must reach their targets from the same addresses",
            "",
        );
    }
}
