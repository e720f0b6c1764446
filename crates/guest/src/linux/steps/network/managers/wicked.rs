//! A static address in SUSE's words (ifcfg(5), ifroute(5) of wicked): reading them is `ifcfg`'s.

use crate::Result;
use crate::linux::convert::Context;

use super::super::shell;
use super::super::static_ip::{WHY, Wish, join_ips, name_servers, prefix};
use super::ifcfg::SUSE;

const BASES: [&str; 8] = [
    "IPADDR",
    "PREFIXLEN",
    "NETMASK",
    "NETWORK",
    "BROADCAST",
    "REMOTE_IPADDR",
    "LABEL",
    "SCOPE",
];

pub(in super::super) fn set_address(
    context: &mut Context<'_>,
    wish: &Wish,
    name: &str,
) -> Result<()> {
    let path = format!("{SUSE}/ifcfg-{name}");
    let block = block(wish);
    let is_old = |key: &str| {
        matches!(key, "BOOTPROTO" | "STARTMODE")
            || BASES.iter().any(|base| shell::is_numbered(key, base))
    };
    if context.root.is_file(&path) {
        context.recorder.edit(&path, WHY, |text| {
            let new = shell::replace(text, &block, is_old);
            (new != text).then_some(new)
        })?;
    } else {
        context.recorder.write(&path, block.as_bytes(), WHY)?;
    }
    routes(context, wish, name)?;
    let servers = name_servers(&wish.addresses);
    if !servers.is_empty() {
        let line = format!(
            "NETCONFIG_DNS_STATIC_SERVERS=\"{}\"\n",
            join_ips(&servers, " ")
        );
        context
            .recorder
            .edit(&format!("{SUSE}/config"), WHY, |text| {
                let new = shell::replace(text, &line, |key| key == "NETCONFIG_DNS_STATIC_SERVERS");
                (new != text).then_some(new)
            })?;
    }
    Ok(())
}

pub(in super::super) fn block(wish: &Wish) -> String {
    let mut text = "# Written by v2v.\nSTARTMODE='auto'\nBOOTPROTO='static'\n".to_owned();
    for (index, address) in wish.addresses.iter().enumerate() {
        let label = if index == 0 {
            String::new()
        } else {
            format!("_v2v{index}")
        };
        text += &format!("IPADDR{label}='{}/{}'\n", address.address, prefix(address));
    }
    text
}

/// `default GATEWAY - NAME` in ifroute-NAME; an older default route, there or in `routes`, is taken out.
fn routes(context: &mut Context<'_>, wish: &Wish, name: &str) -> Result<()> {
    let lines: Vec<String> = wish
        .addresses
        .iter()
        .filter_map(|address| Some(format!("default {} - {name}\n", address.gateway?)))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let path = format!("{SUSE}/ifroute-{name}");
    let stale = |text: &str| {
        let old = |line: &str| line.split_whitespace().next() == Some("default");
        text.split_inclusive('\n')
            .map(|line| {
                let ours = lines.iter().any(|own| own.trim_end() == line.trim_end());
                if old(line) && !ours {
                    format!("# v2v: {line}")
                } else {
                    line.to_owned()
                }
            })
            .collect::<String>()
    };
    let old = context.root.text(&path).unwrap_or_default();
    let mut new = stale(&old);
    for line in &lines {
        if !new.contains(line.as_str()) {
            if !new.is_empty() && !new.ends_with('\n') {
                new.push('\n');
            }
            new += line;
        }
    }
    context.recorder.write(&path, new.as_bytes(), WHY)?;
    context
        .recorder
        .edit(&format!("{SUSE}/routes"), WHY, |text| {
            let new = stale(text);
            (new != text).then_some(new)
        })?;
    Ok(())
}
