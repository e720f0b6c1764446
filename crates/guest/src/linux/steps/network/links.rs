//! The .link files that keep the names (systemd.link(5)): one per adapter, before every file of the guest that would
//! fit, with the settings that such a file has beside the name.

use types::{MacAddr, glob};

use crate::Root;

use super::found::files;
use super::{ini, names};

const ETC: &str = "/etc/systemd/network";
/// Where two have one file name, the earlier directory's counts.
const DIRS: [&str; 4] = [
    ETC,
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
    "/lib/systemd/network",
];
/// Beginnings of our file names; the second where a file of the guest would come before the first.
const PREFIXES: [&str; 2] = ["10-v2v-", "00-0-v2v-"];

/// A file that this step wrote in an earlier run.
pub(super) fn is_ours(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    PREFIXES
        .iter()
        .chain(&["05-v2v-"])
        .any(|prefix| file.starts_with(prefix))
}

/// A .link file of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Link {
    file: String,
    text: String,
}

/// What udev of the guest does for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Udev {
    /// It reads .link files.
    pub(crate) uses_links: bool,
    /// Names are the kernel's unless a file or rule gives another.
    pub(crate) kernel_names: bool,
}

/// systemd's udev has the rule that applies .link files; Red Hat 7 has it under an older name. A file of that name in
/// /etc is in its place (udev(7)), and a link to /dev/null switches it off.
pub(super) fn udev(root: &Root) -> Udev {
    let rule = |name: &str| {
        ["/etc", "/usr/lib", "/lib"]
            .iter()
            .map(|dir| format!("{dir}/udev/rules.d/{name}"))
            .find(|path| root.link_meta(path).is_ok())
            .is_some_and(|path| {
                root.text(&path)
                    .is_some_and(|text| text.contains("net_setup_link"))
            })
    };
    let uses_links = ["80-net-setup-link.rules", "80-net-name-slot.rules"]
        .iter()
        .any(|name| rule(name));
    let default = format!("{ETC}/99-default.link");
    let masked = root
        .read_link(&default)
        .is_ok_and(|target| target == "/dev/null")
        || root
            .text(&default)
            .is_some_and(|text| text.trim().is_empty());
    let switched_off = super::managers::others::has_karg(root, "net.ifnames=0");
    Udev {
        uses_links,
        kernel_names: !uses_links || masked || switched_off,
    }
}

/// Path and content of a file for each name.
pub(super) fn plan(
    root: &Root,
    nics: &[types::Nic],
    names: &[(MacAddr, String)],
) -> Vec<(String, String)> {
    let guests = read(root);
    let mut planned = Vec::new();
    for (mac, name) in names {
        let nic = nics.iter().find(|nic| nic.mac == Some(*mac));
        let first = guests.iter().find(|link| applies(link, *mac, name, nic));
        let before = first.is_some_and(|link| link.file.as_str() < PREFIXES[0]);
        let prefix = if before { PREFIXES[1] } else { PREFIXES[0] };
        let path = format!("{ETC}/{prefix}{name}.link");
        let done = first.is_some_and(|link| names_by_mac(link, *mac, name));
        if !done || root.exists(&path) {
            let settings = first.map(settings).unwrap_or_default();
            planned.push((path, link(*mac, name, &settings)));
        }
    }
    planned
}

/// A VLAN or bridge on top of the adapter has the same MAC but hangs on no bus, hence the Path.
fn link(mac: MacAddr, name: &str, settings: &str) -> String {
    format!(
        "# Written by v2v: keeps the interface name that this guest's configuration uses.\n\
         [Match]\nMACAddress={mac}\nPath=*pci-*\n\n[Link]\nName={name}\n{settings}"
    )
}

/// The guest's own files in udev's order, without those that are switched off and the default that comes last.
fn read(root: &Root) -> Vec<Link> {
    let mut all: Vec<Link> = Vec::new();
    for dir in DIRS {
        for (path, text) in files(root, &[dir], &[".link"]) {
            let file = path.rsplit('/').next().unwrap_or_default().to_owned();
            let known = all.iter().any(|link| link.file == file);
            if !known && !is_ours(&path) && file != "99-default.link" {
                all.push(Link { file, text });
            }
        }
        // A link to /dev/null leads to no file in the tree of a guest that does not run.
        for name in root
            .names(dir)
            .into_iter()
            .filter(|name| name.ends_with(".link"))
        {
            let path = format!("{dir}/{name}");
            let masked = root
                .read_link(&path)
                .is_ok_and(|target| target == "/dev/null");
            if masked && !all.iter().any(|link| link.file == name) {
                all.push(Link {
                    file: name,
                    text: String::new(),
                });
            }
        }
    }
    all.retain(|link| !link.text.trim().is_empty());
    all.sort_by(|one, other| one.file.cmp(&other.file));
    all
}

/// Whether udev would take this file for the adapter on the new machine, or took it on the old one.
fn applies(link: &Link, mac: MacAddr, name: &str, nic: Option<&types::Nic>) -> bool {
    let pairs = ini::pairs(&link.text);
    let own_name = ini::value(&pairs, "Link", "Name");
    let mut any = false;
    for pair in pairs.iter().filter(|pair| pair.section == "Match") {
        any = true;
        let words = || pair.value.split_whitespace();
        let fit = match pair.key {
            "MACAddress" | "PermanentMACAddress" => words().any(|word| word.parse() == Ok(mac)),
            "OriginalName" | "Name" => words().any(|word| {
                !word.starts_with('!')
                    && ["eth0", "eth9", name]
                        .iter()
                        .any(|name| glob::matches(word, name))
            }),
            "Driver" => {
                let old = nic.map(names::drivers).unwrap_or_default();
                names::drives(&pair.value, &old) || names::drives(&pair.value, &["virtio_net"])
            }
            "Path" => pair.value.starts_with('*') || own_name.as_deref() == Some(name),
            "Type" => words().any(|word| word == "ether"),
            "Virtualization" => {
                matches!(pair.value.as_str(), "yes" | "true" | "vm" | "kvm" | "qemu")
            }
            "Host" | "Architecture" | "KernelCommandLine" | "KernelVersion" => true,
            _ => false,
        };
        if !fit {
            return false;
        }
    }
    any
}

/// The file ties this name to this MAC itself.
fn names_by_mac(link: &Link, mac: MacAddr, name: &str) -> bool {
    let pairs = ini::pairs(&link.text);
    let of_match = |key: &str| ini::value(&pairs, "Match", key);
    let tied = ["MACAddress", "PermanentMACAddress"]
        .iter()
        .filter_map(|key| of_match(key))
        .any(|value| value.parse() == Ok(mac));
    let only = ["Driver", "Path", "OriginalName"]
        .iter()
        .all(|key| of_match(key).is_none_or(|value| value.starts_with('*')));
    tied && only
        && ini::value(&pairs, "Link", "NamePolicy").is_none_or(|policy| policy.is_empty())
        && ini::value(&pairs, "Link", "Name").as_deref() == Some(name)
}

/// Lines of [Link] that say something else than a name.
fn settings(link: &Link) -> String {
    let pairs = ini::pairs(&link.text);
    let others = pairs.iter().filter(|pair| {
        pair.section == "Link" && !matches!(pair.key, "Name" | "NamePolicy" | "MACAddress")
    });
    others
        .map(|pair| format!("{}={}\n", pair.key, pair.value))
        .collect()
}
