//! What other hypervisors and clouds left in the guest: services disabled now, configuration undone, packages removed
//! at the first boot by the guest's own package manager.
//!
//! One file per family says what it is recognised by. What a removal would take along is not removed: the package
//! managers are asked in the way in which they refuse that.

mod clouds;
mod desktop;
mod hyperv;
mod modules;
mod nutanix;
mod parallels;
mod removal;
pub(crate) mod services;
pub(crate) mod text;
mod virtualbox;
mod vmware;
mod xen;
mod xorg;

use crate::Result;
use crate::linux::convert::Context;
use services::{Services, matches};

/// One hypervisor's or cloud's guest tools. A `*` at the end of a name stands for the rest of it.
#[derive(Debug)]
pub(crate) struct Family {
    /// For messages.
    name: &'static str,
    /// Packages of any distribution; they are removed.
    packages: &'static [&'static str],
    /// Units, init scripts and jobs, without suffix.
    services: &'static [&'static str],
    /// Programs that undo an installation without packages, if they are there.
    uninstallers: &'static [&'static str],
    /// What is peculiar to it; called when it is in the guest.
    undo: fn(&mut Context<'_>) -> Result<()>,
    /// True when it works here too and is left alone.
    keep: fn(&Context<'_>) -> bool,
}

const FAMILIES: [&Family; 12] = [
    &vmware::FAMILY,
    &virtualbox::FAMILY,
    &hyperv::FAMILY,
    &xen::FAMILY,
    &parallels::FAMILY,
    &nutanix::FAMILY,
    &clouds::AZURE,
    &clouds::AWS,
    &clouds::SSM,
    &clouds::GOOGLE,
    &clouds::DIGITALOCEAN,
    &clouds::OTHERS,
];

/// Files that an installed tool leaves where no package database can be read: file and package it stands for.
const FILES: [(&str, &str); 6] = [
    ("/usr/bin/vmtoolsd", "open-vm-tools"),
    ("/usr/sbin/vmtoolsd", "open-vm-tools"),
    ("/usr/sbin/VBoxService", "virtualbox-guest-utils"),
    ("/usr/sbin/hv_kvp_daemon", "hyperv-daemons"),
    ("/usr/sbin/xe-daemon", "xe-guest-utilities"),
    ("/usr/sbin/waagent", "walinuxagent"),
];

/// True when the package belongs to a family.
pub(crate) fn is_tool(package: &str) -> bool {
    FAMILIES
        .iter()
        .any(|family| matches(family.packages, package))
}

/// What [`FILES`] tell of a guest whose package database is not read.
pub(crate) fn by_files(root: &crate::Root) -> Vec<String> {
    let there = FILES.iter().filter(|(file, _)| root.is_file(file));
    there.map(|(_, package)| (*package).to_owned()).collect()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let mut found = Vec::new();
    for family in FAMILIES {
        if !family.is_there(context) {
            continue;
        }
        found.push(family.name);
        if (family.keep)(context) {
            continue;
        }
        let why = format!("belongs to {}, which is not there any more", family.name);
        let services = Services {
            names: family.services,
            why: &why,
        };
        services.disable(context)?;
        (family.undo)(context)?;
    }
    // Whoever wrote these lines, they are of no use; often the tools are gone and the lines are not.
    modules::apply(context)?;
    desktop::apply(context)?;
    xorg::apply(context)?;
    removal::plan(context)?;
    if found.is_empty() {
        context
            .recorder
            .not_needed("no guest tools of another hypervisor or cloud are installed");
    } else {
        let found = found.join(", ");
        context
            .recorder
            .not_needed(format!("{found}: disabled already"));
    }
    Ok(())
}

impl Family {
    fn is_there(&self, context: &Context<'_>) -> bool {
        let services = Services {
            names: self.services,
            why: "",
        };
        let tools = &context.guest.hypervisor_tools;
        tools.iter().any(|name| matches(self.packages, name))
            || self
                .uninstallers
                .iter()
                .any(|path| !removal::find(context.root, path).is_empty())
            || services.any_installed(context)
    }
}

/// For a family with nothing of its own to undo.
fn nothing(_: &mut Context<'_>) -> Result<()> {
    Ok(())
}

/// For a family that is of no use anywhere else.
fn never(_: &Context<'_>) -> bool {
    false
}

#[cfg(test)]
mod tests;
