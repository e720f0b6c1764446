//! Controllers and what is attached to them.
//!
//! Order of disks: controllers that may boot first, then buses as the document has them, then number and place, which
//! is how VirtualBox's firmware meets them.

use roxmltree::Node;
use types::{Disk, DiskBus, Removable, RemovableKind};

use super::media::{Media, Medium};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::{ids, xmldoc};

/// Devices of one machine. VirtualBox allows 255 on a controller.
const MAX_DEVICES: usize = 4096;
/// Largest port and device number.
const MAX_PLACE: u32 = 1 << 16;

/// What is attached.
#[derive(Debug, Default)]
pub(super) struct Storage {
    /// Disks in order with their images; the label is the location.
    pub(super) disks: Vec<(Disk, Medium)>,
    pub(super) removables: Vec<Removable>,
}

/// A disk before its place in the order is known.
struct Attached {
    order: (bool, usize, u32, u32),
    disk: Disk,
    medium: Medium,
}

/// Schema `VirtualBox-settings.xsd`, `TStorageControllerType`.
fn bus(kind: &str) -> Option<DiskBus> {
    Some(match kind {
        "PIIX3" | "PIIX4" | "ICH6" => DiskBus::Ide,
        "AHCI" => DiskBus::Sata,
        "LsiLogic" | "BusLogic" | "LsiLogicSas" => DiskBus::Scsi,
        "NVMe" => DiskBus::Nvme,
        "VirtioSCSI" => DiskBus::VirtioScsi,
        "USB" | "I82078" => DiskBus::Unknown,
        _ => return None,
    })
}

/// Reads the controllers, which stand in `Hardware` (settings 1.19) or beside it (before).
pub(super) fn read(
    machine: Node<'_, '_>,
    hardware: Node<'_, '_>,
    media: &Media,
    warnings: &mut Vec<String>,
) -> Result<Storage> {
    let list = xmldoc::child(hardware, "StorageControllers")
        .or_else(|| xmldoc::child(machine, "StorageControllers"));
    let mut attached: Vec<Attached> = Vec::new();
    let mut removables = Vec::new();
    let mut buses: Vec<(DiskBus, u32)> = Vec::new();
    let mut devices = 0;
    let controllers = list
        .into_iter()
        .flat_map(|list| xmldoc::children(list, "StorageController"));
    for controller in controllers {
        let kind = controller.attribute("type").unwrap_or_default();
        let name = controller.attribute("name").unwrap_or_default();
        let bus = bus(kind).ok_or_else(|| {
            Error::unsupported(format!(
                "storage controller `{}` is of the unknown type `{}`",
                shown(name),
                shown(kind)
            ))
        })?;
        let place = buses
            .iter()
            .position(|(other, _)| *other == bus)
            .unwrap_or_else(|| {
                buses.push((bus, 0));
                buses.len() - 1
            });
        // An IDE controller has two channels, which are two controllers everywhere else.
        let channels = if bus == DiskBus::Ide { 2 } else { 1 };
        let number = buses.get(place).map_or(0, |(_, count)| *count);
        if let Some((_, count)) = buses.get_mut(place) {
            *count += channels;
        }
        for device in xmldoc::children(controller, "AttachedDevice") {
            devices += 1;
            if devices > MAX_DEVICES {
                let message = format!("expected at most {MAX_DEVICES} attached devices");
                return Err(Error::new(ErrorKind::Limit, message));
            }
            let port = place_of(device, "port", name)?;
            let second = place_of(device, "device", name)?;
            let (controller_number, unit) = match bus {
                DiskBus::Ide => (number + port, second),
                _ => (number, port),
            };
            match device.attribute("type").unwrap_or_default() {
                "HardDisk" => {
                    let Some(id) = image(device) else {
                        warnings.push(format!(
                            "controller `{}`, port {port}: ignoring a hard disk without an image",
                            shown(name)
                        ));
                        continue;
                    };
                    let medium = media.get(&id)?.clone();
                    let bootable = controller.attribute("Bootable") != Some("false");
                    attached.push(Attached {
                        order: (!bootable, place, controller_number, unit),
                        disk: Disk {
                            label: medium.location.clone(),
                            bus,
                            controller: controller_number,
                            unit,
                            virtual_size: 0,
                            serial: None,
                        },
                        medium,
                    });
                }
                "DVD" => removables.push(Removable {
                    kind: RemovableKind::Cdrom,
                    bus,
                    slot: Some(unit),
                }),
                "Floppy" => removables.push(Removable {
                    kind: RemovableKind::Floppy,
                    bus,
                    slot: Some(second),
                }),
                other => warnings.push(format!(
                    "controller `{}`, port {port}: ignoring a device of the unknown type `{}`",
                    shown(name),
                    shown(other)
                )),
            }
        }
    }
    attached.sort_by_key(|attached| attached.order);
    Ok(Storage {
        disks: attached
            .into_iter()
            .map(|attached| (attached.disk, attached.medium))
            .collect(),
        removables,
    })
}

fn place_of(device: Node<'_, '_>, which: &str, controller: &str) -> Result<u32> {
    let text = device.attribute(which).unwrap_or("0");
    text.parse()
        .ok()
        .filter(|&place| place < MAX_PLACE)
        .ok_or_else(|| {
            Error::corrupt(format!(
                "controller `{}`: expected a number as {which}, found `{}`",
                shown(controller),
                shown(text)
            ))
        })
}

/// UUID of the image in a drive.
fn image(device: Node<'_, '_>) -> Option<String> {
    let image = xmldoc::child(device, "Image")?;
    ids::uuid(image.attribute("uuid")?)
}
