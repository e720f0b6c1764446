//! A libvirt domain as XML (<https://libvirt.org/formatdomain.html>): what the machine is, apart from its disks.

use std::path::PathBuf;

use roxmltree::Node;
use types::{
    CpuModel, CpuTopology, Details, Display, Firmware, Hypervisor, Listen, MacAddr, Machine, Nic,
    NicModel, NicNetwork,
};

use super::storage::{self, DomainDisk};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::xmldoc;
pub(super) use crate::xmldoc::{child, children};
/// No hypervisor has more virtual CPUs.
const MAX_VCPUS: u32 = 8192;
/// Namespace of libosinfo's metadata.
const LIBOSINFO: &str = "http://libosinfo.org/xmlns/libvirt/domain/1.0";
/// Network of an adapter whose connection cannot be had on another host: the one that libvirt installs.
const DEFAULT_NETWORK: &str = "default";

/// What a domain says.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    /// The machine without its disks.
    pub(crate) machine: Machine,
    /// The disks in order.
    pub(crate) disks: Vec<DomainDisk>,
    /// Its firmware's variables, a flash file.
    pub(crate) nvram: Option<PathBuf>,
    /// What the administrator should know.
    pub(crate) warnings: Vec<String>,
}

/// Reads the XML of a domain.
pub(crate) fn parse(text: &str) -> Result<Domain> {
    let document = xmldoc::parse(text)?;
    let root = document.root_element();
    let tag = root.tag_name().name();
    if tag != "domain" {
        let tag = shown(tag);
        return Err(Error::corrupt(format!(
            "expected the XML of a libvirt domain (`virsh dumpxml`), found `{tag}`"
        )));
    }
    let mut warnings = Vec::new();
    let storage = storage::storage(root, &mut warnings)?;
    let vcpus = vcpus(root)?;
    let sound = path(root, &["devices", "sound"]);
    let mut details = Details {
        sound_model: sound
            .and_then(|node| node.attribute("model"))
            .map(str::to_owned),
        vcpus_at_start: path(root, &["vcpu"])
            .and_then(|node| node.attribute("current"))
            .and_then(|text| text.parse().ok())
            .filter(|&current| current > 0 && current < vcpus),
        ..Details::default()
    };
    let machine = Machine {
        name: path_text(root, &["name"])
            .ok_or_else(|| Error::corrupt("expected a domain with a name, found none"))?,
        hypervisor: hypervisor(root.attribute("type").unwrap_or_default()),
        memory_bytes: memory(root, &mut warnings)?,
        vcpus,
        topology: topology(root, vcpus, &mut warnings),
        cpu: CpuModel {
            vendor: path_text(root, &["cpu", "vendor"]),
            model: path_text(root, &["cpu", "model"]),
            features: features(root),
        },
        genid: path_text(root, &["genid"]).map(|id| id.to_ascii_lowercase()),
        firmware: firmware(root),
        secure_boot: secure_boot(root),
        tpm: path(root, &["devices", "tpm"]).is_some(),
        uuid: path_text(root, &["uuid"]).map(|id| id.to_ascii_lowercase()),
        os_hint: osinfo(root),
        disks: Vec::new(),
        removables: storage.removables,
        nics: nics(root, &mut warnings),
        display: display(root, &mut details),
        sound: sound.is_some(),
        details,
    };
    Ok(Domain {
        machine,
        disks: storage.disks,
        nvram: nvram(root),
        warnings,
    })
}

/// The first element at this path.
pub(super) fn path<'a, 'i>(node: Node<'a, 'i>, names: &[&'a str]) -> Option<Node<'a, 'i>> {
    names.iter().try_fold(node, |node, name| child(node, name))
}

/// An attribute of the child of this name.
pub(super) fn attribute<'a>(node: Node<'a, '_>, name: &'a str, key: &str) -> Option<&'a str> {
    child(node, name)?.attribute(key)
}

/// Text of the first element at this path, trimmed; empty is none.
pub(super) fn path_text(node: Node<'_, '_>, names: &[&str]) -> Option<String> {
    let node = names.iter().try_fold(node, |node, name| {
        node.children()
            .find(|child| child.is_element() && child.tag_name().name() == *name)
    })?;
    let text = node.text()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The domain types of libvirt's drivers.
fn hypervisor(kind: &str) -> Hypervisor {
    match kind {
        "kvm" => Hypervisor::Kvm,
        "qemu" => Hypervisor::Qemu,
        "xen" => Hypervisor::Xen,
        "vmware" => Hypervisor::Vmware,
        "vbox" => Hypervisor::VirtualBox,
        "hyperv" => Hypervisor::HyperV,
        "physical" => Hypervisor::Physical,
        _ => Hypervisor::Unknown,
    }
}

/// `<memory unit='…'>`: KiB where no unit is stated.
fn memory(root: Node<'_, '_>, warnings: &mut Vec<String>) -> Result<u64> {
    /// What virt-v2v gives a machine that has no memory stated.
    const DEFAULT_SIZE: u64 = 1 << 30;
    let Some(text) = path_text(root, &["memory"]) else {
        warnings.push(format!(
            "the domain states no memory; assuming {} MiB",
            DEFAULT_SIZE >> 20
        ));
        return Ok(DEFAULT_SIZE);
    };
    let unit = attribute(root, "memory", "unit").unwrap_or("KiB");
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "b" | "bytes" => 1,
        "kb" => 1_000,
        "k" | "kib" => 1 << 10,
        "mb" => 1_000_000,
        "m" | "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "g" | "gib" => 1 << 30,
        "tb" => 1_000_000_000_000,
        "t" | "tib" => 1 << 40,
        other => {
            let other = shown(other);
            return Err(Error::corrupt(format!(
                "memory: expected a unit such as `KiB`, found `{other}`"
            )));
        }
    };
    let number: u64 = text.parse().map_err(|_| {
        let text = shown(&text);
        Error::corrupt(format!("memory: expected a whole number, found `{text}`"))
    })?;
    number.checked_mul(factor).ok_or_else(|| {
        Error::new(
            ErrorKind::Limit,
            format!(
                "memory: {number} {} are more than any machine has",
                shown(unit)
            ),
        )
    })
}

fn vcpus(root: Node<'_, '_>) -> Result<u32> {
    let Some(text) = path_text(root, &["vcpu"]) else {
        return Ok(1);
    };
    let number: u32 = text.parse().map_err(|_| {
        let text = shown(&text);
        Error::corrupt(format!("vcpu: expected a whole number, found `{text}`"))
    })?;
    if number > MAX_VCPUS {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("expected at most {MAX_VCPUS} virtual CPUs, found {number}"),
        ));
    }
    Ok(number.max(1))
}

/// Dies and clusters, which only few guests can tell from cores, are counted as cores.
fn topology(root: Node<'_, '_>, vcpus: u32, warnings: &mut Vec<String>) -> Option<CpuTopology> {
    let node = path(root, &["cpu", "topology"])?;
    let get = |name: &str| match node.attribute(name) {
        Some(text) => text.parse::<u32>().ok(),
        None => Some(1),
    };
    let read = || {
        let cores = get("cores")?
            .checked_mul(get("dies")?)?
            .checked_mul(get("clusters")?)?;
        let (sockets, threads) = (get("sockets")?, get("threads")?);
        let product = sockets.checked_mul(cores)?.checked_mul(threads)?;
        (product == vcpus).then_some(CpuTopology {
            sockets,
            cores,
            threads,
        })
    };
    let found = read();
    if found.is_none() {
        warnings.push(format!(
            "ignoring the CPU topology: it does not make {vcpus} virtual CPUs"
        ));
    }
    found
}

/// Names of the features, sorted; those that are switched off are left out.
fn features(root: Node<'_, '_>) -> Vec<String> {
    let Some(node) = path(root, &["features"]) else {
        return Vec::new();
    };
    let is_on = |node: &Node<'_, '_>| {
        node.is_element() && !matches!(node.attribute("state"), Some("off" | "no"))
    };
    let mut names: Vec<String> = node
        .children()
        .filter(is_on)
        .map(|node| node.tag_name().name().to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// By the word of `<os firmware>`, else by the loader: UEFI is a pflash image. Neither states nothing.
fn firmware(root: Node<'_, '_>) -> Option<Firmware> {
    let os = path(root, &["os"])?;
    match os.attribute("firmware") {
        Some("efi") => return Some(Firmware::Uefi),
        Some("bios") => return Some(Firmware::Bios),
        _ => {}
    }
    match child(os, "loader") {
        Some(loader) if loader.attribute("type") == Some("pflash") => Some(Firmware::Uefi),
        Some(loader)
            if loader
                .text()
                .is_some_and(|path| path.contains("OVMF") || path.contains("AAVMF")) =>
        {
            Some(Firmware::Uefi)
        }
        _ => None,
    }
}

/// A raw file by its path, or since libvirt 8.5 by a source; libvirt has no other place for the variables of a machine that is
/// off. qcow2 is left out.
fn nvram(root: Node<'_, '_>) -> Option<PathBuf> {
    let nvram = path(root, &["os", "nvram"])?;
    if nvram
        .attribute("format")
        .is_some_and(|format| format != "raw")
    {
        return None;
    }
    let source = attribute(nvram, "source", "file");
    let file = source.or_else(|| nvram.text().map(str::trim))?;
    (!file.is_empty()).then(|| file.into())
}

/// The feature that firmware is chosen by, else a loader that enforces signatures with keys enrolled.
fn secure_boot(root: Node<'_, '_>) -> bool {
    let Some(os) = path(root, &["os"]) else {
        return false;
    };
    let stated = child(os, "firmware").and_then(|firmware| {
        children(firmware, "feature")
            .find(|feature| feature.attribute("name") == Some("secure-boot"))
            .and_then(|feature| feature.attribute("enabled"))
    });
    match stated {
        Some(enabled) => enabled == "yes",
        None => attribute(os, "loader", "secure") == Some("yes"),
    }
}

/// The system's id in libosinfo, as virt-manager and v2v write it.
fn osinfo(root: Node<'_, '_>) -> Option<String> {
    let is_os = |node: &Node<'_, '_>| {
        node.tag_name().namespace() == Some(LIBOSINFO) && node.tag_name().name() == "os"
    };
    path(root, &["metadata"])?
        .descendants()
        .find(is_os)?
        .attribute("id")
        .map(str::to_owned)
}

fn display(root: Node<'_, '_>, details: &mut Details) -> Option<Display> {
    let graphics = path(root, &["devices", "graphics"])?;
    let display = match graphics.attribute("type")? {
        "vnc" => Display::Vnc,
        "spice" => Display::Spice,
        // A window on the screen of the old host is nothing that another host could keep.
        _ => return None,
    };
    details.keymap = graphics.attribute("keymap").map(str::to_owned);
    details.display_password = graphics.attribute("passwd").is_some();
    details.listen = listen(graphics);
    Some(display)
}

fn listen(graphics: Node<'_, '_>) -> Option<Listen> {
    let Some(listen) = child(graphics, "listen") else {
        let address = graphics.attribute("listen")?;
        return Some(Listen::Address(address.to_owned()));
    };
    let get = |key: &str| listen.attribute(key).map(str::to_owned);
    match listen.attribute("type")? {
        "address" => get("address").map(Listen::Address),
        "network" => get("network").map(Listen::Network),
        "socket" => Some(Listen::Socket(get("socket").unwrap_or_default())),
        "none" => Some(Listen::None),
        _ => None,
    }
}

fn nics(root: Node<'_, '_>, warnings: &mut Vec<String>) -> Vec<Nic> {
    let Some(devices) = path(root, &["devices"]) else {
        return Vec::new();
    };
    children(devices, "interface")
        .map(|node| nic(node, warnings))
        .collect()
}

fn nic(node: Node<'_, '_>, warnings: &mut Vec<String>) -> Nic {
    let kind = node.attribute("type").unwrap_or_default();
    let source = |key: &str| attribute(node, "source", key).map(str::to_owned);
    let mac = attribute(node, "mac", "address").and_then(|text| mac(text, warnings));
    let (network, source_network) = match (kind, source("network"), source("bridge")) {
        ("network", Some(name), _) => (NicNetwork::Network(name.clone()), name),
        ("bridge", _, Some(name)) => (NicNetwork::Bridge(name.clone()), name),
        _ => {
            let name = source("dev").unwrap_or_else(|| DEFAULT_NETWORK.to_owned());
            if kind != "user" {
                let which = mac.map(|mac| format!(" {mac}")).unwrap_or_default();
                warnings.push(format!(
                    "the adapter{which} is of the type `{}`, which belongs to its host: connecting it to the network \
                     `{DEFAULT_NETWORK}`; --network {}:OUT or --bridge changes that",
                    shown(kind),
                    shown(&name)
                ));
            }
            (NicNetwork::Network(DEFAULT_NETWORK.to_owned()), name)
        }
    };
    Nic {
        mac,
        model: attribute(node, "model", "type").map(model),
        network,
        source_network,
        guest_name: None,
    }
}

fn mac(text: &str, warnings: &mut Vec<String>) -> Option<MacAddr> {
    let mac: Option<MacAddr> = text.trim().parse().ok();
    let mac = mac.filter(|mac| !mac.is_multicast() && mac.0 != [0; 6]);
    if mac.is_none() {
        let text = shown(text);
        warnings.push(format!(
            "ignoring the address `{text}`, which no adapter can own"
        ));
    }
    mac
}

fn model(name: &str) -> NicModel {
    match name {
        "e1000" => NicModel::E1000,
        "e1000e" => NicModel::E1000e,
        "rtl8139" => NicModel::Rtl8139,
        "virtio" => NicModel::Virtio,
        "vmxnet3" => NicModel::Vmxnet3,
        other => NicModel::Other(other.to_owned()),
    }
}
