//! What the guest's files say of its interfaces, in one form for every way of configuring a network.
//!
//! The guest may be hostile: files, entries and names are counted, and a name that no interface can have is dropped
//! where it is read, so nothing later has to ask again.

use types::MacAddr;

use crate::Root;
use crate::root::join;

/// Files of one directory that are read.
const FILES_MAX: usize = 1024;
/// Interfaces that are remembered; the largest routers have a few hundred.
const ENTRIES_MAX: usize = 4096;

/// First line of a file that a wish for an address made: no configuration of the guest's.
pub(super) const OWN: &str = "# Written by v2v.\n";

/// One interface that a file speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    /// Its name; `None` when the file goes by something else alone.
    pub(crate) name: Option<String>,
    /// Pattern of names.
    pub(crate) glob: Option<String>,
    /// MAC that the file ties to it.
    pub(crate) mac: Option<MacAddr>,
    /// Patterns of the kernel driver's name, between blanks.
    pub(crate) driver: Option<String>,
    /// Place on the bus, as udev's ID_PATH or the kernel has it.
    pub(crate) path: Option<String>,
    /// File that says so.
    pub(crate) file: String,
    /// What the entry is.
    pub(crate) kind: Kind,
    /// Bond, bridge or team that it is a port of.
    pub(crate) port_of: Option<String>,
    /// Definition within the file, where that has several.
    pub(crate) id: String,
    /// How the file is written.
    pub(crate) format: Format,
}

impl Configured {
    /// False for what only tells how interfaces were named.
    pub(super) fn configures(&self) -> bool {
        !matches!(self.kind, Kind::Rule | Kind::Seen)
    }
}

/// What an entry says of its interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Named in the configuration; whether it is an adapter, only the name tells.
    #[default]
    Mention,
    /// The file itself says that it is an Ethernet adapter.
    Adapter,
    /// A bond, bridge, VLAN or another that software makes.
    Virtual,
    /// Which name and MAC went together when the guest last ran.
    Seen,
    /// A naming rule of udev and no configuration: leftovers of old adapters are common.
    Rule,
}

/// Formats that are repaired; all others only mention names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// ifcfg of Red Hat or SUSE.
    Ifcfg,
    /// Keyfile of NetworkManager.
    Keyfile,
    /// netplan, and version 2 of cloud-init.
    Netplan,
    /// .network or .link of systemd.
    Networkd,
    /// Any other.
    #[default]
    Other,
}

/// The entries, in the order in which they were read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) entries: Vec<Configured>,
    /// Entries beyond the limit were dropped.
    pub(crate) truncated: bool,
}

impl Found {
    /// Remembers an entry that says anything.
    pub(super) fn add(&mut self, mut entry: Configured) {
        entry.name = entry.name.filter(|name| is_interface_name(name));
        let says = entry.name.is_some()
            || entry.glob.is_some()
            || entry.mac.is_some()
            || entry.driver.is_some()
            || entry.path.is_some();
        if !says || entry.name.as_deref() == Some("lo") {
            return;
        }
        if self.entries.len() == ENTRIES_MAX {
            self.truncated = true;
        } else if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// Remembers a name; of an alias (`eth0:1`) or VLAN (`eth0.5`) that of the interface below it.
    pub(super) fn name(&mut self, file: &str, name: &str, kind: Kind, port_of: Option<&str>) {
        let base = name.split([':', '@']).next().unwrap_or(name);
        let (base, kind) = match base.split_once('.') {
            Some((below, _)) => (below, Kind::Mention),
            None => (base, kind),
        };
        self.add(Configured {
            name: Some(base.to_owned()),
            file: file.to_owned(),
            kind,
            port_of: port_of.map(str::to_owned),
            ..Configured::default()
        });
    }

    /// True when some file says that software makes this interface.
    pub(super) fn is_virtual(&self, name: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.kind == Kind::Virtual && entry.name.as_deref() == Some(name))
    }

    /// The bond, bridge or team that the interface is a port of.
    pub(super) fn port_of(&self, name: Option<&str>, mac: MacAddr) -> Option<&str> {
        self.entries
            .iter()
            .filter(|entry| {
                (name.is_some() && entry.name.as_deref() == name) || entry.mac == Some(mac)
            })
            .find_map(|entry| entry.port_of.as_deref())
    }
}

/// Path and text of the files with these suffixes, by name; editors' and packages' copies are left out.
pub(super) fn files(root: &Root, dirs: &[&str], suffixes: &[&str]) -> Vec<(String, String)> {
    let copy = |name: &str| {
        let ends = [
            "~",
            ".bak",
            ".old",
            ".orig",
            ".swp",
            ".rpmsave",
            ".rpmnew",
            ".rpmorig",
            ".dpkg-old",
            ".dpkg-dist",
            ".dpkg-new",
            ".ucf-dist",
        ];
        name.starts_with('.') || ends.iter().any(|end| name.ends_with(end))
    };
    dirs.iter()
        .flat_map(|dir| {
            let names = root.names(dir).into_iter();
            names
                .filter(|name| !copy(name) && suffixes.iter().any(|end| name.ends_with(end)))
                .take(FILES_MAX)
                .map(|name| join(dir, &name))
                .collect::<Vec<_>>()
        })
        .filter(|path| root.is_file(path))
        .filter_map(|path| Some((path.clone(), root.text(&path)?)))
        .filter(|(_, text)| !text.starts_with(OWN))
        .collect()
}

/// A name that the kernel accepts (dev_valid_name in net/core/dev.c) and that is safe in a file name.
pub(super) fn is_interface_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() < 16 && name.bytes().all(plain) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_dropped_and_entries_are_counted() {
        let mut found = Found::default();
        for name in [
            "a\nb",
            "../x",
            "eth0/1",
            "",
            "lo",
            "averyveryverylongname",
            ".",
        ] {
            found.name("/f", name, Kind::Mention, None);
        }
        assert_eq!(found.entries, []);
        (0..9999).for_each(|number| found.name("/f", &format!("eth{number}"), Kind::Mention, None));
        assert_eq!((found.entries.len(), found.truncated), (ENTRIES_MAX, true));
    }
}
