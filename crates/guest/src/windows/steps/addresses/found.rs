//! The network adapters that the guest knew, and how they were configured: what inspection has found, and what only this
//! step needs.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use types::{WindowsAdapter, WindowsInfo};

use super::evidence::{self, Evidence};
use crate::Result;
use crate::windows::steps::control_set::ControlSet;

/// Setup class of network adapters (devguid.h, `GUID_DEVCLASS_NET`).
pub(super) const CLASS: &str = "{4d36e972-e325-11ce-bfc1-08002be10318}";
/// More addresses of one family, gateways or servers than these are not taken over: the first-boot program has room for
/// 32 in all (appliance/windows/network.h).
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
pub(super) fn adapters(set: ControlSet<'_>, windows: &WindowsInfo) -> Result<Vec<Adapter>> {
    let hardware = windows
        .adapters
        .iter()
        .filter(|one| is_hardware(&one.device));
    hardware
        .map(|known| {
            Ok(Adapter {
                id: known.id.clone(),
                name: Some(known.name.clone()).filter(|name| !name.is_empty()),
                device: known.device.clone(),
                evidence: evidence::read(set, known)?,
                config: config(set, known)?,
            })
        })
        .collect()
}

/// Buses that a hypervisor or a mainboard has its adapters on; the rest are tunnels, teams and software.
fn is_hardware(device: &str) -> bool {
    let bus = device.split('\\').next().unwrap_or_default();
    ["PCI", "VMBUS", "XEN", "XENVIF", "XENBUS", "XENPCI"]
        .iter()
        .any(|known| bus.eq_ignore_ascii_case(known))
}

/// The configuration of an interface (TCP/IP and NetBT registry entries: Microsoft KB 120642, KB 314053).
fn config(set: ControlSet<'_>, known: &WindowsAdapter) -> Result<Config> {
    let id = &known.id;
    let path = format!("Services\\Tcpip\\Parameters\\Interfaces\\{id}");
    let netbt = format!("Services\\NetBT\\Parameters\\Interfaces\\Tcpip_{id}");
    let few = |list: &[(IpAddr, u8)], ipv4: bool| -> Vec<(IpAddr, u8)> {
        let family = list.iter().filter(|(one, _)| one.is_ipv4() == ipv4);
        family.take(LIST_MAX).copied().collect()
    };
    let mut addresses = few(&known.addresses, true);
    let dhcp = addresses.is_empty();
    addresses.extend(few(&known.addresses, false));
    let wins = set.texts(&netbt, "NameServerList")?;
    let domain = known.domain.clone();
    Ok(Config {
        dhcp,
        addresses,
        gateways: known.gateways.iter().take(LIST_MAX).copied().collect(),
        nameservers: known.nameservers.iter().take(LIST_MAX).copied().collect(),
        suffix: domain.filter(|name| is_domain(name)),
        metric: known.metric,
        mtu: set.number(&path, "MTU")?.filter(|mtu| *mtu >= 576),
        wins: wins
            .iter()
            .filter_map(|server| server.trim().parse().ok())
            .take(LIST_MAX)
            .collect(),
        netbios: set
            .number(&netbt, "NetbiosOptions")?
            .filter(|options| matches!(options, 1 | 2)),
        unregistered: set.number(&path, "RegistrationEnabled")? == Some(0),
        register_suffix: set.number(&path, "RegisterAdapterName")? == Some(1),
    })
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
    !name.is_empty() && name.len() < 256 && name.chars().all(known)
}
