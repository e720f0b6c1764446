//! Disks and drives of a descriptor: controllers, their order, and the way from an item to a file.
//!
//! ```text
//! Item (17) --HostResource--> DiskSection/Disk --fileRef--> References/File --href--> file of the package
//!     \-----Parent----------> Item (5, 6, 20, ...), the controller
//! ```
//!
//! Order of disks. Guests name their disks in the order in which the firmware and the kernel meet them, which is that
//! of the controllers and of the slots on each, whatever the order of items in the file. So the disks of one bus are
//! sorted by controller number and AddressOnParent. Between buses no such rule holds (it depends on the firmware's boot
//! order and on the kernel's drivers), so the bus of the first disk in the document comes first: exporters write
//! "Hard disk 1", the one that boots, at the top.

use std::collections::HashMap;

use roxmltree::Node;
use types::{Disk, DiskBus, Removable, RemovableKind};

use super::files::Target;
use super::items::{Item, kind};
use super::xml;
use crate::error::{Result, shown};

/// The content of a disk of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskFile {
    /// For people: the reference, or the disk's id where it has no file.
    pub(crate) label: String,
    /// Its file; without one the disk is blank, or equal to its parent.
    pub(crate) file: Option<FileRef>,
    /// Capacity in bytes that the descriptor states.
    pub(crate) capacity: Option<u64>,
    /// The descriptor says that the file is raw.
    pub(crate) raw: bool,
    /// What is read where the file holds nothing (`ovf:parentRef`).
    pub(crate) parent: Option<Box<DiskFile>>,
}

/// A `File` of the References (DSP0243 1.1.0, 7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRef {
    /// Reference as the descriptor writes it.
    pub(crate) href: String,
    /// Size in bytes that the descriptor states, of all chunks together, packed if it is packed.
    pub(crate) size: Option<u64>,
    /// `ovf:compression="gzip"`.
    pub(crate) gzip: bool,
    /// `ovf:chunkSize`: every piece but the last has this many bytes.
    pub(crate) chunk_size: Option<u64>,
}

/// Where an item hangs.
#[derive(Clone, Copy, Debug)]
struct Slot {
    bus: DiskBus,
    controller: u32,
    /// `None` when the item does not say.
    unit: Option<u32>,
}

/// Bus of a controller item; `None` for items that are no controllers of disks.
fn controller_bus(item: &Item) -> Option<DiskBus> {
    let named = |part: &str| {
        item.sub_types
            .iter()
            .any(|sub_type| sub_type.contains(part))
    };
    match item.kind {
        kind::IDE_CONTROLLER => Some(DiskBus::Ide),
        kind::SCSI_CONTROLLER if named("virtio") => Some(DiskBus::VirtioScsi),
        kind::SCSI_CONTROLLER | kind::FC_HBA | kind::ISCSI_HBA => Some(DiskBus::Scsi),
        kind::OTHER_STORAGE | kind::OTHER => {
            // A bare "other storage" controller is SATA to virt-v2v.
            let bare = item.kind == kind::OTHER_STORAGE
                && item.sub_types.is_empty()
                && item.parent.is_none();
            if named("nvme") {
                Some(DiskBus::Nvme)
            } else if named("virtioscsi") || named("virtio-scsi") {
                Some(DiskBus::VirtioScsi)
            } else if named("virtio") {
                Some(DiskBus::VirtioBlk)
            } else if named("ahci") || named("sata") || bare {
                Some(DiskBus::Sata)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Controllers by InstanceID, numbered within their bus: by Address when all of a bus have different ones, else by their
/// place in the document.
#[derive(Debug)]
struct Controllers(HashMap<String, (DiskBus, u32)>);

impl Controllers {
    fn of(items: &[Item]) -> Self {
        let mut by_bus: Vec<(DiskBus, Vec<&Item>)> = Vec::new();
        for item in items {
            let Some(bus) = controller_bus(item) else {
                continue;
            };
            match by_bus.iter_mut().find(|(other, _)| *other == bus) {
                Some((_, list)) => list.push(item),
                None => by_bus.push((bus, vec![item])),
            }
        }
        let mut map = HashMap::new();
        for (bus, list) in by_bus {
            let number = |item: &&Item| {
                item.address
                    .as_deref()
                    .and_then(|text| text.parse::<u32>().ok())
            };
            let addresses: Option<Vec<u32>> = list.iter().map(number).collect();
            let distinct = addresses.filter(|all| {
                let mut sorted = all.clone();
                sorted.sort_unstable();
                sorted.dedup();
                sorted.len() == all.len()
            });
            for (place, item) in (0u32..).zip(&list) {
                let index = usize::try_from(place).unwrap_or(usize::MAX);
                let controller = distinct
                    .as_ref()
                    .and_then(|all| all.get(index).copied())
                    .unwrap_or(place);
                if let Some(instance) = &item.instance {
                    map.entry(instance.clone()).or_insert((bus, controller));
                }
            }
        }
        Self(map)
    }

    fn slot(&self, item: &Item) -> Slot {
        let parent = item.parent.as_ref().and_then(|parent| self.0.get(parent));
        let (bus, controller) = parent.copied().unwrap_or((DiskBus::Unknown, 0));
        Slot {
            bus,
            controller,
            unit: item.address_on_parent,
        }
    }
}

/// Hard disks in order, each with its file.
pub(crate) fn disks(
    envelope: Node<'_, '_>,
    items: &[Item],
    warnings: &mut Vec<String>,
) -> Result<Vec<(Disk, DiskFile)>> {
    let controllers = Controllers::of(items);
    let mut found: Vec<(Slot, DiskFile)> = Vec::new();
    let mut used: Vec<String> = Vec::new();
    for item in items.iter().filter(|item| item.kind == kind::DISK) {
        let mut slot = controllers.slot(item);
        let target = Target::of(envelope, item)?;
        if slot.bus == DiskBus::Unknown {
            slot.bus = target.interface().unwrap_or(DiskBus::Unknown);
        }
        if slot.bus == DiskBus::Unknown {
            warnings.push(format!(
                "hard disk {}: its controller is not known",
                item.shown()
            ));
        }
        let file = target.resolve(&mut used, warnings)?;
        found.push((slot, file));
    }
    for disk in
        xml::sections(envelope, "DiskSection").flat_map(|section| xml::children(section, "Disk"))
    {
        let id = xml::attribute(disk, "diskId").unwrap_or_default();
        if !used.iter().any(|other| other == id) {
            warnings.push(format!(
                "ignoring disk `{}`: the machine has no hard disk that uses it",
                shown(id)
            ));
        }
    }
    sort(&mut found);
    Ok(number(found, warnings))
}

/// See the head of this file. Disks of one controller keep their order when one of them has no AddressOnParent.
fn sort(found: &mut [(Slot, DiskFile)]) {
    let mut buses: Vec<DiskBus> = Vec::new();
    let mut without_unit: Vec<(DiskBus, u32)> = Vec::new();
    for (slot, _) in found.iter() {
        if !buses.contains(&slot.bus) {
            buses.push(slot.bus);
        }
        if slot.unit.is_none() {
            without_unit.push((slot.bus, slot.controller));
        }
    }
    found.sort_by_key(|(slot, _)| {
        let bus = buses.iter().position(|bus| *bus == slot.bus);
        let keep =
            slot.bus == DiskBus::Unknown || without_unit.contains(&(slot.bus, slot.controller));
        (bus, slot.controller, if keep { None } else { slot.unit })
    });
}

/// Gives slots to those that have none, and warns about those that share one.
fn number(found: Vec<(Slot, DiskFile)>, warnings: &mut Vec<String>) -> Vec<(Disk, DiskFile)> {
    let mut out: Vec<(Disk, DiskFile)> = Vec::new();
    for (slot, file) in found {
        let on_same = |disk: &Disk| disk.bus == slot.bus && disk.controller == slot.controller;
        let next = || {
            let taken = out
                .iter()
                .filter(|(disk, _)| on_same(disk))
                .map(|(disk, _)| disk.unit);
            taken.max().map_or(0, |unit| unit.saturating_add(1))
        };
        let unit = slot.unit.unwrap_or_else(next);
        let known = slot.bus != DiskBus::Unknown;
        if known
            && out
                .iter()
                .any(|(disk, _)| on_same(disk) && disk.unit == unit)
        {
            warnings.push(format!(
                "`{}`: another disk has the same place on the same controller",
                shown(&file.label)
            ));
        }
        let disk = Disk {
            label: file.label.clone(),
            bus: slot.bus,
            controller: slot.controller,
            unit,
            virtual_size: file.capacity.unwrap_or(0),
            serial: None,
        };
        out.push((disk, file));
    }
    out
}

/// CD-ROM and floppy drives in document order.
pub(crate) fn removables(items: &[Item]) -> Vec<Removable> {
    let controllers = Controllers::of(items);
    let drive = |item: &Item| {
        let kind = match item.kind {
            kind::CD | kind::DVD => RemovableKind::Cdrom,
            kind::FLOPPY => RemovableKind::Floppy,
            _ => return None,
        };
        let slot = controllers.slot(item);
        Some(Removable {
            kind,
            bus: slot.bus,
            slot: slot.unit,
        })
    };
    items.iter().filter_map(drive).collect()
}

#[cfg(test)]
mod tests;
