//! NetworkManager's keyfiles (nm-settings-keyfile(5)).

use types::{StaticIp, glob};

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::super::found::{Configured, Format, Found, Kind, files};
use super::super::ini;
use super::super::repair::Fix;
use super::super::static_ip::{WHY, Wish, join_ips, name_servers, prefix};

const DIRS: [&str; 3] = [
    "/etc/NetworkManager/system-connections",
    "/usr/local/lib/NetworkManager/system-connections",
    "/usr/lib/NetworkManager/system-connections",
];
/// The two names of the section of an Ethernet adapter.
const ETHERNET: [&str; 2] = ["ethernet", "802-3-ethernet"];

pub(super) fn read(root: &Root, found: &mut Found) {
    for (path, text) in files(root, &DIRS, &[""]) {
        connection(&path, &text, found);
    }
}

fn connection(path: &str, text: &str, found: &mut Found) {
    let pairs = ini::pairs(text);
    let value = |section: &str, key: &str| {
        ini::value(&pairs, section, key).filter(|value| !value.is_empty())
    };
    let name = value("connection", "interface-name");
    match value("connection", "type").unwrap_or_default().as_str() {
        "ethernet" | "802-3-ethernet" => {}
        "wifi" | "802-11-wireless" | "" => return,
        "vlan" | "macvlan" => {
            name.iter()
                .for_each(|name| found.name(path, name, Kind::Virtual, None));
            let parents = ["vlan", "macvlan"]
                .iter()
                .filter_map(|section| value(section, "parent"));
            parents.for_each(|parent| found.name(path, &parent, Kind::Mention, None));
            return;
        }
        _ => {
            name.iter()
                .for_each(|name| found.name(path, name, Kind::Virtual, None));
            return;
        }
    }
    let list = |key: &str| {
        let text = value("match", key).unwrap_or_default();
        let items = text
            .split([';', ',', ' '])
            .map(|item| item.trim_start_matches(['|', '&']));
        items
            .filter(|item| !item.is_empty() && !item.starts_with('!'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (globs, plain): (Vec<_>, Vec<_>) = list("interface-name")
        .into_iter()
        .partition(|name| glob::is_glob(name));
    let drivers = list("driver");
    found.add(Configured {
        name: name.or_else(|| plain.first().cloned()),
        glob: globs.first().cloned(),
        mac: ETHERNET
            .iter()
            .find_map(|section| value(section, "mac-address"))
            .and_then(|mac| mac.parse().ok()),
        driver: (!drivers.is_empty()).then(|| drivers.join(" ")),
        path: list("path").first().cloned(),
        file: path.to_owned(),
        kind: Kind::Adapter,
        port_of: value("connection", "controller").or_else(|| value("connection", "master")),
        format: Format::Keyfile,
        ..Configured::default()
    });
    for name in plain.iter().skip(1) {
        found.name(path, name, Kind::Adapter, None);
    }
}

/// The new driver for the old one; the MAC instead of a place on the bus, and where the driver is not enough.
pub(in super::super) fn repair(text: &str, fix: &Fix<'_>) -> Option<String> {
    let mut new = text.to_owned();
    if fix.stale_driver() {
        new = ini::set(&new, "match", "driver", &format!("{};", fix.driver));
    }
    let by_path = fix.entry.path.is_some();
    if by_path {
        fix.only()?;
        new = ini::disable(&new, "match", Some(&["path"]));
    }
    let narrow = if by_path { fix.only() } else { fix.narrow() };
    if let Some(mac) = narrow.filter(|_| fix.entry.mac.is_none()) {
        let pairs = ini::pairs(text);
        let section = ETHERNET
            .iter()
            .find(|section| pairs.iter().any(|pair| pair.section == **section));
        let section = section.unwrap_or(&ETHERNET[0]);
        new = ini::set(
            &new,
            section,
            "mac-address",
            &mac.to_string().to_uppercase(),
        );
    }
    Some(new)
}

/// A profile of our own by MAC; other profiles of the adapter no longer start by themselves.
pub(in super::super) fn set_address(context: &mut Context<'_>, wish: &Wish) -> Result<()> {
    let id = wish.id();
    let own = format!("/etc/NetworkManager/system-connections/v2v-{id}.nmconnection");
    let of_ours = |entry: &&Configured| {
        entry.format == Format::Keyfile
            && entry.file.starts_with(DIRS[0])
            && entry.file != own
            && (entry.mac == Some(wish.mac) || (wish.name.is_some() && entry.name == wish.name))
    };
    let others: Vec<String> = context
        .network
        .found
        .entries
        .iter()
        .filter(of_ours)
        .map(|entry| entry.file.clone())
        .collect();
    for path in others {
        context.recorder.edit(&path, WHY, |text| {
            Some(ini::set(text, "connection", "autoconnect", "false"))
        })?;
    }
    context
        .recorder
        .write_mode(&own, profile(wish).as_bytes(), 0o600, WHY)?;
    Ok(())
}

pub(in super::super) fn profile(wish: &Wish) -> String {
    let (id, mac) = (wish.id(), wish.mac.to_string().to_uppercase());
    let mut text = format!(
        "# Written by v2v.\n[connection]\nid=v2v-{id}\nuuid={}\ntype=ethernet\nautoconnect=true\nautoconnect-priority=100\n\n\
         [ethernet]\nmac-address={mac}\n",
        uuid(&id)
    );
    for (section, v4) in [("ipv4", true), ("ipv6", false)] {
        let ours: Vec<&StaticIp> = wish
            .addresses
            .iter()
            .filter(|address| address.address.is_ipv4() == v4)
            .collect();
        let method = match (ours.is_empty(), v4) {
            (false, _) => "manual",
            (true, true) => "disabled",
            (true, false) => "auto",
        };
        text += &format!("\n[{section}]\nmethod={method}\n");
        for (index, address) in ours.iter().enumerate() {
            text += &format!(
                "address{}={}/{}",
                index + 1,
                address.address,
                prefix(address)
            );
            text += &address
                .gateway
                .map(|gateway| format!(",{gateway}"))
                .unwrap_or_default();
            text.push('\n');
        }
        let servers = name_servers(&wish.addresses);
        let servers: Vec<_> = servers
            .iter()
            .filter(|server| server.is_ipv4() == v4)
            .collect();
        if !servers.is_empty() && !ours.is_empty() {
            text += &format!("dns={};\n", join_ips(&servers, ";"));
        }
    }
    text
}

/// Without one, NetworkManager before 1.12 does not take a keyfile; made of the MAC, it is the same in every run.
/// Version 8 is for such (RFC 9562, section 5.8).
fn uuid(id: &str) -> String {
    format!("76327600-0000-8000-8000-{id}")
}
