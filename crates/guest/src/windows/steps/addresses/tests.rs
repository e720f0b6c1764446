use std::net::IpAddr;

use registry::{Hive, Logs, Value};
use types::{ConvertOptions, MacAddr, Nic, NicNetwork, StaticIp, WindowsAdapter};

use super::apply;
use crate::windows::steps::testing::{Guest, Outcome};

const SET: &str = "ControlSet001";
const A: &str = "{AAAAAAAA-0000-0000-0000-000000000001}";
const B: &str = "{BBBBBBBB-0000-0000-0000-000000000002}";

fn nic(mac: &str) -> Nic {
    Nic {
        mac: Some(mac.parse().unwrap()),
        model: None,
        network: NicNetwork::Network("default".into()),
        source_network: String::new(),
        guest_name: None,
    }
}

fn options(macs: &[&str]) -> ConvertOptions {
    ConvertOptions {
        nics: macs.iter().map(|mac| nic(mac)).collect(),
        ..ConvertOptions::default()
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// An adapter on PCI as inspection describes it, with this address and gateway or by DHCP.
fn adapter(guest: &mut Guest, id: &str, name: &str, bus: u32, address: Option<&str>) {
    let device = format!("PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\4&{bus}");
    let text = format!("@pci.sys,#65536;PCI bus %1, device %2, function %3;({bus},0,0)");
    let place = format!("{SET}\\Enum\\{device}");
    guest.system(&place, "LocationInformation", Value::text(&text));
    let gateway = address.map(|_| ("192.0.2.1".parse().unwrap(), 0));
    guest.windows.adapters.push(WindowsAdapter {
        id: id.into(),
        name: name.into(),
        device,
        dhcp: address.is_none(),
        addresses: address
            .map(|text| (text.parse().unwrap(), 24))
            .into_iter()
            .collect(),
        gateways: gateway.into_iter().collect(),
        ..WindowsAdapter::default()
    });
}

fn plan(outcome: &Outcome) -> String {
    outcome.file("network.txt").unwrap().replace("\r\n", "\n")
}

#[test]
fn everything_of_an_adapter_is_in_the_plan_or_the_script() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, A, "Ethernet0", 3, Some("192.0.2.5"));
    let known = &mut guest.windows.adapters[0];
    known.addresses.push(("2001:db8::5".parse().unwrap(), 64));
    known.addresses.push(("192.0.2.6".parse().unwrap(), 32));
    known.gateways.push(("192.0.2.2".parse().unwrap(), 20));
    known.gateways.push(("2001:db8::1".parse().unwrap(), 0));
    known.nameservers = ips(&["192.0.2.53", "2001:db8::53"]);
    known.domain = Some("example.org".into());
    known.metric = Some(15);
    let path = format!("{SET}\\Services\\Tcpip\\Parameters\\Interfaces\\{A}");
    guest.system(&path, "MTU", Value::dword(9000));
    guest.system(&path, "RegistrationEnabled", Value::dword(0));
    guest.system(&path, "RegisterAdapterName", Value::dword(1));
    let netbt = format!("{SET}\\Services\\NetBT\\Parameters\\Interfaces\\Tcpip_{A}");
    let wins = Value::multi(&["192.0.2.7", "192.0.2.8"]);
    guest.system(&netbt, "NameServerList", wins);
    guest.system(&netbt, "NetbiosOptions", Value::dword(2));
    let outcome = guest.run(apply);
    assert_eq!(
        plan(&outcome),
        "# Network adapters as they were before the conversion.

[adapter]
mac=00:50:56:01:02:03
name=Ethernet0
old={AAAAAAAA-0000-0000-0000-000000000001}
address=192.0.2.5/24
address=192.0.2.6/32
address=2001:db8::5/64
gateway=192.0.2.1
gateway=192.0.2.2 20
gateway=2001:db8::1
dns=192.0.2.53
dns=2001:db8::53
suffix=example.org
metric=15
"
    );
    let script = outcome.script("addresses").unwrap();
    for want in [
        "netsh interface ipv4 set subinterface \"Ethernet0\" mtu=9000 store=persistent\r\n",
        "/s /f \"Ethernet0\" /d /e ^| find /i \"\\Connection\"') do reg add \"HKLM\\SYSTEM\\",
        "\\Services\\NetBT\\Parameters\\Interfaces\\Tcpip_%%g\" /v NameServerList /t REG_MULTI_SZ /d \"192.0.2.7\\0192.0.2.8\" /f\r\n",
        "Tcpip_%%g\" /v NetbiosOptions /t REG_DWORD /d \"2\" /f\r\n",
        "\\Tcpip\\Parameters\\Interfaces\\%%g\" /v RegistrationEnabled /t REG_DWORD /d \"0\" /f\r\n",
        "\\Tcpip\\Parameters\\Interfaces\\%%g\" /v RegisterAdapterName /t REG_DWORD /d \"1\" /f\r\n",
    ] {
        assert!(script.contains(want), "{want}: {script}");
    }
    assert!(outcome.warnings.is_empty() && outcome.changes.is_empty());
}

#[test]
fn the_script_sets_the_plan_and_the_routes() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, A, "Ethernet0", 3, Some("192.0.2.5"));
    let routes = format!("{SET}\\Services\\Tcpip\\Parameters\\PersistentRoutes");
    for name in [
        "0.0.0.0,0.0.0.0,192.0.2.1,-1",
        "10.0.0.0,255.0.0.0,192.0.2.254,1",
        "10.0.0.0 & del,255.0.0.0,192.0.2.254,1",
        "10.1.0.0,255.0.255.0,192.0.2.254,1",
    ] {
        guest.system(&routes, name, Value::text(""));
    }
    // By netsh, bound to the interface with LUID index 7: 172.16.0.0/12, and the default route.
    let nsi = format!("{SET}\\Control\\Nsi\\{{eb004a00-9b1a-11d4-9123-0050047759bc}}\\16");
    let luid = "0000000700000600";
    let rest = format!("{}{luid}{luid}c00002fd00000000", "00".repeat(15));
    for prefix in ["ac1000000c", "0000000000", "ac100000ff", "zz10000000"] {
        let name = format!("00000000{prefix}{rest}");
        guest.system(&nsi, &name, Value::binary(vec![0xff; 56]));
    }
    let outcome = guest.run(apply);
    let common = "\"%V2V_EXE%\" network \"%V2V_DIR%\\network.txt\"\r\n\
         set code=%ERRORLEVEL%\r\n\
         route -p add 10.0.0.0 mask 255.0.0.0 192.0.2.254 metric 1\r\n\
         route -p add 172.16.0.0 mask 255.240.0.0 192.0.2.253\r\n";
    let want = format!("{common}exit /b %code%\r\n");
    assert_eq!(outcome.script("addresses").unwrap(), want);
    // pnputil of Windows 10 2004 removes what KVM cannot have.
    guest.windows.build = 19041;
    let outcome = guest.run(apply);
    let removal =
        "pnputil /remove-device \"PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\4&3\"\r\n";
    let want = format!("{common}{removal}exit /b %code%\r\n");
    assert_eq!(outcome.script("addresses").unwrap(), want);
}

#[test]
fn an_adapter_by_dhcp_keeps_its_name_and_servers() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, A, "LAN", 0, None);
    guest.windows.adapters[0].nameservers = ips(&["192.0.2.53"]);
    let plan = plan(&guest.run(apply));
    let want = "mac=00:50:56:01:02:03\nname=LAN\nold={AAAAAAAA-0000-0000-0000-000000000001}\ndhcp=1\ndns=192.0.2.53\n";
    assert!(plan.ends_with(want), "{plan}");
}

#[test]
fn mac_options_replace_the_addresses_of_their_family() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03", "00:50:56:01:02:04"]);
    let asked = |mac: &str, address: &str, gateway: Option<&str>| StaticIp {
        mac: mac.parse::<MacAddr>().unwrap(),
        address: address.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        prefix_len: Some(24),
        nameservers: ips(&["203.0.113.53"]),
    };
    guest.options.static_ips = vec![
        asked("00:50:56:01:02:03", "203.0.113.5", Some("203.0.113.1")),
        asked("00:50:56:01:02:03", "203.0.113.6", None),
        asked("00:50:56:01:02:04", "198.51.100.4", None),
    ];
    adapter(&mut guest, A, "Ethernet0", 3, Some("192.0.2.5"));
    adapter(&mut guest, B, "Ethernet1", 11, Some("192.0.2.8"));
    let six = ("2001:db8::5".parse().unwrap(), 64);
    guest.windows.adapters[1].addresses.push(six);
    let plan = plan(&guest.run(apply));
    assert!(!plan.contains("192.0.2."), "{plan}");
    assert!(plan.contains("name=Ethernet0\nold={AAAAAAAA-0000-0000-0000-000000000001}\naddress=203.0.113.5/24\naddress=203.0.113.6/24\ngateway=203.0.113.1\ndns=203.0.113.53\n"), "{plan}");
    assert!(
        plan.contains("address=2001:db8::5/64\naddress=198.51.100.4/24\ndns=203.0.113.53\n"),
        "{plan}"
    );
}

#[test]
fn what_cannot_be_decided_is_said_and_not_done() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, A, "Ethernet0", 3, Some("192.0.2.5"));
    adapter(&mut guest, B, "Ethernet1", 11, None);
    let outcome = guest.run(apply);
    assert!(outcome.files.is_empty() && outcome.scripts.is_empty());
    assert_eq!(
        outcome.warnings,
        [
            "the connection Ethernet0 (192.0.2.5/24, gateway 192.0.2.1) may belong to any of several adapters and is not set up: use --mac MAC:ip:ADDRESS,GATEWAY,LENGTH,DNS"
        ]
    );
    // With two NICs they are paired by their order, which is said as well.
    guest.options = options(&["00:50:56:01:02:03", "00:50:56:01:02:04"]);
    let outcome = guest.run(apply);
    assert!(plan(&outcome).contains("mac=00:50:56:01:02:04\nname=Ethernet1\n"));
    assert!(
        outcome.warnings[0]
            .contains("Ethernet0 to 00:50:56:01:02:03, Ethernet1 to 00:50:56:01:02:04")
    );
    // Without the service nothing can be set, and the addresses are in the warning.
    guest.programs = false;
    let outcome = guest.run(apply);
    assert!(outcome.files.is_empty());
    let said = "00:50:56:01:02:03 had 192.0.2.5/24";
    assert!(outcome.warnings.iter().any(|text| text.contains(said)));
}

#[test]
fn hostile_names_make_no_lines_of_their_own() {
    for name in [
        "a\r\naddress=6.6.6.6/0",
        "a\" & format c: & \"",
        "%PATH%",
        " a",
        "",
    ] {
        let mut guest = Guest::new();
        guest.windows.build = 26100;
        guest.options = options(&["00:50:56:01:02:03"]);
        adapter(&mut guest, A, name, 3, Some("192.0.2.5"));
        guest.windows.adapters[0].id = "{x}\r\ndhcp=1".into();
        guest.windows.adapters[0].domain = Some("a b\nc".into());
        guest.windows.adapters[0].device.push_str("\" & del \"");
        let outcome = guest.run(apply);
        let plan = plan(&outcome);
        assert!(
            plan.ends_with(
                "[adapter]\nmac=00:50:56:01:02:03\naddress=192.0.2.5/24\ngateway=192.0.2.1\n"
            ),
            "{plan}"
        );
        assert_eq!(outcome.script("addresses").unwrap().lines().count(), 3);
    }
}

/// The plan for a machine of the fixtures with these NICs.
fn of_fixture(name: &str, macs: &[&str]) -> Option<(String, Vec<String>)> {
    let hives = crate::tests::fixtures::hives(name)?;
    let open = |bytes: Vec<u8>| Hive::recover(bytes, &Logs::default()).unwrap().hive;
    let mut guest = Guest::with(open(hives.system), open(hives.software));
    guest.windows = guest.inspected();
    guest.options = options(macs);
    let outcome = guest.run(apply);
    let plan = outcome.file("network.txt");
    let plan = plan.map(|plan| plan.replace("\r\n", "\n"));
    Some((plan.unwrap_or_default(), outcome.warnings))
}

#[test]
fn the_addresses_of_the_fixtures_machines_are_in_the_plan() {
    // A ghost of another address is in this hive; its DHCPv6 IAID and the DNS client tell them apart.
    let ours = "name=Local Area Connection 2\nold={698E50A9-4F58-4D86-B61D-F42E58DCACF6}\naddress=10.3.58.5/24\ngateway=10.3.58.1\ndns=10.3.58.4\n";
    for mac in ["00:50:56:11:22:33", "52:54:00:11:22:33"] {
        let Some((plan, warnings)) = of_fixture("win7-x86-vmware", &[mac]) else {
            return;
        };
        assert!(
            plan.ends_with(&format!("[adapter]\nmac={mac}\n{ours}")),
            "{plan}"
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    // With both adapters in the machine, each has its own, whatever the order of the NICs.
    let macs = ["00:50:56:11:22:33", "00:0c:29:11:22:33"];
    let (plan, _) = of_fixture("win7-x86-vmware", &macs).unwrap();
    assert!(
        plan.contains(&format!("mac=00:50:56:11:22:33\n{ours}")),
        "{plan}"
    );
    assert!(plan.ends_with("mac=00:0c:29:11:22:33\nname=Local Area Connection\nold={6AAFC9A9-0542-4DB2-8760-CCFFA953737C}\naddress=192.168.1.123/24\ngateway=192.168.1.1\ndns=192.168.1.112\n"), "{plan}");
    let (plan, warnings) = of_fixture("win81-x64-virtualbox", &["08:00:27:8c:bf:43"]).unwrap();
    assert!(plan.ends_with("[adapter]\nmac=08:00:27:8c:bf:43\nname=Ethernet\nold={143ED9ED-ABBA-4E29-A597-ABD62167CD04}\ndhcp=1\n"), "{plan}");
    assert!(warnings.is_empty(), "{warnings:?}");
}
