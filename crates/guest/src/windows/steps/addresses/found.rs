//! The network adapters that the guest knew, and how they were configured.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use super::evidence::{self, Evidence};
use super::nsi;
use crate::Result;
use crate::windows::steps::control_set::ControlSet;

/// Setup class of network adapters (devguid.h, `GUID_DEVCLASS_NET`).
pub(super) const CLASS: &str = "{4d36e972-e325-11ce-bfc1-08002be10318}";
/// More adapters than these are not looked at; Windows itself has a few dozen with its pseudo-interfaces.
const ADAPTERS_MAX: usize = 512;
/// More addresses, gateways or servers than these are not taken over.
const LIST_MAX: usize = 12;

/// One adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Adapter {
    /// NetCfgInstanceId with its braces.
    pub(super) id: String,
    /// Name of the connection.
    pub(super) name: Option<String>,
    /// Device instance.
    pub(super) device: String,
    /// Number of its key below the class, which tells the order in which adapters were installed.
    pub(super) order: u32,
    /// What tells which adapter of the machine it was.
    pub(super) evidence: Evidence,
    /// Its configuration.
    pub(super) config: Config,
}

/// What is to be the same afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// IPv4 by DHCP.
    pub(super) dhcp: bool,
    /// With the length of the prefix; the first of each family is the primary one.
    pub(super) addresses: Vec<(IpAddr, u8)>,
    /// With their metrics, 0 for automatic.
    pub(super) gateways: Vec<(IpAddr, u32)>,
    /// Set by hand.
    pub(super) nameservers: Vec<IpAddr>,
    /// DNS suffix of the connection.
    pub(super) suffix: Option<String>,
    /// Metric of the interface; `None` is automatic.
    pub(super) metric: Option<u32>,
    /// MTU set by hand.
    pub(super) mtu: Option<u32>,
    /// WINS servers.
    pub(super) wins: Vec<Ipv4Addr>,
    /// NetBIOS over TCP/IP: 1 on, 2 off; 0 (as DHCP says) is `None`.
    pub(super) netbios: Option<u32>,
    /// RegistrationEnabled is 0: its addresses are not registered in the DNS.
    pub(super) unregistered: bool,
    /// RegisterAdapterName is 1: they are, under the connection's suffix too.
    pub(super) register_suffix: bool,
}

impl Config {
    /// True when something was set by hand.
    pub(super) fn is_static(&self) -> bool {
        let plain = Self {
            dhcp: self.dhcp,
            ..Self::default()
        };
        *self != plain
    }
}

/// All adapters of hardware, in the order of installation.
pub(super) fn adapters(set: ControlSet<'_>, vista: bool) -> Result<Vec<Adapter>> {
    let class = format!("Control\\Class\\{CLASS}");
    let mut found = Vec::new();
    for key in set.keys(&class)?.into_iter().take(ADAPTERS_MAX) {
        let Ok(order) = key.parse::<u32>() else {
            continue;
        };
        let path = format!("{class}\\{key}");
        let Some(id) = set.text(&path, "NetCfgInstanceId")? else {
            continue;
        };
        let connection = format!("Control\\Network\\{CLASS}\\{id}\\Connection");
        // Windows XP has the instance at the connection only.
        let device = match set.text(&path, "DeviceInstanceID")? {
            Some(device) => device,
            None => set.text(&connection, "PnpInstanceID")?.unwrap_or_default(),
        };
        if !is_hardware(&device) {
            continue;
        }
        let luid = nsi::luid(set, &path)?;
        found.push(Adapter {
            name: set.text(&connection, "Name")?,
            evidence: evidence::read(set, &path, &id, &device)?,
            config: config(set, &id, luid.filter(|_| vista))?,
            id,
            device,
            order,
        });
    }
    found.sort_by_key(|adapter| adapter.order);
    Ok(found)
}

/// Buses that a hypervisor or a mainboard has its adapters on; the rest are tunnels, teams and software.
fn is_hardware(device: &str) -> bool {
    let bus = device.split('\\').next().unwrap_or_default();
    ["PCI", "VMBUS", "XEN", "XENVIF", "XENBUS", "XENPCI"]
        .iter()
        .any(|known| bus.eq_ignore_ascii_case(known))
}

/// The configuration of an interface (TCP/IP registry entries: Microsoft KB 120642, KB 314053).
fn config(set: ControlSet<'_>, id: &str, luid: Option<nsi::Luid>) -> Result<Config> {
    let path = format!("Services\\Tcpip\\Parameters\\Interfaces\\{id}");
    let path6 = format!("Services\\Tcpip6\\Parameters\\Interfaces\\{id}");
    let netbt = format!("Services\\NetBT\\Parameters\\Interfaces\\Tcpip_{id}");
    let mut config = Config {
        nameservers: servers(set, &path)?,
        suffix: set.text(&path, "Domain")?.filter(|name| is_domain(name)),
        metric: set
            .number(&path, "InterfaceMetric")?
            .filter(|metric| *metric > 0),
        mtu: set.number(&path, "MTU")?.filter(|mtu| *mtu >= 576),
        netbios: set
            .number(&netbt, "NetbiosOptions")?
            .filter(|options| matches!(options, 1 | 2)),
        unregistered: set.number(&path, "RegistrationEnabled")? == Some(0),
        register_suffix: set.number(&path, "RegisterAdapterName")? == Some(1),
        ..Config::default()
    };
    for text in set.texts(&netbt, "NameServerList")? {
        config.wins.extend(text.trim().parse::<Ipv4Addr>());
    }
    let dhcp = set.number(&path, "EnableDHCP")?;
    if dhcp.unwrap_or(0) == 0 {
        ipv4(set, &path, &mut config)?;
    }
    config.dhcp = config.addresses.is_empty();
    config.nameservers.extend(servers(set, &path6)?);
    if let Some(luid) = luid {
        let (addresses, gateways) = nsi::ipv6(set, luid)?;
        let addresses = addresses.into_iter().take(LIST_MAX);
        config
            .addresses
            .extend(addresses.map(|(address, prefix)| (IpAddr::V6(address), prefix)));
        let gateways = gateways.into_iter().take(LIST_MAX);
        config
            .gateways
            .extend(gateways.map(|(gateway, metric)| (IpAddr::V6(gateway), metric)));
    }
    Ok(config)
}

fn ipv4(set: ControlSet<'_>, path: &str, config: &mut Config) -> Result<()> {
    let masks = set.texts(path, "SubnetMask")?;
    let addresses = set.texts(path, "IPAddress")?;
    for (address, mask) in addresses.iter().zip(&masks).take(LIST_MAX) {
        let Some(address) = usable(address) else {
            continue;
        };
        if let Some(prefix) = prefix(mask) {
            config.addresses.push((IpAddr::V4(address), prefix));
        }
    }
    let metrics = set.texts(path, "DefaultGatewayMetric")?;
    let gateways = set.texts(path, "DefaultGateway")?;
    for (index, gateway) in gateways.iter().enumerate().take(LIST_MAX) {
        let Some(gateway) = usable(gateway) else {
            continue;
        };
        let metric = metrics.get(index).and_then(|text| text.trim().parse().ok());
        config
            .gateways
            .push((IpAddr::V4(gateway), metric.unwrap_or(0)));
    }
    Ok(())
}

/// An address that is not 0.0.0.0, which stands for none.
fn usable(text: &str) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from_str(text.trim()).ok()?;
    (!address.is_unspecified()).then_some(address)
}

/// NameServer: addresses between commas or blanks.
fn servers(set: ControlSet<'_>, path: &str) -> Result<Vec<IpAddr>> {
    let text = set.text(path, "NameServer")?.unwrap_or_default();
    let servers = text
        .split([',', ' ', ';'])
        .filter_map(|server| server.parse().ok());
    Ok(servers.take(LIST_MAX).collect())
}

/// Length of the prefix that a mask is; `None` when its ones are not together.
pub(super) fn prefix(mask: &str) -> Option<u8> {
    let mask = u32::from(Ipv4Addr::from_str(mask.trim()).ok()?);
    let ones = mask.leading_ones();
    let together = mask.checked_shl(ones).unwrap_or(0) == 0;
    u8::try_from(ones).ok().filter(|_| together)
}

fn is_domain(name: &str) -> bool {
    let known = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.len() < 256 && name.chars().all(known)
}
