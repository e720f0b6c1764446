//! ifupdown and its likes in busybox and ifupdown-ng: /etc/network/interfaces (interfaces(5)).

use std::collections::BTreeSet;

use types::{StaticIp, glob};

use crate::linux::convert::Context;
use crate::root::join;
use crate::{Result, Root};

use super::super::found::{Configured, Found, Kind};
use super::super::static_ip::{Wish, join_ips, prefix};

pub(in super::super) const INTERFACES: &str = "/etc/network/interfaces";
/// `source` nests no deeper than this.
const SOURCE_DEPTH_MAX: usize = 8;
/// Files that `source` leads to.
const SOURCED_MAX: usize = 512;

pub(super) fn read(root: &Root, found: &mut Found) {
    let mut seen = BTreeSet::new();
    file(root, INTERFACES, 0, &mut seen, found);
    // cloud-init's names stay in this directory even where nothing sources it.
    if seen.len() > SOURCED_MAX {
        found.truncated = true;
    }
}

fn file(root: &Root, path: &str, depth: usize, seen: &mut BTreeSet<String>, found: &mut Found) {
    if depth > SOURCE_DEPTH_MAX || seen.len() > SOURCED_MAX || !seen.insert(path.to_owned()) {
        return;
    }
    let Some(text) = root.text(path) else { return };
    let mut current = String::new();
    for line in joined(&text).lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        match first {
            "source" | "source-directory" => {
                let next: Vec<String> = words
                    .flat_map(|word| sourced(root, path, word, first == "source"))
                    .collect();
                for next in next {
                    file(root, &next, depth + 1, seen, found);
                }
            }
            "iface" => {
                current = words.next().unwrap_or_default().to_owned();
                found.name(path, &current, Kind::Mention, None);
            }
            "auto" => words.for_each(|word| automatic(found, path, word)),
            "rename" => words.for_each(|word| renamed(found, path, word)),
            _ if first.starts_with("allow-") => {
                words.for_each(|word| automatic(found, path, word));
            }
            _ => option(found, path, &current, first, words.collect()),
        }
    }
}

/// Lines that end in a backslash go on in the next.
fn joined(text: &str) -> String {
    text.replace("\\\r\n", " ").replace("\\\n", " ")
}

/// `auto eth0`, `auto /en*`, `auto */mac/00:11:22:33:44:55=lan` (interfaces(5), PATTERN MATCHING INTERFACES).
fn automatic(found: &mut Found, path: &str, word: &str) {
    let word = word.split('=').next().unwrap_or(word);
    let entry = |mac, glob| Configured {
        mac,
        glob,
        file: path.to_owned(),
        ..Configured::default()
    };
    if let Some((_, mac)) = word.split_once("/mac/") {
        found.add(entry(mac.parse().ok(), None));
    } else if let Some(glob) = word.rsplit('/').next().filter(|_| word.contains('/')) {
        if glob::is_glob(glob) {
            found.add(entry(None, Some(glob.to_owned())));
        } else {
            found.name(path, glob, Kind::Mention, None);
        }
    } else {
        found.name(path, word, Kind::Mention, None);
    }
}

/// `rename eth0=lan0`, `rename */mac/00:11:22:33:44:55=lan0`: the new name is an adapter's.
fn renamed(found: &mut Found, path: &str, word: &str) {
    let Some((old, new)) = word.split_once('=') else {
        return;
    };
    let mac = old
        .split_once("/mac/")
        .and_then(|(_, mac)| mac.parse().ok());
    found.add(Configured {
        name: Some(new.to_owned()),
        mac,
        file: path.to_owned(),
        kind: if mac.is_some() {
            Kind::Adapter
        } else {
            Kind::Mention
        },
        ..Configured::default()
    });
    found.name(path, old, Kind::Mention, None);
}

/// Options of a stanza that speak of other interfaces.
fn option(found: &mut Found, path: &str, current: &str, key: &str, words: Vec<&str>) {
    let key = key.replace('_', "-");
    match key.as_str() {
        "bond-slaves" | "bond-ports" | "bond-members" | "slaves" | "bridge-ports" | "ovs-ports"
        | "team-ports" => {
            found.name(path, current, Kind::Virtual, None);
            for word in words {
                if !matches!(word, "none" | "all" | "regex") && !glob::is_glob(word) {
                    found.name(path, word, Kind::Mention, Some(current));
                }
            }
        }
        "bond-master" => {
            if let Some(master) = words.first() {
                found.name(path, current, Kind::Mention, Some(master));
            }
        }
        "vlan-raw-device" => {
            found.name(path, current, Kind::Virtual, None);
            for word in words {
                found.name(path, word, Kind::Mention, None);
            }
        }
        "bond-mode" | "bridge-stp" | "bridge-fd" | "vlan-id" => {
            found.name(path, current, Kind::Virtual, None);
        }
        _ => {}
    }
}

/// Files of a `source` pattern, which may have globs in its last component, or of a directory.
fn sourced(root: &Root, from: &str, pattern: &str, is_pattern: bool) -> Vec<String> {
    let absolute = if pattern.starts_with('/') {
        pattern.to_owned()
    } else {
        join(from.rsplit_once('/').map_or("", |(dir, _)| dir), pattern)
    };
    let below = |dir: &str, fits: &dyn Fn(&str) -> bool| {
        let names = root.names(dir).into_iter();
        names
            .filter(|name| !name.starts_with('.') && fits(name))
            .take(SOURCED_MAX)
            .map(|name| join(dir, &name))
            .collect()
    };
    if !is_pattern {
        return below(&absolute, &|_| true);
    }
    let (dir, last) = absolute.rsplit_once('/').unwrap_or(("", &absolute));
    if glob::is_glob(last) {
        below(dir, &|name| glob::matches(last, name))
    } else {
        vec![absolute.clone()]
    }
}

/// Takes the interface's old stanzas out of service and adds new ones at the end of /etc/network/interfaces.
pub(in super::super) fn set_address(
    context: &mut Context<'_>,
    wish: &Wish,
    name: &str,
) -> Result<()> {
    let stanzas = stanzas(name, &wish.addresses);
    let of_ours = |entry: &&Configured| {
        entry.name.as_deref() == Some(name) && entry.file.starts_with("/etc/network/")
    };
    let mut files: Vec<String> = context
        .network
        .found
        .entries
        .iter()
        .filter(of_ours)
        .map(|entry| entry.file.clone())
        .collect();
    files.push(INTERFACES.to_owned());
    files.sort();
    files.dedup();
    for file in files {
        context
            .recorder
            .edit(&file, super::super::static_ip::WHY, |text| {
                let own = if file == INTERFACES {
                    stanzas.as_str()
                } else {
                    ""
                };
                let (before, after) = match text.split_once(own) {
                    Some((before, after)) if !own.is_empty() => (before, after),
                    _ => (text, ""),
                };
                let is_there = before.len() < text.len();
                let mut new = disable_stanzas(before, name);
                if !own.is_empty() && !is_there {
                    if !new.is_empty() && !new.ends_with('\n') {
                        new.push('\n');
                    }
                    new.push('\n');
                }
                new = format!("{new}{own}{}", disable_stanzas(after, name));
                (new != text).then_some(new)
            })?;
    }
    Ok(())
}

pub(in super::super) fn stanzas(name: &str, all: &[StaticIp]) -> String {
    let mut text = format!("# Written by v2v.\nauto {name}\n");
    for address in all {
        let family = if address.address.is_ipv4() {
            "inet"
        } else {
            "inet6"
        };
        text += &format!(
            "iface {name} {family} static\n\taddress {}/{}\n",
            address.address,
            prefix(address)
        );
        text += &address
            .gateway
            .map(|gateway| format!("\tgateway {gateway}\n"))
            .unwrap_or_default();
        if !address.nameservers.is_empty() {
            text += &format!(
                "\tdns-nameservers {}\n",
                join_ips(&address.nameservers, " ")
            );
        }
    }
    text
}

/// Comments out `iface NAME …` with its options, and `auto NAME` where it stands alone.
fn disable_stanzas(text: &str, name: &str) -> String {
    let mut inside = false;
    let mut continued = false;
    text.split_inclusive('\n')
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let first = words.first().copied().unwrap_or_default();
            let starts = !continued
                && (matches!(
                    first,
                    "iface"
                        | "auto"
                        | "mapping"
                        | "source"
                        | "source-directory"
                        | "rename"
                        | "template"
                ) || first.starts_with("allow-")
                    || first.starts_with("no-"));
            if starts {
                inside = first == "iface" && words.get(1) == Some(&name);
            }
            let alone =
                starts && words.len() == 2 && words.get(1) == Some(&name) && first != "source";
            let comment = words.is_empty() || line.trim_start().starts_with('#');
            continued = line.trim_end().ends_with('\\') && !comment;
            if (inside || alone) && !comment {
                format!("# v2v: {line}")
            } else {
                line.to_owned()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_stanzas_of_the_interface_alone_are_disabled() {
        let text = "auto lo\niface lo inet loopback\n\nauto ens192\niface ens192 inet static\n\taddress 10.9.9.9/24\n\
                    # kept\nallow-hotplug ens224\niface ens224 inet dhcp\n";
        let new = disable_stanzas(text, "ens192");
        assert_eq!(
            new,
            text.replace("auto ens192", "# v2v: auto ens192")
                .replace("iface ens192", "# v2v: iface ens192")
                .replace("\taddress", "# v2v: \taddress")
        );
    }
}
