//! The file that tells the first-boot program what each adapter gets (see appliance/windows).

use std::net::{IpAddr, Ipv4Addr};

use types::{MacAddr, StaticIp};

use super::found::{Adapter, Config};
use super::nsi::Route;

/// Texts of the registry longer than this are left out.
const TEXT_MAX: usize = 256;

/// One adapter of the new machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned<'a> {
    pub(super) mac: MacAddr,
    /// The adapter that it takes the place of.
    pub(super) old: Option<&'a Adapter>,
    pub(super) config: Config,
}

/// The configuration with what `--mac` asks for: its family's addresses and gateways are replaced, the rest stays.
pub(super) fn overridden(mut config: Config, asked: &[&StaticIp]) -> Config {
    for ipv4 in [true, false] {
        let same = |address: &IpAddr| address.is_ipv4() == ipv4;
        let of_family: Vec<&&StaticIp> = asked.iter().filter(|one| same(&one.address)).collect();
        if of_family.is_empty() {
            continue;
        }
        config.dhcp &= !ipv4;
        config.addresses.retain(|(address, _)| !same(address));
        config.gateways.retain(|(gateway, _)| !same(gateway));
        for one in of_family {
            // Without a length, the address stands for itself, as in Linux guests.
            let whole = if ipv4 { 32 } else { 128 };
            let prefix = one.prefix_len.unwrap_or(whole);
            config.addresses.push((one.address, prefix));
        }
    }
    for gateway in asked.iter().filter_map(|one| one.gateway) {
        if !config.gateways.iter().any(|(known, _)| *known == gateway) {
            config.gateways.push((gateway, 0));
        }
    }
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in asked.iter().flat_map(|one| &one.nameservers) {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    if !servers.is_empty() {
        config.nameservers = servers;
    }
    config
}

/// The file.
pub(super) fn text(adapters: &[Planned<'_>]) -> String {
    let mut lines = vec!["# Network adapters as they were before the conversion.".to_owned()];
    for adapter in adapters {
        lines.push(String::new());
        lines.push("[adapter]".to_owned());
        lines.push(format!("mac={}", adapter.mac));
        if let Some(old) = adapter.old {
            lines.extend(old.name.as_deref().and_then(|name| line("name", name)));
            lines.extend(line("old", &old.id));
        }
        push_config(&mut lines, &adapter.config);
    }
    lines.push(String::new());
    lines.push("[options]".to_owned());
    let ghosts = adapters.iter().filter_map(|adapter| adapter.old);
    lines.extend(ghosts.filter_map(|old| line("ghost", &old.device)));
    lines.push(String::new());
    lines.join("\r\n")
}

fn push_config(lines: &mut Vec<String>, config: &Config) {
    if config.dhcp {
        lines.push("dhcp=1".to_owned());
    }
    for (address, prefix) in &config.addresses {
        lines.push(format!("address={address}/{prefix}"));
    }
    for (gateway, metric) in &config.gateways {
        lines.push(match metric {
            0 => format!("gateway={gateway}"),
            metric => format!("gateway={gateway} {metric}"),
        });
    }
    for server in &config.nameservers {
        lines.push(format!("dns={server}"));
    }
    for server in &config.wins {
        lines.push(format!("wins={server}"));
    }
    lines.extend(
        config
            .suffix
            .as_deref()
            .and_then(|name| line("suffix", name)),
    );
    let numbers = [
        ("metric", config.metric),
        ("mtu", config.mtu),
        ("netbios", config.netbios),
        ("register", config.unregistered.then_some(0)),
        ("registersuffix", config.register_suffix.then_some(1)),
    ];
    for (key, number) in numbers {
        lines.extend(number.map(|number| format!("{key}={number}")));
    }
}

/// A line, unless the guest's text would be more than one.
fn line(key: &str, text: &str) -> Option<String> {
    let plain = !text.is_empty() && text.len() <= TEXT_MAX && !text.contains(char::is_control);
    plain.then(|| format!("{key}={text}"))
}

/// The batch file. Routes without an interface are in the registry already, for all adapters; Windows takes them up at
/// its next start, and here at once.
pub(super) fn script(routes: &[Route]) -> String {
    let mut lines = vec![
        format!("\"%V2V_EXE%\" network \"%V2V_DIR%\\{}\"", super::FILE),
        "set code=%ERRORLEVEL%".to_owned(),
    ];
    for route in routes {
        let bits = u32::MAX.checked_shl(32 - u32::from(route.len.clamp(1, 32)));
        let mask = Ipv4Addr::from(bits.unwrap_or(u32::MAX));
        let metric = match route.metric {
            0 => String::new(),
            metric => format!(" metric {metric}"),
        };
        lines.push(format!(
            "route -p add {} mask {mask} {}{metric}",
            route.prefix, route.gateway
        ));
    }
    lines.push("exit /b %code%".to_owned());
    lines.join("\r\n") + "\r\n"
}

/// How people would ask for it: `192.0.2.5/24, gateway 192.0.2.1`.
pub(super) fn description(config: &Config) -> String {
    let mut parts: Vec<String> = config
        .addresses
        .iter()
        .map(|(address, prefix)| format!("{address}/{prefix}"))
        .collect();
    parts.extend(
        config
            .gateways
            .iter()
            .map(|(gateway, _)| format!("gateway {gateway}")),
    );
    parts.extend(
        config
            .nameservers
            .iter()
            .map(|server| format!("DNS {server}")),
    );
    parts.join(", ")
}
