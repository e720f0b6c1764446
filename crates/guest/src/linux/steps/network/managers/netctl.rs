//! netctl of Arch: profiles in /etc/netctl (netctl.profile(5)).

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::super::found::{Configured, Found, Kind, files};
use super::super::shell;
use super::super::static_ip::{WHY, Wish, name_servers, prefix};

const DIR: &str = "/etc/netctl";
const ADDRESS_KEYS: [&str; 11] = [
    "IP",
    "Address",
    "Gateway",
    "Netmask",
    "Routes",
    "IP6",
    "Address6",
    "Gateway6",
    "Routes6",
    "DNS",
    "DHCPClient",
];

pub(super) fn read(root: &Root, found: &mut Found) {
    for (path, text) in files(root, &[DIR], &[""]) {
        let all = shell::assignments(&text);
        let value = |key: &str| {
            let one = all.iter().rfind(|one| one.key == key)?;
            one.word().map(str::to_owned)
        };
        let kind = value("Connection").unwrap_or_default();
        let Some(name) = value("Interface") else {
            continue;
        };
        let made = matches!(
            kind.as_str(),
            "bond" | "bridge" | "vlan" | "dummy" | "tunnel" | "tuntap" | "macvlan"
        );
        for one in all.iter().filter(|one| one.key == "BindsToInterfaces") {
            let port_of = matches!(kind.as_str(), "bond" | "bridge").then_some(name.as_str());
            for word in one.words() {
                found.name(&path, word, Kind::Mention, port_of);
            }
        }
        match kind.as_str() {
            "wireless" => {}
            _ => found.add(Configured {
                name: Some(name),
                file: path,
                kind: if made { Kind::Virtual } else { Kind::Adapter },
                ..Configured::default()
            }),
        }
    }
}

/// Puts the addresses into the adapter's profile, or makes one and switches it on.
pub(in super::super) fn set_address(
    context: &mut Context<'_>,
    wish: &Wish,
    name: &str,
) -> Result<()> {
    let block = block(wish);
    let mut entries = context.network.found.entries.iter();
    let existing = entries
        .find(|entry| {
            entry.file.starts_with("/etc/netctl/")
                && entry.kind == Kind::Adapter
                && entry.name.as_deref() == Some(name)
        })
        .map(|entry| entry.file.clone());
    if let Some(path) = existing {
        context.recorder.edit(&path, WHY, |text| {
            let new = shell::replace(text, &block, |key| ADDRESS_KEYS.contains(&key));
            (new != text).then_some(new)
        })?;
        return Ok(());
    }
    let profile = format!("v2v-{name}");
    let text = format!("Interface={name}\nConnection=ethernet\n{block}");
    context
        .recorder
        .write(&format!("{DIR}/{profile}"), text.as_bytes(), WHY)?;
    // The unit's name has a dash escaped (systemd-escape(1)).
    let unit = profile.replace('-', "\\x2d");
    context.recorder.symlink(
        &format!("/etc/systemd/system/multi-user.target.wants/netctl@{unit}.service"),
        "/usr/lib/systemd/system/netctl@.service",
        WHY,
    )?;
    Ok(())
}

pub(in super::super) fn block(wish: &Wish) -> String {
    let mut text = "# Written by v2v.\n".to_owned();
    for (v4, end) in [(true, ""), (false, "6")] {
        let ours: Vec<_> = wish
            .addresses
            .iter()
            .filter(|address| address.address.is_ipv4() == v4)
            .collect();
        if ours.is_empty() {
            text += if v4 { "IP=no\n" } else { "IP6=stateless\n" };
            continue;
        }
        let addresses: Vec<String> = ours
            .iter()
            .map(|address| format!("'{}/{}'", address.address, prefix(address)))
            .collect();
        text += &format!("IP{end}=static\nAddress{end}=({})\n", addresses.join(" "));
        if let Some(gateway) = ours.iter().find_map(|address| address.gateway) {
            text += &format!("Gateway{end}='{gateway}'\n");
        }
    }
    let servers = name_servers(&wish.addresses);
    if !servers.is_empty() {
        let quoted: Vec<String> = servers.iter().map(|server| format!("'{server}'")).collect();
        text += &format!("DNS=({})\n", quoted.join(" "));
    }
    text
}
