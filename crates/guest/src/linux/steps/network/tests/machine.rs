//! What else ties a guest to its old machine: stale MACs, places on the bus, old and absent udev, kernel arguments,
//! cloud-init.

use types::NicModel;

use super::Case;

#[test]
fn places_on_the_bus_become_macs() {
    let case = Case::new(
        2,
        &[
            (
                "/etc/systemd/network/10-lan.link",
                "[Match]\nPath=pci-0000:0b:00.0\n\n[Link]\nName=lan\nMTUBytes=9000\n",
            ),
            (
                "/etc/systemd/network/10-dmz.link",
                "[Match]\nPath=pci-0000:13:00.0\n\n[Link]\nName=dmz\n",
            ),
            (
                "/etc/systemd/network/20-lan.network",
                "[Match]\nName=lan\n\n[Network]\nDHCP=yes\n",
            ),
            (
                "/etc/NetworkManager/system-connections/dmz.nmconnection",
                "[connection]\nid=dmz\ntype=ethernet\ninterface-name=dmz\n\n[match]\npath=pci-0000:13:00.0;\n",
            ),
        ],
    );
    insta::assert_snapshot!(case.golden());
}

#[test]
fn a_nameless_profile_by_place_goes_by_mac() {
    let profile = |id: &str, path: &str| {
        format!(
            "[connection]\nid={id}\ntype=ethernet\n\n[match]\npath={path};\n\n[802-3-ethernet]\nmtu=9000\n"
        )
    };
    let case = Case::new(
        2,
        &[
            (
                "/etc/NetworkManager/system-connections/a",
                &profile("a", "pci-0000:1b:00.0"),
            ),
            (
                "/etc/NetworkManager/system-connections/b",
                &profile("b", "pci-0000:03:00.0"),
            ),
        ],
    );
    insta::assert_snapshot!(case.golden());
}

#[test]
fn suses_name_by_slot_becomes_one_by_mac() {
    let case = Case::new(
        1,
        &[(
            "/etc/sysconfig/network/ifcfg-eth-bus-pci-0000:02:01.0",
            "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n",
        )],
    );
    insta::assert_snapshot!(case.golden());
}

#[test]
fn a_driver_of_all_adapters_is_replaced_and_of_some_said() {
    let netplan = "network:\n  ethernets:\n    all:\n      match:\n        driver:\n          - vmxnet3\n          - e1000\n      dhcp4: true\n  version: 2\n";
    let all = Case::new(2, &[("/etc/netplan/a.yaml", netplan)]);
    let some = Case::new(
        3,
        &[(
            "/etc/systemd/network/a.network",
            "[Match]\nDriver=vmxnet3\n\n[Network]\nDHCP=yes\n",
        )],
    )
    .models(&[NicModel::Vmxnet3, NicModel::Vmxnet3, NicModel::E1000]);
    insta::assert_snapshot!(format!("{}#####\n{}", all.golden(), some.golden()));
}

#[test]
fn rules_by_slot_and_stale_rules_go() {
    let mut case = Case::new(
        2,
        &[
            (
                "/etc/udev/rules.d/10-net.rules",
                "# by slot\nSUBSYSTEM==\"net\", KERNELS==\"0000:02:00.0\", NAME=\"eth0\"\nSUBSYSTEM==\"net\", KERNELS==\"0000:02:05.0\", NAME=\"uplink\"\n",
            ),
            (
                "/etc/udev/rules.d/70-persistent-net.rules",
                "# PCI device (e1000)\nSUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{address}==\"00:0c:29:aa:00:01\", NAME=\"eth0\"\n",
            ),
            (
                "/etc/network/interfaces",
                "auto eth0 uplink\niface eth0 inet dhcp\niface uplink inet dhcp\n",
            ),
        ],
    );
    // No rule applies .link files.
    case.links.push((
        "/etc/udev/rules.d/80-net-setup-link.rules".into(),
        "/dev/null".into(),
    ));
    insta::assert_snapshot!(case.golden());
}

#[test]
fn udev_of_redhat_5_gets_rules_in_its_own_words() {
    let mut case = Case::new(
        1,
        &[
            (
                "/etc/udev/rules.d/60-net.rules",
                "ACTION==\"add\", SUBSYSTEM==\"net\", SYSFS{address}==\"ff\", NAME=\"x\"\n",
            ),
            (
                "/etc/sysconfig/network-scripts/ifcfg-eth0",
                "DEVICE=eth0\nHWADDR=00:0C:29:AA:00:01\nONBOOT=yes\n",
            ),
        ],
    );
    case.files.push((
        "/usr/lib/udev/rules.d/80-net-setup-link.rules".into(),
        String::new(),
    ));
    insta::assert_snapshot!(case.golden());
}

#[test]
fn busybox_names_by_mactab_or_by_the_kernels_order() {
    let alpine = |interfaces: &str, conf: &str| {
        let case = Case::new(
            2,
            &[
                ("/etc/network/interfaces", interfaces),
                ("/etc/mdev.conf", conf),
            ],
        );
        let tree = case.tree();
        std::fs::remove_dir_all(tree.at("/usr/lib/udev")).unwrap();
        let outcome = case.convert(&tree);
        assert_eq!(case.convert(&tree).changes, []);
        let mactab = std::fs::read_to_string(tree.at("/etc/mactab")).unwrap_or_default();
        (mactab, outcome.warnings)
    };
    let nameif = "-SUBSYSTEM=net;DEVPATH=.*/net/.*;.*\troot:root 600 @/sbin/nameif -s\n";
    let two = "auto eth0\niface eth0 inet dhcp\nauto eth1\niface eth1 inet dhcp\n";
    let (mactab, warnings) = alpine(two, nameif);
    assert_eq!(mactab, "");
    assert!(
        !warnings.iter().any(|warning| warning.contains("no udev")),
        "{warnings:?}"
    );
    let lan = "rename */mac/00:50:56:00:00:02=lan0\nauto lan0\niface lan0 inet dhcp\n";
    let (mactab, _) = alpine(lan, nameif);
    assert_eq!(mactab, "lan0 00:50:56:00:00:02\n");
    let (mactab, warnings) = alpine(lan, "# nothing\n");
    assert_eq!(mactab, "");
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("lan0 (00:50:56:00:00:02)")),
        "{warnings:?}"
    );
}

#[test]
fn stale_macs_are_replaced_or_said() {
    let case = Case::new(
        2,
        &[
            (
                "/etc/sysconfig/network-scripts/ifcfg-eth0",
                "DEVICE=eth0\nHWADDR=\"00:0C:29:AA:00:01\"\nONBOOT=yes\n",
            ),
            (
                "/etc/sysconfig/network-scripts/ifcfg-extra",
                "HWADDR=00:0C:29:AA:00:03\nONBOOT=yes\n",
            ),
            (
                "/etc/systemd/network/old.network",
                "[Match]\nMACAddress=00:0c:29:aa:00:04\n",
            ),
        ],
    );
    insta::assert_snapshot!(case.golden());
}

#[test]
fn settings_of_a_link_that_would_be_overtaken_are_kept() {
    let case = Case::new(
        1,
        &[
            (
                "/etc/systemd/network/00-all.link",
                "[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=path\nMTUBytes=9000\n",
            ),
            (
                "/etc/netplan/a.yaml",
                "network:\n  ethernets:\n    ens192:\n      dhcp4: true\n",
            ),
        ],
    );
    insta::assert_snapshot!(case.golden());
}

#[test]
fn kernel_arguments_name_adapters() {
    let case = Case::new(
        2,
        &[(
            "/etc/default/grub",
            "GRUB_CMDLINE_LINUX=\"ip=10.0.0.2::10.0.0.1:255.255.255.0:nas:ens224:none ifname=boot0:00:50:56:00:00:02 bond=bond0:boot0,ens224\"\n",
        )],
    );
    insta::assert_snapshot!(case.golden());
}

#[test]
fn biosdevnames_and_custom_names_stay() {
    let case = Case::new(
        3,
        &[
            (
                "/etc/sysconfig/network-scripts/ifcfg-em1",
                "DEVICE=em1\nONBOOT=yes\n",
            ),
            (
                "/etc/sysconfig/network-scripts/ifcfg-p2p1",
                "DEVICE=p2p1\nONBOOT=yes\n",
            ),
            (
                "/etc/sysconfig/network-scripts/ifcfg-backup",
                "DEVICE=backup\nTYPE=Ethernet\nONBOOT=yes\n",
            ),
        ],
    );
    insta::assert_snapshot!(case.golden());
}

const RENDERED: &str = "# This file is generated from information provided by the datasource.\nnetwork:\n  version: 2\n  ethernets:\n    ens192:\n      match:\n        macaddress: \"00:50:56:00:00:01\"\n      set-name: ens192\n      addresses: [10.0.0.2/24]\n      nameservers:\n        addresses: [1.1.1.1]\n";

#[test]
fn cloud_init_that_would_lose_the_address_leaves_the_network_alone() {
    let case = Case::new(
        1,
        &[
            ("/usr/bin/cloud-init", ""),
            (
                "/etc/cloud/cloud.cfg",
                "datasource_list: [VMware, OVF, None]\n",
            ),
            ("/etc/netplan/50-cloud-init.yaml", RENDERED),
        ],
    );
    insta::assert_snapshot!(case.golden());
}

#[test]
fn cloud_init_is_left_alone_where_nothing_would_be_lost() {
    let dhcp = RENDERED.replace("      addresses: [10.0.0.2/24]\n", "      dhcp4: true\n");
    let own = "network:\n  version: 1\n  config:\n  - type: physical\n    name: ens192\n";
    let netplan = "/etc/netplan/50-cloud-init.yaml";
    let there = ("/usr/bin/cloud-init", "");
    let ifcfg = "# Created by cloud-init automatically, do not edit.\nBOOTPROTO=dhcp\nDEVICE=ens192\nHWADDR=00:50:56:00:00:01\n";
    for (why, files) in [
        ("DHCP", vec![there, (netplan, dhcp.as_str())]),
        ("not installed", vec![(netplan, RENDERED)]),
        (
            "disabled",
            vec![
                there,
                (netplan, RENDERED),
                ("/etc/cloud/cloud-init.disabled", ""),
            ],
        ),
        (
            "own network",
            vec![
                there,
                (netplan, RENDERED),
                ("/etc/cloud/cloud.cfg.d/50-curtin-networking.cfg", own),
            ],
        ),
        (
            "off already",
            vec![
                there,
                (netplan, RENDERED),
                (
                    "/etc/cloud/cloud.cfg.d/x.cfg",
                    "network: {config: disabled}\n",
                ),
            ],
        ),
        (
            "seed",
            vec![
                there,
                (netplan, RENDERED),
                ("/var/lib/cloud/seed/nocloud/meta-data", ""),
            ],
        ),
        (
            "ifcfg by DHCP",
            vec![
                there,
                ("/etc/sysconfig/network-scripts/ifcfg-ens192", ifcfg),
            ],
        ),
    ] {
        let case = Case::new(1, &files);
        let tree = case.tree();
        case.convert(&tree);
        assert!(
            !tree
                .at("/etc/cloud/cloud.cfg.d/99-v2v-network.cfg")
                .exists(),
            "{why}"
        );
    }
    let case = Case::new(
        1,
        &[
            there,
            (netplan, RENDERED),
            ("/etc/kernel/cmdline", "root=UUID=1 cloud-init=disabled\n"),
        ],
    );
    assert!(
        !case
            .convert(&case.tree())
            .changes
            .iter()
            .any(|change| change.path.contains("cloud"))
    );
    let fixed = ifcfg.replace("BOOTPROTO=dhcp", "BOOTPROTO=none\nIPADDR=10.0.0.2");
    let case = Case::new(
        1,
        &[
            there,
            ("/etc/sysconfig/network-scripts/ifcfg-ens192", &fixed),
        ],
    );
    let tree = case.tree();
    case.convert(&tree);
    assert!(
        tree.at("/etc/cloud/cloud.cfg.d/99-v2v-network.cfg")
            .exists()
    );
}

#[test]
fn patterns_of_names_get_names_that_fit() {
    let network = "[Match]\nName=ens*\n\n[Network]\nDHCP=yes\n";
    let case = Case::new(1, &[("/etc/systemd/network/a.network", network)]);
    let tree = case.tree();
    case.convert(&tree);
    assert!(
        tree.text("/etc/systemd/network/10-v2v-ens0.link")
            .contains("Name=ens0")
    );
    assert_eq!(case.convert(&tree).changes, []);
    // The kernel's own names fit here.
    let case = Case::new(
        1,
        &[
            (
                "/etc/systemd/network/a.network",
                "[Match]\nName=eth*\n\n[Network]\nDHCP=yes\n",
            ),
            (
                "/etc/default/grub",
                "GRUB_CMDLINE_LINUX=\"net.ifnames=0\"\n",
            ),
        ],
    );
    let tree = case.tree();
    case.convert(&tree);
    assert!(!tree.at("/etc/systemd/network/10-v2v-eth0.link").exists());
}
