//! From the settings file to the machine.
//!
//! Schema: `VirtualBox-settings.xsd` of VirtualBox, settings 1.9 (VirtualBox 3.1) to 1.20; the places of elements are
//! those of files that VirtualBox 7.2 wrote.

use roxmltree::Node;
use types::{
    CpuModel, Display, Firmware, Hypervisor, Machine, Nic, NicModel, NicNetwork, Removable,
};

use super::media::{Media, Medium};
use super::storage;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::{ids, xmldoc};

/// Settings versions 1.N that are known.
const MINORS: std::ops::RangeInclusive<u32> = 9..=20;
/// Memory when the settings state none, in MiB: the schema's default.
const DEFAULT_MEMORY_MIB: u64 = 128;
/// No hypervisor has more virtual CPUs.
const MAX_VCPUS: u32 = 8192;
/// Adapters that are read. The ICH9 chipset has 36.
const MAX_ADAPTERS: usize = 64;

/// What a settings file says.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The machine; labels of its disks are their locations, sizes are zero.
    pub(crate) machine: Machine,
    /// The machine's own UUID, which is also the guest's unless the hardware has another.
    pub(crate) id: Option<String>,
    /// Images in the order of the disks.
    pub(super) images: Vec<Medium>,
    /// File of the EFI variables, where it is not the machine's name with `.nvram`.
    pub(super) nvram: Option<String>,
    /// All images by UUID.
    pub(super) media: Media,
    /// What the administrator should know.
    pub(crate) warnings: Vec<String>,
}

/// Reads a settings file.
pub(crate) fn parse(text: &str) -> Result<Settings> {
    let document = xmldoc::parse(text)?;
    let root = document.root_element();
    if root.tag_name().name() != "VirtualBox" {
        return Err(Error::corrupt(format!(
            "expected the settings of a VirtualBox machine, found a document `{}`",
            shown(root.tag_name().name())
        )));
    }
    let mut warnings = Vec::new();
    check_version(root, &mut warnings)?;
    if xmldoc::child(root, "MachineEncrypted").is_some() {
        return Err(Error::unsupported(
            "the machine's settings are encrypted, which is not supported; hint: remove the encryption in VirtualBox",
        ));
    }
    let machine = xmldoc::child(root, "Machine")
        .ok_or_else(|| Error::corrupt("expected an element `Machine`, found none"))?;
    let hardware = xmldoc::child(machine, "Hardware")
        .ok_or_else(|| Error::corrupt("expected an element `Hardware`, found none"))?;
    warn_of_state(machine, &mut warnings);
    let media = Media::read(machine)?;
    let storage = storage::read(machine, hardware, &media, &mut warnings)?;
    let (disks, images) = storage.disks.into_iter().unzip();
    let id = machine.attribute("uuid").and_then(ids::uuid);
    let nvram = hardware
        .descendants()
        .find(|node| xmldoc::is(*node, "NVRAM"))
        .and_then(|node| node.attribute("path"))
        .filter(|path| !path.is_empty())
        .map(str::to_owned);
    let read = read(machine, hardware, disks, storage.removables)?;
    Ok(Settings {
        machine: read,
        id,
        images,
        nvram,
        media,
        warnings,
    })
}

/// `1.19-linux`: the platform does not matter.
fn check_version(root: Node<'_, '_>, warnings: &mut Vec<String>) -> Result<()> {
    let text = root.attribute("version").unwrap_or_default();
    let number = text.split('-').next().unwrap_or_default();
    let minor = number
        .strip_prefix("1.")
        .and_then(|minor| minor.parse::<u32>().ok());
    match minor {
        Some(minor) if minor > *MINORS.end() => {
            warnings.push(format!(
                "settings version {} is newer than those that are known, up to 1.{}",
                shown(text),
                MINORS.end()
            ));
            Ok(())
        }
        Some(minor) if MINORS.contains(&minor) => Ok(()),
        _ => Err(Error::unsupported(format!(
            "expected settings of version 1.{} to 1.{}, found `{}`",
            MINORS.start(),
            MINORS.end(),
            shown(text)
        ))),
    }
}

fn warn_of_state(machine: Node<'_, '_>, warnings: &mut Vec<String>) {
    if machine
        .attribute("stateFile")
        .is_some_and(|file| !file.is_empty())
    {
        warnings.push(
            "the machine is in a saved state, which is not carried over: its guest will find its disks as after a \
             power failure"
                .to_owned(),
        );
    }
    if machine.attribute("aborted") == Some("true") {
        warnings.push(
            "the machine was aborted: its disks are as after a power failure, or it is running"
                .to_owned(),
        );
    }
}

fn read(
    machine: Node<'_, '_>,
    hardware: Node<'_, '_>,
    disks: Vec<types::Disk>,
    removables: Vec<Removable>,
) -> Result<Machine> {
    // Where an element stands within the hardware changes between versions; none of these names is used twice.
    let part = |name: &str| hardware.descendants().find(|node| xmldoc::is(*node, name));
    let attribute = |name: &str, key: &str| part(name).and_then(|node| node.attribute(key));
    let name = machine.attribute("name").unwrap_or_default();
    if name.is_empty() {
        return Err(Error::corrupt(
            "expected the name of the machine, found none",
        ));
    }
    let uuid = [hardware, machine]
        .iter()
        .find_map(|node| node.attribute("uuid").and_then(ids::uuid));
    let efi = attribute("Firmware", "type").is_some_and(|kind| kind.starts_with("EFI"));
    let on = |value: Option<&str>| value == Some("true");
    let tpm = attribute("TrustedPlatformModule", "type");
    let display = part("Display").and_then(|node| node.attribute("controller"));
    Ok(Machine {
        name: name.to_owned(),
        hypervisor: Hypervisor::VirtualBox,
        memory_bytes: memory(attribute("Memory", "RAMSize"))?,
        vcpus: vcpus(attribute("CPU", "count"))?,
        topology: None,
        cpu: CpuModel::default(),
        genid: None,
        firmware: Some(if efi { Firmware::Uefi } else { Firmware::Bios }),
        secure_boot: efi && on(attribute("SecureBoot", "enabled")),
        tpm: tpm.is_some_and(|kind| !kind.is_empty() && !kind.eq_ignore_ascii_case("none")),
        uuid,
        os_hint: machine
            .attribute("OSType")
            .filter(|hint| !hint.is_empty())
            .map(str::to_owned),
        disks,
        removables,
        nics: nics(hardware)?,
        display: display
            .filter(|kind| !kind.eq_ignore_ascii_case("none"))
            .map(|_| Display::Vnc),
        sound: on(attribute("AudioAdapter", "enabled")),
        details: types::Details::default(),
    })
}

fn memory(text: Option<&str>) -> Result<u64> {
    let mib = match text {
        None => DEFAULT_MEMORY_MIB,
        Some(text) => text
            .parse::<u64>()
            .ok()
            .filter(|&mib| mib > 0)
            .ok_or_else(|| {
                Error::corrupt(format!("expected memory in MiB, found `{}`", shown(text)))
            })?,
    };
    mib.checked_mul(1 << 20).ok_or_else(|| {
        Error::new(
            ErrorKind::Limit,
            format!("memory: {mib} MiB are more than any machine has"),
        )
    })
}

fn vcpus(text: Option<&str>) -> Result<u32> {
    let text = text.unwrap_or("1");
    text.parse()
        .ok()
        .filter(|count| (1..=MAX_VCPUS).contains(count))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Limit,
                format!(
                    "expected 1 to {MAX_VCPUS} virtual CPUs, found `{}`",
                    shown(text)
                ),
            )
        })
}

/// Enabled adapters by slot.
fn nics(hardware: Node<'_, '_>) -> Result<Vec<Nic>> {
    let slot = |adapter: Node<'_, '_>| {
        let text = adapter.attribute("slot").unwrap_or_default();
        text.parse::<u32>().map_err(|_| {
            Error::corrupt(format!(
                "adapter: expected a number as slot, found `{}`",
                shown(text)
            ))
        })
    };
    let mut adapters = Vec::new();
    for adapter in xmldoc::child(hardware, "Network")
        .into_iter()
        .flat_map(|network| xmldoc::children(network, "Adapter"))
        .filter(|adapter| adapter.attribute("enabled") == Some("true"))
    {
        adapters.push((slot(adapter)?, adapter));
    }
    if adapters.len() > MAX_ADAPTERS {
        let message = format!(
            "expected at most {MAX_ADAPTERS} adapters, found {}",
            adapters.len()
        );
        return Err(Error::new(ErrorKind::Limit, message));
    }
    adapters.sort_by_key(|(slot, _)| *slot);
    Ok(adapters
        .into_iter()
        .map(|(slot, adapter)| nic(slot, adapter))
        .collect())
}

fn nic(slot: u32, adapter: Node<'_, '_>) -> Nic {
    let (network, source_network) = attachment(slot, adapter);
    Nic {
        mac: adapter.attribute("MACAddress").and_then(ids::mac),
        model: Some(model(adapter.attribute("type"))),
        network,
        source_network,
        guest_name: None,
    }
}

/// Schema `TNetworkAdapterType`; the default is the PCnet-FAST III.
fn model(kind: Option<&str>) -> NicModel {
    match kind.unwrap_or("Am79C973") {
        "Am79C970A" | "Am79C973" | "Am79C960" => NicModel::Pcnet,
        "82540EM" | "82543GC" | "82545EM" => NicModel::E1000,
        "82583V" => NicModel::E1000e,
        "virtio" => NicModel::Virtio,
        other => NicModel::Other(other.to_owned()),
    }
}

/// What the adapter is connected to. The modes that it is not in are kept in `DisabledModes`.
fn attachment(slot: u32, adapter: Node<'_, '_>) -> (NicNetwork, String) {
    let none = || {
        let name = format!("eth{slot}");
        (NicNetwork::Network(name.clone()), name)
    };
    let modes = [
        "BridgedInterface",
        "HostInterface",
        "InternalNetwork",
        "HostOnlyInterface",
        "HostOnlyNetwork",
        "NATNetwork",
        "CloudNetwork",
        "GenericInterface",
        "NAT",
    ];
    let mode = adapter
        .children()
        .find(|child| child.is_element() && modes.contains(&child.tag_name().name()));
    let Some(mode) = mode else {
        return none();
    };
    let name = mode
        .attribute("name")
        .or_else(|| mode.attribute("driver"))
        .unwrap_or_default();
    match mode.tag_name().name() {
        // Where the guest reaches the world through its host, as libvirt's own network does it.
        "NAT" => (NicNetwork::Network("default".to_owned()), "NAT".to_owned()),
        _ if name.is_empty() => none(),
        "BridgedInterface" | "HostInterface" => {
            (NicNetwork::Bridge(name.to_owned()), name.to_owned())
        }
        _ => (NicNetwork::Network(name.to_owned()), name.to_owned()),
    }
}
