//! Network adapters: what has hardware behind it. Wireless ones are left out unless there is nothing else.

use std::path::PathBuf;

use wire::inventory::Nic;

use super::Paths;
use super::net_names::{self, NetNames, PciAddress};
use super::netlink::{self, LinkFacts};
use super::sysfs::{self, Udev};

/// ARPHRD_ETHER of include/uapi/linux/if_arp.h.
const TYPE_ETHERNET: u64 = 1;
/// `addr_assign_type` of an address that the hardware has (include/uapi/linux/netdevice.h).
const PERMANENT: u64 = 0;
/// Speeds above this are what drivers say for "unknown".
const MAX_SPEED_MBITS: u64 = 10_000_000;
/// PCI vendors of servers' adapters, for people; others are shown by number.
const VENDORS: &[(u32, &str)] = &[
    (0x8086, "Intel"),
    (0x14e4, "Broadcom"),
    (0x15b3, "Mellanox"),
    (0x10ec, "Realtek"),
    (0x1077, "QLogic"),
    (0x19a2, "Emulex"),
    (0x10df, "Emulex"),
    (0x1425, "Chelsio"),
    (0x1924, "Solarflare"),
    (0x1969, "Atheros"),
    (0x11ab, "Marvell"),
    (0x1d6a, "Aquantia"),
    (0x10de, "NVIDIA"),
    (0x1af4, "Virtio"),
    (0x15ad, "VMware"),
];

struct Interface {
    name: String,
    dir: PathBuf,
    real: PathBuf,
    is_wireless: bool,
}

/// All adapters, by their places on PCI, others after them.
pub(crate) fn nics(paths: &Paths) -> Vec<Nic> {
    let root = paths.sys.join("class/net");
    let all: Vec<Interface> = sysfs::names(&root)
        .into_iter()
        .filter_map(|name| {
            let dir = root.join(&name);
            // What is made of software alone has no device: lo, bonds, bridges, VLANs, tunnels.
            let real = sysfs::real(&dir).filter(|_| dir.join("device").exists())?;
            let is_ethernet = sysfs::number(dir.join("type")) == Some(TYPE_ETHERNET);
            is_ethernet.then(|| Interface {
                is_wireless: dir.join("wireless").exists() || dir.join("phy80211").exists(),
                name,
                dir,
                real,
            })
        })
        .collect();
    let is_wired = all.iter().any(|interface| !interface.is_wireless);
    let facts = if paths.live {
        netlink::links()
    } else {
        Vec::new()
    };
    let sys = paths.real_sys();
    let mut keyed: Vec<_> = all
        .into_iter()
        .filter(|interface| !interface.is_wireless || !is_wired)
        .filter_map(|interface| {
            let place = net_names::pci_device(&sys, &interface.real).map(|(_, address)| address);
            let port = sysfs::number(interface.dir.join("dev_port"));
            let facts = facts.iter().find(|facts| facts.name == interface.name);
            let nic = nic(paths, &interface, facts)?;
            Some((
                place.is_none(),
                place,
                port,
                sysfs::natural(&nic.kernel_name),
                nic,
            ))
        })
        .collect::<Vec<(bool, Option<PciAddress>, Option<u64>, _, Nic)>>();
    keyed.sort_by(|a, b| (a.0, &a.1, a.2, &a.3).cmp(&(b.0, &b.1, b.2, &b.3)));
    keyed.into_iter().map(|(.., nic)| nic).collect()
}

fn nic(paths: &Paths, interface: &Interface, facts: Option<&LinkFacts>) -> Option<Nic> {
    let Interface { dir, real, .. } = interface;
    let is_permanent = sysfs::number(dir.join("addr_assign_type")).is_none_or(|t| t == PERMANENT);
    // A port of a bond shows the bond's address.
    let before_bond = sysfs::text(dir.join("bonding_slave/perm_hwaddr"));
    let from_kernel = facts.and_then(|facts| facts.permanent.clone());
    let known = before_bond.or(from_kernel);
    let mac = known
        .clone()
        .or_else(|| sysfs::text(dir.join("address")))?
        .to_ascii_lowercase();
    let mac: types::MacAddr = mac.parse().ok()?;
    let mac = Some(mac).filter(|mac| mac.0 != [0; 6])?.to_string();
    let computed = net_names::compute(paths, real, &mac, is_permanent || known.is_some());
    let udev = sysfs::number(dir.join("ifindex"))
        .map(|index| Udev::read(&paths.run, &format!("n{index}")))
        .unwrap_or_default();
    let names = NetNames {
        onboard: udev.get("ID_NET_NAME_ONBOARD").or(computed.onboard),
        slot: udev.get("ID_NET_NAME_SLOT").or(computed.slot),
        path: udev.get("ID_NET_NAME_PATH").or(computed.path),
        mac: udev.get("ID_NET_NAME_MAC").or(computed.mac),
    };
    let link = sysfs::flag(dir.join("carrier"));
    let speed = sysfs::number(dir.join("speed")).filter(|&s| link && s <= MAX_SPEED_MBITS);
    let (vendor, model) = hardware(real, &udev);
    Some(Nic {
        name: names.best().unwrap_or_else(|| interface.name.clone()),
        kernel_name: interface.name.clone(),
        mac,
        link,
        speed_mbits: speed
            .and_then(|s| u32::try_from(s).ok())
            .unwrap_or_default(),
        driver: sysfs::link_name(real.join("device/driver")).unwrap_or_default(),
        vendor,
        model,
        alternative_names: names.all(),
        addresses: facts
            .map(|facts| facts.addresses.clone())
            .unwrap_or_default(),
    })
}

/// Vendor and model: from udev's database of names, else the vendor by number and the device's id.
fn hardware(real: &std::path::Path, udev: &Udev) -> (String, String) {
    let id = |name: &str| {
        sysfs::hex(real.join("device").join(name)).or_else(|| {
            let usb = real.ancestors().find(|dir| dir.join("idVendor").exists())?;
            sysfs::hex(usb.join(if name == "vendor" {
                "idVendor"
            } else {
                "idProduct"
            }))
        })
    };
    let (vendor, device) = (id("vendor"), id("device"));
    let known = vendor.and_then(|id| VENDORS.iter().find(|(number, _)| *number == id));
    let by_number = |id: Option<u32>| id.map(|id| format!("{id:04x}")).unwrap_or_default();
    (
        udev.get("ID_VENDOR_FROM_DATABASE").unwrap_or_else(|| {
            known.map_or_else(|| by_number(vendor), |(_, name)| (*name).to_owned())
        }),
        udev.get("ID_MODEL_FROM_DATABASE")
            .unwrap_or_else(|| match device {
                Some(_) => format!("{}:{}", by_number(vendor), by_number(device)),
                None => String::new(),
            }),
    )
}
