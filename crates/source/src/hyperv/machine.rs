//! From the tree of a configuration to the machine.
//!
//! Paths of keys, below `configuration`; the same in the old XML and in the `.vmcx`:
//!
//! ```text
//! properties/{name,global_id,type_id,subtype}        type_id "Virtual Machines", subtype = generation - 1
//! settings/memory/bank/{size,dynamic_memory_enabled,limit,reservation}       MiB
//! settings/processors/count
//! global_settings/devices/generation_id
//! manifest/vdevNNN/{device,instance,name}            which devices there are: type and own GUID
//! _GUID_/…                                           settings of the device with this own GUID
//!   controllerN/driveN/{type,pathname}               VHD, ISO, VFD, ATAPI, NONE, …
//!   {MacAddress,MacAddressIsStatic,SwitchName}, Connection/AltSwitchName
//!   {bios_guid,secure_boot_enabled}                  of the virtual BIOS
//! ```
//!
//! Sources: real XML of 2012 R2 as builders of Vagrant boxes reproduce it, packer's export script, ExHyperV's table of
//! device types and keys, dissect.target's loader. Which drive number is which slot, and that `generation_id` is
//! written in the order of a GUID's text, is inferred.
//!
//! Up to 2012 R2 the manifest lists no emulated device; the IDE and floppy controllers count without an entry there.

use types::{
    CpuModel, Disk, DiskBus, Firmware, Hypervisor, Machine, Nic, NicModel, NicNetwork, Removable,
    RemovableKind,
};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::hyperv::tree::{Node, Tree};
use crate::ids;

/// Types of device, in lower case.
mod device {
    pub(super) const IDE: &str = "83f8638b-8dca-4152-9eda-2ca8b33039b4";
    pub(super) const SCSI: &str = "d422512d-2bf2-4752-809d-7b82b5fcb1b4";
    pub(super) const FLOPPY: &str = "8f0d2762-0b00-4e04-af4f-19010527cb93";
    pub(super) const BIOS: &str = "ac6b8dc1-3257-4a70-b1b2-a9c9215659ad";
    pub(super) const SYNTHETIC_NIC: &str = "2fc216b0-d2e2-4967-9b6d-b8a5c9ca2778";
    pub(super) const TPM: &str = "736e6aa9-a3f8-49c0-9550-a963214d259a";
}

/// Emulated devices, whose own GUID is their type: there is one of each.
const ALWAYS_THERE: [&str; 2] = [device::IDE, device::FLOPPY];

/// No hypervisor has more virtual CPUs.
const MAX_VCPUS: u64 = 8192;
/// Hyper-V allows 4 SCSI controllers with 64 drives each.
const MAX_DRIVES: usize = 1024;
/// Largest number of a controller or drive in a name.
const MAX_NUMBER: u32 = 255;

/// What a configuration says.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The machine; labels of its disks are the paths that it states, sizes are zero.
    pub(crate) machine: Machine,
    /// Its own GUID.
    pub(crate) id: Option<String>,
    /// False for a checkpoint.
    pub(crate) is_machine: bool,
    /// What the administrator should know.
    pub(crate) warnings: Vec<String>,
}

/// A device of the machine.
#[derive(Debug)]
struct Device<'a> {
    kind: String,
    name: String,
    settings: Node<'a>,
}

/// Reads the tree.
pub(crate) fn read(tree: &Tree) -> Result<Configuration> {
    let root = tree.root();
    let mut warnings = Vec::new();
    let name = root.text("properties/name")?.ok_or_else(|| {
        Error::corrupt("expected `properties/name`, the name of the machine, found none")
    })?;
    let id = root.text("properties/global_id")?.and_then(ids::uuid);
    let is_machine = root
        .text("properties/type_id")?
        .is_none_or(|kind| kind.eq_ignore_ascii_case("Virtual Machines"));
    let devices = devices(root, &mut warnings)?;
    let uefi = generation(root)? == 2;
    let bios = root.at(&format!("_{}_", device::BIOS))?;
    let secure_boot = match bios {
        Some(bios) => bios.boolean("secure_boot_enabled")?.unwrap_or(false),
        None => false,
    };
    let uuid = match bios {
        Some(bios) => bios.text("bios_guid")?.and_then(ids::uuid),
        None => None,
    };
    let (disks, removables) = drives(&devices, &mut warnings)?;
    let machine = Machine {
        name: name.to_owned(),
        hypervisor: Hypervisor::HyperV,
        memory_bytes: memory(root, &mut warnings)?,
        vcpus: vcpus(root)?,
        topology: None,
        cpu: CpuModel::default(),
        genid: root
            .text("global_settings/devices/generation_id")?
            .and_then(ids::uuid),
        firmware: Some(if uefi { Firmware::Uefi } else { Firmware::Bios }),
        secure_boot: uefi && secure_boot,
        tpm: devices.iter().any(|device| device.kind == device::TPM),
        uuid,
        os_hint: None,
        disks,
        removables,
        nics: nics(&devices, &mut warnings)?,
        display: None,
        sound: false,
        details: types::Details::default(),
    };
    Ok(Configuration {
        machine,
        id,
        is_machine,
        warnings,
    })
}

/// 1 or 2. Before 2012 R2 there was no other than 1.
fn generation(root: Node<'_>) -> Result<u64> {
    match root.integer("properties/subtype")? {
        None | Some(0) => Ok(1),
        Some(1) => Ok(2),
        Some(other) => Err(Error::unsupported(format!(
            "expected a machine of generation 1 or 2, `properties/subtype` 0 or 1, found {other}"
        ))),
    }
}

fn memory(root: Node<'_>, warnings: &mut Vec<String>) -> Result<u64> {
    let bank = "settings/memory/bank";
    let Some(size_mib) = root
        .integer(&format!("{bank}/size"))?
        .filter(|&size| size > 0)
    else {
        warnings.push(format!(
            "the configuration states no memory; assuming {} MiB",
            Machine::DEFAULT_MEMORY_BYTES >> 20
        ));
        return Ok(Machine::DEFAULT_MEMORY_BYTES);
    };
    let dynamic = root.boolean(&format!("{bank}/dynamic_memory_enabled"))? == Some(true);
    let limit_mib = root.integer(&format!("{bank}/limit"))?.unwrap_or(0);
    if dynamic && limit_mib > size_mib {
        warnings.push(format!(
            "the machine has dynamic memory: it starts with {size_mib} MiB and may grow to {limit_mib} MiB; taking \
             {size_mib} MiB"
        ));
    }
    size_mib.checked_mul(1 << 20).ok_or_else(|| {
        Error::new(
            ErrorKind::Limit,
            format!("memory: {size_mib} MiB are more than any machine has"),
        )
    })
}

fn vcpus(root: Node<'_>) -> Result<u32> {
    let count = root.integer("settings/processors/count")?.unwrap_or(1);
    u32::try_from(count)
        .ok()
        .filter(|_| (1..=MAX_VCPUS).contains(&count))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Limit,
                format!("expected 1 to {MAX_VCPUS} virtual CPUs, found {count}"),
            )
        })
}

/// The devices in the order of the manifest, then those that are always there.
fn devices<'a>(root: Node<'a>, warnings: &mut Vec<String>) -> Result<Vec<Device<'a>>> {
    let mut listed: Vec<(u64, Node<'a>)> = Vec::new();
    if let Some(manifest) = root.at("manifest")? {
        let number = |node: &Node<'_>| node.name().strip_prefix("vdev")?.parse().ok();
        listed.extend(
            manifest
                .children()
                .filter_map(|node| Some((number(&node)?, node))),
        );
    }
    listed.sort_by_key(|(number, _)| *number);
    let mut devices = Vec::new();
    let mut own: Vec<String> = Vec::new();
    for (_, entry) in listed {
        let kind = entry.text("device")?.and_then(ids::uuid);
        let Some(kind) = kind else {
            continue;
        };
        let instance = entry
            .text("instance")?
            .and_then(ids::uuid)
            .unwrap_or_else(|| kind.clone());
        let settings = root.at(&format!("_{instance}_"))?;
        if own.contains(&instance) {
            return Err(Error::corrupt(format!(
                "expected devices of their own GUIDs, found two of {instance}"
            )));
        }
        own.push(instance);
        devices.push(Device {
            kind,
            name: entry.text("name")?.unwrap_or_default().to_owned(),
            settings: settings.unwrap_or(entry),
        });
    }
    for kind in ALWAYS_THERE {
        if let Some(settings) = root.at(&format!("_{kind}_"))?
            && !own.iter().any(|other| other == kind)
        {
            devices.push(Device {
                kind: kind.to_owned(),
                name: String::new(),
                settings,
            });
            own.push(kind.to_owned());
        }
    }
    warn_of_orphans(root, &own, warnings);
    Ok(devices)
}

/// Settings of a device that was removed stay behind; if they name a disk, somebody may miss it.
fn warn_of_orphans(root: Node<'_>, own: &[String], warnings: &mut Vec<String>) {
    for node in root.children() {
        let id = node
            .name()
            .strip_prefix('_')
            .and_then(|name| name.strip_suffix('_'))
            .and_then(ids::uuid);
        let Some(id) = id.filter(|id| !own.contains(id)) else {
            continue;
        };
        if node
            .children()
            .any(|child| child.name().starts_with("controller"))
        {
            warnings.push(format!(
                "ignoring the drives of controller {id}, which the machine's manifest does not list"
            ));
        }
    }
}

/// A drive and its place.
struct Drive<'a> {
    bus: DiskBus,
    controller: u32,
    unit: u32,
    settings: Node<'a>,
}

/// All drives: IDE before SCSI, each in the order of controllers and slots.
fn all_drives<'a>(devices: &[Device<'a>], kind: &str) -> Result<Vec<Drive<'a>>> {
    let bus = match kind {
        device::IDE => DiskBus::Ide,
        device::SCSI => DiskBus::Scsi,
        _ => DiskBus::Unknown,
    };
    let mut drives = Vec::new();
    let mut first_controller = 0;
    for device in devices.iter().filter(|device| device.kind == kind) {
        let mut next_controller = first_controller + 1;
        for (number, node) in numbered(device.settings, "controller")? {
            let controller = first_controller + number;
            next_controller = next_controller.max(controller + 1);
            for (unit, settings) in numbered(node, "drive")? {
                drives.push(Drive {
                    bus,
                    controller,
                    unit,
                    settings,
                });
            }
        }
        first_controller = next_controller;
    }
    if drives.len() > MAX_DRIVES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "expected at most {MAX_DRIVES} drives, found {}",
                drives.len()
            ),
        ));
    }
    drives.sort_by_key(|drive| (drive.controller, drive.unit));
    Ok(drives)
}

/// Children called `FRONT` and a number, by number.
fn numbered<'a>(node: Node<'a>, front: &str) -> Result<Vec<(u32, Node<'a>)>> {
    let mut found: Vec<(u32, Node<'a>)> = Vec::new();
    for child in node.children() {
        let number = child
            .name()
            .strip_prefix(front)
            .and_then(|rest| rest.parse::<u32>().ok());
        let Some(number) = number else {
            continue;
        };
        if number > MAX_NUMBER || found.iter().any(|(other, _)| *other == number) {
            return Err(Error::corrupt(format!(
                "expected different numbers up to {MAX_NUMBER} after `{front}`, found `{}`",
                shown(child.name())
            )));
        }
        found.push((number, child));
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}

fn drives(
    devices: &[Device<'_>],
    warnings: &mut Vec<String>,
) -> Result<(Vec<Disk>, Vec<Removable>)> {
    let (mut disks, mut removables) = (Vec::new(), Vec::new());
    for kind in [device::IDE, device::SCSI, device::FLOPPY] {
        for drive in all_drives(devices, kind)? {
            let word = drive
                .settings
                .text("type")?
                .unwrap_or("NONE")
                .to_ascii_uppercase();
            let path = drive.settings.text("pathname")?;
            let place = format!(
                "drive {} of controller {}",
                drive.unit,
                drive_controller(&drive)
            );
            match (word.as_str(), path) {
                ("NONE", _) => {}
                ("ISO" | "ATAPI", _) => {
                    removables.push(removable(RemovableKind::Cdrom, &drive));
                }
                ("VFD", _) => removables.push(removable(RemovableKind::Floppy, &drive)),
                ("VHD", Some(path)) => disks.push(disk(path, &drive, &place)?),
                (_, None) => warnings.push(format!(
                    "{place}: ignoring a drive of type `{}`, which names no file",
                    shown(&word)
                )),
                (_, Some(path)) => return Err(not_a_file(&word, path, &place)),
            }
        }
    }
    Ok((disks, removables))
}

fn drive_controller(drive: &Drive<'_>) -> String {
    let bus = match drive.bus {
        DiskBus::Ide => "IDE",
        DiskBus::Scsi => "SCSI",
        _ => "floppy",
    };
    format!("{bus} {}", drive.controller)
}

fn removable(kind: RemovableKind, drive: &Drive<'_>) -> Removable {
    Removable {
        kind,
        bus: drive.bus,
        slot: Some(drive.unit),
    }
}

fn disk(path: &str, drive: &Drive<'_>, place: &str) -> Result<Disk> {
    let lower = path.to_ascii_lowercase();
    if lower.ends_with(".vhds") {
        return Err(Error::unsupported(format!(
            "{place}: `{}` is a VHD set, a disk shared between machines, which is not supported",
            shown(path)
        )));
    }
    if lower.contains("physicaldrive") {
        return Err(not_a_file("VHD", path, place));
    }
    Ok(Disk {
        label: path.to_owned(),
        bus: drive.bus,
        controller: drive.controller,
        unit: drive.unit,
        virtual_size: 0,
        serial: None,
    })
}

/// A disk that is passed through, and what else has no image.
fn not_a_file(word: &str, path: &str, place: &str) -> Error {
    Error::unsupported(format!(
        "{place}: `{}`, of type `{}`, is no virtual hard disk; a disk of the host that is passed through must be copied to \
         an image first",
        shown(path),
        shown(word)
    ))
}

/// Every device with an address; legacy and synthetic adapters differ by their type only.
fn nics(devices: &[Device<'_>], warnings: &mut Vec<String>) -> Result<Vec<Nic>> {
    let mut nics = Vec::new();
    for device in devices {
        let settings = device.settings;
        let synthetic = device.kind == device::SYNTHETIC_NIC;
        if !synthetic && settings.at("MacAddress")?.is_none() {
            continue;
        }
        let stated = settings.text("MacAddress")?;
        let mac = stated.and_then(ids::mac);
        let name = settings
            .text("FriendlyName")?
            .unwrap_or(&device.name)
            .to_owned();
        if settings.boolean("MacAddressIsStatic")? == Some(true) && mac.is_none() {
            warnings.push(format!(
                "adapter `{}`: expected its static address, found `{}`",
                shown(&name),
                shown(stated.unwrap_or_default())
            ));
        }
        let switch = match settings.text("Connection/AltSwitchName")? {
            Some(switch) => Some(switch),
            None => settings.text("SwitchName")?,
        };
        let network = switch.map_or_else(|| format!("eth{}", nics.len()), str::to_owned);
        nics.push(Nic {
            mac,
            model: Some(NicModel::Other(
                if synthetic { "netvsc" } else { "tulip" }.to_owned(),
            )),
            network: match switch {
                Some(_) => NicNetwork::Bridge(network.clone()),
                None => NicNetwork::Network(network.clone()),
            },
            source_network: network,
            guest_name: None,
        });
    }
    Ok(nics)
}
