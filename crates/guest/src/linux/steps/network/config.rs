//! Which interfaces a guest configures, in whichever of the five ways of doing so, and what it says of their MACs.

use types::MacAddr;

use crate::linux::convert::Context;
use crate::root::join;
use crate::{Result, Root};

use super::{ini, yaml};

/// One interface that a file speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configured {
    /// Its name; `None` when the file goes by MAC alone.
    pub(crate) name: Option<String>,
    /// MAC that the file ties to it.
    pub(crate) mac: Option<MacAddr>,
    /// File that says so.
    pub(crate) file: String,
    /// A naming rule of udev and no configuration.
    pub(crate) is_rule: bool,
}

const NETPLAN: [&str; 2] = ["/etc/netplan", "/lib/netplan"];
const NM: [&str; 2] = ["/etc/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections"];
const NETWORKD: &str = "/etc/systemd/network";
const IFCFG: [&str; 2] = ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"];
const INTERFACES: &str = "/etc/network/interfaces";
/// `source` of ifupdown nests no deeper than this.
const SOURCE_DEPTH_MAX: usize = 4;

/// Everything that is configured, file by file.
pub(super) fn read(root: &Root) -> Vec<Configured> {
    let mut found = Vec::new();
    ifupdown(root, INTERFACES, 0, &mut found);
    for (path, text) in files(root, &NETPLAN, &[".yaml"]) {
        netplan(&path, &text, &mut found);
    }
    for (path, text) in files(root, &NM, &[""]) {
        network_manager(&path, &text, &mut found);
    }
    for (path, text) in files(root, &[NETWORKD], &[".network", ".link"]) {
        networkd(&path, &text, &mut found);
    }
    for (path, text) in files(root, &IFCFG, &[""]) {
        ifcfg(&path, &text, &mut found);
    }
    found
}

fn files(root: &Root, dirs: &[&str], suffixes: &[&str]) -> Vec<(String, String)> {
    dirs.iter()
        .flat_map(|dir| root.names(dir).into_iter().map(|name| join(dir, &name)).collect::<Vec<_>>())
        .filter(|path| suffixes.iter().any(|suffix| path.ends_with(suffix)) && root.is_file(path))
        .filter_map(|path| Some((path.clone(), root.text(&path)?)))
        .collect()
}

fn add(found: &mut Vec<Configured>, file: &str, name: Option<String>, mac: Option<MacAddr>) {
    if name.is_some() || mac.is_some() {
        found.push(Configured { name, mac, file: file.to_owned(), is_rule: false });
    }
}

/// interfaces(5): `iface`, `auto`, `allow-*`, slaves of bonds and ports of bridges; `source` is followed.
fn ifupdown(root: &Root, path: &str, depth: usize, found: &mut Vec<Configured>) {
    let Some(text) = root.text(path) else { return };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        match first {
            "source" | "source-directory" if depth < SOURCE_DEPTH_MAX => {
                for file in words.flat_map(|pattern| sourced(root, path, pattern, first == "source")) {
                    ifupdown(root, &file, depth + 1, found);
                }
            }
            "iface" => add_name(found, path, words.next()),
            "auto" | "bond-slaves" | "slaves" | "bridge_ports" | "bridge-ports" | "vlan-raw-device" => {
                words.for_each(|word| add_name(found, path, Some(word)));
            }
            _ if first.starts_with("allow-") => words.for_each(|word| add_name(found, path, Some(word))),
            _ => {}
        }
    }
}

fn add_name(found: &mut Vec<Configured>, file: &str, word: Option<&str>) {
    // eth0:1 is an alias of eth0, eth0.5 a VLAN on it.
    let base = word.and_then(|word| word.split([':', '.', '=']).next());
    if let Some(name) = base.filter(|name| super::names::is_physical(name)) {
        add(found, file, Some(name.to_owned()), None);
    }
}

/// Files of a `source` pattern with `*` in its last component, or of a directory.
fn sourced(root: &Root, from: &str, pattern: &str, is_pattern: bool) -> Vec<String> {
    let dir_of = |path: &str| path.rsplit_once('/').map(|(dir, _)| dir.to_owned()).unwrap_or_default();
    let absolute = if pattern.starts_with('/') { pattern.to_owned() } else { join(&dir_of(from), pattern) };
    if !is_pattern {
        return root.names(&absolute).iter().map(|name| join(&absolute, name)).collect();
    }
    let (dir, last) = absolute.rsplit_once('/').unwrap_or(("", &absolute));
    match last.split_once('*') {
        None => vec![absolute.clone()],
        Some((start, end)) => {
            let fits = |name: &&String| name.starts_with(start) && name.ends_with(end) && !name.starts_with('.');
            root.names(dir).iter().filter(fits).map(|name| join(dir, name)).collect()
        }
    }
}

/// `network/ethernets/ID`: ID is the name unless there is a `match`; `set-name` names it then.
fn netplan(path: &str, text: &str, found: &mut Vec<Configured>) {
    let leaves = yaml::leaves(text);
    let below = |id: &str, key: &[&str]| {
        let wanted: Vec<&str> = ["network", "ethernets", id].into_iter().chain(key.iter().copied()).collect();
        leaves.iter().find(|leaf| leaf.path == wanted).map(|leaf| leaf.value.clone())
    };
    for leaf in &leaves {
        let [network, ethernets, id] = leaf.path.as_slice() else { continue };
        if network != "network" || ethernets != "ethernets" {
            continue;
        }
        let mac = below(id, &["match", "macaddress"]).and_then(|mac| mac.parse().ok());
        let matched = below(id, &["match"]).is_some();
        let name = below(id, &["set-name"]).or_else(|| below(id, &["match", "name"]));
        let name = name.or_else(|| (!matched).then(|| id.clone())).filter(|name| !name.contains(['*', '?', '[']));
        add(found, path, name, mac);
    }
}

/// Keyfiles (nm-settings-keyfile(5)): interface-name and mac-address of Ethernet connections.
fn network_manager(path: &str, text: &str, found: &mut Vec<Configured>) {
    let pairs = ini::pairs(text);
    let kind = ini::value(&pairs, "connection", "type").unwrap_or_default();
    if !matches!(kind.as_str(), "ethernet" | "802-3-ethernet") {
        return;
    }
    let mac = ["ethernet", "802-3-ethernet"].iter().find_map(|section| ini::value(&pairs, section, "mac-address"));
    add(found, path, ini::value(&pairs, "connection", "interface-name"), mac.and_then(|mac| mac.parse().ok()));
}

/// systemd.network(5) and systemd.link(5): [Match] Name=, MACAddress=; [Link] Name= of a .link file.
fn networkd(path: &str, text: &str, found: &mut Vec<Configured>) {
    let pairs = ini::pairs(text);
    let mac = ["MACAddress", "PermanentMACAddress"].iter().find_map(|key| ini::value(&pairs, "Match", key));
    let mac = mac.and_then(|mac| mac.split_whitespace().next()?.parse().ok());
    let link = path.ends_with(".link");
    let names = if link { ini::value(&pairs, "Link", "Name") } else { ini::value(&pairs, "Match", "Name") };
    let names = names.unwrap_or_default();
    let plain: Vec<&str> = names.split_whitespace().filter(|name| !name.contains(['*', '?', '[', '!'])).collect();
    match (plain.as_slice(), link) {
        // Our own .link files of an earlier run are no configuration.
        (_, true) if path.contains("/10-v2v-") => {}
        ([], _) => add(found, path, None, mac),
        ([one], _) => add(found, path, Some((*one).to_owned()), mac),
        (many, _) => many.iter().for_each(|name| add(found, path, Some((*name).to_owned()), None)),
    }
}

/// ifcfg files of Red Hat (DEVICE=, HWADDR=) and SUSE (the name in the file's name).
fn ifcfg(path: &str, text: &str, found: &mut Vec<Configured>) {
    let Some(suffix) = path.rsplit('/').next().and_then(|file| file.strip_prefix("ifcfg-")) else { return };
    if suffix == "lo" || suffix.ends_with(".bak") || suffix.ends_with('~') || suffix.contains(".rpm") {
        return;
    }
    let pairs = ini::pairs(text);
    let device = ini::value(&pairs, "", "DEVICE").filter(|name| !name.is_empty());
    let suse = path.starts_with("/etc/sysconfig/network/").then(|| suffix.to_owned());
    let name = device.or(suse).filter(|name| super::names::is_physical(name));
    add(found, path, name, ini::value(&pairs, "", "HWADDR").and_then(|mac| mac.parse().ok()));
}

/// MACs that tie configuration to adapters which are gone: removed where the name remains, replaced where exactly one
/// adapter can be meant.
pub(super) fn clean(context: &mut Context<'_>, macs: &[MacAddr]) -> Result<()> {
    let stale: Vec<Configured> = context
        .network
        .configured
        .iter()
        .filter(|entry| !entry.is_rule && entry.mac.is_some_and(|mac| !macs.contains(&mac)))
        .cloned()
        .collect();
    for entry in &stale {
        let Some(old) = entry.mac else { continue };
        let is_old = |value: &str| value.parse::<MacAddr>().is_ok_and(|mac| mac == old);
        let why = "tied to an adapter that this machine does not have";
        let by_name = entry.name.as_deref().and_then(|name| {
            context.network.names.iter().find(|(_, have)| have == name).map(|(mac, _)| *mac)
        });
        let only = if let ([mac], 1) = (macs, stale.len()) { Some(*mac) } else { None };
        match by_name.or(only) {
            Some(new) => {
                let (from, to) = (old.to_string(), new.to_string());
                context.recorder.edit(&entry.file, why, |text| replace_mac(text, &from, &to))?;
            }
            None if entry.file.contains("ifcfg-") => {
                context.recorder.edit(&entry.file, why, |text| ini::comment_out(text, "HWADDR", is_old))?;
            }
            None if entry.file.contains("NetworkManager") && entry.name.is_some() => {
                context.recorder.edit(&entry.file, why, |text| ini::comment_out(text, "mac-address", is_old))?;
            }
            None => {
                let message = format!("{} is tied to the MAC {old}, which no adapter has; left as it is", entry.file);
                context.recorder.warn(message);
            }
        }
    }
    Ok(())
}

/// Replaces an address in whatever case it is written.
fn replace_mac(text: &str, from: &str, to: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (start, _) in lower.match_indices(from) {
        out.push_str(text.get(at..start)?);
        out.push_str(to);
        at = start + from.len();
    }
    out.push_str(text.get(at..)?);
    (at > 0).then_some(out)
}
