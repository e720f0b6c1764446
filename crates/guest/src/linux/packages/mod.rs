//! Which packages are installed, read from the package database's own files.

mod bdb;
mod bytes;
mod ndb;
mod rpm;
mod sqlite;

use std::collections::BTreeSet;

use crate::linux::steps::leftovers;
use crate::root::{Kind, join};
use crate::{Result, Root};

/// dpkg's status file of a large system is some 10 MiB.
const STATUS_MAX: u64 = 128 << 20;
const DPKG: &str = "/var/lib/dpkg/status";
const APK: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
const PACMAN: &str = "/var/lib/pacman/local";
const PORTAGE: &str = "/var/db/pkg";
const XBPS: &str = "/var/db/xbps";

/// What is known of the installed packages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packages {
    /// `dpkg`, `rpm`, `apk`, `pacman`, `xbps`, `portage`, or empty.
    pub(crate) format: &'static str,
    /// Names of the installed ones; empty where the database cannot be read.
    pub(crate) names: BTreeSet<String>,
    /// The same with their versions, sorted by name.
    pub(crate) installed: Vec<Package>,
}

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// Its name; of portage with the category.
    pub(crate) name: String,
    /// Version and release as the package manager writes them.
    pub(crate) version: String,
    /// Architecture, where the database says it.
    pub(crate) arch: String,
}

impl Packages {
    /// Reads the database; one that cannot be read is as good as empty, and logged.
    pub(crate) fn read(root: &Root) -> Self {
        let text = |path: &str| {
            let bytes = root.read(path, STATUS_MAX)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        if root.is_file(DPKG) {
            return Self::new("dpkg", text(DPKG).map(|status| parse_dpkg(&status)));
        }
        if let Some(path) = APK.into_iter().find(|path| root.is_file(path)) {
            return Self::new("apk", text(path).map(|installed| parse_apk(&installed)));
        }
        if let Some((path, packages)) = rpm::read(root) {
            tracing::debug!("the package database is {path}");
            return Self::new("rpm", packages);
        }
        if root.is_dir(PACMAN) {
            return Self::new("pacman", pacman(root));
        }
        if root.is_dir(XBPS) {
            return Self::new("xbps", xbps(root));
        }
        if root.is_dir(PORTAGE) {
            return Self::new("portage", portage(root));
        }
        Self::default()
    }

    fn new(format: &'static str, packages: Result<Vec<Package>>) -> Self {
        let mut installed = packages.unwrap_or_else(|error| {
            tracing::warn!("the package database: {}", error.chain());
            Vec::new()
        });
        installed.sort();
        Self {
            format,
            names: installed
                .iter()
                .map(|package| package.name.clone())
                .collect(),
            installed,
        }
    }

    /// Installed packages that belong to another hypervisor or a cloud.
    pub(crate) fn hypervisor_tools(&self, root: &Root) -> Vec<String> {
        if self.names.is_empty() {
            let mut tools = leftovers::by_files(root);
            tools.dedup();
            return tools;
        }
        let tools = self.names.iter().filter(|name| leftovers::is_tool(name));
        tools.cloned().collect()
    }

    /// True when qemu-guest-agent is installed.
    pub(crate) fn has_guest_agent(&self, root: &Root) -> bool {
        let names = [
            "qemu-guest-agent",
            "qemu-ga",
            "app-emulation/qemu-guest-agent",
        ];
        let files = ["/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"];
        names.iter().any(|name| self.names.contains(*name))
            || files.iter().any(|file| root.is_file(file))
    }
}

/// Paragraphs whose Status ends in `installed` (dpkg-query(1): want, error flag, state).
fn parse_dpkg(status: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    for paragraph in status.split("\n\n") {
        let field = |key: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
        };
        let state = field("Status").and_then(|status| status.split_whitespace().next_back());
        if let (Some("installed"), Some(name)) = (state, field("Package")) {
            packages.push(Package {
                name: name.to_owned(),
                version: field("Version").unwrap_or_default().to_owned(),
                arch: field("Architecture").unwrap_or_default().to_owned(),
            });
        }
    }
    packages
}

/// Paragraphs of lines of a letter, a colon and a value (apk-installed(5)).
fn parse_apk(installed: &str) -> Vec<Package> {
    let paragraphs = installed.split("\n\n").filter_map(|paragraph| {
        let field = |key: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
        };
        Some(Package {
            name: field("P:")?,
            version: field("V:").unwrap_or_default(),
            arch: field("A:").unwrap_or_default(),
        })
    });
    paragraphs.collect()
}

/// Splits `NAME-VERSION-RELEASE`, in which only the name may have more dashes.
fn split_release(name: &str, dashes: usize) -> Option<Package> {
    let at = name.rmatch_indices('-').nth(dashes - 1)?.0;
    Some(Package {
        name: name.get(..at)?.to_owned(),
        version: name.get(at + 1..)?.to_owned(),
        arch: String::new(),
    })
}

/// A directory `NAME-VERSION-RELEASE` for each.
fn pacman(root: &Root) -> Result<Vec<Package>> {
    let entries = root.list(PACMAN)?;
    let dirs = entries.iter().filter(|entry| entry.kind == Kind::Dir);
    Ok(dirs
        .filter_map(|entry| split_release(&entry.name, 2))
        .collect())
}

/// A property list in XML, of whose keys one for each package is `pkgver`, `NAME-VERSION_REVISION`.
fn xbps(root: &Root) -> Result<Vec<Package>> {
    let names = root.names(XBPS);
    let list = names
        .iter()
        .find(|name| name.starts_with("pkgdb-") && name.ends_with(".plist"));
    let Some(list) = list else {
        return Ok(Vec::new());
    };
    let text = root.read(&join(XBPS, list), STATUS_MAX)?;
    let text = String::from_utf8_lossy(&text);
    let values = text.split("<key>pkgver</key>").skip(1).filter_map(|after| {
        let value = after.trim_start().strip_prefix("<string>")?;
        split_release(value.split('<').next()?, 1)
    });
    Ok(values.collect())
}

/// A directory CATEGORY/NAME-VERSION for each, the version perhaps with `-rN`.
fn portage(root: &Root) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for category in root.list(PORTAGE)? {
        if category.kind != Kind::Dir {
            continue;
        }
        for entry in root.list(&join(PORTAGE, &category.name))? {
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let revised = entry
                .name
                .rsplit_once("-r")
                .is_some_and(|(_, revision)| digits(revision));
            let package = split_release(&entry.name, if revised { 2 } else { 1 });
            packages.extend(package.map(|package| Package {
                name: format!("{}/{}", category.name, package.name),
                ..package
            }));
        }
    }
    Ok(packages)
}

#[cfg(test)]
pub(crate) mod tests;
