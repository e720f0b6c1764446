//! systemd-networkd and udev's links: .network, .netdev and .link (systemd.network(5), .netdev(5), .link(5)).

use types::{StaticIp, glob};

use crate::linux::convert::Context;
use crate::root::join;
use crate::{Result, Root};

use super::super::found::{Configured, Format, Found, Kind, files};
use super::super::repair::Fix;
use super::super::static_ip::{WHY, Wish, name_servers, prefix};
use super::super::{ini, links};

const ETC: &str = "/etc/systemd/network";
const DIRS: [&str; 3] = [
    ETC,
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
];

/// Drivers of the adapters of clouds and hypervisors.
const CLOUD_DRIVERS: [&str; 9] = [
    "ena",
    "ixgbevf",
    "vif",
    "xen_netfront",
    "vmxnet3",
    "hv_netvsc",
    "mana",
    "gve",
    "mlx5_core",
];

/// Where a definition is changed: one of a package in a file of the same name in /etc, which replaces it
/// (systemd.network(5)).
pub(in super::super) fn place(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((dir, name)) if DIRS.contains(&dir) => join(ETC, name),
        _ => path.to_owned(),
    }
}

pub(super) fn read(root: &Root, found: &mut Found) {
    let mut all = files(root, &DIRS, &[".network", ".netdev", ".link"]);
    let drop_ins: Vec<String> = root
        .names(ETC)
        .iter()
        .filter(|name| name.ends_with(".network.d") || name.ends_with(".link.d"))
        .map(|name| join(ETC, name))
        .collect();
    for dir in &drop_ins {
        all.extend(files(root, &[dir.as_str()], &[".conf"]));
    }
    for (path, text) in all {
        unit(&path, &text, found);
    }
}

fn unit(path: &str, text: &str, found: &mut Found) {
    let pairs = ini::pairs(text);
    let value = |section: &str, key: &str| {
        ini::value(&pairs, section, key).filter(|value| !value.is_empty())
    };
    if path.ends_with(".netdev") {
        let name = value("NetDev", "Name");
        name.iter()
            .for_each(|name| found.name(path, name, Kind::Virtual, None));
        return;
    }
    let is_link = path.ends_with(".link") || path.contains(".link.d/");
    let words = |section: &str, key: &str| {
        let text = value(section, key).unwrap_or_default();
        let words = text
            .split_whitespace()
            .filter(|word| !word.starts_with('!'));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    // A name is one word; several are none (systemd.link(5), Name=).
    let names = if is_link {
        value("Link", "Name").into_iter().collect()
    } else {
        words("Match", "Name")
    };
    let (globs, plain): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| glob::is_glob(name));
    let macs: Vec<_> = ["MACAddress", "PermanentMACAddress"]
        .iter()
        .flat_map(|key| words("Match", key))
        .filter_map(|mac| mac.parse().ok())
        .collect();
    let port_of = ["Bond", "Bridge", "VRF"]
        .iter()
        .find_map(|key| value("Network", key));
    let drivers = words("Match", "Driver");
    // A vendor's definition of an image for one cloud knows only that cloud's adapters (Amazon's 80-ec2.network).
    let clouds = |driver: &String| CLOUD_DRIVERS.contains(&driver.as_str());
    let is_cloud = path.ends_with(".network") && drivers.iter().all(clouds) && !drivers.is_empty();
    let is_etc = path.starts_with(ETC) || is_cloud;
    let entry = Configured {
        driver: (!drivers.is_empty())
            .then(|| drivers.join(" "))
            .filter(|_| is_etc),
        path: words("Match", "Path")
            .into_iter()
            .next()
            .filter(|path| !path.starts_with('*') && is_etc),
        file: path.to_owned(),
        kind: match (is_link, links::is_ours(path)) {
            // Of an earlier run: it says which is which and configures nothing.
            (true, true) => Kind::Rule,
            (true, false) => Kind::Adapter,
            (false, _) => Kind::Mention,
        },
        port_of,
        format: Format::Networkd,
        ..Configured::default()
    };
    if let ([_] | [], [_] | []) = (plain.as_slice(), macs.as_slice()) {
        found.add(Configured {
            name: plain.first().cloned(),
            mac: macs.first().copied(),
            glob: globs.first().cloned().filter(|_| is_etc),
            ..entry
        });
        return;
    }
    // Which of several names has which of several addresses is not said.
    for name in plain {
        found.add(Configured {
            name: Some(name),
            ..entry.clone()
        });
    }
    for mac in macs {
        found.add(Configured {
            mac: Some(mac),
            ..entry.clone()
        });
    }
}

/// The new driver for the old one, the MAC for a place on the bus.
pub(in super::super) fn repair(text: &str, fix: &Fix<'_>) -> Option<String> {
    let mut new = text.to_owned();
    if fix.stale_driver() {
        new = ini::set(&new, "Match", "Driver", fix.driver);
    }
    let by_path = fix.entry.path.is_some();
    if by_path {
        fix.only()?;
        // A VLAN or bridge on top has the same MAC but hangs on no bus.
        new = ini::set(&new, "Match", "Path", "*pci-*");
    }
    let narrow = if by_path { fix.only() } else { fix.narrow() };
    if let Some(mac) = narrow.filter(|_| fix.entry.mac.is_none()) {
        new = ini::set(&new, "Match", "MACAddress", &mac.to_string());
    }
    Some(new)
}

/// A file of our own that comes before the guest's: the first that fits is the only one (systemd.network(5)).
pub(in super::super) fn set_address(context: &mut Context<'_>, wish: &Wish) -> Result<()> {
    let own = format!("05-v2v-{}.network", wish.id());
    let before = context
        .root
        .names(ETC)
        .into_iter()
        .any(|name| name.ends_with(".network") && name < own && !name.contains("-v2v-"));
    let path = if before {
        format!("{ETC}/00-0-v2v-{}.network", wish.id())
    } else {
        join(ETC, &own)
    };
    context
        .recorder
        .write(&path, network(wish).as_bytes(), WHY)?;
    Ok(())
}

pub(in super::super) fn network(wish: &Wish) -> String {
    // The name is better than the MAC: VLANs and bridges on top have the same.
    let matched = match &wish.name {
        Some(name) => format!("Name={name}"),
        None => format!("MACAddress={}\nPath=*pci-*", wish.mac),
    };
    let mut text = format!("# Written by v2v.\n[Match]\n{matched}\n\n[Network]\nDHCP=no\n");
    for address in &wish.addresses {
        text += &address_lines(address);
    }
    for server in name_servers(&wish.addresses) {
        text += &format!("DNS={server}\n");
    }
    text
}

fn address_lines(address: &StaticIp) -> String {
    let mut text = format!("Address={}/{}\n", address.address, prefix(address));
    text += &address
        .gateway
        .map(|gateway| format!("Gateway={gateway}\n"))
        .unwrap_or_default();
    text
}
