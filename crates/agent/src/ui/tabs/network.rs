//! Network: how each interface of the agent's system gets its address.
//!
//! Nothing here is sent before Apply, which sends the set-up of all interfaces together.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{around, rows as tab_rows};
use crate::app::{Command, View};
use crate::config::{Addressing, BondConfig, Config, InterfaceConfig};
use crate::ui::form::{Id, Row};
use crate::ui::model::Model;
use crate::ui::tabs::Tab;

/// Modes of the kernel's bonding driver (Documentation/networking/bonding.rst).
const BOND_MODES: [&str; 7] = [
    "active-backup",
    "802.3ad",
    "balance-rr",
    "balance-xor",
    "broadcast",
    "balance-tlb",
    "balance-alb",
];
const BOND: &str = "bond0";
const MAX_VLAN: u16 = 4094;
/// Interfaces that are offered; a machine with more than this is hostile or a switch.
const MAX_INTERFACES: usize = 64;

/// What is going to be applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// The interface whose fields are shown.
    current: usize,
    entries: Vec<Entry>,
    /// `Config::network` that the entries were made from.
    from: Option<Vec<InterfaceConfig>>,
    /// Places in it that were taken.
    taken: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    name: String,
    /// Ports of the bond; `None` for an interface.
    ports: Option<Vec<String>>,
    mode: usize,
    options: Vec<(String, String)>,
    method: Method,
    address: Option<(IpAddr, u8)>,
    gateway: Option<IpAddr>,
    dns: Vec<IpAddr>,
    hostname: Option<String>,
    vlan: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Method {
    #[default]
    Unused,
    Dhcp,
    Static,
}

impl Method {
    const ALL: [Self; 3] = [Self::Unused, Self::Dhcp, Self::Static];

    fn label(self) -> &'static str {
        match self {
            Self::Unused => "not chosen",
            Self::Dhcp => "DHCP",
            Self::Static => "static",
        }
    }
}

impl Draft {
    /// Takes in new interfaces, and a set-up that came from elsewhere.
    pub(crate) fn look(&mut self, view: &View, config: &Config) {
        if self.from.as_ref() != Some(&config.network) {
            self.from = Some(config.network.clone());
            self.entries = Vec::new();
            self.taken = BTreeSet::new();
            self.current = 0;
        }
        let found = view.network.interfaces.iter().map(|i| i.name.as_str());
        for name in found.filter(|name| !is_derived(name)).take(MAX_INTERFACES) {
            self.entry(name);
        }
        if self.entries.iter().filter(|e| e.ports.is_none()).count() > 1 {
            self.bond();
        }
        let set = self.from.clone().unwrap_or_default();
        for (place, wanted) in set.iter().enumerate().take(MAX_INTERFACES) {
            if !self.taken.contains(&place) && self.fill(wanted) {
                self.taken.insert(place);
            }
        }
        self.from = Some(set);
        self.entries.sort_by_key(|entry| entry.ports.is_some());
        self.current = self.current.min(self.entries.len().saturating_sub(1));
    }

    fn entry(&mut self, name: &str) -> Option<&mut Entry> {
        if !self.entries.iter().any(|entry| entry.name == name) {
            self.entries.push(Entry {
                name: name.to_owned(),
                ..Entry::default()
            });
        }
        self.entries.iter_mut().find(|entry| entry.name == name)
    }

    fn bond(&mut self) -> Option<&mut Entry> {
        let entry = self.entry(BOND)?;
        entry.ports.get_or_insert_default();
        Some(entry)
    }

    /// Takes one interface of the configuration; false while it is not there yet.
    fn fill(&mut self, wanted: &InterfaceConfig) -> bool {
        let first = self.entries.first().map(|entry| entry.name.clone());
        let name = wanted.interface.clone().or(first);
        let entry = match (&wanted.bond, name) {
            (Some(_), _) => self.bond(),
            (None, Some(name)) => self.entry(&name),
            (None, None) => None,
        };
        let Some(entry) = entry else { return false };
        entry.vlan = wanted.vlan;
        if let Some(bond) = &wanted.bond {
            entry.ports = Some(bond.ports.clone());
            entry.options.clone_from(&bond.options);
            entry.mode = BOND_MODES.iter().position(|m| *m == bond.mode).unwrap_or(0);
        }
        match &wanted.address {
            Addressing::Dhcp => entry.method = Method::Dhcp,
            Addressing::Static {
                address,
                prefix_len,
                gateway,
                dns,
                hostname,
            } => {
                entry.method = Method::Static;
                entry.address = Some((*address, *prefix_len));
                entry.gateway = *gateway;
                entry.dns.clone_from(dns);
                entry.hostname.clone_from(hostname);
            }
        }
        true
    }

    fn current(&mut self) -> Option<&mut Entry> {
        self.entries.get_mut(self.current)
    }

    /// Takes the text of one of the fields.
    pub(crate) fn take(&mut self, id: Id, text: &str) -> Result<(), String> {
        let Some(entry) = self.current() else {
            return Ok(());
        };
        match id {
            Id::Address => entry.address = optional(text, prefix)?,
            Id::Gateway => entry.gateway = optional(text, ip)?,
            Id::Dns => {
                entry.dns = text
                    .split([',', ' '])
                    .filter(|word| !word.is_empty())
                    .map(ip)
                    .collect::<Result<_, _>>()?;
            }
            Id::Vlan => entry.vlan = optional(text, vlan)?,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn turn(&mut self, id: Id, by: isize) {
        if id == Id::Interface {
            self.current = around(self.current, by, self.entries.len());
            return;
        }
        let Some(entry) = self.current() else { return };
        match id {
            Id::Method => {
                let at = Method::ALL.iter().position(|m| *m == entry.method);
                let next = around(at.unwrap_or(0), by, Method::ALL.len());
                entry.method = Method::ALL.get(next).copied().unwrap_or_default();
            }
            Id::BondMode => entry.mode = around(entry.mode, by, BOND_MODES.len()),
            _ => {}
        }
    }

    /// What Apply sends, or what is missing.
    fn wanted(&self) -> Result<Vec<InterfaceConfig>, String> {
        let chosen = self.entries.iter().filter(|e| e.method != Method::Unused);
        chosen.map(Entry::wanted).collect()
    }
}

impl Entry {
    fn wanted(&self) -> Result<InterfaceConfig, String> {
        let name = &self.name;
        let address = match (self.method, self.address) {
            (Method::Static, None) => return Err(format!("{name}: an address is needed")),
            (Method::Static, Some((address, prefix_len))) => Addressing::Static {
                address,
                prefix_len,
                gateway: self.gateway,
                dns: self.dns.clone(),
                hostname: self.hostname.clone(),
            },
            _ => Addressing::Dhcp,
        };
        let bond = match &self.ports {
            Some(ports) if ports.is_empty() => return Err(format!("{name}: choose its ports")),
            ports => ports.as_ref().map(|ports| BondConfig {
                ports: ports.clone(),
                mode: BOND_MODES
                    .get(self.mode)
                    .copied()
                    .unwrap_or_default()
                    .to_owned(),
                options: self.options.clone(),
            }),
        };
        Ok(InterfaceConfig {
            interface: Some(name.clone()),
            address,
            vlan: self.vlan,
            bond,
        })
    }
}

/// Made by a set-up, not there by itself.
fn is_derived(name: &str) -> bool {
    name == "lo" || name.starts_with("bond") || name.starts_with("vlan") || name.contains('.')
}

fn optional<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some)
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("expected an IP address, found `{text}`"))
}

fn prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("expected ADDRESS/PREFIX, such as 192.0.2.7/24, found `{text}`");
    let (address, len) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let len: u8 = len.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if len == 0 || len > most {
        return Err(wrong());
    }
    Ok((address, len))
}

fn vlan(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|tag| (1..=MAX_VLAN).contains(tag))
        .ok_or_else(|| format!("expected a VLAN tag of 1 to {MAX_VLAN}, found `{text}`"))
}

pub(crate) fn rows(model: &Model, view: &View) -> Vec<Row> {
    let mut rows = vec![Row::head("Interfaces of this system")];
    for interface in &view.network.interfaces {
        let link = if interface.link { "link" } else { "no link" };
        let addresses = if interface.addresses.is_empty() {
            "no address".to_owned()
        } else {
            interface.addresses.join(" ")
        };
        rows.push(Row::note(format!(
            "{:<12}{link:<9}{addresses}",
            interface.name
        )));
    }
    if view.network.interfaces.is_empty() {
        rows.push(Row::note("none found yet"));
    }
    rows.push(Row::gap());
    rows.push(Row::head(
        "Set-up (none chosen: DHCP on every interface with a link)",
    ));
    let draft = &model.network;
    if let Some(entry) = draft.entries.get(draft.current) {
        entry_rows(entry, model, view, &mut rows);
    }
    rows.push(Row::gap());
    rows.push(Row::Buttons(vec![(Id::Apply, "Apply")]));
    if view.network.busy {
        rows.push(Row::note("Busy: the network is being set up."));
    }
    if let Some(error) = &view.network.error {
        rows.push(Row::note(format!("Error: {error}")));
    }
    rows
}

fn entry_rows(entry: &Entry, model: &Model, view: &View, rows: &mut Vec<Row>) {
    rows.push(Row::choice(Id::Interface, "Interface", entry.name.clone()));
    rows.push(Row::choice(Id::Method, "Method", entry.method.label()));
    if entry.method == Method::Unused {
        return;
    }
    if entry.method == Method::Static {
        let address = entry
            .address
            .map(|(address, len)| format!("{address}/{len}"));
        let gateway = entry.gateway.map(|gateway| gateway.to_string());
        let dns: Vec<String> = entry.dns.iter().map(IpAddr::to_string).collect();
        for (id, label, value) in [
            (Id::Address, "Address/prefix", address.unwrap_or_default()),
            (Id::Gateway, "Gateway", gateway.unwrap_or_default()),
            (Id::Dns, "DNS servers", dns.join(" ")),
        ] {
            rows.push(Row::text(id, label, model.text(id, value)));
        }
    }
    let vlan = entry.vlan.map(|tag| tag.to_string()).unwrap_or_default();
    rows.push(Row::text(Id::Vlan, "VLAN tag", model.text(Id::Vlan, vlan)));
    if let Some(ports) = &entry.ports {
        let mode = BOND_MODES.get(entry.mode).copied().unwrap_or_default();
        rows.push(Row::choice(Id::BondMode, "Bond mode", mode));
        let interfaces = view.network.interfaces.iter().enumerate();
        for (place, interface) in interfaces.filter(|(_, i)| !is_derived(&i.name)) {
            let on = ports.contains(&interface.name);
            rows.push(Row::check(
                Id::BondPort(place),
                on,
                format!("port {}", interface.name),
            ));
        }
    }
}

pub(crate) fn press(model: &mut Model, id: Id, view: &View) {
    match id {
        Id::BondPort(place) => {
            let name = view.network.interfaces.get(place).map(|i| i.name.clone());
            let ports = model.network.current().and_then(|e| e.ports.as_mut());
            if let (Some(name), Some(ports)) = (name, ports) {
                match ports.iter().position(|port| *port == name) {
                    Some(at) => drop(ports.remove(at)),
                    None => ports.push(name),
                }
            }
        }
        Id::Apply => apply(model, view),
        _ => {}
    }
}

fn apply(model: &mut Model, view: &View) {
    let shown = crate::ui::form::ids(&tab_rows(Tab::Network, model, view));
    if shown.iter().any(|id| model.is_refused(*id)) {
        model.message = Some("A field above is wrong; correct it first.".into());
        return;
    }
    match model.network.wanted() {
        Ok(wanted) => {
            model.message = Some("The network is being set up.".into());
            model.send(Command::Network(wanted));
        }
        Err(message) => model.message = Some(message),
    }
}
