//! Disks and drives of a `.vmx`: `scsiN:M`, `nvmeN:M`, `sataN:M`, `ideN:M`, `floppyN`.

use types::{Disk, DiskBus, Removable, RemovableKind};

use super::syntax::{Place, Vmx};
use crate::error::{Error, ErrorKind, Result, shown};

/// Buses in the order in which virt-v2v numbers their disks, with the positions that one controller has.
const BUSES: [(&str, DiskBus, u32); 4] = [
    ("scsi", DiskBus::Scsi, 64),
    ("nvme", DiskBus::Nvme, 64),
    ("sata", DiskBus::Sata, 30),
    ("ide", DiskBus::Ide, 2),
];
/// Disks of one machine; vSphere 8 has 4 controllers of at most 64 disks on each bus.
const MAX_DISKS: usize = 1024;

/// A hard disk and the file that the `.vmx` names for it.
#[derive(Clone, Debug)]
pub(crate) struct DiskFile {
    pub(crate) disk: Disk,
    /// `scsi0:1`, for messages.
    pub(crate) device: String,
    /// As it stands in the `.vmx`.
    pub(crate) name: String,
}

/// What hangs on the machine's buses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage {
    pub(crate) disks: Vec<DiskFile>,
    pub(crate) removables: Vec<Removable>,
}

/// Reads all of it.
pub(crate) fn storage(vmx: &Vmx, warnings: &mut Vec<String>) -> Result<Storage> {
    let mut found = Storage::default();
    for (kind, bus, units) in BUSES {
        for Place { controller, unit } in vmx.devices(kind) {
            let Some(unit) = unit else {
                continue;
            };
            let device = Device {
                vmx,
                name: format!("{kind}{controller}:{unit}"),
                controller_name: format!("{kind}{controller}"),
            };
            if !device.is_present(warnings) {
                continue;
            }
            if device.is_cdrom() {
                found.removables.push(Removable {
                    kind: RemovableKind::Cdrom,
                    bus,
                    slot: Some(controller * units + unit),
                });
                continue;
            }
            let Some(name) = device.disk_file(warnings)? else {
                continue;
            };
            if found.disks.len() == MAX_DISKS {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("expected at most {MAX_DISKS} disks, found more"),
                ));
            }
            found.disks.push(DiskFile {
                disk: Disk {
                    label: name.clone(),
                    bus,
                    controller,
                    unit,
                    virtual_size: 0,
                    serial: None,
                },
                device: device.name,
                name,
            });
        }
    }
    for Place { controller, unit } in vmx.devices("floppy") {
        if unit.is_none() && vmx.flag(&format!("floppy{controller}.present")) == Some(true) {
            found.removables.push(Removable {
                kind: RemovableKind::Floppy,
                bus: DiskBus::Unknown,
                slot: Some(controller),
            });
        }
    }
    Ok(found)
}

/// One position on a bus.
struct Device<'a> {
    vmx: &'a Vmx,
    name: String,
    controller_name: String,
}

impl Device<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.vmx.get(&format!("{}.{key}", self.name))
    }

    fn device_type(&self) -> String {
        self.get("devicetype").unwrap_or_default().to_lowercase()
    }

    /// VMware takes a device without `present` for absent, and so all of an absent controller's. IDE controllers need
    /// no such line.
    fn is_present(&self, warnings: &mut Vec<String>) -> bool {
        if self.vmx.flag(&format!("{}.present", self.name)) != Some(true) {
            return false;
        }
        let controller = self.vmx.flag(&format!("{}.present", self.controller_name));
        if controller == Some(false) {
            warnings.push(format!(
                "{}: left out, as its controller is switched off",
                self.name
            ));
        }
        controller != Some(false)
    }

    fn is_cdrom(&self) -> bool {
        self.device_type().contains("cdrom")
    }

    /// The file of a hard disk; `None` for other devices.
    fn disk_file(&self, warnings: &mut Vec<String>) -> Result<Option<String>> {
        let name = &self.name;
        let kind = self.device_type();
        match kind.as_str() {
            "" | "disk" | "scsi-harddisk" | "ata-harddisk" | "sata-harddisk" | "nvme-harddisk"
            | "plaindisk" => {}
            "rawdisk" => {
                return Err(Error::unsupported(format!(
                    "{name} is a physical disk of the host that ran the machine (deviceType rawDisk); hint: copy it to \
                     an image and use -i disk"
                )));
            }
            _ if kind.ends_with("harddisk") => {}
            other => {
                let other = shown(other);
                warnings.push(format!(
                    "{name}: left out, as it is no hard disk (deviceType `{other}`)"
                ));
                return Ok(None);
            }
        }
        let Some(file) = self.get("filename") else {
            warnings.push(format!("{name}: left out, as it has no fileName"));
            return Ok(None);
        };
        // Configurations from before snapshots (ESX 2, GSX) kept the changes since a point in time in such a file.
        if let Some(redo) = self.get("redo") {
            let redo = shown(redo);
            return Err(Error::unsupported(format!(
                "{name} has a REDO log (`{redo}`); hint: commit it in VMware first"
            )));
        }
        self.warn_of_sharing(warnings);
        Ok(Some(file.to_owned()))
    }

    fn warn_of_sharing(&self, warnings: &mut Vec<String>) {
        let is_set = |value: Option<&str>| {
            value.is_some_and(|v| !["none", "nosharing"].contains(&v.to_ascii_lowercase().as_str()))
        };
        let bus = self.vmx.get(&format!("{}.sharedbus", self.controller_name));
        if is_set(bus) || is_set(self.get("sharing")) {
            warnings.push(format!(
                "{}: the disk is shared with other machines; the copy is a disk of its own, and is whole only if all of \
                 them are shut down",
                self.name
            ));
        }
    }
}
