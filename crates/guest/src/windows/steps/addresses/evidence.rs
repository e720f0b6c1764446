//! What the registry has that tells which adapter of the machine a configuration belonged to. Windows does not write
//! hardware addresses down as such; several places have them all the same.

use types::MacAddr;

use crate::Result;
use crate::windows::steps::control_set::ControlSet;

/// Properties of a device with the times of its last arrival and removal (devpkey.h,
/// `DEVPKEY_Device_LastArrivalDate`, `DEVPKEY_Device_LastRemovalDate`; Windows 8 on).
const TIMES: &str = "Properties\\{83da6326-97a6-4088-9453-a1923f573b29}";

/// Signs of which adapter it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Hardware addresses that it has or had.
    pub(super) macs: Vec<MacAddr>,
    /// The first half of its hardware address.
    pub(super) oui: Option<[u8; 3]>,
    /// PCI bus, device, function.
    pub(super) location: Option<[u32; 3]>,
    /// It was there when Windows last ran, as far as that is known.
    pub(super) present: Option<bool>,
    /// The DNS client has found that it is gone.
    pub(super) stale: bool,
}

/// Collects them for one adapter.
pub(super) fn read(
    set: ControlSet<'_>,
    class_key: &str,
    id: &str,
    device: &str,
) -> Result<Evidence> {
    let device_key = format!("Enum\\{device}");
    let mut macs = Vec::new();
    // Windows 10 on: the network setup keeps what the driver reported.
    let kernel = format!("Control\\NetworkSetup2\\Interfaces\\{id}\\Kernel");
    for name in ["PermanentAddress", "CurrentAddress"] {
        let value = set.value(&kernel, name)?;
        macs.extend(value.and_then(|value| <[u8; 6]>::try_from(value.data).ok()));
    }
    macs.extend(from_serial(device));
    // An address set by hand in the driver's properties (NDIS, standard keyword NetworkAddress).
    let by_hand = set.text(class_key, "NetworkAddress")?;
    macs.extend(by_hand.as_deref().and_then(from_digits));
    macs.retain(|mac| *mac != [0; 6] && mac.first().is_some_and(|first| first & 1 == 0));
    let location = set.text(&device_key, "LocationInformation")?;
    // The DHCPv6 client makes its IAID of a count and the first half of the hardware address (RFC 8415 section 4.2
    // leaves it to the client; seen on every Windows since Vista).
    let path6 = format!("Services\\Tcpip6\\Parameters\\Interfaces\\{id}");
    let iaid = set.number(&path6, "Dhcpv6Iaid")?.map(u32::to_be_bytes);
    let stale = format!("Services\\Tcpip\\Parameters\\DNSRegisteredAdapters\\{id}");
    Ok(Evidence {
        macs: macs.into_iter().map(MacAddr).collect(),
        oui: iaid
            .map(|[_, a, b, c]| [a, b, c])
            .filter(|oui| *oui != [0; 3]),
        location: location.as_deref().and_then(place),
        present: present(set, &device_key)?,
        stale: set.number(&stale, "StaleAdapter")? == Some(1),
    })
}

fn present(set: ControlSet<'_>, device_key: &str) -> Result<Option<bool>> {
    let time = |number: &str| -> Result<Option<u64>> {
        let value = set.value(&format!("{device_key}\\{TIMES}\\{number}"), "")?;
        let bytes = value.and_then(|value| value.data.first_chunk::<8>().copied());
        Ok(bytes.map(u64::from_le_bytes))
    };
    let Some(arrival) = time("0066")? else {
        return Ok(None);
    };
    Ok(Some(time("0067")?.is_none_or(|removal| removal <= arrival)))
}

/// PCI Express adapters with a serial number have it as their instance: sixteen digits and two of the function. It is
/// the hardware address with two bytes in its middle (PCI Express Base Specification, "Device Serial Number Extended
/// Capability"): Intel's have FF-FF there, VMware's vmxnet3 FF-FE and both words in the order of their bytes.
fn from_serial(device: &str) -> Option<[u8; 6]> {
    let instance = device.rsplit('\\').next()?;
    let serial = instance.get(..16).filter(|_| instance.len() == 18)?;
    let number = u64::from_str_radix(serial, 16).ok()?;
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    match (d, e) {
        (0xff, 0xff | 0xfe) => Some([a, b, c, f, g, h]),
        _ if (a, h) == (0xff, 0xfe) => Some([d, c, b, g, f, e]),
        _ => None,
    }
}

/// Twelve digits, perhaps with something between the pairs.
fn from_digits(text: &str) -> Option<[u8; 6]> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() != 12 || text.len() > 17 {
        return None;
    }
    let number = u64::from_str_radix(&digits, 16).ok()?;
    let [_, _, a, b, c, d, e, f] = number.to_be_bytes();
    Some([a, b, c, d, e, f])
}

/// `…;(2,1,0)` since Vista, `PCI bus 2, device 1, function 0` in any language before.
fn place(text: &str) -> Option<[u32; 3]> {
    let numbers = text.rsplit_once(";(").map_or(text, |(_, numbers)| numbers);
    let numbers: Vec<u32> = numbers
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    <[u32; 3]>::try_from(numbers).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_hardware_addresses() {
        // vmxnet3, e1000e and igb, and instances that are none.
        let vmxnet3 = "PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\FF565000B8D45EFE00";
        assert_eq!(
            from_serial(vmxnet3),
            Some([0, 0x50, 0x56, 0x5e, 0xd4, 0xb8])
        );
        let igb = "PCI\\VEN_8086&DEV_1533\\A0369FFFFF12AB3400";
        assert_eq!(from_serial(igb), Some([0xa0, 0x36, 0x9f, 0x12, 0xab, 0x34]));
        for none in [
            "3&267A616A&2&18",
            "4&B70F118&0&0888",
            "",
            "00000000000000000",
        ] {
            assert_eq!(from_serial(&format!("PCI\\X\\{none}")), None, "{none}");
        }
    }

    #[test]
    fn places_on_pci_are_read_in_both_forms() {
        let new = "@system32\\DRIVERS\\pci.sys,#65536;PCI bus %1, device %2, function %3;(2,1,0)";
        assert_eq!(place(new), Some([2, 1, 0]));
        assert_eq!(place("PCI-Bus 0, Gerät 17, Funktion 1"), Some([0, 17, 1]));
        assert_eq!(place("nowhere"), None);
    }

    #[test]
    fn addresses_by_hand_are_read_with_and_without_marks() {
        let want = Some([0x02, 0, 0, 0xab, 0xcd, 0xef]);
        assert_eq!(from_digits("020000ABCDEF"), want);
        assert_eq!(from_digits("02-00-00-ab-cd-ef"), want);
        assert_eq!(from_digits("0200"), None);
    }
}
