//! What the network store (`Control\Nsi`) keeps of an interface: since Windows Vista the only place of its IPv6
//! addresses and of the routes that are bound to it.
//!
//! A key for each module, below it one for each table; the name of a value is the row's key as a structure in
//! hexadecimal, its data the rest of the row. Interfaces are named by their LUID (ifdef.h, `NET_LUID`). The layout of the
//! rows is that of the rows of the IP Helper API (netioapi.h, `MIB_UNICASTIPADDRESS_ROW`, `MIB_IPFORWARD_ROW2`),
//! confirmed on the hives of Windows 7 among the fixtures, which have the IPv4 addresses in both places.
//!
//! ```text
//!   10  addresses   LUID[8] address[16]                                        data: … prefix length at 16
//!   16  routes      zone[4] prefix[16] length[1] …[19] LUID[8] LUID[8] next hop[16]    data: … metric at 12
//!       (IPv4)      zone[4] prefix[4]  length[1] …[15] LUID[8] LUID[8] next hop[4] …[4]
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use registry::Value;

use crate::Result;
use crate::windows::steps::control_set::ControlSet;

const IPV4: &str = "Control\\Nsi\\{eb004a00-9b1a-11d4-9123-0050047759bc}";
const IPV6: &str = "Control\\Nsi\\{eb004a01-9b1a-11d4-9123-0050047759bc}";
const ADDRESSES: &str = "10";
const ROUTES: &str = "16";
/// `IF_TYPE_ETHERNET_CSMACD`.
const ETHERNET: u32 = 6;

/// A LUID as it is stored: 24 bits of nothing, 24 of index, 16 of type, each little-endian.
pub(super) type Luid = [u8; 8];

/// Addresses with their prefixes.
pub(super) type Addresses = Vec<(Ipv6Addr, u8)>;
/// Gateways with their metrics.
pub(super) type Gateways = Vec<(Ipv6Addr, u32)>;

/// The LUID of the adapter whose key below its class this is; Windows XP has none.
pub(super) fn luid(set: ControlSet<'_>, class_key: &str) -> Result<Option<Luid>> {
    let Some(index) = set.number(class_key, "NetLuidIndex")? else {
        return Ok(None);
    };
    let kind = set.number(class_key, "*IfType")?.unwrap_or(ETHERNET);
    let [a, b, c, _] = index.to_le_bytes();
    let [low, high, ..] = kind.to_le_bytes();
    Ok(Some([0, 0, 0, a, b, c, low, high]))
}

/// Addresses and default gateways of an interface that were set by hand.
pub(super) fn ipv6(set: ControlSet<'_>, luid: Luid) -> Result<(Addresses, Gateways)> {
    let mut addresses = Vec::new();
    for (name, value) in set.values(&format!("{IPV6}\\{ADDRESSES}"))? {
        let Some(row) = bytes(&name) else { continue };
        let (Some(owner), Some(address)) = (field::<8>(&row, 0), field::<16>(&row, 8)) else {
            continue;
        };
        if owner != luid || row.len() != 24 {
            continue;
        }
        let prefix = number(&value, 16).and_then(|prefix| u8::try_from(prefix).ok());
        let prefix = prefix.filter(|prefix| *prefix <= 128).unwrap_or(64);
        addresses.push((Ipv6Addr::from(address), prefix));
    }
    let mut gateways = Vec::new();
    for (name, value) in set.values(&format!("{IPV6}\\{ROUTES}"))? {
        let Some(row) = bytes(&name).filter(|row| row.len() == 72) else {
            continue;
        };
        let prefix = field::<17>(&row, 4).unwrap_or([0xff; 17]);
        let hop = field::<16>(&row, 56).map(Ipv6Addr::from);
        let Some(hop) = hop.filter(|hop| !hop.is_unspecified()) else {
            continue;
        };
        if field::<8>(&row, 40) == Some(luid) && prefix == [0; 17] {
            gateways.push((hop, metric(&value)));
        }
    }
    Ok((addresses, gateways))
}

/// A route of IPv4 that is bound to an interface and is no default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) prefix: Ipv4Addr,
    pub(super) len: u8,
    pub(super) gateway: Ipv4Addr,
    pub(super) metric: u32,
}

/// Persistent routes of IPv4.
pub(super) fn routes(set: ControlSet<'_>) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for (name, value) in set.values(&format!("{IPV4}\\{ROUTES}"))? {
        let Some(row) = bytes(&name).filter(|row| row.len() == 48) else {
            continue;
        };
        let (Some(prefix), Some([len]), Some(gateway)) = (
            field::<4>(&row, 4),
            field::<1>(&row, 8),
            field::<4>(&row, 40),
        ) else {
            continue;
        };
        let gateway = Ipv4Addr::from(gateway);
        if (1..=32).contains(&len) && !gateway.is_unspecified() {
            routes.push(Route {
                prefix: prefix.into(),
                len,
                gateway,
                metric: metric(&value),
            });
        }
    }
    Ok(routes)
}

/// 0 for automatic, which is stored as all ones.
fn metric(value: &Value) -> u32 {
    number(value, 12)
        .filter(|metric| *metric != u32::MAX)
        .unwrap_or(0)
}

fn number(value: &Value, at: usize) -> Option<u32> {
    field::<4>(&value.data, at).map(u32::from_le_bytes)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// The bytes of a value's name; rows are short.
fn bytes(name: &str) -> Option<Vec<u8>> {
    let digits = name.as_bytes();
    if digits.len() > 512 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.filter(|_| rest.is_empty())
}
