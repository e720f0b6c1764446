//! The file that tells the first-boot program what each adapter gets (see appliance/windows).

use std::net::{IpAddr, Ipv4Addr};

use types::{MacAddr, StaticIp, WindowsInfo};

use super::found::{Adapter, CLASS, Config};
use super::nsi::Route;

/// Texts of the registry longer than this are left out.
const TEXT_MAX: usize = 256;
/// The first build whose pnputil has /remove-device.
const REMOVES_DEVICES: u32 = 19_041;
/// Where NetBIOS and TCP/IP keep an adapter's settings, below Services.
const NETBT: &str = "NetBT\\Parameters\\Interfaces\\Tcpip_";
const TCPIP: &str = "Tcpip\\Parameters\\Interfaces\\";

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

/// The file. A line that the program does not understand would cost all of them: only what it knows is here.
pub(super) fn text(adapters: &[Planned<'_>]) -> String {
    let mut lines = vec!["# Network adapters as they were before the conversion.".to_owned()];
    for adapter in adapters {
        lines.push(String::new());
        lines.push("[adapter]".to_owned());
        lines.push(format!("mac={}", adapter.mac));
        if let Some(old) = adapter.old {
            lines.extend(
                old.name
                    .as_deref()
                    .and_then(plain_name)
                    .map(|name| format!("name={name}")),
            );
            lines.extend(guid(&old.id).map(|id| format!("old={id}")));
        }
        push_config(&mut lines, &adapter.config);
    }
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
    lines.extend(config.suffix.as_ref().map(|name| format!("suffix={name}")));
    lines.extend(config.metric.map(|metric| format!("metric={metric}")));
}

/// The name of a connection that is safe in the plan and between quotes in a batch file; Windows has no others but those
/// with a percent sign, an exclamation mark or a caret.
fn plain_name(name: &str) -> Option<&str> {
    let bad = |c: char| c.is_control() || "\"%!^&|<>\\/:*?".contains(c);
    let plain = !name.is_empty() && name.len() <= TEXT_MAX && name.trim() == name;
    (plain && !name.contains(bad)).then_some(name)
}

fn guid(id: &str) -> Option<&str> {
    let known = |c: char| c.is_ascii_hexdigit() || matches!(c, '{' | '}' | '-');
    (id.len() == 38 && id.chars().all(known)).then_some(id)
}

/// The batch file. What the program does not set follows it: by the connection's name, which is the old one by then.
///
/// Routes without an interface are in the registry already, for all adapters; Windows takes them up at its next start,
/// and here at once.
pub(super) fn script(adapters: &[Planned<'_>], routes: &[Route], windows: &WindowsInfo) -> String {
    let mut lines = vec![
        format!("\"%V2V_EXE%\" network \"%V2V_DIR%\\{}\"", super::FILE),
        "set code=%ERRORLEVEL%".to_owned(),
    ];
    if windows.major >= 6 {
        for adapter in adapters {
            push_extras(&mut lines, adapter);
        }
    }
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
    // Windows 10 2004 on; on others the vanished adapters stay as hidden devices without addresses.
    if windows.major >= 10 && windows.build >= REMOVES_DEVICES {
        let old = adapters.iter().filter_map(|adapter| adapter.old);
        let gone = old.filter(|old| is_foreign(&old.device));
        lines.extend(gone.map(|old| format!("pnputil /remove-device \"{}\"", old.device)));
    }
    lines.push("exit /b %code%".to_owned());
    lines.join("\r\n") + "\r\n"
}

/// MTU, WINS, NetBIOS and registration in the DNS (Windows Vista on: `reg query /f` finds the new adapter's key).
fn push_extras(lines: &mut Vec<String>, adapter: &Planned<'_>) {
    let config = &adapter.config;
    let name = adapter.old.and_then(|old| old.name.as_deref());
    let Some(name) = name.and_then(plain_name) else {
        return;
    };
    if let Some(mtu) = config.mtu {
        lines.push(format!(
            "netsh interface ipv4 set subinterface \"{name}\" mtu={mtu} store=persistent"
        ));
    }
    let wins: Vec<String> = config.wins.iter().map(ToString::to_string).collect();
    let wins = wins.join("\\0");
    let number = |name: &'static str, number: u32| (name, "REG_DWORD", number.to_string());
    let values = [
        (
            NETBT,
            (!wins.is_empty()).then_some(("NameServerList", "REG_MULTI_SZ", wins)),
        ),
        (
            NETBT,
            config.netbios.map(|value| number("NetbiosOptions", value)),
        ),
        (
            TCPIP,
            config
                .unregistered
                .then(|| number("RegistrationEnabled", 0)),
        ),
        (
            TCPIP,
            config
                .register_suffix
                .then(|| number("RegisterAdapterName", 1)),
        ),
    ];
    for (key, value) in values {
        let Some((value, kind, data)) = value else {
            continue;
        };
        // The seventh part of HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\Network\CLASS\ADAPTER\Connection.
        lines.push(format!(
            "for /f \"tokens=7 delims=\\\" %%g in ('reg query \"HKLM\\SYSTEM\\CurrentControlSet\\Control\\Network\\{CLASS}\" /s /f \"{name}\" /d /e ^| find /i \"\\Connection\"') do reg add \"HKLM\\SYSTEM\\CurrentControlSet\\Services\\{key}%%g\" /v {value} /t {kind} /d \"{data}\" /f"
        ));
    }
}

/// Devices that KVM never has: removing them cannot hit one that is there.
fn is_foreign(device: &str) -> bool {
    let device = device.to_uppercase();
    let known = |c: char| c.is_ascii_alphanumeric() || "\\&_{}.-".contains(c);
    let foreign = device.starts_with("VMBUS\\")
        || device.starts_with("XENVIF\\")
        || device.contains("VEN_15AD")
        || device.contains("15AD&REV_");
    foreign && device.len() <= TEXT_MAX && device.chars().all(known)
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
