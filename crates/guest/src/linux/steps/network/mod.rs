//! Interface names: the guest's network configuration goes by names (ens192), which follow from the old machine's
//! slots. Each adapter's MAC stays, so a rule by MAC keeps the name.
//!
//! A guest whose udev reads .link files (systemd.link(5), since 209) gets one per adapter; an older one gets lines in
//! 70-persistent-net.rules.

mod config;
mod ini;
mod names;
mod persistent;
mod static_ip;
mod yaml;

use types::{ConvertOptions, MacAddr};

use crate::linux::convert::Context;
use crate::root::join;
use crate::{Result, Root};

pub(crate) use config::Configured;

const WHY: &str = "the configuration goes by this interface name, the new machine's slots would give another";

/// Name by MAC, and what was found on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Adapter and the name that it keeps, in the machine's order.
    pub(crate) names: Vec<(MacAddr, String)>,
    /// What the guest's files say.
    pub(crate) configured: Vec<Configured>,
    /// udev of the guest reads .link files.
    pub(crate) uses_links: bool,
    /// For the administrator.
    warnings: Vec<String>,
}

impl Plan {
    /// Path and content of each .link file.
    pub(crate) fn link_files(&self) -> Vec<(String, String)> {
        if !self.uses_links {
            return Vec::new();
        }
        let file = |(mac, name): &(MacAddr, String)| (format!("/etc/systemd/network/10-v2v-{name}.link"), link(*mac, name));
        self.names.iter().map(file).collect()
    }

    /// The name that the adapter keeps.
    pub(crate) fn name_of(&self, mac: MacAddr) -> Option<&str> {
        self.names.iter().find(|(have, _)| *have == mac).map(|(_, name)| name.as_str())
    }
}

/// A VLAN or bridge on top of the adapter has the same MAC but hangs on no bus, hence the Path.
fn link(mac: MacAddr, name: &str) -> String {
    format!(
        "# Written by v2v: keeps the interface name that this guest's configuration uses.\n\
         [Match]\nMACAddress={mac}\nPath=*pci-*\n\n[Link]\nName={name}\n"
    )
}

/// Finds the names; changes nothing.
pub(crate) fn plan(context: &Context<'_>) -> Plan {
    let root = context.root;
    let mut configured = config::read(root);
    configured.extend(persistent::read(root));
    let mut plan = Plan { uses_links: uses_links(root), ..Plan::default() };
    let assigned = names::assign(&context.options.nics, &configured);
    plan.names = assigned.names;
    plan.warnings = assigned.warnings;
    plan.configured = configured;
    plan
}

/// systemd's udev has the rule that applies .link files; Red Hat 7 has it under an older name.
fn uses_links(root: &Root) -> bool {
    ["/lib/udev/rules.d", "/usr/lib/udev/rules.d"].iter().any(|dir| {
        ["80-net-setup-link.rules", "80-net-name-slot.rules"].iter().any(|name| {
            root.text(&join(dir, name)).is_some_and(|text| text.contains("net_setup_link"))
        })
    })
}

pub(crate) fn macs(options: &ConvertOptions) -> Vec<MacAddr> {
    options.nics.iter().filter_map(|nic| nic.mac).collect()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    for warning in std::mem::take(&mut context.network.warnings) {
        context.recorder.warn(warning);
    }
    for (path, text) in context.network.link_files() {
        context.recorder.write(&path, text.as_bytes(), WHY)?;
    }
    let macs = macs(context.options);
    if !macs.is_empty() {
        persistent::clean(context, &macs)?;
        config::clean(context, &macs)?;
    }
    static_ip::apply(context)
}
