//! `ip=`, `nameserver=`, `vlan=`, `bond=`: the forms of the kernel (Documentation/admin-guide/nfs/nfsroot.rst) and of
//! dracut (dracut.cmdline(7)), and `ip=ADDR::GW:MASK:HOST:IF:DNS`.
//!
//! ```text
//! ip=METHOD                                       METHOD: dhcp on any both dhcp6 auto6 …
//! ip=IF:METHOD
//! ip=ADDR:PEER:GW:MASK:HOST:IF:METHOD:DNS1:DNS2   IPv6 in brackets; MASK may be a prefix length
//! ip=ADDR:PEER:GW:MASK:HOST:IF:DNS1:DNS2
//! vlan=NAME:PARENT                                NAME: vlan5 vlan0005 eth0.5 eth0.0005
//! bond=NAME:PORT,PORT:OPTION=VALUE,…              the rest may be left out
//! ```

use std::net::{IpAddr, Ipv4Addr};

use super::{Addressing, BondConfig, InterfaceConfig};

/// More words than a command line can hold that make sense.
const MAX_WORDS: usize = 64;
/// 802.1Q: 0 and 4095 are reserved.
const MAX_VLAN: u16 = 4094;

/// What was read so far.
#[derive(Default)]
pub(super) struct NetworkWords {
    ips: Vec<(Option<String>, Addressing)>,
    dns: Vec<IpAddr>,
    vlans: Vec<Vlan>,
    bonds: Vec<(String, BondConfig)>,
}

struct Vlan {
    name: String,
    tag: u16,
    parent: String,
}

impl NetworkWords {
    pub(super) fn word(&mut self, key: &str, value: &str) -> Result<(), String> {
        if self.ips.len() + self.dns.len() + self.vlans.len() + self.bonds.len() >= MAX_WORDS {
            return Err(format!("more than {MAX_WORDS} words for the network"));
        }
        match key {
            "ip" => self.ips.push(ip(value)?),
            "nameserver" => self.dns.push(address(value)?),
            "vlan" => self.vlans.push(vlan(value)?),
            _ => self.bonds.push(bond(value)),
        }
        Ok(())
    }

    /// One configuration for each interface that an address is put on, and what could not be used.
    pub(super) fn finish(mut self) -> (Vec<InterfaceConfig>, Vec<String>) {
        let mut problems = Vec::new();
        let mut placed = false;
        for (_, addressing) in &mut self.ips {
            if let Addressing::Static { dns, .. } = addressing {
                dns.extend(self.dns.iter().copied());
                placed = true;
            }
        }
        if !placed && !self.dns.is_empty() {
            problems.push("nameserver: it needs an ip= with a static address".to_owned());
        }
        let mut ips = std::mem::take(&mut self.ips);
        for name in self.unused(&ips) {
            // An address without interface belongs to the one thing that was made for it.
            match ips.iter_mut().find(|(interface, _)| interface.is_none()) {
                Some((interface, _)) => *interface = Some(name),
                None => ips.push((Some(name), Addressing::Dhcp)),
            }
        }
        let configs = ips.into_iter().map(|(interface, address)| {
            let vlan = self
                .vlans
                .iter()
                .find(|v| Some(&v.name) == interface.as_ref());
            let interface = vlan.map_or(interface, |vlan| Some(vlan.parent.clone()));
            let bond = self.bonds.iter().find(|b| Some(&b.0) == interface.as_ref());
            InterfaceConfig {
                vlan: vlan.map(|vlan| vlan.tag),
                bond: bond.map(|(_, bond)| bond.clone()),
                interface,
                address,
            }
        });
        (configs.collect(), problems)
    }

    /// VLANs and bonds that no `ip=` and no VLAN names.
    fn unused(&self, ips: &[(Option<String>, Addressing)]) -> Vec<String> {
        let named = |name: &String| ips.iter().any(|(i, _)| i.as_ref() == Some(name));
        let vlans = self.vlans.iter().map(|vlan| &vlan.name);
        let bonds = self.bonds.iter().map(|(name, _)| name);
        let bonds = bonds.filter(|name| self.vlans.iter().all(|vlan| vlan.parent != **name));
        vlans
            .chain(bonds)
            .filter(|name| !named(name))
            .cloned()
            .collect()
    }
}

/// At colons outside of brackets; the brackets are dropped.
fn fields(value: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut inside = false;
    for c in value.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            ':' if !inside => fields.push(String::new()),
            _ => {
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    fields
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse()
        .map_err(|_| format!("expected an address, found {text}"))
}

enum Method {
    Dhcp,
    Static,
}

fn method(text: &str) -> Option<Method> {
    match text {
        "dhcp" | "on" | "any" | "both" | "dhcp4" | "dhcp6" | "auto" | "auto6" | "either6"
        | "link6" | "single-dhcp" => Some(Method::Dhcp),
        "none" | "off" | "static" => Some(Method::Static),
        _ => None,
    }
}

/// A kernel name, or a MAC written with dashes because of the colons around.
fn interface(text: &str) -> Option<String> {
    let octets: Vec<&str> = text.split('-').collect();
    let hexadecimal = |octet: &&str| octet.len() == 2 && u8::from_str_radix(octet, 16).is_ok();
    if octets.len() == 6 && octets.iter().all(hexadecimal) {
        return Some(octets.join(":").to_ascii_lowercase());
    }
    (!text.is_empty()).then(|| text.to_owned())
}

fn ip(value: &str) -> Result<(Option<String>, Addressing), String> {
    let fields = fields(value);
    let field = |n: usize| fields.get(n).map_or("", String::as_str);
    let first = field(0);
    if fields.len() == 1 {
        return match method(first) {
            Some(Method::Dhcp) => Ok((None, Addressing::Dhcp)),
            _ => Err("expected dhcp, IF:dhcp or ADDR::GW:MASK:HOST:IF:DNS".to_owned()),
        };
    }
    let (own, own_prefix) = match first.split_once('/') {
        Some((own, prefix)) => (own, prefix),
        None => (first, ""),
    };
    let dhcp = matches!(method(field(6)), Some(Method::Dhcp));
    if own.is_empty() && dhcp {
        return Ok((interface(field(5)), Addressing::Dhcp));
    }
    let Ok(address) = own.parse::<IpAddr>() else {
        return match method(field(1)) {
            Some(Method::Dhcp) => Ok((interface(first), Addressing::Dhcp)),
            _ => Err(format!(
                "expected an address or INTERFACE:dhcp, found {first}"
            )),
        };
    };
    if dhcp {
        return Ok((interface(field(5)), Addressing::Dhcp));
    }
    let prefix_len = match (field(3), own_prefix) {
        ("", "") => return Err("the network mask is missing (the fourth field)".to_owned()),
        ("", prefix) => prefix_len(prefix, address)?,
        (mask, _) => prefix_len(mask, address)?,
    };
    let gateway = Some(field(2)).filter(|gateway| !gateway.is_empty());
    let gateway = gateway.map(self::address).transpose()?;
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != address.is_ipv4()) {
        return Err("the address and its gateway are of different families".to_owned());
    }
    Ok((
        interface(field(5)),
        Addressing::Static {
            address,
            prefix_len,
            gateway,
            dns: name_servers(fields.get(6..).unwrap_or_default())?,
            hostname: Some(field(4)).filter(|h| !h.is_empty()).map(str::to_owned),
        },
    ))
}

/// Behind the interface: a method, perhaps; then name servers, or (dracut) an MTU and a MAC, which are not used.
fn name_servers(fields: &[String]) -> Result<Vec<IpAddr>, String> {
    let rest = match fields.split_first() {
        Some((first, rest)) if first.is_empty() || method(first).is_some() => rest,
        _ => fields,
    };
    if let Some(first) = rest.first() {
        let mtu = !first.is_empty() && first.bytes().all(|c| c.is_ascii_digit());
        if mtu && fields.len() != rest.len() {
            return Ok(Vec::new());
        }
    }
    // The kernel's form goes on with a time server.
    let servers = rest.iter().take(2).filter(|field| !field.is_empty());
    servers.map(|field| self::address(field)).collect()
}

/// Bits of a mask (`255.255.255.0`, `24`, `/24`).
fn prefix_len(text: &str, address: IpAddr) -> Result<u8, String> {
    let max = if address.is_ipv4() { 32 } else { 128 };
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = u32::from(mask);
        let prefix = bits.leading_ones();
        if address.is_ipv4() && bits.count_ones() == prefix {
            return Ok(u8::try_from(prefix).unwrap_or(32));
        }
    } else if let Ok(prefix) = text.trim_start_matches('/').parse::<u8>()
        && prefix <= max
    {
        return Ok(prefix);
    }
    Err(format!(
        "expected a network mask such as 255.255.255.0 or 0 to {max}, found {text}"
    ))
}

/// The tag is in the name, as dracut has it.
fn vlan(value: &str) -> Result<Vlan, String> {
    let wrong = || format!("expected NAME:PARENT such as vlan5:eth0, found {value}");
    let (name, parent) = value.split_once(':').ok_or_else(wrong)?;
    let digits = name.rsplit_once('.').map(|(_, tag)| tag);
    let digits = digits.or_else(|| name.strip_prefix("vlan")).unwrap_or(name);
    let tag: u16 = digits.parse().map_err(|_| wrong())?;
    if parent.is_empty() || !(1..=MAX_VLAN).contains(&tag) {
        return Err(wrong());
    }
    Ok(Vlan {
        name: name.to_owned(),
        tag,
        parent: interface(parent).unwrap_or_default(),
    })
}

fn bond(value: &str) -> (String, BondConfig) {
    let mut fields = value.split(':');
    // What dracut takes where a field is left out.
    let mut next = |default: &str| match fields.next() {
        Some(field) if !field.is_empty() => field.to_owned(),
        _ => default.to_owned(),
    };
    let (name, ports, given) = (next("bond0"), next("eth0,eth1"), next("mode=balance-rr"));
    let mut mode = String::new();
    let mut options = Vec::new();
    for option in given.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, "1"));
        if key == "mode" {
            value.clone_into(&mut mode);
        } else {
            options.push((key.to_owned(), value.to_owned()));
        }
    }
    let ports = ports.split(',').filter(|port| !port.is_empty());
    let ports = ports.map(str::to_owned).collect();
    (
        name,
        BondConfig {
            ports,
            mode,
            options,
        },
    )
}
