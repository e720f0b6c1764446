//! ConnMan: provisioning files (connman-service.config(5)). Its own memory goes by MAC and stays true.

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::super::found::{Configured, Found, Kind, files};
use super::super::ini;
use super::super::static_ip::{WHY, Wish, join_ips, name_servers, prefix};
use super::ifcfg::netmask;

const DIR: &str = "/var/lib/connman";

pub(super) fn read(root: &Root, found: &mut Found) {
    for (path, text) in files(root, &[DIR, "/etc/connman"], &[".config"]) {
        let pairs = ini::pairs(&text);
        let mut sections: Vec<&str> = pairs.iter().map(|pair| pair.section).collect();
        sections.dedup();
        for section in sections
            .iter()
            .filter(|section| section.starts_with("service_"))
        {
            if ini::value(&pairs, section, "Type").as_deref() == Some("ethernet") {
                found.add(Configured {
                    name: ini::value(&pairs, section, "DeviceName"),
                    mac: ini::value(&pairs, section, "MAC").and_then(|mac| mac.parse().ok()),
                    file: path.clone(),
                    kind: Kind::Adapter,
                    ..Configured::default()
                });
            }
        }
    }
}

pub(in super::super) fn set_address(context: &mut Context<'_>, wish: &Wish) -> Result<()> {
    let path = format!("{DIR}/v2v-{}.config", wish.id());
    context
        .recorder
        .write_mode(&path, config(wish).as_bytes(), 0o600, WHY)?;
    Ok(())
}

/// One address of each family is all that it takes.
pub(in super::super) fn config(wish: &Wish) -> String {
    let id = wish.id();
    let mut text = format!(
        "# Written by v2v.\n[service_v2v_{id}]\nType=ethernet\nMAC={}\n",
        wish.mac
    );
    let (v4, v6): (Vec<_>, Vec<_>) = wish
        .addresses
        .iter()
        .partition(|address| address.address.is_ipv4());
    let gateway = |gateway: Option<std::net::IpAddr>| {
        gateway
            .map(|gateway| format!("/{gateway}"))
            .unwrap_or_default()
    };
    if let Some(address) = v4.first() {
        let mask = netmask(prefix(address));
        text += &format!(
            "IPv4={}/{mask}{}\n",
            address.address,
            gateway(address.gateway)
        );
    }
    if let Some(address) = v6.first() {
        text += &format!(
            "IPv6={}/{}{}\n",
            address.address,
            prefix(address),
            gateway(address.gateway)
        );
    }
    let servers = name_servers(&wish.addresses);
    if !servers.is_empty() {
        text += &format!("Nameservers={}\n", join_ips(&servers, ","));
    }
    text
}
