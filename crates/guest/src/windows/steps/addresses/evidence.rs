//! What the registry has that tells which adapter of the machine a configuration belonged to. Windows does not write
//! hardware addresses down as such; inspection knows where they are found all the same, and there are lesser signs.

use types::{MacAddr, WindowsAdapter};

use crate::Result;
use crate::windows::steps::control_set::ControlSet;

/// Properties of a device with the times of its last arrival and removal (devpkey.h,
/// `DEVPKEY_Device_LastArrivalDate`, `DEVPKEY_Device_LastRemovalDate`; Windows 8 on).
const TIMES: &str = "Properties\\{83da6326-97a6-4088-9453-a1923f573b29}";

/// Signs of which adapter it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Its hardware address.
    pub(super) mac: Option<MacAddr>,
    /// The first half of it.
    pub(super) oui: Option<[u8; 3]>,
    /// PCI bus, device, function.
    pub(super) location: Option<[u32; 3]>,
    /// It was there when Windows last ran, as far as that is known.
    pub(super) present: Option<bool>,
    /// The DNS client has found that it is gone.
    pub(super) stale: bool,
}

/// Collects them for one adapter.
pub(super) fn read(set: ControlSet<'_>, known: &WindowsAdapter) -> Result<Evidence> {
    let id = &known.id;
    let device = format!("Enum\\{}", known.device);
    let location = set.text(&device, "LocationInformation")?;
    // The DHCPv6 client makes its IAID of a count and the first half of the hardware address (RFC 8415 section 4.2 leaves
    // it to the client; so it is in every hive since Vista).
    let path6 = format!("Services\\Tcpip6\\Parameters\\Interfaces\\{id}");
    let iaid = set.number(&path6, "Dhcpv6Iaid")?.map(u32::to_be_bytes);
    let dns = format!("Services\\Tcpip\\Parameters\\DNSRegisteredAdapters\\{id}");
    Ok(Evidence {
        mac: known.mac,
        oui: iaid
            .map(|[_, a, b, c]| [a, b, c])
            .filter(|oui| *oui != [0; 3]),
        location: location.as_deref().and_then(place),
        present: present(set, &device)?,
        stale: set.number(&dns, "StaleAdapter")? == Some(1),
    })
}

fn present(set: ControlSet<'_>, device: &str) -> Result<Option<bool>> {
    let time = |number: &str| -> Result<Option<u64>> {
        let value = set.value(&format!("{device}\\{TIMES}\\{number}"), "")?;
        let bytes = value.and_then(|value| value.data.first_chunk::<8>().copied());
        Ok(bytes.map(u64::from_le_bytes))
    };
    let Some(arrival) = time("0066")? else {
        return Ok(None);
    };
    Ok(Some(time("0067")?.is_none_or(|removal| removal <= arrival)))
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
    fn places_on_pci_are_read_in_both_forms() {
        let new = "@system32\\DRIVERS\\pci.sys,#65536;PCI bus %1, device %2, function %3;(2,1,0)";
        assert_eq!(place(new), Some([2, 1, 0]));
        assert_eq!(place("PCI-Bus 0, Gerät 17, Funktion 1"), Some([0, 17, 1]));
        assert_eq!(place("nowhere"), None);
    }
}
