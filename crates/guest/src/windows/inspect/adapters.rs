//! Network adapters and their addresses.
//!
//! ```text
//!   Control\Class\{4d36e972-…}\NNNN   NetCfgInstanceId, DeviceInstanceID, NetworkAddress, NetLuidIndex
//!   Control\Network\{4d36e972-…}\{ID}\Connection   the name that people see
//!   Services\Tcpip\Parameters\Interfaces\{ID}      IPv4
//!   Services\Tcpip6\Parameters\Interfaces\{ID}     name servers of IPv6
//!   Control\Nsi\{eb004a01-…}\10 and \16            addresses and routes of IPv6, from Vista on
//! ```

use std::net::{IpAddr, Ipv4Addr};

use types::{MacAddr, WindowsAdapter};

use super::nsi::Nsi;
use super::reader::{Keys, Reader};

/// Setup class of network adapters.
const NET_CLASS: &str = "{4D36E972-E325-11CE-BFC1-08002BE10318}";
/// `Characteristics` of a device that is there to be touched (netcfgx.h, NCF_PHYSICAL).
const PHYSICAL: u32 = 0x4;
/// More adapters than any machine has.
const ADAPTERS_MAX: usize = 256;
/// More addresses than any adapter has.
const ADDRESSES_MAX: usize = 256;

/// Adapters that are real or have addresses that were set by hand, in the order of their installation.
pub(super) fn adapters(reader: &Reader<'_>) -> Vec<WindowsAdapter> {
    let control = reader.control();
    let class = format!("Control\\Class\\{NET_CLASS}");
    let nsi = Nsi::read(&control);
    let mut found: Vec<WindowsAdapter> = Vec::new();
    for number in control.keys(&class) {
        let key = format!("{class}\\{number}");
        let Some(id) = control.text(&key, "NetCfgInstanceId") else {
            continue;
        };
        let luid = luid(&control, &key);
        let adapter = adapter(&control, &key, id, luid.and_then(|luid| nsi.of(luid)));
        let physical = control
            .number(&key, "Characteristics")
            .is_some_and(|bits| bits & PHYSICAL != 0);
        if (physical || !adapter.addresses.is_empty()) && found.len() < ADAPTERS_MAX {
            found.push(adapter);
        }
    }
    found
}

fn adapter(
    control: &Keys<'_>,
    class_key: &str,
    id: String,
    ipv6: Option<super::nsi::Addresses>,
) -> WindowsAdapter {
    let connection = format!("Control\\Network\\{NET_CLASS}\\{id}\\Connection");
    let ip = format!("Services\\Tcpip\\Parameters\\Interfaces\\{id}");
    let ip6 = format!("Services\\Tcpip6\\Parameters\\Interfaces\\{id}");
    // XP has the device with the connection only.
    let device = control
        .text(class_key, "DeviceInstanceID")
        .or_else(|| control.text(&connection, "PnpInstanceID"))
        .unwrap_or_default();
    let dhcp = control.is_set(&ip, "EnableDHCP");
    let mut adapter = WindowsAdapter {
        name: control.text(&connection, "Name").unwrap_or_default(),
        mac: mac(control, class_key, &id, &device),
        device,
        nameservers: nameservers(control.text(&ip, "NameServer")),
        domain: control.text(&ip, "Domain"),
        metric: control
            .number(&ip, "InterfaceMetric")
            .filter(|metric| *metric != 0),
        dhcp,
        id,
        ..WindowsAdapter::default()
    };
    if !dhcp {
        adapter.addresses = ipv4(control, &ip);
        adapter.gateways = gateways(control, &ip);
    }
    if let Some(ipv6) = ipv6 {
        adapter.addresses.extend(ipv6.addresses);
        adapter.gateways.extend(ipv6.gateways);
    }
    adapter
        .nameservers
        .extend(nameservers(control.text(&ip6, "NameServer")));
    adapter
}

/// Addresses with the prefixes that their masks are; 0.0.0.0 stands for none.
fn ipv4(control: &Keys<'_>, key: &str) -> Vec<(IpAddr, u8)> {
    let masks = control.list(key, "SubnetMask");
    let addresses = control.list(key, "IPAddress");
    addresses
        .iter()
        .zip(&masks)
        .take(ADDRESSES_MAX)
        .filter_map(|(address, mask)| {
            let address: Ipv4Addr = address.parse().ok()?;
            let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
            let prefix = u8::try_from(mask.leading_ones()).ok()?;
            let contiguous = mask.leading_ones() + mask.trailing_zeros() == 32 || mask == 0;
            (!address.is_unspecified() && contiguous).then_some((address.into(), prefix))
        })
        .collect()
}

fn gateways(control: &Keys<'_>, key: &str) -> Vec<(IpAddr, u32)> {
    let metrics = control.list(key, "DefaultGatewayMetric");
    let metrics = metrics.iter().map(|metric| metric.parse().unwrap_or(0));
    let metrics = metrics.chain(std::iter::repeat(0));
    control
        .list(key, "DefaultGateway")
        .iter()
        .zip(metrics)
        .take(ADDRESSES_MAX)
        .filter_map(|(gateway, metric)| {
            let gateway: IpAddr = gateway.parse().ok()?;
            (!gateway.is_unspecified()).then_some((gateway, metric))
        })
        .collect()
}

/// A list with commas (XP: with blanks, too).
fn nameservers(list: Option<String>) -> Vec<IpAddr> {
    list.unwrap_or_default()
        .split([',', ' ', ';'])
        .filter_map(|server| server.trim().parse().ok())
        .take(ADDRESSES_MAX)
        .collect()
}

/// NET_LUID of the adapter: index in bits 24 to 47, type in bits 48 to 63 (ifdef.h).
fn luid(control: &Keys<'_>, class_key: &str) -> Option<u64> {
    let index = control.number(class_key, "NetLuidIndex")?;
    let kind = control.number(class_key, "*IfType")?;
    let kind = u64::from(u16::try_from(kind).ok()?);
    let index = u64::from(index) & 0xff_ffff;
    Some(kind << 48 | index << 24)
}

/// The hardware address, where the registry has it: one that was set by hand, what NetworkSetup2 noted (Windows 10 on),
/// or the serial number of a PCI Express device, which is made of it. Windows keeps it nowhere else.
fn mac(control: &Keys<'_>, class_key: &str, id: &str, device: &str) -> Option<MacAddr> {
    let set = control
        .text(class_key, "NetworkAddress")
        .and_then(|text| plain_mac(&text));
    let noted = || {
        let kernel = format!("Control\\NetworkSetup2\\Interfaces\\{id}\\Kernel");
        ["CurrentAddress", "PermanentAddress"]
            .iter()
            .find_map(|name| {
                let value = control.value(&kernel, name)?;
                valid(MacAddr(<[u8; 6]>::try_from(value.data).ok()?))
            })
    };
    set.or_else(noted).or_else(|| serial_mac(device))
}

/// `000C29123456`, perhaps with dashes.
fn plain_mac(text: &str) -> Option<MacAddr> {
    let digits: String = text.chars().filter(|c| *c != '-' && *c != ':').collect();
    let bytes = hex_bytes(&digits)?;
    valid(MacAddr(<[u8; 6]>::try_from(bytes).ok()?))
}

/// The last part of the instance path of a device with a serial number (PCI Express Base 5.0, section 7.9.3) is that number
/// and `00` for the function. It is an EUI-64 made of the address: 00-0C-29-FF-FF-12-34-56; vmxnet3 has each half of it
/// backwards: FF-29-0C-00-56-34-12-FE.
fn serial_mac(device: &str) -> Option<MacAddr> {
    let (bus, instance) = (device.split('\\').next()?, device.rsplit('\\').next()?);
    if !bus.eq_ignore_ascii_case("PCI") {
        return None;
    }
    let bytes = hex_bytes(instance)?;
    let mac = match *bytes.as_slice() {
        [a, b, c, 0xff, 0xff | 0xfe, d, e, f, _] => [a, b, c, d, e, f],
        [0xff, c, b, a, f, e, d, 0xfe | 0xff, _] => [a, b, c, d, e, f],
        _ => return None,
    };
    valid(MacAddr(mac))
}

fn valid(mac: MacAddr) -> Option<MacAddr> {
    (!mac.is_multicast() && mac.0 != [0; 6]).then_some(mac)
}

/// Bytes of a text that is hexadecimal from end to end.
pub(crate) fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(device: &str) -> Option<String> {
        serial_mac(device).map(|mac| mac.to_string())
    }

    #[test]
    fn serial_numbers_hold_addresses() {
        // Both spellings are those of real guests of VMware.
        assert_eq!(
            shown(r"PCI\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\FF565000BB0895FE00").unwrap(),
            "00:50:56:95:08:bb"
        );
        assert_eq!(
            shown(r"PCI\VEN_8086&DEV_10D3&SUBSYS_07D015AD&REV_00\000C29FFFF4C2D7E00").unwrap(),
            "00:0c:29:4c:2d:7e"
        );
        for none in [
            r"PCI\VEN_8086&DEV_100F&SUBSYS_075015AD&REV_01\4&B70F118&0&1888",
            r"VMBUS\{F8615163-DF3E-46C5-913F-F2D2F965ED0E}\5&1",
            r"PCI\X\0123456789ABCDEF00",
            r"PCI\X\é",
            "",
        ] {
            assert_eq!(shown(none), None, "{none}");
        }
    }

    #[test]
    fn addresses_by_hand_have_many_spellings() {
        assert_eq!(
            plain_mac("02-0C-29-00-00-01").unwrap().to_string(),
            "02:0c:29:00:00:01"
        );
        assert_eq!(plain_mac("010C29000001"), None, "a group is no adapter");
        assert_eq!(plain_mac("02"), None);
        let servers = nameservers(Some("192.0.2.1, 2001:db8::1 x".to_owned()));
        assert_eq!(servers.len(), 2);
    }
}
