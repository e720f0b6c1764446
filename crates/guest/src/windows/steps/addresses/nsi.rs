//! Routes of the network store (`Control\Nsi`), where netsh keeps those that are bound to an interface since Windows
//! Vista.
//!
//! The name of a value is the row's key as a structure in hexadecimal, its data the rest of the row. The layout is that of
//! the rows of the IP Helper API (netioapi.h, `MIB_IPFORWARD_ROW2`), confirmed on the hive of Windows 7 among the fixtures,
//! which has its default gateways here and below Tcpip. Addresses are read by inspection.
//!
//! ```text
//!   16  zone[4] prefix[4] length[1] …[15] LUID[8] LUID[8] next hop[4] …[4]     data: … metric at 12
//! ```

use std::net::Ipv4Addr;

use crate::Result;
use crate::windows::inspect::hex_bytes;
use crate::windows::steps::control_set::ControlSet;

/// Module of IPv4, table of routes.
const ROUTES: &str = "Control\\Nsi\\{eb004a00-9b1a-11d4-9123-0050047759bc}\\16";
/// Bytes of a route's key.
const ROW: usize = 48;

/// A route of IPv4 that is no default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) prefix: Ipv4Addr,
    /// 1 to 32.
    pub(super) len: u8,
    pub(super) gateway: Ipv4Addr,
    /// 0 for automatic.
    pub(super) metric: u32,
}

/// Persistent routes of IPv4.
pub(super) fn routes(set: ControlSet<'_>) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for (name, value) in set.values(ROUTES)? {
        let Some(row) = hex_bytes(&name).filter(|row| row.len() == ROW) else {
            continue;
        };
        let (Some(prefix), Some([len]), Some(gateway)) =
            (field(&row, 4), field::<1>(&row, 8), field(&row, 40))
        else {
            continue;
        };
        let gateway = Ipv4Addr::from(gateway);
        if !(1..=32).contains(&len) || gateway.is_unspecified() {
            continue;
        }
        // All ones are stored for automatic.
        let metric = field(&value.data, 12).map(u32::from_le_bytes);
        routes.push(Route {
            prefix: prefix.into(),
            len,
            gateway,
            metric: metric.filter(|metric| *metric != u32::MAX).unwrap_or(0),
        });
    }
    Ok(routes)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}
