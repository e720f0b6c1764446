//! netplan: /etc/netplan/*.yaml (netplan-yaml(5)), with whichever renderer.

use std::collections::BTreeMap;

use types::{StaticIp, glob};

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::super::found::{Configured, Format, Found, Kind, files};
use super::super::repair::Fix;
use super::super::static_ip::{WHY, Wish, join_ips, name_servers, prefix};
use super::super::yaml::{self, Leaf};

const DIRS: [&str; 2] = ["/etc/netplan", "/lib/netplan"];
/// Kinds of interface that software makes.
const VIRTUAL: [&str; 8] = [
    "bonds",
    "bridges",
    "vlans",
    "tunnels",
    "vrfs",
    "dummy-devices",
    "virtual-ethernets",
    "nm-devices",
];
/// Keys of a definition that give it addresses.
const ADDRESS_KEYS: [&str; 12] = [
    "dhcp4",
    "dhcp6",
    "addresses",
    "gateway4",
    "gateway6",
    "routes",
    "nameservers",
    "dhcp4-overrides",
    "dhcp6-overrides",
    "dhcp-identifier",
    "accept-ra",
    "link-local",
];

pub(super) fn read(root: &Root, found: &mut Found) {
    for (path, text) in files(root, &DIRS, &[".yaml"]) {
        document(&path, &text, found);
    }
}

/// Version 2 of a network configuration, of netplan or cloud-init.
pub(super) fn document(path: &str, text: &str, found: &mut Found) {
    let leaves = yaml::leaves(text);
    let mut ethernets: BTreeMap<&str, Vec<&Leaf>> = BTreeMap::new();
    for leaf in &leaves {
        if let [network, kind, id, ..] = leaf.path.as_slice()
            && (network.as_str(), kind.as_str()) == ("network", "ethernets")
        {
            ethernets.entry(id).or_default().push(leaf);
        }
    }
    for (id, leaves) in &ethernets {
        ethernet(path, leaves, id, found);
    }
    for leaf in &leaves {
        let [network, kind, id, rest @ ..] = leaf.path.as_slice() else {
            continue;
        };
        if network != "network" || !VIRTUAL.contains(&kind.as_str()) {
            continue;
        }
        match rest {
            [] => found.name(path, id, Kind::Virtual, None),
            [key, _] if key == "interfaces" && matches!(kind.as_str(), "bonds" | "bridges") => {
                let port_leaves = ethernets.get(leaf.value.as_str());
                port(
                    path,
                    port_leaves.map_or(&[], Vec::as_slice),
                    &leaf.value,
                    id,
                    found,
                );
            }
            _ => {}
        }
    }
}

/// `network/ethernets/ID`: ID is the name unless there is a `match`; `set-name` names it then.
fn ethernet(path: &str, leaves: &[&Leaf], id: &str, found: &mut Found) {
    let matched = leaves
        .iter()
        .any(|leaf| leaf.path.get(3).is_some_and(|key| key == "match"));
    let pattern = value(leaves, &["match", "name"]);
    let (globs, plain) = match pattern {
        Some(name) if glob::is_glob(&name) => (Some(name), None),
        other => (None, other),
    };
    let drivers: Vec<&str> = leaves
        .iter()
        .filter(|leaf| {
            leaf.path
                .get(3..5)
                .is_some_and(|keys| keys == ["match", "driver"])
        })
        .map(|leaf| leaf.value.as_str())
        .filter(|driver| !driver.is_empty() && !driver.starts_with('['))
        .collect();
    found.add(Configured {
        name: value(leaves, &["set-name"])
            .or(plain)
            .or_else(|| (!matched).then(|| id.to_owned())),
        glob: globs,
        mac: value(leaves, &["match", "macaddress"]).and_then(|mac| mac.parse().ok()),
        driver: (!drivers.is_empty()).then(|| drivers.join(" ")),
        file: path.to_owned(),
        kind: Kind::Adapter,
        id: id.to_owned(),
        format: Format::Netplan,
        ..Configured::default()
    });
}

/// A value of a definition, by the keys below its ID.
fn value(leaves: &[&Leaf], key: &[&str]) -> Option<String> {
    leaves
        .iter()
        .rfind(|leaf| leaf.path.get(3..).is_some_and(|path| path == key))
        .map(|leaf| leaf.value.clone())
        .filter(|value| !value.is_empty())
}

/// A port is named by its definition's ID.
fn port(path: &str, leaves: &[&Leaf], id: &str, of: &str, found: &mut Found) {
    let name = value(leaves, &["set-name"]).unwrap_or_else(|| id.to_owned());
    let mac = value(leaves, &["match", "macaddress"]).and_then(|mac| mac.parse().ok());
    found.add(Configured {
        name: Some(name),
        mac,
        file: path.to_owned(),
        port_of: Some(of.to_owned()),
        id: id.to_owned(),
        ..Configured::default()
    });
}

/// `driver:` names the new driver; where that is not enough, the MAC is added.
pub(in super::super) fn repair(text: &str, fix: &Fix<'_>) -> Option<String> {
    let leaves = yaml::leaves(text);
    let at = ["network", "ethernets", fix.entry.id.as_str(), "match"];
    let driver = leaves.iter().find(|leaf| {
        leaf.path.len() == 5 && leaf.is_at_start(&at) && leaf.path.ends_with(&["driver".into()])
    })?;
    let matching = leaves.iter().find(|leaf| leaf.is_at(&at))?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let line = lines.get(driver.line)?;
    let narrow = fix.narrow().filter(|_| fix.entry.mac.is_none());
    let new = if matching.line == driver.line {
        let old = format!("driver: {}", driver.value);
        let quoted = format!("driver: \"{}\"", driver.value);
        let mac = narrow
            .map(|mac| format!(", macaddress: \"{mac}\""))
            .unwrap_or_default();
        let with = format!("driver: {}{mac}", fix.driver);
        let old = if line.contains(&quoted) { quoted } else { old };
        line.contains(&old).then(|| line.replacen(&old, &with, 1))?
    } else {
        let blanks = " ".repeat(driver.indent);
        let mac = narrow
            .map(|mac| format!("{blanks}macaddress: \"{mac}\"\n"))
            .unwrap_or_default();
        format!("{blanks}driver: {}\n{mac}", fix.driver)
    };
    let end = if driver.value.is_empty() {
        block_end(&lines, driver)
    } else {
        driver.line + 1
    };
    let (head, tail) = (lines.get(..driver.line)?, lines.get(end..)?);
    Some(format!("{}{new}{}", head.concat(), tail.concat()))
}

/// The line after what a key holds: deeper lines, and elements at its own depth.
fn block_end(lines: &[&str], leaf: &Leaf) -> usize {
    let inside = |line: &&str| {
        let trimmed = line.trim_start_matches(' ');
        let indent = line.len() - trimmed.len();
        trimmed.trim().is_empty()
            || indent > leaf.indent
            || (indent == leaf.indent && trimmed.starts_with('-'))
    };
    let rest = lines.get(leaf.line + 1..).unwrap_or_default();
    let len = rest.iter().take_while(|line| inside(line)).count();
    // Blank lines at the end belong to what follows.
    let blank = rest
        .get(..len)
        .unwrap_or_default()
        .iter()
        .rev()
        .take_while(|line| line.trim().is_empty())
        .count();
    leaf.line + 1 + len - blank
}

/// Replaces the addresses in the definition that the guest has for this adapter, or makes one.
pub(in super::super) fn set_address(context: &mut Context<'_>, wish: &Wish) -> Result<()> {
    let own = format!("/etc/netplan/90-v2v-{}.yaml", wish.id());
    let of_ours = |entry: &&Configured| {
        entry.format == Format::Netplan
            && entry.file.starts_with("/etc/netplan/")
            && entry.file != own
            && (entry.mac == Some(wish.mac) || (wish.name.is_some() && entry.name == wish.name))
    };
    let entries: Vec<Configured> = context
        .network
        .found
        .entries
        .iter()
        .filter(of_ours)
        .cloned()
        .collect();
    let mut merged = None;
    for entry in &entries {
        let text = context.root.text(&entry.file).unwrap_or_default();
        // A definition in several files: the addresses go into the last, the others lose theirs.
        let is_last = entries.last() == Some(entry);
        match replace_addresses(
            &text,
            &entry.id,
            if is_last { &wish.addresses } else { &[] },
        ) {
            Some(_) => {
                context.recorder.edit(&entry.file, WHY, |text| {
                    replace_addresses(text, &entry.id, if is_last { &wish.addresses } else { &[] })
                })?;
                if is_last {
                    return Ok(());
                }
            }
            None => merged = Some(entry.id.clone()),
        }
    }
    let id = merged.unwrap_or_else(|| format!("v2v-{}", wish.id()));
    let text = definition(&id, wish);
    context
        .recorder
        .write_mode(&own, text.as_bytes(), 0o600, WHY)?;
    Ok(())
}

/// `None` when the definition is not in block style.
fn replace_addresses(text: &str, id: &str, all: &[StaticIp]) -> Option<String> {
    let leaves = yaml::leaves(text);
    let head = leaves
        .iter()
        .find(|leaf| leaf.is_at(&["network", "ethernets", id]))?;
    let children: Vec<&Leaf> = leaves
        .iter()
        .filter(|leaf| leaf.is_at(&["network", "ethernets", id, "*"]))
        .collect();
    if !matches!(head.value.as_str(), "" | "{}")
        || children.iter().any(|leaf| leaf.line == head.line)
    {
        return None;
    }
    let indent = children.first().map_or(head.indent + 2, |leaf| leaf.indent);
    let block = addresses(all, indent);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let inside = lines.get(head.line + 1..)?.concat();
    if inside.starts_with(&block) && !block.is_empty() {
        return Some(text.to_owned());
    }
    let old = |number: usize| {
        children.iter().any(|leaf| {
            ADDRESS_KEYS.contains(&leaf.path.last().map_or("", String::as_str))
                && (leaf.line..block_end(&lines, leaf)).contains(&number)
        })
    };
    let mut out = String::with_capacity(text.len() + block.len());
    for (number, line) in lines.iter().enumerate() {
        if number == head.line {
            out += line.trim_end().trim_end_matches("{}").trim_end();
            out.push('\n');
            out += &block;
            // A definition that holds nothing would be no mapping.
            let all_old = children.iter().all(|leaf| old(leaf.line));
            if block.is_empty() && all_old {
                out += &format!("{}optional: true\n", " ".repeat(indent));
            }
        } else if old(number) && !line.trim_start().starts_with('#') {
            out += &format!("# v2v: {line}");
        } else {
            out += line;
        }
    }
    Some(out)
}

fn addresses(all: &[StaticIp], indent: usize) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut text = "# Written by v2v.\ndhcp4: false\ndhcp6: false\naddresses:\n".to_owned();
    for address in all {
        text += &format!("  - \"{}/{}\"\n", address.address, prefix(address));
    }
    let gateways: Vec<_> = all.iter().filter_map(|address| address.gateway).collect();
    if !gateways.is_empty() {
        text += "routes:\n";
        for gateway in gateways {
            // `default` is newer than the netplan of Ubuntu 18.04.
            let to = if gateway.is_ipv4() {
                "0.0.0.0/0"
            } else {
                "::/0"
            };
            text += &format!("  - to: \"{to}\"\n    via: \"{gateway}\"\n");
        }
    }
    let servers = name_servers(all);
    if !servers.is_empty() {
        let quoted: Vec<String> = servers
            .iter()
            .map(|server| format!("\"{server}\""))
            .collect();
        text += &format!("nameservers:\n  addresses: [{}]\n", join_ips(&quoted, ", "));
    }
    let blanks = " ".repeat(indent);
    text.lines()
        .map(|line| format!("{blanks}{line}\n"))
        .collect()
}

pub(in super::super) fn definition(id: &str, wish: &Wish) -> String {
    let mut text = format!("# Written by v2v.\nnetwork:\n  version: 2\n  ethernets:\n    {id}:\n");
    if id.starts_with("v2v-") {
        text += &format!("      match:\n        macaddress: \"{}\"\n", wish.mac);
    }
    text + &addresses(&wish.addresses, 6)
}
