//! dhcpcd, which on Void, Raspberry Pi OS and others is all that configures the network (dhcpcd.conf(5)).

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::super::found::{Found, Kind};
use super::super::static_ip::{WHY, Wish, join_ips, name_servers, prefix};

pub(in super::super) const CONF: &str = "/etc/dhcpcd.conf";

pub(super) fn read(root: &Root, found: &mut Found) {
    let text = root.text(CONF).unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if matches!(
            words.next(),
            Some("interface" | "allowinterfaces" | "denyinterfaces")
        ) {
            words.for_each(|word| found.name(CONF, word, Kind::Mention, None));
        }
    }
    // runit of Void has a service for each interface.
    for name in root.names("/etc/sv") {
        if let Some(name) = name.strip_prefix("dhcpcd-") {
            found.name("/etc/sv", name, Kind::Mention, None);
        }
    }
}

/// Adds a block for the interface; what an older one sets is commented out.
pub(in super::super) fn set_address(
    context: &mut Context<'_>,
    wish: &Wish,
    name: &str,
) -> Result<()> {
    let block = block(wish, name);
    if wish
        .addresses
        .iter()
        .any(|address| address.gateway.is_some_and(|gateway| gateway.is_ipv6()))
    {
        context.recorder.warn(format!(
            "dhcpcd takes no IPv6 gateway from its configuration; see that {name} gets one by router advertisement"
        ));
    }
    let change = |text: &str| {
        let (before, after) = text.split_once(&block).unwrap_or((text, ""));
        let mut new = disable(before, name);
        let has = before.len() < text.len();
        if !has && !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        format!("{new}{block}{}", disable(after, name))
    };
    if !context.root.is_file(CONF) {
        context.recorder.write(CONF, block.as_bytes(), WHY)?;
        return Ok(());
    }
    context.recorder.edit(CONF, WHY, |text| {
        let new = change(text);
        (new != text).then_some(new)
    })?;
    Ok(())
}

fn disable(text: &str, name: &str) -> String {
    let mut inside = false;
    text.split_inclusive('\n')
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.first() {
                Some(&"interface") => inside = words.get(1) == Some(&name),
                Some(&("ssid" | "profile" | "arping")) => inside = false,
                Some(&("static" | "inform" | "inform6" | "fallback")) if inside => {
                    return format!("# v2v: {line}");
                }
                _ => {}
            }
            line.to_owned()
        })
        .collect()
}

pub(in super::super) fn block(wish: &Wish, name: &str) -> String {
    let mut text = format!("# Written by v2v.\ninterface {name}\n");
    for address in &wish.addresses {
        let key = if address.address.is_ipv4() {
            "ip_address"
        } else {
            "ip6_address"
        };
        text += &format!("static {key}={}/{}\n", address.address, prefix(address));
    }
    // An IPv6 router cannot be given (dhcpcd.conf(5), static): it comes by router advertisement.
    let routers: Vec<_> = wish
        .addresses
        .iter()
        .filter_map(|address| address.gateway.filter(|gateway| gateway.is_ipv4()))
        .collect();
    if !routers.is_empty() {
        text += &format!("static routers={}\n", join_ips(&routers, " "));
    }
    let servers = name_servers(&wish.addresses);
    if !servers.is_empty() {
        text += &format!("static domain_name_servers={}\n", join_ips(&servers, " "));
    }
    text
}
