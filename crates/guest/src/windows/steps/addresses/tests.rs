use registry::Value;
use types::{ConvertOptions, MacAddr, Nic, NicNetwork, StaticIp};

use super::apply;
use super::found::CLASS;
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

/// An adapter on PCI: its class key, its connection, its device.
fn adapter(guest: &mut Guest, number: u32, id: &str, name: &str, place: (u32, u32)) {
    let class = format!("{SET}\\Control\\Class\\{CLASS}\\{number:04}");
    let device = format!("PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\4&{number}");
    guest.system(&class, "NetCfgInstanceId", Value::text(id));
    guest.system(&class, "DeviceInstanceID", Value::text(&device));
    guest.system(&class, "NetLuidIndex", Value::dword(number));
    guest.system(&class, "*IfType", Value::dword(6));
    let connection = format!("{SET}\\Control\\Network\\{CLASS}\\{id}\\Connection");
    guest.system(&connection, "Name", Value::text(name));
    let text = format!(
        "@pci.sys,#65536;PCI bus %1, device %2, function %3;({},{},0)",
        place.0, place.1
    );
    guest.system(
        &format!("{SET}\\Enum\\{device}"),
        "LocationInformation",
        Value::text(&text),
    );
}

fn interface(id: &str) -> String {
    format!("{SET}\\Services\\Tcpip\\Parameters\\Interfaces\\{id}")
}

fn static_ip(guest: &mut Guest, id: &str, address: &str, gateway: &str) {
    let path = interface(id);
    guest.system(&path, "EnableDHCP", Value::dword(0));
    guest.system(&path, "IPAddress", Value::multi(&[address]));
    guest.system(&path, "SubnetMask", Value::multi(&["255.255.255.0"]));
    guest.system(&path, "DefaultGateway", Value::multi(&[gateway]));
    guest.system(&path, "DefaultGatewayMetric", Value::multi(&["0"]));
}

fn plan(outcome: &Outcome) -> String {
    outcome.file("network.txt").unwrap().replace("\r\n", "\n")
}

#[test]
fn everything_of_an_adapter_is_in_the_plan() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, 7, A, "Ethernet0", (3, 0));
    let path = interface(A);
    guest.system(&path, "EnableDHCP", Value::dword(0));
    guest.system(
        &path,
        "IPAddress",
        Value::multi(&["192.0.2.5", "192.0.2.6", "0.0.0.0"]),
    );
    let masks = ["255.255.255.0", "255.255.255.255", "255.0.255.0"];
    guest.system(&path, "SubnetMask", Value::multi(&masks));
    guest.system(
        &path,
        "DefaultGateway",
        Value::multi(&["192.0.2.1", "192.0.2.2"]),
    );
    guest.system(&path, "DefaultGatewayMetric", Value::multi(&["0", "20"]));
    guest.system(&path, "NameServer", Value::text("192.0.2.53,198.51.100.53"));
    guest.system(&path, "Domain", Value::text("example.org"));
    guest.system(&path, "InterfaceMetric", Value::dword(15));
    guest.system(&path, "MTU", Value::dword(9000));
    guest.system(&path, "RegistrationEnabled", Value::dword(0));
    guest.system(&path, "RegisterAdapterName", Value::dword(1));
    let netbt = format!("{SET}\\Services\\NetBT\\Parameters\\Interfaces\\Tcpip_{A}");
    guest.system(&netbt, "NameServerList", Value::multi(&["192.0.2.7"]));
    guest.system(&netbt, "NetbiosOptions", Value::dword(2));
    let path6 = format!("{SET}\\Services\\Tcpip6\\Parameters\\Interfaces\\{A}");
    guest.system(&path6, "NameServer", Value::text("2001:db8::53"));
    let nsi = format!("{SET}\\Control\\Nsi\\{{eb004a01-9b1a-11d4-9123-0050047759bc}}");
    // LUID: index 7, type 6.
    let luid = "0000000700000600";
    let mut data = vec![0xff; 48];
    data[16..20].copy_from_slice(&[64, 0, 0, 0]);
    let name = format!("{luid}20010db8000000000000000000000005");
    guest.system(&format!("{nsi}\\10"), &name, Value::binary(data));
    let zeros = "00".repeat(40);
    let name = format!("{zeros}{luid}{luid}20010db8000000000000000000000001");
    let mut route = vec![0xff; 56];
    route[12..16].copy_from_slice(&[5, 0, 0, 0]);
    guest.system(&format!("{nsi}\\16"), &name, Value::binary(route));
    // Another interface's.
    let name = "000000080000060020010db8000000000000000000000009";
    guest.system(&format!("{nsi}\\10"), name, Value::binary(vec![0xff; 48]));
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
gateway=2001:db8::1 5
dns=192.0.2.53
dns=198.51.100.53
dns=2001:db8::53
suffix=example.org
metric=15
"
    );
    // The rest is set by the script.
    let script = outcome.script("addresses").unwrap();
    for want in [
        "netsh interface ipv4 set subinterface \"Ethernet0\" mtu=9000 store=persistent\r\n",
        "\\Services\\NetBT\\Parameters\\Interfaces\\Tcpip_%%g\" /v NameServerList /t REG_MULTI_SZ /d \"192.0.2.7\" /f\r\n",
        "Tcpip_%%g\" /v NetbiosOptions /t REG_DWORD /d \"2\" /f\r\n",
        "\\Services\\Tcpip\\Parameters\\Interfaces\\%%g\" /v RegistrationEnabled /t REG_DWORD /d \"0\" /f\r\n",
        "/s /f \"Ethernet0\" /d /e ^| find /i \"\\Connection\"') do reg add",
    ] {
        assert!(script.contains(want), "{want}: {script}");
    }
    assert!(outcome.warnings.is_empty() && outcome.changes.is_empty());
}

#[test]
fn the_script_sets_the_plan_and_the_routes() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, 7, A, "Ethernet0", (3, 0));
    static_ip(&mut guest, A, "192.0.2.5", "192.0.2.1");
    let routes = format!("{SET}\\Services\\Tcpip\\Parameters\\PersistentRoutes");
    for name in [
        "0.0.0.0,0.0.0.0,192.0.2.1,-1",
        "10.0.0.0,255.0.0.0,192.0.2.254,1",
        "10.0.0.0 & del,255.0.0.0,192.0.2.254,1",
        "10.1.0.0,255.0.255.0,192.0.2.254,1",
    ] {
        guest.system(&routes, name, Value::text(""));
    }
    // By netsh, bound to the interface: 172.16.0.0/12.
    let nsi = format!("{SET}\\Control\\Nsi\\{{eb004a00-9b1a-11d4-9123-0050047759bc}}\\16");
    let name = format!(
        "00000000ac1000000c{}00000007000006000000000700000600c00002fd00000000",
        "00".repeat(15)
    );
    guest.system(&nsi, &name, Value::binary(vec![0xff; 56]));
    let outcome = guest.run(apply);
    assert_eq!(
        outcome.script("addresses").unwrap(),
        "\"%V2V_EXE%\" network \"%V2V_DIR%\\network.txt\"\r\n\
         set code=%ERRORLEVEL%\r\n\
         route -p add 10.0.0.0 mask 255.0.0.0 192.0.2.254 metric 1\r\n\
         route -p add 172.16.0.0 mask 255.240.0.0 192.0.2.253\r\n\
         exit /b %code%\r\n"
    );
    // pnputil of Windows 10 2004 removes what KVM cannot have.
    guest.windows.build = 19041;
    let outcome = guest.run(apply);
    let want = "pnputil /remove-device \"PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\4&7\"\r\n";
    assert!(outcome.script("addresses").unwrap().contains(want));
}

#[test]
fn an_adapter_by_dhcp_keeps_its_name_and_servers() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, 1, A, "LAN", (0, 3));
    let path = interface(A);
    guest.system(&path, "EnableDHCP", Value::dword(1));
    guest.system(&path, "DhcpIPAddress", Value::text("192.0.2.77"));
    // What it had before it was set to DHCP.
    guest.system(&path, "IPAddress", Value::multi(&["192.0.2.5"]));
    guest.system(&path, "SubnetMask", Value::multi(&["255.255.255.0"]));
    guest.system(&path, "NameServer", Value::text("192.0.2.53"));
    let plan = plan(&guest.run(apply));
    let want = "mac=00:50:56:01:02:03\nname=LAN\nold={AAAAAAAA-0000-0000-0000-000000000001}\ndhcp=1\ndns=192.0.2.53\n";
    assert!(plan.contains(want), "{plan}");
    assert!(!plan.contains("192.0.2.5/") && !plan.contains("192.0.2.77"));
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
        nameservers: vec!["203.0.113.53".parse().unwrap()],
    };
    guest.options.static_ips = vec![
        asked("00:50:56:01:02:03", "203.0.113.5", Some("203.0.113.1")),
        asked("00:50:56:01:02:03", "203.0.113.6", None),
        asked("00:50:56:01:02:04", "198.51.100.4", None),
    ];
    adapter(&mut guest, 7, A, "Ethernet0", (3, 0));
    static_ip(&mut guest, A, "192.0.2.5", "192.0.2.1");
    adapter(&mut guest, 8, B, "Ethernet1", (11, 0));
    static_ip(&mut guest, B, "192.0.2.8", "192.0.2.1");
    let plan = plan(&guest.run(apply));
    assert!(!plan.contains("192.0.2."), "{plan}");
    assert!(plan.contains(
        "name=Ethernet0\nold={AAAAAAAA-0000-0000-0000-000000000001}\naddress=203.0.113.5/24\naddress=203.0.113.6/24\ngateway=203.0.113.1\ndns=203.0.113.53\n"
    ), "{plan}");
    assert!(
        plan.contains("address=198.51.100.4/24\ndns=203.0.113.53\n"),
        "{plan}"
    );
}

#[test]
fn what_cannot_be_decided_is_said_and_not_done() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, 7, A, "Ethernet0", (3, 0));
    adapter(&mut guest, 8, B, "Ethernet1", (11, 0));
    static_ip(&mut guest, A, "192.0.2.5", "192.0.2.1");
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
    assert!(
        outcome
            .warnings
            .iter()
            .any(|text| text.contains("00:50:56:01:02:03 had 192.0.2.5/24"))
    );
}

#[test]
fn hostile_values_make_no_lines_of_their_own() {
    let mut guest = Guest::new();
    guest.options = options(&["00:50:56:01:02:03"]);
    adapter(&mut guest, 7, A, "LAN\r\naddress=6.6.6.6/0", (3, 0));
    static_ip(&mut guest, A, "192.0.2.5", "x");
    let path = interface(A);
    guest.system(&path, "Domain", Value::text("a b\nc"));
    guest.system(&path, "NameServer", Value::binary([0xff; 9]));
    let nsi = format!("{SET}\\Control\\Nsi\\{{eb004a01-9b1a-11d4-9123-0050047759bc}}");
    for name in ["zz", "", "0000000700000600", &"f".repeat(4000), "000"] {
        guest.system(&format!("{nsi}\\10"), name, Value::binary([]));
        guest.system(&format!("{nsi}\\16"), name, Value::binary([]));
    }
    let plan = plan(&guest.run(apply));
    assert!(!plan.contains("6.6.6.6") && !plan.contains("suffix") && !plan.contains("gateway"));
    assert!(plan.contains("address=192.0.2.5/24\n"));
}
