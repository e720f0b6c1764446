//! IPv6 addresses that were set by hand: the persistent store of the Network Store Interface. Undocumented; names of values
//! are keys of its tables in hexadecimal, data their other columns (seen in hives; stackoverflow.com/q/8155700).
//!
//! ```text
//!   …\10  unicast addresses:  LUID (8) address (16)                         data[16] = length of the prefix
//!   …\16  routes:             destination and source … LUID LUID next hop (16)
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::adapters::hex_bytes;
use super::reader::Keys;

const IPV6: &str = "Control\\Nsi\\{eb004a01-9b1a-11d4-9123-0050047759bc}";
/// Where the length of the prefix is.
const PREFIX_AT: usize = 16;
/// More than any adapter has.
const ADDRESSES_MAX: usize = 256;

/// What one adapter has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) addresses: Vec<(IpAddr, u8)>,
    pub(super) gateways: Vec<(IpAddr, u32)>,
}

/// By LUID.
#[derive(Debug, Default)]
pub(super) struct Nsi(BTreeMap<u64, Addresses>);

impl Nsi {
    /// Reads both tables.
    pub(super) fn read(control: &Keys<'_>) -> Self {
        let mut nsi = Self::default();
        for (name, value) in control.values(&format!("{IPV6}\\10")) {
            if let Some((luid, address, prefix)) = address(&name, &value.data) {
                let of = nsi.0.entry(luid).or_default();
                if of.addresses.len() < ADDRESSES_MAX {
                    of.addresses.push((address.into(), prefix));
                }
            }
        }
        for (name, _) in control.values(&format!("{IPV6}\\16")) {
            if let Some((luid, gateway)) = default_route(&name) {
                let of = nsi.0.entry(luid).or_default();
                if of.gateways.len() < ADDRESSES_MAX {
                    of.gateways.push((gateway.into(), 0));
                }
            }
        }
        nsi
    }

    /// Of the adapter with this LUID.
    pub(super) fn of(&self, luid: u64) -> Option<Addresses> {
        self.0.get(&luid).cloned()
    }
}

fn address(name: &str, data: &[u8]) -> Option<(u64, Ipv6Addr, u8)> {
    let name = hex_bytes(name)?;
    let (luid, address) = name.split_first_chunk::<8>()?;
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?);
    let prefix = *data.get(PREFIX_AT)?;
    let usable = !address.is_unspecified() && !address.is_loopback() && prefix <= 128;
    usable.then_some((u64::from_le_bytes(*luid), address, prefix))
}

/// A route to everywhere: destination and source are zeroes.
fn default_route(name: &str) -> Option<(u64, Ipv6Addr)> {
    let name = hex_bytes(name)?;
    let (rest, gateway) = name.split_last_chunk::<16>()?;
    let (rest, luid) = rest.split_last_chunk::<8>()?;
    let (rest, same) = rest.split_last_chunk::<8>()?;
    let gateway = Ipv6Addr::from(*gateway);
    let is_default =
        luid == same && !gateway.is_unspecified() && rest.iter().all(|byte| *byte == 0);
    is_default.then_some((u64::from_le_bytes(*luid), gateway))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LUID: u64 = 6 << 48 | 6 << 24;

    #[test]
    fn addresses_and_default_routes_are_read() {
        let mut data = vec![0xff; 48];
        data[PREFIX_AT] = 64;
        let name = "000000060000060020010db8000000000000000000000005";
        let (luid, at, prefix) = address(name, &data).unwrap();
        assert_eq!(
            (luid, at.to_string().as_str(), prefix),
            (LUID, "2001:db8::5", 64)
        );
        let zeroes = "00".repeat(48);
        let luids = "00000006000006000000000600000600";
        let gateway = "fe800000000000000000000000000001";
        let (luid, at) = default_route(&format!("{zeroes}{luids}{gateway}")).unwrap();
        assert_eq!((luid, at.to_string().as_str()), (LUID, "fe80::1"));
        let other = format!("20{}{luids}{gateway}", "00".repeat(47));
        assert_eq!(default_route(&other), None, "a route to somewhere");
    }

    #[test]
    fn what_is_cut_or_strange_is_left_out() {
        for (name, data) in [
            ("", vec![0; 48]),
            ("zz", vec![0; 48]),
            (
                "000000060000060020010db8000000000000000000000005",
                vec![0; 3],
            ),
            (
                "000000060000060020010db8000000000000000000000005",
                vec![0xff; 48],
            ),
            ("00000006000006000a000001", vec![64; 48]),
        ] {
            assert_eq!(address(name, &data), None, "{name}");
        }
        assert_eq!(default_route("00"), None);
    }
}
