//! Data disks online, drive letters kept.
//!
//! A disk on a new bus is a new disk for Windows. Servers leave those of "shared" buses (SCSI, SAS, virtio too) offline
//! (partmgr's SAN policy, `VDS_SAN_POLICY`); attributes that a disk had are kept by device instance and go with the old
//! bus. Letters are kept by disk signature and offset, or by the partition's GUID, wherever the disk is; what is known by
//! its device instance only is named to the administrator.

use std::collections::BTreeSet;

use registry::Value;
use types::DeviceKind;

use crate::Result;
use crate::windows::convert::Context;
use crate::windows::hives::{Which, failed};
use crate::windows::steps::control_set::ControlSet;

/// `VDS_SP_ONLINE` (vds.h).
const ONLINE_ALL: u32 = 1;
/// Entries of the mount manager that are looked at.
const ENTRIES_MAX: usize = 4096;

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let disks = context
        .storage
        .devices
        .iter()
        .filter(|device| matches!(device.kind, DeviceKind::Disk { .. }))
        .count();
    if disks > 1 {
        bring_online(context)?;
    }
    letters(context)?;
    context.recorder.not_needed(match disks {
        0 | 1 => "there is one disk",
        _ => "new disks go online by themselves",
    });
    Ok(())
}

/// Sets the SAN policy; Windows XP and 2003 have none (Windows Server 2008 on, and its clients).
fn bring_online(context: &mut Context<'_>) -> Result<()> {
    if context.windows.major < 6 {
        return Ok(());
    }
    for set in &context.windows.control_sets {
        let read = ControlSet::new(context.registry.system(), set);
        if !read.has("Services\\partmgr")? {
            continue;
        }
        let path = read.path("Services\\partmgr\\Parameters");
        context.registry.set(
            &mut context.recorder,
            Which::System,
            &path,
            "SanPolicy",
            &Value::dword(ONLINE_ALL),
            "data disks are new ones on their new bus and must come online",
        )?;
    }
    Ok(())
}

/// What the mount manager knows a volume by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// MBR disk signature and offset, GPT partition GUID, dynamic volume GUID.
    Disk,
    /// Device instance of a CD, floppy or removable disk.
    Removable,
    /// Device instance of anything else.
    Device,
}

fn known(data: &[u8]) -> Known {
    if data.len() == 12 || data.starts_with(b"DMIO:ID:") {
        return Known::Disk;
    }
    let (pairs, _) = data.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let name = String::from_utf16_lossy(&units).to_lowercase();
    // Interface classes of CDs and floppies (ntddstor.h), and buses of what can be pulled out.
    let removable = [
        "{53f56308-b6bf-11d0-94f2-00a0c91efb8b}",
        "cdrom",
        "{53f56311-b6bf-11d0-94f2-00a0c91efb8b}",
        "floppy",
        "fdc#",
        "usbstor#",
        "removablemedia",
        "sdbus",
        "sffdisk",
    ];
    if removable.iter().any(|part| name.contains(part)) {
        Known::Removable
    } else {
        Known::Device
    }
}

/// Names letters that will not be the same.
fn letters(context: &mut Context<'_>) -> Result<()> {
    let values = context.registry.system().values("MountedDevices");
    let values = values.map_err(failed("MountedDevices"))?;
    let mut lost = BTreeSet::new();
    for (name, value) in values.into_iter().take(ENTRIES_MAX) {
        let Some(letter) = name.strip_prefix("\\DosDevices\\") else {
            continue;
        };
        match known(&value.data) {
            Known::Disk => {}
            Known::Removable => tracing::debug!("{letter} is of a device that may come and go"),
            Known::Device => {
                lost.insert(letter.chars().take(2).collect::<String>());
            }
        }
    }
    if !lost.is_empty() {
        let lost: Vec<String> = lost.into_iter().collect();
        context.recorder.warn(format!(
            "the drive letter {} belongs to a disk without signature and may change: check it after the first boot",
            lost.join(", ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use types::{BlockDevice, StorageMap};

    use super::*;
    use crate::windows::steps::testing::Guest;

    fn storage(disks: u32) -> StorageMap {
        let disk = |disk| BlockDevice {
            name: format!("/dev/sd{disk}"),
            kind: DeviceKind::Disk {
                disk,
                table: "dos".to_owned(),
            },
            virtual_size: 1 << 30,
            start: None,
            content: String::new(),
            uuid: None,
            label: None,
            partuuid: None,
            partlabel: None,
            parttype: None,
        };
        StorageMap {
            devices: (0..disks).map(disk).collect(),
        }
    }

    const PARAMETERS: &str = "Services\\partmgr\\Parameters";

    fn guest(disks: u32) -> Guest {
        let mut guest = Guest::new();
        guest.storage = storage(disks);
        guest.windows.control_sets = vec!["ControlSet001".into(), "ControlSet002".into()];
        for set in ["ControlSet001", "ControlSet002"] {
            let path = format!("{set}\\{PARAMETERS}");
            guest.system(&path, "SanPolicy", Value::dword(2));
        }
        guest
    }

    #[test]
    fn data_disks_come_online_whatever_control_set_is_used() {
        let guest = guest(2);
        let outcome = guest.run(apply);
        for set in ["ControlSet001", "ControlSet002"] {
            let path = format!("{set}\\{PARAMETERS}");
            assert_eq!(outcome.system(&path, "SanPolicy"), Some(Value::dword(1)));
        }
        assert_eq!(outcome.changes[0].before.as_deref(), Some("dword:00000002"));
        assert!(guest.again(&outcome, apply).changes.is_empty());
    }

    #[test]
    fn one_disk_and_windows_xp_keep_their_policy() {
        assert!(guest(1).run(apply).changes.is_empty());
        let mut xp = guest(2);
        xp.windows.major = 5;
        assert!(xp.run(apply).changes.is_empty());
    }

    #[test]
    fn letters_known_by_device_are_named() {
        let mut guest = guest(1);
        let text = |text: &str| {
            Value::binary(
                text.encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<_>>(),
            )
        };
        let mut gpt = b"DMIO:ID:".to_vec();
        gpt.extend([7; 16]);
        for (letter, value) in [
            ("C:", Value::binary([7u8; 12])),
            ("D:", Value::binary(gpt)),
            (
                "E:",
                text(
                    "\\??\\IDE#CdRomNECVMWar_VMware_IDE_CDR10#5&1&0&1.0.0#{53f5630d-b6bf-11d0-94f2-00a0c91efb8b}",
                ),
            ),
            (
                "F:",
                text(
                    "_??_USBSTOR#Disk&Ven_HP&Prod_v100w#AA#{53f56307-b6bf-11d0-94f2-00a0c91efb8b}",
                ),
            ),
            (
                "G:",
                text("\\??\\STORAGE#Volume#1&30a96598&0&#{53f5630d-b6bf-11d0-94f2-00a0c91efb8b}"),
            ),
        ] {
            guest.system("MountedDevices", &format!("\\DosDevices\\{letter}"), value);
        }
        let outcome = guest.run(apply);
        assert_eq!(outcome.warnings.len(), 1);
        assert!(
            outcome.warnings[0].contains("drive letter G: belongs"),
            "{:?}",
            outcome.warnings
        );
    }
}
