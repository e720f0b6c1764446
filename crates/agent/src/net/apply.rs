//! A set-up, step by step: links up, bonds, VLANs, addresses; DHCP on all that want it at the same time.

use std::fs;
use std::net::IpAddr;

use super::state::{Done, write};
use super::{Error, Net};
use crate::config::{Addressing, BondConfig, InterfaceConfig};

/// Longest name of an interface: IFNAMSIZ of linux/if.h less the end mark.
const MAX_NAME: usize = 15;
const MAX_VLAN: u16 = 4094;
/// How often the bonding driver looks at the links of its ports, in ms, unless something else is said: it looks never
/// by itself.
const MIIMON: &str = "100";
/// Name of a bond that was given none.
const BOND: &str = "bond0";

impl Net<'_> {
    /// See [`super::configure`].
    pub(super) fn configure(&self, wanted: &[InterfaceConfig]) -> Result<(), Error> {
        self.undo();
        self.prepare_dhcp()?;
        let mut first_error = None;
        let mut dhcp = Vec::new();
        if wanted.is_empty() {
            dhcp = self.all_linked()?;
        }
        for interface in wanted {
            match self.interface(interface) {
                Ok(Some(name)) => dhcp.push(name),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("network: {error}");
                    first_error.get_or_insert(error);
                }
            }
        }
        dhcp.sort();
        dhcp.dedup();
        if let Err(error) = self.dhcp_all(&dhcp, wanted.is_empty()) {
            first_error.get_or_insert(error);
        }
        self.write_resolv_conf()?;
        first_error.map_or(Ok(()), Err)
    }

    /// Switches every physical interface on; gives those that have a link.
    fn all_linked(&self) -> Result<Vec<String>, Error> {
        let names = self.physical();
        for name in &names {
            if let Err(error) = self.up(name) {
                tracing::warn!("network: {error}");
            }
        }
        let linked = self.wait_carrier(&names)?;
        if linked.is_empty() {
            return Err(Error::NoLink);
        }
        Ok(linked)
    }

    fn dhcp_all(&self, names: &[String], has_link: bool) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        if !has_link {
            // A client without a link would use up its tries; where none comes, it may come later.
            self.wait_carrier(names)?;
        }
        for name in names {
            self.note(&Done::Dhcp(name.clone()))?;
        }
        let results: Vec<Result<(), Error>> = std::thread::scope(|scope| {
            let running: Vec<_> = names
                .iter()
                .map(|name| scope.spawn(move || self.dhcp(name)))
                .collect();
            running
                .into_iter()
                .map(|thread| {
                    let panicked = || Error::Invalid("udhcpc: its thread failed".to_owned());
                    thread.join().unwrap_or_else(|_| Err(panicked()))
                })
                .collect()
        });
        let interfaces = self.interfaces()?;
        let has_address = |name: &String| {
            interfaces
                .iter()
                .any(|i| i.name == *name && !i.addresses.is_empty())
        };
        if names.iter().any(has_address) {
            return Ok(());
        }
        results.into_iter().collect::<Result<Vec<()>, Error>>()?;
        Err(Error::NoAddress(names.join(", ")))
    }

    /// Sets one interface up; gives its name if it wants DHCP.
    fn interface(&self, wanted: &InterfaceConfig) -> Result<Option<String>, Error> {
        let base = match &wanted.bond {
            Some(bond) => self.bond(wanted.interface.as_deref().unwrap_or(BOND), bond)?,
            None => self.resolve(wanted.interface.as_deref())?,
        };
        self.up(&base)?;
        let name = match wanted.vlan {
            Some(tag) => self.vlan(&base, tag)?,
            None => base,
        };
        match &wanted.address {
            Addressing::Dhcp => Ok(Some(name)),
            Addressing::Static {
                address,
                prefix_len,
                gateway,
                dns,
                ..
            } => {
                self.fixed(&name, *address, *prefix_len, *gateway, dns)?;
                Ok(None)
            }
        }
    }

    fn bond(&self, name: &str, bond: &BondConfig) -> Result<String, Error> {
        check_name(name)?;
        if self.exists(name) {
            return Ok(name.to_owned());
        }
        let ports: Vec<String> = bond
            .ports
            .iter()
            .map(|port| self.resolve(Some(port)))
            .collect::<Result<_, _>>()?;
        if ports.is_empty() {
            return Err(Error::Invalid(format!(
                "{name}: a bond needs at least one port"
            )));
        }
        // max_bonds: no bond0 by itself. It may be built in.
        let _ = self.runner.run(&["modprobe", "bonding", "max_bonds=0"]);
        let mut argv = vec!["ip", "link", "add", "name", name, "type", "bond"];
        if !bond.mode.is_empty() {
            argv.extend(["mode", bond.mode.as_str()]);
        }
        let watched = ["miimon", "arp_interval"];
        if !bond
            .options
            .iter()
            .any(|(option, _)| watched.contains(&option.as_str()))
        {
            argv.extend(["miimon", MIIMON]);
        }
        for (option, value) in &bond.options {
            check_option(option)?;
            check_option(value)?;
            argv.extend([option.as_str(), value.as_str()]);
        }
        self.note(&Done::Link(name.to_owned()))?;
        self.runner.run(&argv)?;
        for port in &ports {
            // The driver takes only ports that are off, and switches them on itself.
            self.runner
                .run(&["ip", "link", "set", "dev", port, "down"])?;
            self.runner
                .run(&["ip", "link", "set", "dev", port, "master", name])?;
        }
        Ok(name.to_owned())
    }

    fn vlan(&self, base: &str, tag: u16) -> Result<String, Error> {
        if !(1..=MAX_VLAN).contains(&tag) {
            return Err(Error::Invalid(format!(
                "{base}: expected a VLAN tag of 1 to {MAX_VLAN}, found {tag}"
            )));
        }
        let long = format!("{base}.{tag}");
        let name = if long.len() > MAX_NAME {
            format!("vlan{tag}")
        } else {
            long
        };
        if !self.exists(&name) {
            self.note(&Done::Link(name.clone()))?;
            let id = tag.to_string();
            self.runner.run(&[
                "ip", "link", "add", "link", base, "name", &name, "type", "vlan", "id", &id,
            ])?;
        }
        self.up(&name)?;
        Ok(name)
    }

    fn fixed(
        &self,
        name: &str,
        address: IpAddr,
        prefix_len: u8,
        gateway: Option<IpAddr>,
        dns: &[IpAddr],
    ) -> Result<(), Error> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len > most {
            return Err(Error::Invalid(format!(
                "{name}: expected a prefix length of 0 to {most}, found {prefix_len}"
            )));
        }
        let text = format!("{address}/{prefix_len}");
        self.note(&Done::Address(name.to_owned(), text.clone()))?;
        let mut argv = vec!["ip", "address", "replace", text.as_str()];
        if address.is_ipv4() {
            argv.extend(["broadcast", "+"]);
        }
        argv.extend(["dev", name]);
        self.runner.run(&argv)?;
        if let Some(gateway) = gateway {
            self.note(&Done::Route(name.to_owned(), gateway))?;
            let via = gateway.to_string();
            let family = family(gateway);
            // onlink: some providers' gateways are outside the prefix.
            self.runner.run(&[
                "ip", family, "route", "replace", "default", "via", &via, "dev", name, "onlink",
            ])?;
        }
        let servers: String = dns
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        write(&self.name_servers(name), &servers)
    }

    fn up(&self, name: &str) -> Result<(), Error> {
        self.runner
            .run(&["ip", "link", "set", "dev", name, "up"])
            .map(|_| ())
    }

    fn exists(&self, name: &str) -> bool {
        self.places.sys_class_net.join(name).exists()
    }

    /// Interfaces with a device behind them.
    fn physical(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.places.sys_class_net);
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join("device").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        names
    }

    /// The kernel name of an interface given by its name or MAC; none given: the first with a link.
    fn resolve(&self, wanted: Option<&str>) -> Result<String, Error> {
        let physical = self.physical();
        let Some(wanted) = wanted else {
            for name in &physical {
                self.up(name)?;
            }
            let linked = self.wait_carrier(&physical)?;
            return linked.into_iter().next().ok_or(Error::NoLink);
        };
        if check_name(wanted).is_ok() && self.exists(wanted) {
            return Ok(wanted.to_owned());
        }
        let mac = wanted.to_ascii_lowercase().replace('-', ":");
        let has_mac = |name: &&String| {
            let file = self.places.sys_class_net.join(name).join("address");
            fs::read_to_string(file).is_ok_and(|text| text.trim() == mac)
        };
        physical
            .iter()
            .find(has_mac)
            .cloned()
            .ok_or_else(|| Error::NoInterface {
                wanted: wanted.to_owned(),
                present: physical.join(", "),
            })
    }
}

/// A name that is one word of a command line and one part of a path.
fn check_name(name: &str) -> Result<(), Error> {
    let fine = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with(['-', '.'])
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fine {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "expected the name of an interface, found `{name}`"
    )))
}

fn check_option(word: &str) -> Result<(), Error> {
    let fine = !word.is_empty()
        && !word.starts_with('-')
        && word.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b',' | b'+')
        });
    if fine {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "bond: expected an option, found `{word}`"
    )))
}

/// The option of `ip` for the family of an address.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "-4" } else { "-6" }
}
