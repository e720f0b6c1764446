//! netifrc of Gentoo: /etc/conf.d/net (and `net` of older baselayouts), shell variables with the interface in their name.

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::super::found::{Found, Kind};
use super::super::shell;
use super::super::static_ip::{WHY, Wish, join_ips, name_servers, prefix};

pub(in super::super) const NET: &str = "/etc/conf.d/net";
/// Variables whose name ends in an interface.
const OF_INTERFACE: [&str; 9] = [
    "config_",
    "routes_",
    "dns_servers_",
    "dns_domain_",
    "dhcpcd_",
    "modules_",
    "mtu_",
    "mac_",
    "fallback_",
];

pub(super) fn read(root: &Root, found: &mut Found) {
    let text = root.text(NET).unwrap_or_default();
    for one in shell::assignments(&text) {
        let ports = ["slaves_", "bridge_", "bridge_add_"]
            .iter()
            .rev()
            .find_map(|start| one.key.strip_prefix(start));
        if let Some(of) = ports {
            found.name(NET, of, Kind::Virtual, None);
            for word in one.words() {
                found.name(NET, word, Kind::Mention, Some(of));
            }
        } else if let Some(name) = one.key.strip_prefix("vlans_") {
            found.name(NET, name, Kind::Mention, None);
        } else if let Some(name) = OF_INTERFACE
            .iter()
            .find_map(|start| one.key.strip_prefix(start))
        {
            found.name(NET, name, Kind::Mention, None);
        }
    }
    // A service is a link net.NAME to net.lo.
    for name in root.names("/etc/init.d") {
        if let Some(name) = name.strip_prefix("net.") {
            found.name("/etc/init.d", name, Kind::Mention, None);
        }
    }
}

pub(in super::super) fn set_address(
    context: &mut Context<'_>,
    wish: &Wish,
    name: &str,
) -> Result<()> {
    let block = block(wish, name);
    let variable = variable(name);
    let is_old = |key: &str| {
        ["config_", "routes_", "dns_servers_", "fallback_"]
            .iter()
            .any(|start| key.strip_prefix(start) == Some(variable.as_str()))
    };
    let old = context.root.text(NET).unwrap_or_default();
    let new = shell::replace(&old, &block, is_old);
    if context.root.is_file(NET) {
        context.recorder.edit(NET, WHY, |text| {
            let new = shell::replace(text, &block, is_old);
            (new != text).then_some(new)
        })?;
    } else {
        context.recorder.write(NET, new.as_bytes(), WHY)?;
    }
    if context.root.exists("/etc/init.d/net.lo") {
        context
            .recorder
            .symlink(&format!("/etc/init.d/net.{name}"), "net.lo", WHY)?;
        let target = format!("/etc/init.d/net.{name}");
        context
            .recorder
            .symlink(&format!("/etc/runlevels/default/net.{name}"), &target, WHY)?;
    }
    Ok(())
}

/// Characters that no shell variable has become an underscore.
fn variable(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

pub(in super::super) fn block(wish: &Wish, name: &str) -> String {
    let variable = variable(name);
    let addresses: Vec<String> = wish
        .addresses
        .iter()
        .map(|address| format!("{}/{}", address.address, prefix(address)))
        .collect();
    let mut text = format!(
        "# Written by v2v.\nconfig_{variable}=\"{}\"\n",
        addresses.join("\n")
    );
    let routes: Vec<String> = wish
        .addresses
        .iter()
        .filter_map(|address| Some(format!("default via {}", address.gateway?)))
        .collect();
    if !routes.is_empty() {
        text += &format!("routes_{variable}=\"{}\"\n", routes.join("\n"));
    }
    let servers = name_servers(&wish.addresses);
    if !servers.is_empty() {
        text += &format!("dns_servers_{variable}=\"{}\"\n", join_ips(&servers, " "));
    }
    text
}
