//! `--mac MAC:ip:…`: static addresses, written the way in which the guest configures its network.

use std::net::IpAddr;

use types::{MacAddr, StaticIp};

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::yaml;

const WHY: &str = "the address given with --mac";
const INTERFACES: &str = "/etc/network/interfaces";

/// What configures the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Netplan,
    NetworkManager,
    Ifupdown,
    Networkd,
    Ifcfg,
}

pub(super) fn apply(context: &mut Context<'_>) -> Result<()> {
    if context.options.static_ips.is_empty() {
        return Ok(());
    }
    let Some(manager) = manager(context.root) else {
        context.recorder.warn("nothing that configures the network was found in the guest; --mac addresses are not set");
        return Ok(());
    };
    let mut done: Vec<MacAddr> = Vec::new();
    for address in &context.options.static_ips {
        if done.contains(&address.mac) {
            continue;
        }
        done.push(address.mac);
        let all: Vec<&StaticIp> = context.options.static_ips.iter().filter(|other| other.mac == address.mac).collect();
        let name = context.network.name_of(address.mac).map(str::to_owned);
        let id = address.mac.to_string().replace(':', "");
        match (manager, name) {
            (Manager::Netplan, name) => {
                let key = netplan_id(context, address.mac, name.as_deref()).unwrap_or_else(|| format!("v2v-{id}"));
                let path = format!("/etc/netplan/90-v2v-{id}.yaml");
                context.recorder.write_mode(&path, netplan(&key, &all).as_bytes(), 0o600, WHY)?;
            }
            (Manager::NetworkManager, _) => {
                let path = format!("/etc/NetworkManager/system-connections/v2v-{id}.nmconnection");
                context.recorder.write_mode(&path, keyfile(&id, &all).as_bytes(), 0o600, WHY)?;
            }
            (Manager::Networkd, _) => {
                let path = format!("/etc/systemd/network/05-v2v-{id}.network");
                context.recorder.write(&path, networkd(&all).as_bytes(), WHY)?;
            }
            (Manager::Ifupdown, Some(name)) => ifupdown(context, &name, &all)?,
            (Manager::Ifcfg, Some(name)) => {
                let path = format!("/etc/sysconfig/network-scripts/ifcfg-{name}");
                context.recorder.write(&path, ifcfg(&name, &all).as_bytes(), WHY)?;
            }
            (Manager::Ifupdown | Manager::Ifcfg, None) => {
                let message = format!("no interface name is known for {}: its --mac address is not set", address.mac);
                context.recorder.warn(message);
            }
        }
    }
    Ok(())
}

fn manager(root: &Root) -> Option<Manager> {
    let enabled = |unit: &str| {
        let dirs = ["multi-user.target.wants", "network-online.target.wants", "sysinit.target.wants"];
        dirs.iter().any(|dir| root.link_meta(&format!("/etc/systemd/system/{dir}/{unit}")).is_ok())
    };
    let any = |paths: &[&str]| paths.iter().any(|path| root.exists(path));
    let yaml = root.names("/etc/netplan").iter().any(|name| name.ends_with(".yaml"));
    if yaml && any(&["/usr/sbin/netplan", "/lib/netplan/generate", "/usr/libexec/netplan/generate"]) {
        Some(Manager::Netplan)
    } else if any(&["/usr/sbin/NetworkManager", "/usr/bin/NetworkManager"]) {
        Some(Manager::NetworkManager)
    } else if root.is_file(INTERFACES) && any(&["/sbin/ifup", "/usr/sbin/ifup"]) {
        Some(Manager::Ifupdown)
    } else if enabled("systemd-networkd.service") {
        Some(Manager::Networkd)
    } else if root.is_dir("/etc/sysconfig/network-scripts") {
        Some(Manager::Ifcfg)
    } else {
        None
    }
}

/// Length of the prefix; without one, the address stands for itself.
fn prefix(address: &StaticIp) -> u8 {
    address.prefix_len.unwrap_or(if address.address.is_ipv4() { 32 } else { 128 })
}

fn join_ips<'i>(ips: impl Iterator<Item = &'i IpAddr>, separator: &str) -> String {
    ips.map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

fn name_servers<'s>(all: &[&'s StaticIp]) -> Vec<&'s IpAddr> {
    all.iter().flat_map(|address| &address.nameservers).collect()
}

/// The definition that a netplan file has for this adapter already, so that the two merge.
fn netplan_id(context: &Context<'_>, mac: MacAddr, name: Option<&str>) -> Option<String> {
    context.network.configured.iter().filter(|entry| entry.file.ends_with(".yaml")).find_map(|entry| {
        let text = context.root.text(&entry.file)?;
        let ids = yaml::leaves(&text).into_iter().filter(|leaf| matches!(leaf.path.as_slice(), [_, kind, _] if kind == "ethernets"));
        let ids: Vec<String> = ids.filter_map(|leaf| leaf.path.last().cloned()).collect();
        let ours = entry.mac == Some(mac) || (name.is_some() && entry.name.as_deref() == name);
        let by_name = ids.iter().find(|id| Some(id.as_str()) == name).cloned();
        if ours { by_name.or_else(|| if let [only] = ids.as_slice() { Some(only.clone()) } else { None }) } else { None }
    })
}

fn netplan(id: &str, all: &[&StaticIp]) -> String {
    let mut text = format!("# Written by v2v.\nnetwork:\n  version: 2\n  ethernets:\n    {id}:\n");
    if let Some(first) = all.first()
        && id.starts_with("v2v-")
    {
        text += &format!("      match:\n        macaddress: \"{}\"\n", first.mac);
    }
    text += "      dhcp4: false\n      dhcp6: false\n      addresses:\n";
    for address in all {
        text += &format!("        - \"{}/{}\"\n", address.address, prefix(address));
    }
    let routes: Vec<&IpAddr> = all.iter().filter_map(|address| address.gateway.as_ref()).collect();
    if !routes.is_empty() {
        text += "      routes:\n";
        for gateway in routes {
            // `default` is newer than the netplan of Ubuntu 18.04.
            let to = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            text += &format!("        - to: \"{to}\"\n          via: \"{gateway}\"\n");
        }
    }
    let servers = name_servers(all);
    if !servers.is_empty() {
        text += &format!("      nameservers:\n        addresses: [{}]\n", join_ips(servers.into_iter(), ", "));
    }
    text
}

fn keyfile(id: &str, all: &[&StaticIp]) -> String {
    let mac = all.first().map(|address| address.mac.to_string().to_uppercase()).unwrap_or_default();
    let mut text = format!(
        "# Written by v2v.\n[connection]\nid=v2v-{id}\ntype=ethernet\nautoconnect=true\nautoconnect-priority=100\n\n\
         [ethernet]\nmac-address={mac}\n"
    );
    for (section, v4) in [("ipv4", true), ("ipv6", false)] {
        let ours: Vec<&&StaticIp> = all.iter().filter(|address| address.address.is_ipv4() == v4).collect();
        text += &format!("\n[{section}]\nmethod={}\n", if ours.is_empty() { if v4 { "disabled" } else { "auto" } } else { "manual" });
        for (index, address) in ours.iter().enumerate() {
            text += &format!("address{}={}/{}", index + 1, address.address, prefix(address));
            text += &address.gateway.map(|gateway| format!(",{gateway}")).unwrap_or_default();
            text.push('\n');
        }
        let servers: Vec<&IpAddr> = name_servers(all).into_iter().filter(|server| server.is_ipv4() == v4).collect();
        if !servers.is_empty() && !ours.is_empty() {
            text += &format!("dns={};\n", join_ips(servers.into_iter(), ";"));
        }
    }
    text
}

fn networkd(all: &[&StaticIp]) -> String {
    let mac = all.first().map(|address| address.mac.to_string()).unwrap_or_default();
    let mut text = format!("# Written by v2v.\n[Match]\nMACAddress={mac}\n\n[Network]\nDHCP=no\n");
    for address in all {
        text += &format!("Address={}/{}\n", address.address, prefix(address));
        text += &address.gateway.map(|gateway| format!("Gateway={gateway}\n")).unwrap_or_default();
    }
    for server in name_servers(all) {
        text += &format!("DNS={server}\n");
    }
    text
}

fn ifcfg(name: &str, all: &[&StaticIp]) -> String {
    let mac = all.first().map(|address| address.mac.to_string()).unwrap_or_default();
    let mut text = format!("# Written by v2v.\nDEVICE={name}\nHWADDR={mac}\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=none\n");
    for (index, address) in all.iter().filter(|address| address.address.is_ipv4()).enumerate() {
        text += &format!("IPADDR{index}={}\nPREFIX{index}={}\n", address.address, prefix(address));
        if index == 0 {
            text += &address.gateway.map(|gateway| format!("GATEWAY={gateway}\n")).unwrap_or_default();
        }
    }
    if let Some(address) = all.iter().find(|address| address.address.is_ipv6()) {
        text += &format!("IPV6INIT=yes\nIPV6_AUTOCONF=no\nIPV6ADDR={}/{}\n", address.address, prefix(address));
        text += &address.gateway.map(|gateway| format!("IPV6_DEFAULTGW={gateway}\n")).unwrap_or_default();
    }
    for (index, server) in name_servers(all).into_iter().enumerate() {
        text += &format!("DNS{}={server}\n", index + 1);
    }
    text
}

/// Takes the interface's old stanzas out of service and adds new ones at the end of /etc/network/interfaces.
fn ifupdown(context: &mut Context<'_>, name: &str, all: &[&StaticIp]) -> Result<()> {
    let stanzas = stanzas(name, all);
    let of_ours = |entry: &&super::Configured| entry.name.as_deref() == Some(name) && entry.file.starts_with("/etc/network/");
    let mut files: Vec<String> =
        context.network.configured.iter().filter(of_ours).map(|entry| entry.file.clone()).collect();
    files.push(INTERFACES.to_owned());
    files.sort();
    files.dedup();
    for file in files {
        context.recorder.edit(&file, WHY, |text| {
            if text.contains(&stanzas) {
                return None;
            }
            let mut new = disable_stanzas(text, name);
            if file == INTERFACES {
                if !new.is_empty() && !new.ends_with('\n') {
                    new.push('\n');
                }
                new = format!("{new}\n{stanzas}");
            }
            (new != text).then_some(new)
        })?;
    }
    Ok(())
}

fn stanzas(name: &str, all: &[&StaticIp]) -> String {
    let mut text = format!("# Written by v2v.\nauto {name}\n");
    for address in all {
        let family = if address.address.is_ipv4() { "inet" } else { "inet6" };
        text += &format!("iface {name} {family} static\n\taddress {}/{}\n", address.address, prefix(address));
        text += &address.gateway.map(|gateway| format!("\tgateway {gateway}\n")).unwrap_or_default();
        if !address.nameservers.is_empty() {
            text += &format!("\tdns-nameservers {}\n", join_ips(address.nameservers.iter(), " "));
        }
    }
    text
}

/// Comments out `iface NAME …` with its options, and `auto NAME` where it stands alone.
fn disable_stanzas(text: &str, name: &str) -> String {
    let mut inside = false;
    text.split_inclusive('\n')
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let starts = words.first().is_some_and(|first| {
                let keyword = matches!(*first, "iface" | "auto" | "mapping" | "source" | "source-directory" | "rename");
                keyword || first.starts_with("allow-") || first.starts_with("no-")
            });
            if starts {
                inside = words.first() == Some(&"iface") && words.get(1) == Some(&name);
            }
            let alone = words.len() == 2 && words.get(1) == Some(&name) && starts;
            let comment = words.is_empty() || line.trim_start().starts_with('#');
            if (inside || alone) && !comment { format!("# v2v: {line}") } else { line.to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> StaticIp {
        StaticIp {
            mac: "00:50:56:00:00:01".parse().unwrap(),
            address: "10.0.0.2".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            prefix_len: Some(24),
            nameservers: vec!["1.1.1.1".parse().unwrap(), "8.8.8.8".parse().unwrap()],
        }
    }

    #[test]
    fn every_manager_gets_its_own_words() {
        let address = address();
        let all = [&address];
        insta::assert_snapshot!([
            netplan("ens192", &all),
            keyfile("005056000001", &all),
            networkd(&all),
            ifcfg("ens192", &all),
            stanzas("ens192", &all),
        ]
        .join("-----\n"));
    }

    #[test]
    fn old_stanzas_of_the_interface_alone_are_disabled() {
        let text = "auto lo\niface lo inet loopback\n\nauto ens192\niface ens192 inet static\n\taddress 10.9.9.9/24\n\
                    # kept\nallow-hotplug ens224\niface ens224 inet dhcp\n";
        let new = disable_stanzas(text, "ens192");
        assert_eq!(
            new,
            text.replace("auto ens192", "# v2v: auto ens192")
                .replace("iface ens192", "# v2v: iface ens192")
                .replace("\taddress", "# v2v: \taddress")
        );
    }
}
