//! Which packages are installed, read from the package database's own files.

use std::collections::BTreeSet;

use crate::Root;

/// dpkg's status file of a large system is some 10 MiB.
const STATUS_MAX: u64 = 128 << 20;

/// What is known of the installed packages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packages {
    /// `dpkg`, `rpm`, `apk`, `pacman`, or empty.
    pub(crate) format: &'static str,
    /// Names of the installed ones; empty where the database is not read here (rpm).
    pub(crate) names: BTreeSet<String>,
}

/// Prefixes of packages that serve another hypervisor than KVM.
const TOOLS: [&str; 18] = [
    "open-vm-tools",
    "vmware-tools",
    "VMwareTools",
    "virtualbox-guest",
    "VirtualBox-Guest",
    "hyperv-daemons",
    "hypervkvpd",
    "hypervvssd",
    "hypervfcopyd",
    "linux-cloud-tools",
    "hv-kvp-daemon",
    "xe-guest-utilities",
    "xen-guest-agent",
    "xenstore-utils",
    "parallels-tools",
    "virtio-win",
    "nutanix-guest-tools",
    "scvmmguestagent",
];

/// Files that an installed tool leaves where the database is not read: file and package it stands for.
const TOOL_FILES: [(&str, &str); 5] = [
    ("/usr/bin/vmtoolsd", "open-vm-tools"),
    ("/usr/sbin/vmtoolsd", "open-vm-tools"),
    ("/usr/sbin/VBoxService", "virtualbox-guest-utils"),
    ("/usr/sbin/hv_kvp_daemon", "hyperv-daemons"),
    ("/usr/sbin/xe-daemon", "xe-guest-utilities"),
];

impl Packages {
    /// Reads the database.
    pub(crate) fn read(root: &Root) -> Self {
        if root.is_file("/var/lib/dpkg/status") {
            let status = root
                .read("/var/lib/dpkg/status", STATUS_MAX)
                .unwrap_or_else(|error| {
                    tracing::warn!("{}", error.chain());
                    Vec::new()
                });
            return Self {
                format: "dpkg",
                names: parse_dpkg(&String::from_utf8_lossy(&status)),
            };
        }
        if let Ok(installed) = root.read("/lib/apk/db/installed", STATUS_MAX) {
            let text = String::from_utf8_lossy(&installed).into_owned();
            let names = text
                .lines()
                .filter_map(|line| Some(line.strip_prefix("P:")?.to_owned()))
                .collect();
            return Self {
                format: "apk",
                names,
            };
        }
        let rpm = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];
        let databases = ["Packages", "Packages.db", "rpmdb.sqlite"];
        if rpm.iter().any(|dir| {
            databases
                .iter()
                .any(|db| root.is_file(&format!("{dir}/{db}")))
        }) {
            return Self {
                format: "rpm",
                names: BTreeSet::new(),
            };
        }
        if root.is_dir("/var/lib/pacman/local") {
            // DIR is NAME-VERSION-RELEASE.
            let name = |dir: &String| dir.rsplitn(3, '-').nth(2).map(str::to_owned);
            return Self {
                format: "pacman",
                names: root
                    .names("/var/lib/pacman/local")
                    .iter()
                    .filter_map(name)
                    .collect(),
            };
        }
        Self::default()
    }

    /// Installed packages that belong to another hypervisor.
    pub(crate) fn hypervisor_tools(&self, root: &Root) -> Vec<String> {
        let belongs = |name: &&String| TOOLS.iter().any(|tool| name.starts_with(tool));
        let mut tools: BTreeSet<String> = self.names.iter().filter(belongs).cloned().collect();
        if self.names.is_empty() {
            let there = TOOL_FILES.iter().filter(|(file, _)| root.is_file(file));
            tools.extend(there.map(|(_, package)| (*package).to_owned()));
        }
        tools.into_iter().collect()
    }

    /// True when qemu-guest-agent is installed.
    pub(crate) fn has_guest_agent(&self, root: &Root) -> bool {
        let files = ["/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"];
        self.names.contains("qemu-guest-agent") || files.iter().any(|file| root.is_file(file))
    }
}

/// Names of the paragraphs whose Status ends in `installed` (dpkg-query(1): want, error flag, state).
fn parse_dpkg(status: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut name = "";
    for line in status.lines() {
        if let Some(value) = line.strip_prefix("Package:") {
            name = value.trim();
        } else if let Some(value) = line.strip_prefix("Status:")
            && value.split_whitespace().next_back() == Some("installed")
        {
            names.insert(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_of_dpkg_count() {
        let status = "Package: open-vm-tools\nStatus: install ok installed\nVersion: 2\n\n\
                      Package: virtualbox-guest-utils\nStatus: deinstall ok config-files\n";
        let names = parse_dpkg(status);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["open-vm-tools"]);
    }
}
