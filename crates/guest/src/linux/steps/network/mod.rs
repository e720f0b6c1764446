//! Interface names: the guest's network configuration goes by names (ens192), which follow from the old machine's
//! slots. Each adapter's MAC stays, so a rule by MAC keeps the name.
//!
//! A guest whose udev reads .link files (systemd.link(5), since 209) gets one per adapter; an older one gets lines in
//! 70-persistent-net.rules, and one with busybox' mdev in mactab. Where not even that is there, names are the kernel's,
//! in the order of the domain's slots, which is that of the adapters: libvirt gives interfaces consecutive buses
//! (q35) or slots (i440fx) in the order of the document, and so does QEMU for `-device`.

mod found;
mod ini;
mod links;
mod managers;
mod names;
mod repair;
mod rules;
mod seen;
mod shell;
mod static_ip;
#[cfg(test)]
mod tests;
mod yaml;

use types::{ConvertOptions, MacAddr, Nic};

use crate::Result;
use crate::linux::convert::Context;

use found::{Configured, Found};

const WHY: &str =
    "the configuration goes by this interface name, the new machine's slots would give another";

/// Name by MAC, and what was found on the way.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Adapter and the name that it keeps, in the machine's order.
    pub(crate) names: Vec<(MacAddr, String)>,
    /// What the guest's files say.
    found: Found,
    /// What udev of the guest does for names.
    udev: links::Udev,
    /// Path and content of each .link file.
    links: Vec<(String, String)>,
    assigned: names::Assigned,
}

impl Plan {
    /// Path and content of each .link file.
    pub(crate) fn link_files(&self) -> Vec<(String, String)> {
        self.links.clone()
    }

    /// The name that the adapter keeps.
    pub(crate) fn name_of(&self, mac: MacAddr) -> Option<&str> {
        self.names
            .iter()
            .find(|(have, _)| *have == mac)
            .map(|(_, name)| name.as_str())
    }

    fn adapters(&self, entry: &Configured, nics: &[Nic]) -> Vec<MacAddr> {
        self.assigned.adapters(entry, nics)
    }
}

/// Finds the names; changes nothing.
pub(crate) fn plan(context: &Context<'_>) -> Plan {
    let (root, nics) = (context.root, &context.options.nics);
    let found = managers::read(root);
    let udev = links::udev(root);
    let assigned = names::assign(nics, &found, udev.kernel_names);
    let links = if udev.uses_links {
        links::plan(root, nics, &assigned.names)
    } else {
        Vec::new()
    };
    Plan {
        names: assigned.names.clone(),
        found,
        udev,
        links,
        assigned,
    }
}

pub(crate) fn macs(options: &ConvertOptions) -> Vec<MacAddr> {
    options.nics.iter().filter_map(|nic| nic.mac).collect()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    for warning in std::mem::take(&mut context.network.assigned.warnings) {
        context.recorder.warn(warning);
    }
    if context.network.found.truncated {
        context.recorder.warn(
            "the guest's network configuration has more interfaces than are looked at; check their names",
        );
    }
    for (path, text) in context.network.link_files() {
        context.recorder.write(&path, text.as_bytes(), WHY)?;
    }
    let macs = macs(context.options);
    if !macs.is_empty() {
        rules::clean(context, &macs)?;
        repair::stale_macs(context, &macs)?;
        repair::drivers_and_places(context)?;
    }
    static_ip::apply(context)?;
    context.recorder.not_needed(if macs.is_empty() {
        "the machine has no adapters"
    } else if context.network.names.is_empty() {
        "no file of the guest goes by interface names"
    } else {
        "every name that is in use is given already"
    });
    Ok(())
}
