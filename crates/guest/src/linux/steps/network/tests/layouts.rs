//! {One adapter by name, two where only the order tells, by MAC, by driver, bond over two, VLAN over the bond, bridge}
//! in the words of each manager.

use types::NicModel;

use super::Case;

/// Expected names of the adapters in their order, where the layout ties them.
const LAYOUTS: [(&str, usize, &[&str]); 7] = [
    ("one", 1, &["ens192"]),
    ("two", 2, &["ens192", "ens224"]),
    ("mac", 2, &["ens224", "ens192"]),
    ("driver", 2, &["ens192", "ens224"]),
    ("bond", 2, &["ens192", "ens224"]),
    ("vlan", 2, &["ens192", "ens224"]),
    ("bridge", 1, &["ens192"]),
];

const MAC1: &str = "00:50:56:00:00:01";
const MAC2: &str = "00:50:56:00:00:02";

/// Runs a manager's files through every layout that it can say.
fn every(manager: &str, files: fn(&str) -> Vec<(String, String)>) {
    let mut report = String::new();
    for (layout, nics, names) in LAYOUTS {
        let files = files(layout);
        if files.is_empty() {
            continue;
        }
        let mut case = Case::new(nics, &[]);
        case.files = files;
        if layout == "driver" {
            case = case.models(&[NicModel::E1000, NicModel::Vmxnet3]);
        }
        let golden = case.golden();
        assert_eq!(
            case.convert(&case.tree()).names,
            names,
            "{manager} {layout}"
        );
        report += &format!("##### {manager}: {layout}\n{golden}");
    }
    insta::assert_snapshot!(format!("every_layout_of_{manager}"), report);
}

fn own(files: &[(&str, String)]) -> Vec<(String, String)> {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.clone()))
        .collect()
}

#[test]
fn redhats_ifcfg() {
    every("ifcfg", |layout| {
        let dir = "/etc/sysconfig/network-scripts";
        let file = |name: &str, text: String| (format!("{dir}/ifcfg-{name}"), text);
        let by_name = |name: &str, more: &str| {
            let text = format!(
                "TYPE=\"Ethernet\"\nBOOTPROTO=\"none\"\nNAME=\"{name}\"\nDEVICE=\"{name}\"\nONBOOT=\"yes\"\n{more}"
            );
            file(name, text)
        };
        let lo = file(
            "lo",
            "DEVICE=lo\nIPADDR=127.0.0.1\nNETMASK=255.0.0.0\nONBOOT=yes\n".into(),
        );
        let bond = file(
            "bond0",
            "DEVICE=bond0\nTYPE=Bond\nBONDING_MASTER=yes\nBONDING_OPTS=\"mode=active-backup miimon=100\"\nONBOOT=yes\n".into(),
        );
        let ports = ["ens192", "ens224"].map(|name| by_name(name, "MASTER=bond0\nSLAVE=yes\n"));
        let [first, second] = ports;
        let mut all = match layout {
            "one" => vec![by_name("ens192", "IPADDR=10.0.0.2\nPREFIX=24\n")],
            "two" => vec![by_name("ens224", ""), by_name("ens192", "")],
            "mac" => vec![
                by_name("ens192", &format!("HWADDR={}\n", MAC2.to_uppercase())),
                by_name("ens224", &format!("HWADDR={MAC1}\n")),
            ],
            "bond" => vec![bond, first, second],
            "vlan" => vec![
                bond,
                first,
                second,
                file(
                    "bond0.10",
                    "DEVICE=bond0.10\nVLAN=yes\nIPADDR=10.0.10.2\nPREFIX=24\n".into(),
                ),
            ],
            "bridge" => vec![
                file(
                    "br0",
                    "DEVICE=br0\nTYPE=Bridge\nSTP=no\nIPADDR=10.0.0.2\nPREFIX=24\n".into(),
                ),
                by_name("ens192", "BRIDGE=br0\n"),
            ],
            _ => return Vec::new(),
        };
        all.push(lo);
        all
    });
}

#[test]
fn suses_ifcfg() {
    every("wicked", |layout| {
        let file = |name: &str, text: &str| {
            (
                format!("/etc/sysconfig/network/ifcfg-{name}"),
                text.to_owned(),
            )
        };
        let dhcp = "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n";
        let hot = "BOOTPROTO='none'\nSTARTMODE='hotplug'\n";
        let bond = file(
            "bond0",
            "STARTMODE='auto'\nBONDING_MASTER='yes'\nBONDING_SLAVE0='ens192'\nBONDING_SLAVE1='ens224'\nBONDING_MODULE_OPTS='mode=802.3ad'\n",
        );
        match layout {
            "one" => vec![file(
                "ens192",
                "BOOTPROTO='static'\nIPADDR='10.0.0.2/24'\nSTARTMODE='auto'\n",
            )],
            "two" => vec![file("ens192", dhcp), file("ens224", dhcp)],
            "bond" => vec![bond, file("ens192", hot), file("ens224", hot)],
            "vlan" => vec![
                bond,
                file("ens192", hot),
                file("ens224", hot),
                file(
                    "vlan10",
                    "ETHERDEVICE='bond0'\nVLAN_ID='10'\nIPADDR='10.0.10.2/24'\n",
                ),
            ],
            "bridge" => vec![
                file(
                    "br0",
                    "BRIDGE='yes'\nBRIDGE_PORTS='ens192'\nIPADDR='10.0.0.2/24'\n",
                ),
                file("ens192", hot),
            ],
            "mac" => {
                let rule = |mac, name| {
                    format!(
                        "SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{{address}}==\"{mac}\", ATTR{{dev_id}}==\"0x0\", ATTR{{type}}==\"1\", KERNEL==\"eth*\", NAME=\"{name}\"\n"
                    )
                };
                vec![
                    file("ens192", dhcp),
                    file("ens224", dhcp),
                    (
                        "/etc/udev/rules.d/70-persistent-net.rules".into(),
                        format!("{}{}", rule(MAC1, "ens224"), rule(MAC2, "ens192")),
                    ),
                ]
            }
            _ => Vec::new(),
        }
    });
}

#[test]
fn network_managers_keyfiles() {
    every("keyfile", |layout| {
        let file = |id: &str, text: String| {
            let path = format!("/etc/NetworkManager/system-connections/{id}.nmconnection");
            (
                path,
                format!(
                    "[connection]\nid={id}\nuuid=8a1c9a0e-0000-4000-8000-0000000000{:02x}\n{text}",
                    id.len()
                ),
            )
        };
        let ethernet = |name: &str, more: &str| {
            file(
                name,
                format!("type=ethernet\ninterface-name={name}\n{more}"),
            )
        };
        let slave = "master=bond0\nslave-type=bond\n\n[ethernet]\n";
        let bond = file("bond0", "type=bond\ninterface-name=bond0\n\n[bond]\nmode=active-backup\n\n[ipv4]\nmethod=auto\n".into());
        match layout {
            "one" => vec![ethernet("ens192", "\n[ethernet]\n\n[ipv4]\naddress1=10.0.0.2/24,10.0.0.1\nmethod=manual\n")],
            "two" => vec![ethernet("ens192", ""), ethernet("ens224", "")],
            "mac" => vec![
                ethernet("ens192", &format!("\n[ethernet]\nmac-address={}\n", MAC2.to_uppercase())),
                ethernet("ens224", &format!("\n[ethernet]\nmac-address={}\n", MAC1.to_uppercase())),
            ],
            "driver" => vec![
                file("ens192", "type=ethernet\n\n# the slow one\n[match]\ndriver=e1000;\ninterface-name=ens192;\n\n[ethernet]\n".into()),
                file("ens224", "type=ethernet\n\n[match]\ndriver=vmxnet3;\ninterface-name=ens224;\n\n[ipv4]\nmethod=auto\n".into()),
            ],
            "bond" => vec![bond, ethernet("ens192", slave), ethernet("ens224", slave)],
            "vlan" => vec![
                bond,
                ethernet("ens192", slave),
                ethernet("ens224", slave),
                file("v10", "type=vlan\ninterface-name=bond0.10\n\n[vlan]\nid=10\nparent=bond0\n".into()),
            ],
            "bridge" => vec![
                file("br0", "type=bridge\ninterface-name=br0\n".into()),
                ethernet("ens192", "controller=br0\nport-type=bridge\n"),
            ],
            _ => Vec::new(),
        }
    });
}

#[test]
fn netplan() {
    every("netplan", |layout| {
        let head = "# This is the network config\nnetwork:\n  version: 2\n  renderer: networkd\n  ethernets:\n";
        let two = "    ens192: {}\n    ens224: {}\n";
        let bond = "  bonds:\n    bond0:\n      interfaces: [ens192, ens224]\n      parameters:\n        mode: 802.3ad\n";
        let text = match layout {
            "one" => format!(
                "{head}    ens192:\n      addresses:\n      - 10.0.0.2/24\n      gateway4: 10.0.0.1\n"
            ),
            "two" => {
                format!("{head}    ens192:\n      dhcp4: true\n    ens224:\n      dhcp4: true\n")
            }
            "mac" => format!(
                "{head}    ens192:\n      match:\n        macaddress: {MAC2}\n      set-name: ens192\n    lan:\n      match: {{macaddress: \"{MAC1}\"}}\n      set-name: ens224\n"
            ),
            "driver" => format!(
                "{head}    slow:\n      match:\n        driver: e1000 # emulated\n      set-name: ens192\n    fast:\n      match: {{driver: \"vmxnet*\"}}\n      set-name: ens224\n"
            ),
            "bond" => format!("{head}{two}{bond}"),
            "vlan" => format!(
                "{head}{two}{bond}  vlans:\n    bond0.10:\n      id: 10\n      link: bond0\n      addresses: [10.0.10.2/24]\n"
            ),
            "bridge" => format!(
                "{head}    ens192:\n      dhcp4: no\n  bridges:\n    br0:\n      interfaces:\n        - ens192\n      dhcp4: yes\n"
            ),
            _ => return Vec::new(),
        };
        own(&[("/etc/netplan/00-installer-config.yaml", text)])
    });
}

#[test]
fn systemd_networkd() {
    every("networkd", |layout| {
        let file =
            |name: &str, text: &str| (format!("/etc/systemd/network/{name}"), text.to_owned());
        let port = |name: &str, of: &str| {
            file(
                &format!("{name}.network"),
                &format!("[Match]\nName={name}\n\n[Network]\n{of}\n"),
            )
        };
        let netdev = |name: &str, kind: &str| {
            file(
                &format!("{name}.netdev"),
                &format!("[NetDev]\nName={name}\nKind={kind}\n"),
            )
        };
        match layout {
            "one" => vec![file(
                "20-wired.network",
                "[Match]\nName=ens192\n\n[Network]\nAddress=10.0.0.2/24\nGateway=10.0.0.1\n",
            )],
            "two" => vec![
                file(
                    "20-a.network",
                    "[Match]\nName=ens192\n\n[Network]\nDHCP=yes\n",
                ),
                file(
                    "30-b.network",
                    "[Match]\nName=ens224\n\n[Network]\nDHCP=yes\n",
                ),
            ],
            "mac" => vec![
                file(
                    "10-a.link",
                    &format!("[Match]\nMACAddress={MAC2}\n\n[Link]\nName=ens192\nMTUBytes=9000\n"),
                ),
                file(
                    "99-b.link",
                    &format!(
                        "[Match]\nMACAddress={MAC1}\nDriver=vmxnet3 virtio_net\n\n[Link]\nName=ens224\nMTUBytes=9000\n"
                    ),
                ),
                file(
                    "20-a.network",
                    "[Match]\nName=ens192 ens224\n\n[Network]\nDHCP=yes\n",
                ),
            ],
            "driver" => vec![
                file(
                    "10-slow.link",
                    "# emulated\n[Match]\nDriver=e1000\n\n[Link]\nName=ens192\nWakeOnLan=off\n",
                ),
                file(
                    "10-fast.network",
                    "[Match]\nDriver=vmxnet3\nName=ens224\n\n[Network]\nDHCP=yes\n",
                ),
                file(
                    "20-slow.network",
                    "[Match]\nDriver=e1000\n\n[Network]\nDHCP=yes\n",
                ),
            ],
            "bond" => vec![
                netdev("bond0", "bond"),
                port("ens192", "Bond=bond0"),
                port("ens224", "Bond=bond0"),
            ],
            "vlan" => vec![
                netdev("bond0", "bond"),
                port("ens192", "Bond=bond0"),
                port("ens224", "Bond=bond0"),
                port("bond0", "VLAN=vlan10"),
                file(
                    "vlan10.netdev",
                    "[NetDev]\nName=vlan10\nKind=vlan\n\n[VLAN]\nId=10\n",
                ),
            ],
            "bridge" => vec![netdev("br0", "bridge"), port("ens192", "Bridge=br0")],
            _ => Vec::new(),
        }
    });
}

#[test]
fn debians_interfaces() {
    every("ifupdown", |layout| {
        let lo = "# The loopback network interface\nauto lo\niface lo inet loopback\n\n";
        let bond = "auto bond0\niface bond0 inet static\n\taddress 10.0.0.2/24\n\tbond-slaves ens192 ens224\n\tbond-mode active-backup\n";
        let text = match layout {
            "one" => format!("{lo}source /etc/network/interfaces.d/*\n"),
            "two" => format!(
                "{lo}allow-hotplug ens192 ens224\niface ens192 inet dhcp\niface ens224 inet6 auto\n"
            ),
            "mac" => format!(
                "{lo}rename */mac/{MAC2}=ens192 */mac/{MAC1}=ens224\nauto ens192 ens224\niface ens192 inet dhcp\niface ens224 inet dhcp\n"
            ),
            "bond" => format!("{lo}{bond}"),
            "vlan" => format!(
                "{lo}{bond}\nauto bond0.10\niface bond0.10 inet static\n\taddress 10.0.10.2/24\n\tvlan-raw-device bond0\n"
            ),
            "bridge" => format!(
                "{lo}auto br0\niface br0 inet dhcp\n\tbridge_ports ens192\n\tbridge_stp off\n"
            ),
            _ => return Vec::new(),
        };
        let mut all = own(&[("/etc/network/interfaces", text)]);
        if layout == "one" {
            all.extend(own(&[(
                "/etc/network/interfaces.d/ens192",
                "auto ens192\niface ens192 inet static\n    address 10.0.0.2/24\n".into(),
            )]));
        }
        all
    });
}

#[test]
fn gentoos_netifrc() {
    every("netifrc", |layout| {
        let text = match layout {
            "one" => "config_ens192=\"10.0.0.2/24\"\nroutes_ens192=\"default via 10.0.0.1\"\n",
            "two" => "config_ens192=\"dhcp\"\nconfig_ens224=\"10.0.0.2/24\n10.0.0.3/24\"\n",
            "bond" => "slaves_bond0=\"ens192 ens224\"\nconfig_bond0=\"dhcp\"\n",
            "vlan" => {
                "slaves_bond0=\"ens192 ens224\"\nvlans_bond0=\"10\"\nconfig_bond0_10=\"10.0.10.2/24\"\n"
            }
            "bridge" => "bridge_br0=\"ens192\"\nconfig_br0=\"dhcp\"\n",
            _ => return Vec::new(),
        };
        own(&[("/etc/conf.d/net", format!("# local\n{text}"))])
    });
}

#[test]
fn archs_netctl() {
    every("netctl", |layout| {
        let file = |name: &str, text: &str| (format!("/etc/netctl/{name}"), text.to_owned());
        let bond = file(
            "bond",
            "Interface=bond0\nConnection=bond\nBindsToInterfaces=(ens192\n  ens224)\nIP=dhcp\n",
        );
        match layout {
            "one" => vec![file(
                "wired",
                "Interface=ens192\nConnection=ethernet\nIP=static\nAddress=('10.0.0.2/24')\n",
            )],
            "two" => vec![
                file("a", "Interface=ens224\nConnection=ethernet\nIP=dhcp\n"),
                file("b", "Interface=ens192\nConnection=ethernet\nIP=dhcp\n"),
            ],
            "bond" => vec![bond],
            "vlan" => vec![
                bond,
                file(
                    "v",
                    "Interface=bond0.10\nConnection=vlan\nBindsToInterfaces=bond0\nVLANID=10\nIP=dhcp\n",
                ),
            ],
            "bridge" => vec![file(
                "br",
                "Interface=br0\nConnection=bridge\nBindsToInterfaces=(ens192)\nIP=dhcp\n",
            )],
            _ => Vec::new(),
        }
    });
}

#[test]
fn alts_etcnet() {
    every("etcnet", |layout| {
        let file =
            |name: &str, text: &str| (format!("/etc/net/ifaces/{name}/options"), text.to_owned());
        let eth = "TYPE=eth\nBOOTPROTO=static\n";
        let bond = file("bond0", "TYPE=bond\nHOST='ens192 ens224'\nBONDMODE=1\n");
        match layout {
            "one" => vec![file("ens192", eth)],
            "two" => vec![file("ens224", eth), file("ens192", eth)],
            "mac" => vec![
                file("ens192", eth),
                file("ens224", eth),
                (
                    "/etc/net/iftab".into(),
                    format!("# x\nens192 mac {MAC2}\nens224 mac {MAC1}\n"),
                ),
            ],
            "bond" => vec![bond, file("ens192", eth), file("ens224", eth)],
            "vlan" => vec![
                bond,
                file("ens192", eth),
                file("ens224", eth),
                file("bond0.10", "TYPE=vlan\nHOST=bond0\nVID=10\n"),
            ],
            "bridge" => vec![file("br0", "TYPE=bri\nHOST=ens192\n"), file("ens192", eth)],
            _ => Vec::new(),
        }
    });
}
