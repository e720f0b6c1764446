//! Files that tie an adapter to what changes with the machine: MACs of adapters that are gone, the kernel driver, the
//! place on the bus.

use types::{MacAddr, NetBus};

use crate::Result;
use crate::linux::convert::Context;

use super::found::{Configured, Format};
use super::managers::{keyfile, netplan, networkd};
use super::{ini, names};

/// Entries that are repaired; more than this many go by driver or slot in no sane guest.
const REPAIRS_MAX: usize = 256;

/// What an entry's file needs.
#[derive(Debug)]
pub(super) struct Fix<'f> {
    pub(super) entry: &'f Configured,
    /// Adapters that the entry means.
    adapters: Vec<MacAddr>,
    /// All adapters.
    all: usize,
    /// Driver of the new adapters.
    pub(super) driver: &'f str,
}

impl Fix<'_> {
    /// The only adapter that the entry means.
    pub(super) fn only(&self) -> Option<MacAddr> {
        if let [mac] = self.adapters.as_slice() {
            Some(*mac)
        } else {
            None
        }
    }

    /// The adapter that must be said, because the new driver is that of others too.
    pub(super) fn narrow(&self) -> Option<MacAddr> {
        self.only().filter(|_| self.all > 1)
    }

    /// The old driver's name does not fit the new one.
    pub(super) fn stale_driver(&self) -> bool {
        let driver = self.entry.driver.as_deref();
        driver.is_some_and(|patterns| !names::drives(patterns, &[self.driver]))
    }

    /// More adapters have the new driver than the entry means, and they are not one.
    fn is_ambiguous(&self) -> bool {
        self.adapters.is_empty() || (self.adapters.len() > 1 && self.adapters.len() < self.all)
    }
}

/// Kernel driver of the adapters that the guest will have.
fn new_driver(context: &Context<'_>) -> &'static str {
    let modules = context
        .guest
        .kernels
        .first()
        .and_then(|kernel| context.modules.get(&kernel.version));
    let has = |name: &str| modules.is_none_or(|modules| modules.has(name));
    let bus = match (has("virtio_net"), has("e1000e")) {
        (true, _) => NetBus::Virtio,
        (false, true) => NetBus::E1000e,
        (false, false) => NetBus::E1000,
    };
    match bus {
        NetBus::Virtio => "virtio_net",
        NetBus::E1000e => "e1000e",
        NetBus::E1000 | NetBus::Rtl8139 => "e1000",
    }
}

/// Drivers and places.
pub(super) fn drivers_and_places(context: &mut Context<'_>) -> Result<()> {
    let driver = new_driver(context);
    let nics = &context.options.nics;
    let entries: Vec<Configured> = context
        .network
        .found
        .entries
        .iter()
        .filter(|entry| entry.configures() && (entry.driver.is_some() || entry.path.is_some()))
        .cloned()
        .collect();
    if entries.len() > REPAIRS_MAX {
        context.recorder.warn(format!(
            "more than {REPAIRS_MAX} definitions go by the old machine's drivers or slots; the rest is left as it is"
        ));
    }
    for entry in entries.iter().take(REPAIRS_MAX) {
        let fix = Fix {
            adapters: context.network.adapters(entry, nics),
            all: nics.len(),
            entry,
            driver,
        };
        if entry.path.is_none() && !fix.stale_driver() {
            continue;
        }
        let repair = match entry.format {
            Format::Netplan => netplan::repair,
            Format::Keyfile => keyfile::repair,
            Format::Networkd => networkd::repair,
            Format::Ifcfg if rename(context, &fix)? => continue,
            Format::Ifcfg | Format::Other => {
                warn(context, &fix);
                continue;
            }
        };
        let text = context.root.text(&entry.file).unwrap_or_default();
        let refused = fix.is_ambiguous() && entry.path.is_some();
        if refused || repair(&text, &fix).is_none() {
            warn(context, &fix);
            continue;
        }
        if fix.is_ambiguous() {
            context.recorder.warn(format!(
                "{} goes by the driver {}, which was not that of every adapter; the new driver {driver} is: check it",
                entry.file,
                entry.driver.as_deref().unwrap_or_default()
            ));
        }
        let why = "goes by the old machine's driver or slot";
        let place = networkd::place(&entry.file);
        if entry.format == Format::Networkd && place != entry.file {
            let new = repair(&text, &fix).unwrap_or_default();
            context.recorder.write(&place, new.as_bytes(), why)?;
            continue;
        }
        context.recorder.edit(&entry.file, why, |text| {
            repair(text, &fix).filter(|new| new != text)
        })?;
    }
    Ok(())
}

fn warn(context: &mut Context<'_>, fix: &Fix<'_>) {
    let entry = fix.entry;
    let by = match (&entry.path, &entry.driver) {
        (Some(path), _) => format!("the slot {path}"),
        (None, Some(driver)) => format!("the driver {driver}"),
        (None, None) => return,
    };
    context.recorder.warn(format!(
        "{} goes by {by} of the old machine, and which adapter it means is not known; check it",
        entry.file
    ));
}

/// SUSE's `ifcfg-eth-bus-pci-…` becomes `ifcfg-eth-id-MAC`.
fn rename(context: &mut Context<'_>, fix: &Fix<'_>) -> Result<bool> {
    let (Some(mac), Some((before, _))) = (fix.only(), fix.entry.file.split_once("bus-pci-")) else {
        return Ok(false);
    };
    let to = format!("{before}id-{mac}");
    if context.root.exists(&to) {
        return Ok(false);
    }
    let why = "goes by the old machine's slot";
    context.recorder.rename(&fix.entry.file, &to, why)?;
    Ok(true)
}

/// MACs that tie configuration to adapters which are gone: removed where the name remains, replaced where exactly one
/// adapter can be meant.
pub(super) fn stale_macs(context: &mut Context<'_>, macs: &[MacAddr]) -> Result<()> {
    let stale: Vec<Configured> = context
        .network
        .found
        .entries
        .iter()
        .filter(|entry| entry.configures() && entry.mac.is_some_and(|mac| !macs.contains(&mac)))
        .cloned()
        .collect();
    let mut olds: Vec<Option<MacAddr>> = stale.iter().map(|entry| entry.mac).collect();
    olds.sort();
    olds.dedup();
    for entry in stale.iter().take(REPAIRS_MAX) {
        let Some(old) = entry.mac else { continue };
        let by_name = entry.name.as_deref().and_then(|name| {
            let mut names = context.network.names.iter();
            names.find(|(_, have)| have == name).map(|(mac, _)| *mac)
        });
        let only = if let ([mac], 1) = (macs, olds.len()) {
            Some(*mac)
        } else {
            None
        };
        stale_mac(context, entry, old, by_name.or(only))?;
    }
    Ok(())
}

fn stale_mac(
    context: &mut Context<'_>,
    entry: &Configured,
    old: MacAddr,
    new: Option<MacAddr>,
) -> Result<()> {
    let is_old = |value: &str| value.parse::<MacAddr>().is_ok_and(|mac| mac == old);
    let why = "tied to an adapter that this machine does not have";
    let comment = match entry.format {
        Format::Ifcfg => Some("HWADDR"),
        Format::Keyfile if entry.name.is_some() => Some("mac-address"),
        _ => None,
    };
    match (new, comment) {
        (Some(new), _) => {
            let (from, to) = (old.to_string(), new.to_string());
            context
                .recorder
                .edit(&entry.file, why, |text| replace_mac(text, &from, &to))?;
        }
        (None, Some(key)) => {
            context
                .recorder
                .edit(&entry.file, why, |text| ini::comment_out(text, key, is_old))?;
        }
        (None, None) => context.recorder.warn(format!(
            "{} is tied to the MAC {old}, which no adapter has; left as it is, check it",
            entry.file
        )),
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
