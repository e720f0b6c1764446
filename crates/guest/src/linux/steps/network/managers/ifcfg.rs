//! ifcfg files of Red Hat (network-scripts, and NetworkManager's ifcfg-rh) and SUSE (wicked and its forerunner).

use types::MacAddr;

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::super::found::{Configured, Format, Found, Kind, files};
use super::super::static_ip::{WHY, Wish, name_servers, prefix};
use super::super::{ini, shell};

pub(in super::super) const REDHAT: &str = "/etc/sysconfig/network-scripts";
pub(in super::super) const SUSE: &str = "/etc/sysconfig/network";
/// Variables that give a Red Hat interface its addresses.
const ADDRESS_KEYS: [&str; 9] = [
    "IPADDR",
    "PREFIX",
    "NETMASK",
    "GATEWAY",
    "DNS",
    "NETWORK",
    "BROADCAST",
    "IPV6ADDR",
    "ADDRESS",
];
const ADDRESS_FLAGS: [&str; 12] = [
    "BOOTPROTO",
    "ONBOOT",
    "PEERDNS",
    "PEERROUTES",
    "DEFROUTE",
    "DHCP_CLIENT_ID",
    "DHCPV6C",
    "IPV6INIT",
    "IPV6_AUTOCONF",
    "IPV6_DEFAULTGW",
    "IPV6ADDR_SECONDARIES",
    "IPV6_DEFROUTE",
];

pub(super) fn read(root: &Root, found: &mut Found) {
    for (path, text) in files(root, &[REDHAT, SUSE], &[""]) {
        let file = path.rsplit('/').next().unwrap_or_default();
        if let Some(suffix) = file.strip_prefix("ifcfg-")
            && suffix != "lo"
        {
            interface(&path, suffix, &text, found);
        }
    }
}

fn interface(path: &str, suffix: &str, text: &str, found: &mut Found) {
    let pairs = ini::pairs(text);
    let value = |key: &str| ini::value(&pairs, "", key).filter(|value| !value.is_empty());
    let yes = |key: &str| value(key).is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    let is_suse = path.starts_with(&format!("{SUSE}/ifcfg-"));
    let (mut name, mut mac, mut bus) = (value("DEVICE"), None, None);
    if is_suse && name.is_none() {
        (name, mac, bus) = suse_name(suffix);
    }
    mac = mac.or_else(|| value("HWADDR").and_then(|mac| mac.parse().ok()));
    let kind = value("TYPE").unwrap_or_default();
    let made = [
        "Bond",
        "Bridge",
        "Vlan",
        "Team",
        "Tunnel",
        "GRE",
        "OVSBridge",
        "OVSBond",
        "OVSIntPort",
    ];
    let is_made = made.iter().any(|made| made.eq_ignore_ascii_case(&kind))
        || value("BONDING_OPTS").is_some()
        || value("BONDING_MODULE_OPTS").is_some()
        || value("TEAM_CONFIG").is_some()
        || value("ETHERDEVICE").is_some()
        || yes("BONDING_MASTER")
        || yes("VLAN")
        || (is_suse && yes("BRIDGE"));
    for pair in &pairs {
        let ports = pair.key.starts_with("BONDING_SLAVE") || pair.key == "BRIDGE_PORTS";
        if ports || matches!(pair.key, "ETHERDEVICE" | "PHYSDEV" | "TEAM_PORT_DEVICE") {
            let port_of = ports.then(|| name.as_deref().unwrap_or(suffix));
            for word in pair.value.split_whitespace() {
                found.name(path, word, Kind::Mention, port_of);
            }
        }
    }
    // eth0.5 has eth0 below it.
    if let Some(base) = name.as_deref().filter(|name| name.contains(['.', ':'])) {
        found.name(path, base, Kind::Mention, None);
        return;
    }
    let port_of = ["MASTER", "TEAM_MASTER"]
        .iter()
        .find_map(|key| value(key))
        .or_else(|| value("BRIDGE").filter(|_| !is_suse));
    found.add(Configured {
        kind: match (
            is_made,
            kind.eq_ignore_ascii_case("ethernet") || mac.is_some(),
        ) {
            (true, _) => Kind::Virtual,
            (false, true) => Kind::Adapter,
            (false, false) => Kind::Mention,
        },
        name,
        mac: mac.filter(|_| !is_made),
        path: bus,
        file: path.to_owned(),
        port_of,
        format: Format::Ifcfg,
        ..Configured::default()
    });
}

/// SUSE names the file after the interface; up to 10 also `eth-id-MAC` and `eth-bus-pci-0000:02:01.0`.
fn suse_name(suffix: &str) -> (Option<String>, Option<MacAddr>, Option<String>) {
    if let Some((_, mac)) = suffix.split_once("id-") {
        (None, mac.parse().ok(), None)
    } else if let Some((_, bus)) = suffix.split_once("bus-pci-") {
        (None, None, Some(format!("pci-{bus}")))
    } else {
        (Some(suffix.to_owned()), None, None)
    }
}

/// Puts the addresses into the interface's file and takes the old ones out.
pub(in super::super) fn set_address(
    context: &mut Context<'_>,
    wish: &Wish,
    name: &str,
) -> Result<()> {
    let path = existing(context, wish).unwrap_or_else(|| format!("{REDHAT}/ifcfg-{name}"));
    let text = context.root.text(&path).unwrap_or_default();
    if text.is_empty() {
        let head = format!("DEVICE={name}\nTYPE=Ethernet\n{}", block(wish));
        context.recorder.write(&path, head.as_bytes(), WHY)?;
        return Ok(());
    }
    let block = block(wish);
    context.recorder.edit(&path, WHY, |text| {
        let new = shell::replace(text, &block, |key| {
            ADDRESS_FLAGS.contains(&key)
                || ADDRESS_KEYS
                    .iter()
                    .any(|base| shell::is_numbered(key, base))
        });
        (new != text).then_some(new)
    })?;
    Ok(())
}

/// The guest's own file for this adapter.
pub(in super::super) fn existing(context: &Context<'_>, wish: &Wish) -> Option<String> {
    let mut entries = context.network.found.entries.iter();
    let entry = entries.find(|entry| {
        entry.format == Format::Ifcfg
            && entry.file.starts_with(REDHAT)
            && entry.kind != Kind::Virtual
            && (entry.mac == Some(wish.mac) || (wish.name.is_some() && entry.name == wish.name))
    })?;
    Some(entry.file.clone())
}

pub(in super::super) fn block(wish: &Wish) -> String {
    let mut text = format!(
        "# Written by v2v.\nHWADDR={}\nONBOOT=yes\nBOOTPROTO=none\n",
        wish.mac
    );
    let (v4, v6): (Vec<_>, Vec<_>) = wish
        .addresses
        .iter()
        .partition(|address| address.address.is_ipv4());
    for (index, address) in v4.iter().enumerate() {
        // The first has no number: initscripts of Red Hat 5 know no other.
        let number = if index == 0 {
            String::new()
        } else {
            index.to_string()
        };
        text += &format!(
            "IPADDR{number}={}\nPREFIX{number}={}\nNETMASK{number}={}\n",
            address.address,
            prefix(address),
            netmask(prefix(address))
        );
    }
    if let Some(gateway) = v4.iter().find_map(|address| address.gateway) {
        text += &format!("GATEWAY={gateway}\n");
    }
    if let Some((first, rest)) = v6.split_first() {
        text += &format!(
            "IPV6INIT=yes\nIPV6_AUTOCONF=no\nIPV6ADDR={}/{}\n",
            first.address,
            prefix(first)
        );
        let rest: Vec<String> = rest
            .iter()
            .map(|address| format!("{}/{}", address.address, prefix(address)))
            .collect();
        if !rest.is_empty() {
            text += &format!("IPV6ADDR_SECONDARIES=\"{}\"\n", rest.join(" "));
        }
        if let Some(gateway) = v6.iter().find_map(|address| address.gateway) {
            text += &format!("IPV6_DEFAULTGW={gateway}\n");
        }
    }
    for (index, server) in name_servers(&wish.addresses).into_iter().enumerate() {
        text += &format!("DNS{}={server}\n", index + 1);
    }
    text
}

/// `255.255.255.0` for 24.
pub(in super::super) fn netmask(prefix: u8) -> std::net::Ipv4Addr {
    let bits = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    std::net::Ipv4Addr::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netmasks_follow_from_prefixes() {
        for (prefix, mask) in [
            (0, "0.0.0.0"),
            (8, "255.0.0.0"),
            (25, "255.255.255.128"),
            (32, "255.255.255.255"),
        ] {
            assert_eq!(netmask(prefix).to_string(), mask);
        }
    }
}
