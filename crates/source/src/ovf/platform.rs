//! What the machine is, apart from its disks: hypervisor, firmware, security, identity, adapters.

use roxmltree::Node;
use types::{CpuTopology, Firmware, Hypervisor, MacAddr, Machine, Nic, NicModel, NicNetwork};

use super::items::{Item, kind};
use super::{units, xml};
use crate::error::{Error, ErrorKind, Result, shown};

/// Unit of memory where none is stated (DSP0243 1.1.0, 8.3 by CIM: `byte * 2^20`).
const DEFAULT_MEMORY_UNIT: u64 = 1 << 20;
/// No hypervisor has more virtual CPUs.
const MAX_VCPUS: u64 = 8192;

/// The parts of a descriptor that are looked at together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System<'a, 'i> {
    /// VirtualSystem.
    pub(crate) node: Node<'a, 'i>,
    /// Its VirtualHardwareSection.
    pub(crate) hardware: Node<'a, 'i>,
}

impl<'a, 'i> System<'a, 'i> {
    /// VirtualBox's own description of the machine, if it wrote one.
    fn vbox_machine(self) -> Option<Node<'a, 'i>> {
        self.node
            .children()
            .find(|child| xml::is_vbox(*child, "Machine"))
    }

    /// The first element of this name within that description, whatever its namespace (it changes between versions).
    fn vbox(self, name: &str) -> Option<Node<'a, 'i>> {
        self.vbox_machine()?
            .descendants()
            .find(|node| node.is_element() && node.tag_name().name() == name)
    }

    /// Value of a `vmw:Config` or `vmw:ExtraConfig` of the machine.
    fn vmw_config(self, key: &str) -> Option<&'a str> {
        let is_config =
            |node: &Node<'_, '_>| xml::is_vmw(*node, "Config") || xml::is_vmw(*node, "ExtraConfig");
        let mut found = self.hardware.children().filter(is_config);
        found
            .find(|node| xml::vmw_attribute(*node, "key") == Some(key))
            .and_then(|node| xml::vmw_attribute(node, "value"))
    }

    fn vssd(self, name: &str) -> Option<String> {
        xml::child(self.hardware, "System").and_then(|system| xml::cim_text(system, name))
    }

    /// Text of a child of the VirtualSystem that oVirt writes without a namespace: `BiosType`.
    fn ovirt(self, name: &str) -> Option<String> {
        xml::child(self.node, name).map(xml::text)
    }

    /// A setting that XenServer and XCP-ng (XenCenter's appliance export) write as
    /// `<VirtualSystemOtherConfigurationData Name="…"><Value>…`.
    fn xen_setting(self, name: &str) -> Option<String> {
        self.hardware
            .descendants()
            .filter(|node| xml::is_xen(*node))
            .find(|node| node.attribute("Name") == Some(name))
            .and_then(xml::value_text)
    }

    /// True when a list such as `nx=true;secureboot=true` has this.
    fn xen_flag(self, setting: &str, key: &str, value: &str) -> bool {
        let list = self.xen_setting(setting).unwrap_or_default();
        list.split([';', ',']).any(|pair| {
            let (found, what) = pair.split_once(['=', ':']).unwrap_or((pair, ""));
            found.trim() == key && what.trim().eq_ignore_ascii_case(value)
        })
    }

    /// By VirtualBox's own element (it calls itself `vmx-6` in OVF 0.9), else by VirtualSystemType, else by elements
    /// that only one exporter writes.
    pub(crate) fn hypervisor(self) -> Hypervisor {
        if self.vbox_machine().is_some() {
            return Hypervisor::VirtualBox;
        }
        let text = self
            .vssd("VirtualSystemType")
            .unwrap_or_default()
            .to_lowercase();
        let any = |fronts: &[&str]| {
            text.split([' ', ',', ';'])
                .any(|part| fronts.iter().any(|front| part.starts_with(front)))
        };
        if any(&["vmx-", "vmware"]) {
            Hypervisor::Vmware
        } else if any(&["virtualbox"]) {
            Hypervisor::VirtualBox
        } else if any(&["xen", "hvm"]) {
            Hypervisor::Xen
        } else if any(&[
            "kvm",
            "qemu",
            "ahv",
            "nutanix",
            "acropolis",
            "engine",
            "rhev",
            "ovirt",
        ]) {
            // oVirt writes `ENGINE 4.5.2`; AHV is Nutanix's KVM.
            Hypervisor::Kvm
        } else if any(&["microsoft", "hyperv", "hyper-v"]) {
            Hypervisor::HyperV
        } else if self.node.descendants().any(xml::is_xen) {
            Hypervisor::Xen
        } else if self.ovirt("BiosType").is_some() {
            Hypervisor::Kvm
        } else {
            Hypervisor::Unknown
        }
    }

    /// VMware and VirtualBox mean BIOS when they write nothing.
    pub(crate) fn firmware(self, warnings: &mut Vec<String>) -> Option<Firmware> {
        if let Some(value) = self.vmw_config("firmware") {
            match value.to_ascii_lowercase().as_str() {
                "efi" => return Some(Firmware::Uefi),
                "bios" => return Some(Firmware::Bios),
                other => warnings.push(format!(
                    "expected firmware `bios` or `efi`, found `{}`",
                    shown(other)
                )),
            }
        }
        // oVirt's BiosType: 1 and 2 are SeaBIOS, 3 OVMF, 4 OVMF with Secure Boot.
        match self.ovirt("BiosType").as_deref() {
            Some("1" | "2") => return Some(Firmware::Bios),
            Some("3" | "4") => return Some(Firmware::Uefi),
            _ => {}
        }
        if self.xen_setting("HVM_boot_params").is_some() {
            let uefi = self.xen_flag("HVM_boot_params", "firmware", "uefi");
            return Some(if uefi { Firmware::Uefi } else { Firmware::Bios });
        }
        let vbox_type = self
            .vbox("Firmware")
            .and_then(|node| node.attribute("type"))
            .unwrap_or_default();
        match self.hypervisor() {
            Hypervisor::VirtualBox if vbox_type.starts_with("EFI") => Some(Firmware::Uefi),
            Hypervisor::VirtualBox | Hypervisor::Vmware => Some(Firmware::Bios),
            _ => None,
        }
    }

    pub(crate) fn secure_boot(self) -> bool {
        let vmware = self
            .vmw_config("bootOptions.efiSecureBootEnabled")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let vbox = self
            .vbox("SecureBoot")
            .and_then(|node| node.attribute("enabled"))
            .is_some_and(|value| value == "true");
        vmware
            || vbox
            || self.ovirt("BiosType").as_deref() == Some("4")
            || self.xen_flag("platform", "secureboot", "true")
    }

    pub(crate) fn tpm(self, items: &[Item]) -> bool {
        let vbox = self
            .vbox("TrustedPlatformModule")
            .and_then(|node| node.attribute("type"));
        items.iter().any(|item| item.has_sub_type("vmware.vtpm"))
            || self
                .ovirt("TpmEnabled")
                .is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || self.xen_flag("platform", "vtpm", "true")
            || vbox.is_some_and(|kind| !kind.is_empty() && !kind.eq_ignore_ascii_case("none"))
    }

    /// SMBIOS UUID: VirtualBox's (Hardware overrides Machine), VMware's `uuid.bios`, or a VirtualSystemIdentifier
    /// that is one.
    pub(crate) fn uuid(self) -> Option<String> {
        let hardware = self
            .vbox("Hardware")
            .and_then(|node| node.attribute("uuid"));
        let machine = self.vbox_machine().and_then(|node| node.attribute("uuid"));
        [
            hardware,
            machine,
            self.vmw_config("uuid.bios"),
            self.vssd("VirtualSystemIdentifier").as_deref(),
        ]
        .into_iter()
        .flatten()
        .find_map(normal_uuid)
    }

    /// `vmw:osType`, else VirtualBox's type, else the CIM number.
    pub(crate) fn os_hint(self) -> Option<String> {
        let section = xml::sections(self.node, "OperatingSystemSection").next()?;
        let vbox = || {
            section
                .children()
                .find(|child| xml::is_vbox(*child, "OSType"))
                .map(xml::text)
        };
        let vmware = xml::vmw_attribute(section, "osType").map(str::to_owned);
        let cim = || xml::attribute(section, "id").map(str::to_owned);
        vmware
            .or_else(vbox)
            .or_else(cim)
            .filter(|hint| !hint.is_empty())
    }

    /// Adapters in document order. VirtualBox states their addresses only in its own element.
    pub(crate) fn nics(self, items: &[Item], warnings: &mut Vec<String>) -> Vec<Nic> {
        let adapters: Vec<&Item> = items
            .iter()
            .filter(|item| item.kind == kind::ETHERNET)
            .collect();
        let vbox = self.vbox_macs();
        let vbox = if vbox.len() == adapters.len() {
            vbox
        } else {
            Vec::new()
        };
        let nic = |(index, item): (usize, &&Item)| {
            let mac = own_mac(item, warnings).or_else(|| vbox.get(index).copied().flatten());
            let (network, source_network) = match &item.connection {
                Some(name) => (NicNetwork::Bridge(name.clone()), name.clone()),
                None => {
                    let name = format!("eth{index}"); // as virt-v2v calls it
                    (NicNetwork::Network(name.clone()), name)
                }
            };
            Nic {
                mac,
                model: nic_model(item),
                network,
                source_network,
                guest_name: None,
            }
        };
        adapters.iter().enumerate().map(nic).collect()
    }

    /// Addresses of VirtualBox's enabled adapters by slot.
    fn vbox_macs(self) -> Vec<Option<MacAddr>> {
        let Some(network) = self.vbox("Network") else {
            return Vec::new();
        };
        let enabled = |node: &Node<'_, '_>| {
            node.tag_name().name() == "Adapter" && node.attribute("enabled") == Some("true")
        };
        let slot = |node: Node<'_, '_>| {
            node.attribute("slot")
                .and_then(|slot| slot.parse::<u32>().ok())
        };
        let mut adapters: Vec<_> = network
            .children()
            .filter(enabled)
            .map(|node| (slot(node), node))
            .collect();
        adapters.sort_by_key(|(slot, _)| *slot);
        adapters
            .iter()
            .map(|(_, node)| node.attribute("MACAddress").and_then(parse_mac))
            .collect()
    }
}

/// MAC of an adapter item; VMware's own devices put other things in `Address`, which is not worth a word.
fn own_mac(item: &Item, warnings: &mut Vec<String>) -> Option<MacAddr> {
    let mac = parse_mac(item.address.as_deref()?)?;
    if mac.is_multicast() || mac.0 == [0; 6] {
        warnings.push(format!(
            "adapter {}: ignoring its address {mac}, which no adapter can own",
            item.shown()
        ));
        return None;
    }
    Some(mac)
}

/// With separators, or twelve digits without.
fn parse_mac(text: &str) -> Option<MacAddr> {
    if text.len() == 12 && text.is_ascii() {
        let pairs: Vec<&str> = (0..6)
            .filter_map(|index| text.get(2 * index..2 * index + 2))
            .collect();
        return pairs.join(":").parse().ok();
    }
    text.parse().ok()
}

fn nic_model(item: &Item) -> Option<NicModel> {
    let known = |name: &String| match name.as_str() {
        "e1000" => Some(NicModel::E1000),
        "e1000e" => Some(NicModel::E1000e),
        "vmxnet3" => Some(NicModel::Vmxnet3),
        "pcnet32" => Some(NicModel::Pcnet),
        "rtl8139" => Some(NicModel::Rtl8139),
        "virtio" => Some(NicModel::Virtio),
        _ => None,
    };
    let other = || {
        item.sub_types
            .first()
            .map(|name| NicModel::Other(name.clone()))
    };
    item.sub_types.iter().find_map(known).or_else(other)
}

/// 32 hexadecimal digits with any of VMware's, Microsoft's and the usual punctuation, as lower case with dashes.
fn normal_uuid(text: &str) -> Option<String> {
    let punctuation = |c: char| matches!(c, '-' | ' ' | '{' | '}');
    let digits: String = text
        .chars()
        .filter(|c| !punctuation(*c))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (a, b, c, d, e) = (
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    );
    Some(format!("{a}-{b}-{c}-{d}-{e}"))
}

/// Memory in bytes.
pub(crate) fn memory(items: &[Item], warnings: &mut Vec<String>) -> Result<u64> {
    let item = items.iter().find(|item| item.kind == kind::MEMORY);
    let quantity = item.map(Item::quantity).transpose()?.flatten().unwrap_or(0);
    let Some(item) = item.filter(|_| quantity > 0) else {
        warnings.push(format!(
            "the descriptor states no memory; assuming {} MiB",
            Machine::DEFAULT_MEMORY_BYTES >> 20
        ));
        return Ok(Machine::DEFAULT_MEMORY_BYTES);
    };
    let unit = match &item.units {
        None => DEFAULT_MEMORY_UNIT,
        Some(text) => units::bytes_per_unit(text).ok_or_else(|| {
            Error::unsupported(format!(
                "memory: expected a unit such as `byte * 2^20`, found `{}`",
                shown(text)
            ))
        })?,
    };
    quantity.checked_mul(unit).ok_or_else(|| {
        Error::new(
            ErrorKind::Limit,
            format!("memory: {quantity} units of {unit} bytes are more than any machine has"),
        )
    })
}

/// Number of virtual CPUs, and how they are grouped where the descriptor says it.
pub(crate) fn cpus(
    items: &[Item],
    warnings: &mut Vec<String>,
) -> Result<(u32, Option<CpuTopology>)> {
    let Some(item) = items.iter().find(|item| item.kind == kind::PROCESSOR) else {
        return Ok((1, None));
    };
    let quantity = item.quantity()?.unwrap_or(1).max(1);
    let vcpus = u32::try_from(quantity)
        .ok()
        .filter(|_| quantity <= MAX_VCPUS)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Limit,
                format!("expected at most {MAX_VCPUS} virtual CPUs, found {quantity}"),
            )
        })?;
    let topology = match item.cores_per_socket {
        Some(cores) if cores > 0 && vcpus % cores == 0 => Some(CpuTopology {
            sockets: vcpus / cores,
            cores,
            threads: 1,
        }),
        Some(cores) => {
            warnings.push(format!(
                "ignoring {cores} cores per socket: {vcpus} virtual CPUs cannot be grouped so"
            ));
            None
        }
        None => None,
    };
    Ok((vcpus, topology))
}
