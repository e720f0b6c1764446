//! Names of network interfaces as the installed system has them.

use super::tree::Tree;

const MAC: &str = "00:11:22:33:44:55";

fn only(tree: &Tree) -> wire::inventory::Nic {
    let mut nics = tree.detect().nics;
    assert_eq!(nics.len(), 1, "{nics:?}");
    nics.remove(0)
}

#[test]
fn qemus_e1000e_on_q35_is_named_by_its_place() {
    let tree = Tree::new();
    let place = "pci0000:00/0000:00:02.0";
    tree.pci(place, "e1000e", "0x020000");
    tree.nic(
        "eth0",
        place,
        MAC,
        &[
            ("carrier", "1"),
            ("speed", "1000"),
            ("dev_port", "0"),
            ("ifindex", "2"),
        ],
    );
    tree.files(&[("sys/class/net/lo/address", "00:00:00:00:00:00")]);
    let nic = only(&tree);
    assert_eq!(
        (&*nic.name, &*nic.kernel_name, &*nic.mac),
        ("enp0s2", "eth0", MAC)
    );
    assert_eq!(nic.alternative_names, ["enp0s2", "enx001122334455"]);
    assert_eq!(
        (&*nic.driver, &*nic.vendor, nic.link, nic.speed_mbits),
        ("e1000e", "Intel", true, 1000)
    );
}

#[test]
fn a_servers_onboard_ports_are_numbered_by_firmware() {
    let tree = Tree::new();
    for function in [0, 1] {
        let place = format!("pci0000:00/0000:00:01.0/0000:01:00.{function}");
        tree.pci(&place, "bnx2x", "0x020000");
        tree.file(
            &format!("sys/devices/{place}/index"),
            (function + 1).to_string(),
        );
        let mut config = [0u8; 64];
        config[14] = 0x80;
        tree.file(&format!("sys/devices/{place}/config"), config);
        tree.nic(
            &format!("eth{}", 1 - function),
            &place,
            &format!("00:11:22:33:44:5{function}"),
            &[],
        );
    }
    let nics = tree.detect().nics;
    let names: Vec<_> = nics
        .iter()
        .map(|nic| (&*nic.name, &*nic.kernel_name))
        .collect();
    assert_eq!(names, [("eno1", "eth1"), ("eno2", "eth0")]);
    assert_eq!(
        nics[0].alternative_names,
        ["eno1", "enp1s0f0", "enx001122334450"]
    );
    assert!(!nics[0].link && nics[0].speed_mbits == 0);
}

#[test]
fn slots_count_on_the_device_and_on_a_bridge_with_several_functions_only() {
    let tree = Tree::new();
    let bridge = "pci0000:00/0000:00:03.0";
    tree.pci(bridge, "pcieport", "0x060400");
    let place = format!("{bridge}/0000:04:00.0");
    tree.pci(&place, "ixgbe", "0x020000");
    tree.nic("eth0", &place, MAC, &[("dev_port", "1")]);
    tree.files(&[("sys/bus/pci/slots/5/address", "0000:00:03")]);
    assert_eq!(only(&tree).name, "enp4s0d1", "a bridge's slot");
    let mut config = [0u8; 64];
    config[14] = 0x80;
    tree.file(&format!("sys/devices/{place}/config"), config);
    assert_eq!(only(&tree).name, "ens5f0d1");
    tree.files(&[
        ("sys/bus/pci/slots/2/address", "0000:04:00"),
        ("sys/bus/pci/slots/2-1/address", "0000:04:00"),
    ]);
    assert_eq!(only(&tree).name, "ens2f0d1");
}

#[test]
fn port_names_domains_and_virtual_functions_are_in_the_name() {
    let tree = Tree::new();
    let place = "pci10000:00/10000:00:02.0/10000:e1:00.1";
    tree.pci(place, "mlx5_core", "0x020000");
    tree.nic(
        "eth0",
        place,
        MAC,
        &[("phys_port_name", "p0"), ("dev_port", "1")],
    );
    assert_eq!(only(&tree).name, "enP65536p225s0f1np0");
    let function = "pci10000:00/10000:00:02.0/10000:e1:01.0";
    tree.pci(function, "mlx5_core", "0x020000");
    tree.link(
        &format!("sys/devices/{function}/physfn"),
        &format!("sys/devices/{place}"),
    );
    tree.link(
        &format!("sys/devices/{place}/virtfn3"),
        &format!("sys/devices/{function}"),
    );
    tree.nic("eth1", function, "00:11:22:33:44:66", &[]);
    let nics = tree.detect().nics;
    let names: Vec<_> = nics.iter().map(|nic| &*nic.name).collect();
    assert_eq!(names, ["enP65536p225s0f1np0", "enP65536p225s0f1v3"]);
}

#[test]
fn usb_adapters_have_their_ports_in_the_name() {
    let tree = Tree::new();
    let place = "pci0000:00/0000:00:14.0/usb2/2-1/2-1.4/2-1.4:2.1";
    tree.pci("pci0000:00/0000:00:14.0", "xhci_hcd", "0x0c0330");
    tree.files(&[(&format!("sys/devices/{place}/bInterfaceNumber"), "01")]);
    tree.nic("eth0", place, MAC, &[]);
    assert_eq!(only(&tree).name, "enp0s20u1u4c2i1");
}

#[test]
fn udev_knows_better_and_software_interfaces_are_no_adapters() {
    let tree = Tree::new();
    let place = "pci0000:00/0000:00:02.0";
    tree.pci(place, "e1000e", "0x020000");
    tree.nic(
        "eth0",
        place,
        "02:00:00:00:00:01",
        &[
            ("ifindex", "7"),
            ("bonding_slave/perm_hwaddr", MAC),
            ("addr_assign_type", "3"),
        ],
    );
    tree.files(&[
        ("run/udev/data/n7", "I:1\nE:ID_NET_NAME_PATH=enp0s2\nE:ID_NET_NAME_SLOT=ens33\nE:ID_MODEL_FROM_DATABASE=82574L"),
        ("sys/class/net/bond0/address", MAC),
        ("sys/class/net/bond0/type", "1"),
    ]);
    let wifi = "pci0000:00/0000:00:05.0";
    tree.pci(wifi, "iwlwifi", "0x028000");
    tree.nic("wlan0", wifi, "00:11:22:33:44:77", &[("wireless/x", "")]);
    let nic = only(&tree);
    assert_eq!(
        (&*nic.name, &*nic.mac, &*nic.model),
        ("ens33", MAC, "82574L")
    );
    assert_eq!(nic.alternative_names[..2], ["ens33", "enp0s2"]);
}
