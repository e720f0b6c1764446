//! Which adapter has which name: by what the configuration says of MACs, then in the order of the slots.

use types::{MacAddr, Nic};

use super::config::Configured;

/// Outcome of the assignment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) names: Vec<(MacAddr, String)>,
    pub(super) warnings: Vec<String>,
}

/// Gives each adapter its name, in this order of trust: the source's word (P2V), a MAC beside the name in the
/// configuration, a name made of the MAC (enx…), and what is left in the order of the names' slots.
pub(super) fn assign(nics: &[Nic], configured: &[Configured]) -> Assigned {
    let mut taken: Vec<(MacAddr, String)> = Vec::new();
    let macs: Vec<MacAddr> = nics.iter().filter_map(|nic| nic.mac).collect();
    let take = |mac: MacAddr, name: &str, taken: &mut Vec<(MacAddr, String)>| {
        let free = !taken.iter().any(|(have, other)| *have == mac || other == name);
        if free && is_interface_name(name) {
            taken.push((mac, name.to_owned()));
        }
    };
    for nic in nics {
        if let (Some(mac), Some(name)) = (nic.mac, &nic.guest_name) {
            take(mac, name, &mut taken);
        }
    }
    for entry in configured {
        if let (Some(mac), Some(name)) = (entry.mac, &entry.name)
            && macs.contains(&mac)
        {
            take(mac, name, &mut taken);
        }
    }
    // Names of the persistent rules alone are leftovers; only what is configured matters now.
    let mut wanted: Vec<&str> = Vec::new();
    for entry in configured.iter().filter(|entry| !entry.is_rule) {
        if let Some(name) = entry.name.as_deref().filter(|name| is_physical(name))
            && !wanted.contains(&name)
        {
            wanted.push(name);
        }
    }
    for name in &wanted {
        let by_name = macs.iter().find(|mac| *name == format!("enx{}", mac.to_string().replace(':', "")));
        if let Some(mac) = by_name {
            take(*mac, name, &mut taken);
        }
    }
    wanted.retain(|name| !taken.iter().any(|(_, have)| have == name));
    wanted.sort_by_key(|name| slot(name));
    let free: Vec<MacAddr> = macs.iter().filter(|mac| !taken.iter().any(|(have, _)| have == *mac)).copied().collect();
    let warnings = mismatch(&wanted, &free);
    for (mac, name) in free.iter().zip(&wanted) {
        take(*mac, name, &mut taken);
    }
    taken.sort_by_key(|(mac, _)| macs.iter().position(|have| have == mac));
    Assigned { names: taken, warnings }
}

fn mismatch(wanted: &[&str], free: &[MacAddr]) -> Vec<String> {
    if wanted.is_empty() || wanted.len() == free.len() {
        return Vec::new();
    }
    if wanted.len() > free.len() {
        let rest = wanted.get(free.len()..).unwrap_or_default().join(", ");
        return vec![format!("the guest configures more interfaces than the machine has adapters; without one: {rest}")];
    }
    let pairs: Vec<String> = free.iter().zip(wanted).map(|(mac, name)| format!("{name} to {mac}")).collect();
    vec![format!(
        "the machine has more adapters than the guest configures and nothing tells which is which; given in order: {}",
        pairs.join(", ")
    )]
}

/// A name that the kernel accepts (dev_valid_name in net/core/dev.c) and that is safe in a file name.
fn is_interface_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() < 16 && name.bytes().all(plain) && !matches!(name, "." | "..")
}

/// True for a name that an Ethernet adapter can have: not a bridge, bond, VLAN, tunnel or wireless one.
pub(super) fn is_physical(name: &str) -> bool {
    let digits_after = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let predictable = ["eno", "ens", "enp", "enP", "enX", "enx"].iter().any(|prefix| {
        name.len() > prefix.len() && name.starts_with(prefix)
    });
    // biosdevname: em1, p2p1.
    let bios = digits_after("em") || (digits_after("p") && name.contains('p'));
    let other = ["eth", "lan", "net", "nic", "wan", "dmz"].iter().any(|prefix| digits_after(prefix));
    (predictable || bios || other) && !name.contains(['.', ':', '*', '?', '['])
}

/// Place of a name in the machine's order: on-board, then by slot, bus and port.
///
/// VMware numbers PCI slots of bridges 160, 192, 224, 256 first, and on each of them the further functions 161, 193, …
/// (pciSlotNumber 1184 = 160 + 1024 appears as ens161).
pub(super) fn slot(name: &str) -> (u8, u64, u64, u64, String) {
    const BRIDGE_SLOTS_FROM: u64 = 160;
    const FUNCTIONS: u64 = 32;
    let class = ["eth", "em", "eno", "ens", "enp", "p", "enP", "enX"].iter().position(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u64>().ok());
    let (first, second) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = match name.starts_with("ens") && first >= BRIDGE_SLOTS_FROM {
        true => (BRIDGE_SLOTS_FROM + first % FUNCTIONS, first),
        false => (first, 0),
    };
    let class = class.and_then(|class| u8::try_from(class).ok()).unwrap_or(u8::MAX);
    (class, major, minor, second, name.to_owned())
}

#[cfg(test)]
mod tests {
    use types::NicNetwork;

    use super::*;

    fn nic(last: u8) -> Nic {
        Nic {
            mac: Some(MacAddr([0, 0x50, 0x56, 0, 0, last])),
            model: None,
            network: NicNetwork::Network("default".into()),
            source_network: String::new(),
            guest_name: None,
        }
    }

    fn configured(name: &str, mac: Option<u8>) -> Configured {
        let mac = mac.map(|last| MacAddr([0, 0x50, 0x56, 0, 0, last]));
        Configured { name: Some(name.into()), mac, file: String::new(), is_rule: false }
    }

    fn names(assigned: &Assigned) -> Vec<(u8, &str)> {
        assigned.names.iter().map(|(mac, name)| (mac.0[5], name.as_str())).collect()
    }

    #[test]
    fn vmware_slots_are_ordered_as_vmware_numbers_adapters() {
        let mut names = ["ens257", "ens161", "ens192", "ens256", "ens160", "ens224", "ens193"];
        names.sort_by_key(|name| slot(name));
        assert_eq!(names, ["ens160", "ens192", "ens224", "ens256", "ens161", "ens193", "ens257"]);
        let mut names = ["enp3s0", "eth10", "eth2", "ens34", "ens33", "eno1"];
        names.sort_by_key(|name| slot(name));
        assert_eq!(names, ["eth2", "eth10", "eno1", "ens33", "ens34", "enp3s0"]);
    }

    #[test]
    fn a_mac_in_the_configuration_wins_over_the_order() {
        let found = assign(&[nic(1), nic(2)], &[configured("ens192", Some(2)), configured("ens224", None)]);
        assert_eq!(names(&found), [(1, "ens224"), (2, "ens192")]);
        assert!(found.warnings.is_empty());
    }

    #[test]
    fn only_adapters_get_names_and_a_mismatch_is_said() {
        let all = [configured("bond0", None), configured("ens224", None), configured("ens192", None)];
        let found = assign(&[nic(1)], &all);
        assert_eq!(names(&found), [(1, "ens192")]);
        assert!(found.warnings[0].contains("ens224"), "{:?}", found.warnings);
        let found = assign(&[nic(1), nic(2)], &[configured("ens192", None)]);
        assert_eq!(names(&found), [(1, "ens192")]);
        assert!(found.warnings[0].contains("given in order"), "{:?}", found.warnings);
    }

    #[test]
    fn hostile_names_become_no_file_names() {
        let found = assign(&[nic(1)], &[configured("../../etc/passwd", Some(1)), configured("ens1/../../x", None)]);
        assert_eq!(found.names, []);
    }

    #[test]
    fn bridges_bonds_vlans_and_globs_are_no_adapters() {
        for name in ["br0", "bond0", "vlan10", "ens192.10", "eth0:1", "wlan0", "wlp2s0", "docker0", "en*", "lo", "tun0"] {
            assert!(!is_physical(name), "{name}");
        }
        for name in ["eth0", "ens192", "enp0s3", "eno16777736", "em1", "p2p1", "enx005056000001", "lan0"] {
            assert!(is_physical(name), "{name}");
        }
    }
}
