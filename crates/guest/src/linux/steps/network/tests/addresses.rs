//! `--mac MAC:ip:…` in the words of each manager: the interface's old addresses go, everything else stays.

use types::StaticIp;

use super::Case;
use crate::tests::tree::mac;

fn ips(last: u8) -> Vec<StaticIp> {
    let v4 = StaticIp {
        mac: mac(last),
        address: "192.0.2.5".parse().unwrap(),
        gateway: Some("192.0.2.1".parse().unwrap()),
        prefix_len: Some(24),
        nameservers: vec!["192.0.2.53".parse().unwrap()],
    };
    let v6 = StaticIp {
        mac: mac(last),
        address: "2001:db8::5".parse().unwrap(),
        gateway: Some("2001:db8::1".parse().unwrap()),
        prefix_len: Some(64),
        nameservers: vec![
            "2001:db8::53".parse().unwrap(),
            "192.0.2.53".parse().unwrap(),
        ],
    };
    vec![v4, v6]
}

/// The golden of a case in which the first of two adapters gets its addresses.
fn golden(files: &[(&str, &str)], links: &[(&str, &str)]) -> String {
    let mut case = Case::new(2, files);
    case.ips = ips(1);
    case.links = links
        .iter()
        .map(|(path, target)| ((*path).into(), (*target).into()))
        .collect();
    case.golden()
}

#[test]
fn netplans_definition_is_changed_in_place() {
    insta::assert_snapshot!(golden(
        &[
            ("/usr/sbin/netplan", ""),
            (
                "/etc/netplan/01.yaml",
                "network:\n  version: 2\n  ethernets:\n    # office\n    ens192:\n      mtu: 9000\n      dhcp4: true\n      addresses:\n      - 10.9.9.9/24\n      routes:\n        - to: default\n          via: 10.9.9.1\n    ens224:\n      dhcp4: true\n",
            ),
        ],
        &[],
    ));
}

#[test]
fn netplan_without_a_definition_or_in_one_line_gets_a_file() {
    let netplan = ("/usr/sbin/netplan", "");
    let other = golden(
        &[
            netplan,
            (
                "/etc/netplan/01.yaml",
                "network:\n  version: 2\n  ethernets: {}\n",
            ),
        ],
        &[],
    );
    let flow = golden(
        &[
            netplan,
            (
                "/etc/netplan/01.yaml",
                "network:\n  ethernets:\n    ens192: {dhcp4: true}\n    ens224: {}\n",
            ),
        ],
        &[],
    );
    let empty = golden(
        &[
            netplan,
            (
                "/etc/netplan/01.yaml",
                "network:\n  ethernets:\n    ens192: {}\n    ens224: {}\n",
            ),
        ],
        &[],
    );
    insta::assert_snapshot!(format!("{other}#####\n{flow}#####\n{empty}"));
}

#[test]
fn network_manager_gets_a_profile_and_the_old_one_stays_down() {
    insta::assert_snapshot!(golden(
        &[
            ("/usr/sbin/NetworkManager", ""),
            (
                "/etc/NetworkManager/system-connections/ens192.nmconnection",
                "[connection]\nid=ens192\ntype=ethernet\nautoconnect=true\ninterface-name=ens192\n\n[ipv4]\nmethod=auto\n",
            ),
            (
                "/etc/NetworkManager/system-connections/ens224.nmconnection",
                "[connection]\nid=ens224\ntype=ethernet\ninterface-name=ens224\n\n[ipv4]\nmethod=auto\n",
            ),
        ],
        &[(
            "/etc/systemd/system/multi-user.target.wants/NetworkManager.service",
            "/usr/lib/systemd/system/NetworkManager.service"
        )],
    ));
}

#[test]
fn network_manager_with_ifcfg_files_keeps_them() {
    insta::assert_snapshot!(golden(
        &[
            ("/usr/sbin/NetworkManager", ""),
            (
                "/etc/sysconfig/network-scripts/ifcfg-ens192",
                "TYPE=Ethernet\nBOOTPROTO=dhcp\nDEFROUTE=yes\nIPV6INIT=no\nNAME=ens192\nUUID=8a1c9a0e-0000-4000-8000-000000000001\nDEVICE=ens192\nONBOOT=no\nZONE=public\nIPADDR0=10.9.9.9\nDNS1=10.9.9.1\n",
            ),
            (
                "/etc/sysconfig/network-scripts/ifcfg-ens224",
                "DEVICE=ens224\nBOOTPROTO=dhcp\n"
            ),
        ],
        &[(
            "/etc/systemd/system/multi-user.target.wants/NetworkManager.service",
            "/usr/lib/systemd/system/NetworkManager.service"
        )],
    ));
}

#[test]
fn wicked_gets_address_route_and_servers() {
    insta::assert_snapshot!(golden(
        &[
            (
                "/etc/sysconfig/network/config",
                "## Type: string\nNETCONFIG_DNS_POLICY=\"auto\"\nNETCONFIG_DNS_STATIC_SERVERS=\"\"\n"
            ),
            (
                "/etc/sysconfig/network/ifcfg-ens192",
                "BOOTPROTO='static'\nIPADDR='10.9.9.9/24'\nIPADDR_0='10.9.9.8/24'\nSTARTMODE='auto'\nZONE='public'\n"
            ),
            ("/etc/sysconfig/network/ifcfg-ens224", "BOOTPROTO='dhcp'\n"),
            (
                "/etc/sysconfig/network/routes",
                "default 10.9.9.1 - -\n10.1.0.0/16 10.9.9.2 - ens192\n"
            ),
        ],
        &[],
    ));
}

#[test]
fn ifupdown_gets_stanzas_and_resolv_conf() {
    insta::assert_snapshot!(golden(
        &[
            ("/usr/sbin/ifup", ""),
            (
                "/etc/resolv.conf",
                "search example.org\nnameserver 10.9.9.1\n"
            ),
            (
                "/etc/network/interfaces",
                "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n\nallow-hotplug ens192\niface ens192 inet dhcp\n\nauto ens224\niface ens224 inet static\n\taddress 10.1.1.1/24\n",
            ),
            (
                "/etc/network/interfaces.d/six",
                "iface ens192 inet6 auto\n    accept_ra 2\n"
            ),
        ],
        &[],
    ));
}

#[test]
fn networkd_gets_a_file_before_the_others() {
    let enabled = [(
        "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
        "/usr/lib/systemd/system/systemd-networkd.service",
    )];
    let dhcp = |name: &str| format!("[Match]\nName={name}\n\n[Network]\nDHCP=yes\n");
    let two = "ens192 ens224";
    insta::assert_snapshot!(format!(
        "{}#####\n{}",
        golden(
            &[("/etc/systemd/network/20-a.network", &dhcp(two))],
            &enabled
        ),
        golden(
            &[("/etc/systemd/network/00-a.network", &dhcp(two))],
            &enabled
        )
    ));
}

#[test]
fn netifrc_netctl_and_etcnet_are_changed_in_place() {
    let gentoo = golden(
        &[
            ("/etc/init.d/net.lo", "#!/sbin/openrc-run\n"),
            (
                "/etc/conf.d/net",
                "config_ens192=\"10.9.9.9/24\n10.9.9.8/24\"\nroutes_ens192=\"default via 10.9.9.1\"\nconfig_ens224=\"dhcp\"\n",
            ),
        ],
        &[],
    );
    let arch = golden(
        &[
            ("/usr/bin/netctl", ""),
            (
                "/etc/netctl/wired",
                "Description='wired'\nInterface=ens192\nConnection=ethernet\nIP=static\nAddress=('10.9.9.9/24'\n  '10.9.9.8/24')\nGateway='10.9.9.1'\n",
            ),
            (
                "/etc/netctl/other",
                "Interface=ens224\nConnection=ethernet\nIP=dhcp\n",
            ),
        ],
        &[],
    );
    let fresh = golden(
        &[
            ("/usr/bin/netctl", ""),
            (
                "/etc/default/grub",
                "GRUB_CMDLINE_LINUX=\"ip=ens192:dhcp\"\n",
            ),
        ],
        &[],
    );
    let alt = golden(
        &[
            (
                "/etc/net/ifaces/ens192/options",
                "TYPE=eth\nBOOTPROTO=dhcp\nDISABLED=no\n",
            ),
            (
                "/etc/net/ifaces/ens224/options",
                "TYPE=eth\nBOOTPROTO=dhcp\n",
            ),
        ],
        &[],
    );
    insta::assert_snapshot!(format!("{gentoo}#####\n{arch}#####\n{fresh}#####\n{alt}"));
}

#[test]
fn dhcpcd_and_connman_get_blocks() {
    let void = golden(
        &[
            ("/usr/bin/dhcpcd", ""),
            (
                "/etc/dhcpcd.conf",
                "hostname\ninterface ens192\nstatic ip_address=10.9.9.9/24\nmetric 100\ninterface ens224\nstatic ip_address=10.1.1.1/24",
            ),
        ],
        &[],
    );
    let connman = golden(
        &[],
        &[(
            "/etc/systemd/system/multi-user.target.wants/connman.service",
            "/usr/lib/systemd/system/connman.service",
        )],
    );
    insta::assert_snapshot!(format!("{void}#####\n{connman}"));
}

#[test]
fn cloud_init_is_kept_from_an_address_that_is_given() {
    insta::assert_snapshot!(golden(
        &[
            ("/usr/bin/cloud-init", ""),
            ("/usr/sbin/netplan", ""),
            (
                "/etc/netplan/50-cloud-init.yaml",
                "network:\n    ethernets:\n        ens192:\n            dhcp4: true\n            match:\n                macaddress: 00:50:56:00:00:01\n            set-name: ens192\n    version: 2\n",
            ),
        ],
        &[],
    ));
}

#[test]
fn a_port_a_stranger_and_a_guest_without_managers_are_refused() {
    let bond = "auto bond0\niface bond0 inet dhcp\n\tbond-slaves ens192 ens224\n";
    for (last, files, expected) in [
        (
            1,
            vec![("/usr/sbin/ifup", ""), ("/etc/network/interfaces", bond)],
            "port of bond0",
        ),
        (
            9,
            vec![("/usr/sbin/ifup", "")],
            "no adapter has this address",
        ),
        (1, vec![], "nothing that configures"),
    ] {
        let mut case = Case::new(2, &files);
        case.ips = ips(last);
        let tree = case.tree();
        let outcome = case.convert(&tree);
        let warnings = &outcome.warnings;
        assert!(
            warnings.iter().any(|warning| warning.contains(expected)),
            "{warnings:?}"
        );
        assert_eq!(outcome.outcome, types::StepOutcome::Skipped, "{expected}");
        assert!(
            !outcome
                .changes
                .iter()
                .any(|change| change.why.contains("--mac")),
            "{expected}"
        );
    }
}
