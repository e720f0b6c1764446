//! Predictable names of network interfaces, as systemd's net_id gives them (systemd.net-naming-scheme(7), up to v252).
//!
//! ```text
//! eno<index>[n<port name>|d<port>]                                  onboard: ACPI _DSM or SMBIOS type 41
//! en[P<domain>]s<slot>[f<function>][n<port name>|d<port>][u<port>…][c<config>][i<interface>]   hotplug slot
//! en[P<domain>]p<bus>s<slot>[f<function>][n<port name>|d<port>][u…][c…][i…]                    place
//! enx<address>
//! ```

use std::path::{Path, PathBuf};

use super::Paths;
use super::sysfs;

/// Highest index that firmware may give (the naming schemes since v247 take no more than 14 bits).
const MAX_ONBOARD: u64 = 16383;
/// PCI class of a bridge to another PCI bus, without its programming interface.
const CLASS_PCI_BRIDGE: u32 = 0x0604;

/// All names that one interface may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetNames {
    pub(crate) onboard: Option<String>,
    pub(crate) slot: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) mac: Option<String>,
}

impl NetNames {
    /// In the order of the default policy (99-default.link: onboard, slot, path); the address is not in it.
    pub(crate) fn best(&self) -> Option<String> {
        [&self.onboard, &self.slot, &self.path]
            .into_iter()
            .flatten()
            .next()
            .cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<String> {
        [&self.onboard, &self.slot, &self.path, &self.mac]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

/// A PCI function by its address, e.g. 0000:00:1f.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PciAddress {
    domain: u32,
    bus: u32,
    slot: u32,
    function: u32,
}

impl PciAddress {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (domain, rest) = name.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (slot, function) = rest.split_once('.')?;
        let hex = |text: &str| {
            let is_hex =
                (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            u32::from_str_radix(text, 16).ok().filter(|_| is_hex)
        };
        Some(Self {
            domain: hex(domain)?,
            bus: hex(bus)?,
            slot: hex(slot)?,
            function: hex(function)?,
        })
    }
}

/// The PCI function that a folder below /sys/devices belongs to: the nearest one above it.
pub(crate) fn pci_device(sys: &Path, device: &Path) -> Option<(PathBuf, PciAddress)> {
    device
        .ancestors()
        .take_while(|dir| dir.starts_with(sys))
        .find_map(|dir| {
            let address = PciAddress::parse(dir.file_name()?.to_str()?)?;
            Some((dir.to_owned(), address))
        })
}

/// Computes the names of the interface whose folder is `net`, /sys/class/net/NAME without symbolic links.
pub(crate) fn compute(paths: &Paths, net: &Path, mac: &str, is_permanent: bool) -> NetNames {
    let sys = paths.real_sys();
    let mut names = NetNames::default();
    let hex: String = mac.chars().filter(char::is_ascii_hexdigit).collect();
    if is_permanent && hex.len() == 12 {
        names.mac = Some(format!("enx{hex}"));
    }
    let Some((pci, address)) = pci_device(&sys, net) else {
        return names;
    };
    // A virtual function is named after its physical one.
    let (pci, address, suffix) = match physical_function(&sys, &pci) {
        Some((parent, address, number)) => (parent, address, format!("v{number}")),
        None => (pci, address, String::new()),
    };
    let usb = usb_suffix(net).unwrap_or_default();
    let port = port_suffix(net);
    let function = function_suffix(&pci, address);
    let domain = match address.domain {
        0 => String::new(),
        domain => format!("P{domain}"),
    };
    let PciAddress { bus, slot, .. } = address;
    names.path = Some(format!(
        "en{domain}p{bus}s{slot}{function}{port}{suffix}{usb}"
    ));
    names.slot = hotplug_slot(paths, &sys, &pci)
        .map(|slot| format!("en{domain}s{slot}{function}{port}{suffix}{usb}"));
    if usb.is_empty() {
        names.onboard = onboard(&pci).map(|index| format!("eno{index}{port}{suffix}"));
    }
    names
}

/// The function whose virtual one this is, and its number.
fn physical_function(sys: &Path, pci: &Path) -> Option<(PathBuf, PciAddress, u32)> {
    let parent = sysfs::real(pci.join("physfn"))?;
    let own = pci.file_name()?.to_str()?;
    let number = sysfs::names(&parent).into_iter().find_map(|name| {
        let number: u32 = name.strip_prefix("virtfn")?.parse().ok()?;
        (sysfs::link_name(parent.join(&name))? == own).then_some(number)
    })?;
    let (parent, address) = pci_device(sys, &parent)?;
    Some((parent, address, number))
}

fn onboard(pci: &Path) -> Option<u64> {
    // ACPI may count from 0, SMBIOS counts from 1.
    let acpi = sysfs::number(pci.join("acpi_index"));
    let smbios = || sysfs::number(pci.join("index")).filter(|&index| index > 0);
    acpi.or_else(smbios).filter(|&index| index <= MAX_ONBOARD)
}

/// `f` and the function's number, if the device has several or this is not the first.
fn function_suffix(pci: &Path, address: PciAddress) -> String {
    let mut function = address.function;
    // With ARI the five bits of the slot belong to the function (PCI Express Base 3.0, section 6.13).
    if sysfs::flag(pci.join("ari_enabled")) {
        function += address.slot * 8;
    }
    if function > 0 || is_multifunction(pci) {
        format!("f{function}")
    } else {
        String::new()
    }
}

/// Bit 7 of the header type (PCI Local Bus 3.0, section 6.2.1).
fn is_multifunction(pci: &Path) -> bool {
    sysfs::bytes(pci.join("config"), 64)
        .and_then(|config| config.get(14).copied())
        .is_some_and(|header_type| header_type & 0x80 != 0)
}

fn port_suffix(net: &Path) -> String {
    if let Some(name) = sysfs::text(net.join("phys_port_name")) {
        return format!("n{name}");
    }
    match sysfs::number(net.join("dev_port")) {
        Some(port) if port > 0 => format!("d{port}"),
        _ => String::new(),
    }
}

/// Number of the hotplug slot that the function, or a bridge above it, sits in.
fn hotplug_slot(paths: &Paths, sys: &Path, pci: &Path) -> Option<u32> {
    let root = paths.sys.join("bus/pci/slots");
    let slots: Vec<(u32, String)> = sysfs::names(&root)
        .into_iter()
        .filter_map(|name| {
            let number: u32 = name.parse().ok().filter(|&number| number > 0)?;
            Some((number, sysfs::text(root.join(&name).join("address"))?))
        })
        .collect();
    for dir in pci.ancestors().take_while(|dir| dir.starts_with(sys)) {
        let name = dir.file_name()?.to_str()?;
        if PciAddress::parse(name).is_none() {
            continue;
        }
        // A slot's address has no function.
        let device = name.split('.').next()?;
        let Some((number, _)) = slots.iter().find(|(_, address)| address == device) else {
            continue;
        };
        // All functions behind a bridge would share its slot; they get it only if their own number tells them
        // apart (schemes v247 and v251).
        let is_bridge = sysfs::hex(dir.join("class")).is_some_and(|c| c >> 8 == CLASS_PCI_BRIDGE);
        return (!is_bridge || is_multifunction(pci)).then_some(*number);
    }
    None
}

/// `u1u2c3i4` of the USB interface 5-1.2:3.4; configuration 1 and interface 0 are not said.
fn usb_suffix(net: &Path) -> Option<String> {
    let interface = net
        .ancestors()
        .find(|dir| dir.join("bInterfaceNumber").exists())?
        .file_name()?
        .to_str()?;
    let (_, place) = interface.split_once('-')?;
    let (ports, setting) = place.split_once(':')?;
    let (config, number) = setting.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !ports.split('.').all(is_number) || !is_number(config) || !is_number(number) {
        return None;
    }
    let mut suffix: String = ports.split('.').map(|port| format!("u{port}")).collect();
    if config != "1" {
        suffix.push_str(&format!("c{config}"));
    }
    if number != "0" {
        suffix.push_str(&format!("i{number}"));
    }
    Some(suffix)
}
