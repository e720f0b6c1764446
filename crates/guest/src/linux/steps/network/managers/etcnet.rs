//! etcnet of ALT: a directory for each interface in /etc/net/ifaces (etcnet(8)), and names by MAC in iftab.

use crate::linux::convert::Context;
use crate::{Result, Root};

use super::super::found::{Configured, Found, Kind};
use super::super::shell;
use super::super::static_ip::{WHY, Wish, name_servers, prefix};

pub(in super::super) const DIR: &str = "/etc/net/ifaces";
/// `NAME mac ADDRESS` (iftab(5)); old Ubuntu had the second.
const IFTAB: [&str; 2] = ["/etc/net/iftab", "/etc/iftab"];
/// Interfaces that are looked at.
const INTERFACES_MAX: usize = 1024;

pub(super) fn read(root: &Root, found: &mut Found) {
    for name in root.names(DIR).into_iter().take(INTERFACES_MAX) {
        let path = format!("{DIR}/{name}/options");
        let Some(text) = root.text(&path) else {
            continue;
        };
        let all = shell::assignments(&text);
        let kind = all
            .iter()
            .rfind(|one| one.key == "TYPE")
            .and_then(|one| one.word());
        let made = kind.is_some_and(|kind| !matches!(kind, "eth" | "dhcp"));
        found.name(
            &path,
            &name,
            if made { Kind::Virtual } else { Kind::Mention },
            None,
        );
        for one in all
            .iter()
            .filter(|one| matches!(one.key.as_str(), "HOST" | "REQUIRES"))
        {
            let port_of = matches!(kind, Some("bri" | "bond" | "team")).then_some(name.as_str());
            for word in one.words() {
                found.name(&path, word, Kind::Mention, port_of);
            }
        }
    }
    for path in IFTAB {
        let text = root.text(path).unwrap_or_default();
        for line in text.lines() {
            if let [name, "mac", mac] = line.split_whitespace().collect::<Vec<_>>().as_slice() {
                found.add(Configured {
                    name: Some((*name).to_owned()),
                    mac: mac.parse().ok(),
                    file: path.to_owned(),
                    kind: Kind::Rule,
                    ..Configured::default()
                });
            }
        }
    }
}

pub(in super::super) fn set_address(
    context: &mut Context<'_>,
    wish: &Wish,
    name: &str,
) -> Result<()> {
    let dir = format!("{DIR}/{name}");
    let options = format!("{dir}/options");
    let block = "# Written by v2v.\nBOOTPROTO=static\nONBOOT=yes\n";
    let old = context
        .root
        .text(&options)
        .unwrap_or_else(|| "TYPE=eth\n".into());
    let v6 = wish
        .addresses
        .iter()
        .any(|address| address.address.is_ipv6());
    let block = format!("{block}{}", if v6 { "CONFIG_IPV6=yes\n" } else { "" });
    let is_old = |key: &str| matches!(key, "BOOTPROTO" | "ONBOOT") || (v6 && key == "CONFIG_IPV6");
    let new = shell::replace(&old, &block, is_old);
    context.recorder.write(&options, new.as_bytes(), WHY)?;
    for (v4, family) in [(true, "ipv4"), (false, "ipv6")] {
        let (mut addresses, mut routes) = (String::new(), String::new());
        for address in wish
            .addresses
            .iter()
            .filter(|address| address.address.is_ipv4() == v4)
        {
            addresses += &format!("{}/{}\n", address.address, prefix(address));
            if let Some(gateway) = address.gateway {
                routes += &format!("default via {gateway}\n");
            }
        }
        if !addresses.is_empty() {
            context
                .recorder
                .write(&format!("{dir}/{family}address"), addresses.as_bytes(), WHY)?;
        }
        if !routes.is_empty() {
            context
                .recorder
                .write(&format!("{dir}/{family}route"), routes.as_bytes(), WHY)?;
        }
    }
    let servers: String = name_servers(&wish.addresses)
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    if !servers.is_empty() {
        context
            .recorder
            .write(&format!("{dir}/resolv.conf"), servers.as_bytes(), WHY)?;
    }
    Ok(())
}
