//! VMware: open-vm-tools, VMware's own packages, and the installer from the tar archive.

use super::{Family, never};
use crate::Result;
use crate::linux::convert::Context;
use crate::root::join;

pub(super) const FAMILY: Family = Family {
    name: "VMware",
    packages: &[
        "open-vm-tools*",
        "open-vm-dkms",
        "open-vm-source",
        "open-vm-toolbox",
        "app-emulation/open-vm-tools",
        "vmware-tools*",
        "vmware-open-vm-tools*",
        "vmware-kmp*",
        "VMwareTools*",
        "kmod-vmware-tools*",
        "vmware-guest-kmp*",
        "vmware-guestproxycerttool",
    ],
    services: &[
        "open-vm-tools",
        "open-vm-tools-vmblock",
        "vmtoolsd",
        "vgauth",
        "vgauthd",
        "vmware-tools",
        "vmware-tools-services",
        "vmware-tools-thinprint",
        "vmware-vmblock-fuse",
        "vmware-guestd",
        "vmblock-fuse",
        "vmware-user-suid-wrapper",
        "run-vmblock\\x2dfuse",
        "salt-minion-vmtools",
    ],
    uninstallers: &["/usr/bin/vmware-uninstall-tools.pl"],
    undo,
    keep: never,
};

/// Package sources of the tools (packages.vmware.com/tools): nothing of them is wanted any more.
fn undo(context: &mut Context<'_>) -> Result<()> {
    let why = "a package source of VMware Tools only";
    for dir in ["/etc/yum.repos.d", "/etc/zypp/repos.d"] {
        for name in context.root.names(dir) {
            let path = join(dir, &name);
            let text = context.root.text(&path).unwrap_or_default();
            if name.ends_with(".repo") && only_vmware(&text) {
                context.recorder.edit(&path, why, disable_repo)?;
            }
        }
    }
    Ok(())
}

fn only_vmware(text: &str) -> bool {
    let mut urls = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("baseurl"))
        .peekable();
    urls.peek().is_some() && urls.all(|url| url.contains("packages.vmware.com/"))
}

fn disable_repo(text: &str) -> Option<String> {
    let lines = text.split_inclusive('\n').map(|line| {
        let bare: String = line.split_whitespace().collect();
        if bare == "enabled=1" {
            "enabled=0\n"
        } else {
            line
        }
    });
    Some(lines.collect())
}
