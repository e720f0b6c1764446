//! Assignment of names, from entries as the readers make them.

use types::NicNetwork;

use super::*;

fn mac(last: u8) -> MacAddr {
    MacAddr([0, 0x50, 0x56, 0, 0, last])
}

fn nic(last: u8) -> Nic {
    Nic {
        mac: Some(mac(last)),
        model: None,
        network: NicNetwork::Network("default".into()),
        source_network: String::new(),
        guest_name: None,
    }
}

fn configured(name: &str, last: Option<u8>) -> Configured {
    Configured {
        name: Some(name.into()),
        mac: last.map(mac),
        ..Configured::default()
    }
}

fn assigned(nics: &[Nic], entries: Vec<Configured>) -> Assigned {
    let mut found = Found::default();
    entries.into_iter().for_each(|entry| found.add(entry));
    assign(nics, &found, false)
}

fn names(assigned: &Assigned) -> Vec<(u8, &str)> {
    assigned
        .names
        .iter()
        .map(|(mac, name)| (mac.0[5], name.as_str()))
        .collect()
}

#[test]
fn vmware_slots_are_ordered_as_vmware_numbers_adapters() {
    let mut names = [
        "ens257", "ens161", "ens192", "ens256", "ens160", "ens224", "ens193",
    ];
    names.sort_by_key(|name| slot(name));
    assert_eq!(
        names,
        [
            "ens160", "ens192", "ens224", "ens256", "ens161", "ens193", "ens257"
        ]
    );
    let mut names = ["enp3s0", "eth10", "eth2", "ens34", "ens33", "eno1"];
    names.sort_by_key(|name| slot(name));
    assert_eq!(names, ["eth2", "eth10", "eno1", "ens33", "ens34", "enp3s0"]);
}

#[test]
fn a_mac_in_the_configuration_wins_over_the_order() {
    let found = assigned(
        &[nic(1), nic(2)],
        vec![configured("ens192", Some(2)), configured("ens224", None)],
    );
    assert_eq!(names(&found), [(1, "ens224"), (2, "ens192")]);
    assert!(found.warnings.is_empty());
}

#[test]
fn order_alone_is_said_and_so_is_a_mismatch() {
    let all = || {
        vec![
            configured("bond0", None),
            configured("ens224", None),
            configured("ens192", None),
        ]
    };
    let found = assigned(&[nic(1)], all());
    assert_eq!(names(&found), [(1, "ens192")]);
    assert!(
        found.warnings[0].contains("without one: ens224"),
        "{:?}",
        found.warnings
    );
    let found = assigned(&[nic(1), nic(2)], all());
    assert_eq!(names(&found), [(1, "ens192"), (2, "ens224")]);
    assert!(
        found.warnings[0].contains("ens224 to 00:50:56:00:00:02"),
        "{:?}",
        found.warnings
    );
    let found = assigned(&[nic(1), nic(2)], vec![configured("ens192", None)]);
    assert_eq!(names(&found), [(1, "ens192")]);
    assert!(
        found.warnings[0].contains("given in order"),
        "{:?}",
        found.warnings
    );
    let found = assigned(&[nic(1)], vec![configured("ens192", None)]);
    assert!(found.warnings.is_empty());
}

#[test]
fn hostile_names_become_no_file_names() {
    let found = assigned(
        &[nic(1)],
        vec![
            configured("../../etc/passwd", Some(1)),
            configured("ens1/../../x", None),
            configured("ens1\n[Link]", None),
        ],
    );
    assert_eq!(found.names, []);
}

#[test]
fn an_adapter_configured_by_mac_alone_takes_no_others_name() {
    let by_mac = Configured {
        mac: Some(mac(1)),
        ..Configured::default()
    };
    let found = assigned(&[nic(1), nic(2)], vec![by_mac, configured("ens224", None)]);
    assert_eq!(names(&found), [(2, "ens224")]);
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
}

#[test]
fn the_only_adapter_with_a_driver_gets_the_name_that_goes_with_it() {
    let mut nics = [nic(1), nic(2)];
    nics[0].model = Some(NicModel::E1000);
    nics[1].model = Some(NicModel::Vmxnet3);
    let by_driver = Configured {
        driver: Some("vmxnet*".into()),
        ..configured("ens160", None)
    };
    let found = assigned(&nics, vec![by_driver, configured("ens192", None)]);
    assert_eq!(names(&found), [(1, "ens192"), (2, "ens160")]);
}

#[test]
fn places_on_the_bus_order_names_of_their_own() {
    let at = |name: &str, path: &str| Configured {
        path: Some(path.into()),
        kind: Kind::Adapter,
        ..configured(name, None)
    };
    let found = assigned(
        &[nic(1), nic(2)],
        vec![
            at("dmz", "pci-0000:13:00.0"),
            at("office", "pci-0000:0b:00.0"),
        ],
    );
    assert_eq!(names(&found), [(1, "office"), (2, "dmz")]);
    let nameless = |path: &str| Configured {
        name: None,
        ..at("x", path)
    };
    let found = assigned(
        &[nic(1), nic(2)],
        vec![nameless("pci-0000:13:00.0"), nameless("pci-0000:03:00.0")],
    );
    assert_eq!(found.paths[0], (mac(1), "pci-0000:03:00.0".into()));
    assert_eq!(found.paths[1], (mac(2), "pci-0000:13:00.0".into()));
}

#[test]
fn a_pattern_that_new_names_would_miss_gets_names_that_fit() {
    let glob = |glob: &str| Configured {
        glob: Some(glob.into()),
        ..Configured::default()
    };
    let found = assigned(&[nic(1), nic(2)], vec![glob("ens*")]);
    assert_eq!(names(&found), [(1, "ens0"), (2, "ens1")]);
    let found = assigned(&[nic(1), nic(2)], vec![glob("ens1*"), glob("ens2*")]);
    assert_eq!(names(&found), [(1, "ens10"), (2, "ens20")]);
    for harmless in ["en*", "e*", "*", "veth*", "br-*", "wl*"] {
        assert_eq!(
            assigned(&[nic(1)], vec![glob(harmless)]).names,
            [],
            "{harmless}"
        );
    }
}

#[test]
fn a_bridge_with_an_adapters_name_is_none() {
    let bridge = Configured {
        kind: Kind::Virtual,
        ..configured("lan0", None)
    };
    let found = assigned(
        &[nic(1)],
        vec![configured("lan0", None), bridge, configured("eth0", None)],
    );
    assert_eq!(names(&found), [(1, "eth0")]);
}

#[test]
fn names_of_the_kernel_in_another_order_are_said() {
    let found = assigned(
        &[nic(1), nic(2)],
        vec![configured("eth1", Some(1)), configured("eth0", Some(2))],
    );
    assert_eq!(names(&found), [(1, "eth1"), (2, "eth0")]);
    assert!(
        found.warnings[0].contains("another order"),
        "{:?}",
        found.warnings
    );
    let found = assigned(&[nic(1)], vec![configured("eth1", Some(1))]);
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
}

#[test]
fn leftover_rules_name_no_adapter_and_enx_names_their_own() {
    let rule = Configured {
        kind: Kind::Rule,
        ..configured("eth7", Some(9))
    };
    let found = assigned(
        &[nic(1), nic(2)],
        vec![rule, configured("enx005056000002", None)],
    );
    assert_eq!(names(&found), [(2, "enx005056000002")]);
}

#[test]
fn bridges_bonds_vlans_and_globs_are_no_adapters() {
    for name in [
        "br0",
        "bond0",
        "vlan10",
        "ens192.10",
        "eth0:1",
        "wlan0",
        "wlp2s0",
        "docker0",
        "en*",
        "lo",
        "tun0",
    ] {
        assert!(!is_physical(name), "{name}");
    }
    for name in [
        "eth0",
        "ens192",
        "enp0s3",
        "eno16777736",
        "em1",
        "p2p1",
        "enx005056000001",
        "lan0",
    ] {
        assert!(is_physical(name), "{name}");
    }
}

#[test]
fn what_was_seen_at_the_last_run_is_better_than_the_order() {
    let seen = |name: &str, last: u8| Configured {
        kind: Kind::Seen,
        ..configured(name, Some(last))
    };
    let found = assigned(
        &[nic(1), nic(2)],
        vec![
            configured("ens192", None),
            configured("ens224", None),
            seen("ens192", 2),
            seen("eth0", 1),
            seen("ens224", 9),
        ],
    );
    assert_eq!(names(&found), [(1, "ens224"), (2, "ens192")]);
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
}

#[test]
fn ports_of_one_bond_may_be_given_in_order_without_a_word() {
    let port = |name: &str, of: &str| Configured {
        port_of: Some(of.into()),
        ..configured(name, None)
    };
    let of = |one: &str, other: &str| {
        let entries = vec![port("ens192", one), port("ens224", other)];
        assigned(&[nic(1), nic(2)], entries).warnings.len()
    };
    assert_eq!((of("bond0", "bond0"), of("bond0", "bond1")), (0, 1));
}
