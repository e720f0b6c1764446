//! Exact words given to `ip` and `udhcpc`, without root; and once for real in a network namespace.

use std::fs;
use std::net::IpAddr;
use std::sync::Mutex;

use super::*;
use crate::config::{Addressing, BondConfig};

/// Writes down what is run.
#[derive(Default)]
struct Recorder {
    ran: Mutex<Vec<String>>,
    ended: Mutex<Vec<i32>>,
    addresses: Mutex<String>,
    /// A word whose command fails.
    fails: Option<&'static str>,
}

impl Runner for Recorder {
    fn run(&self, argv: &[&str]) -> Result<String, Error> {
        let line = argv.join(" ");
        if argv.contains(&"-json") {
            return Ok(self.addresses.lock().unwrap().clone());
        }
        let fails = self.fails.is_some_and(|word| argv.contains(&word));
        self.ran.lock().unwrap().push(line.clone());
        if fails {
            return Err(Error::Command {
                command: line,
                problem: "it is told to fail".into(),
            });
        }
        Ok(String::new())
    }

    fn background(&self, argv: &[&str]) -> Result<(), Error> {
        self.run(argv).map(|_| ())
    }

    fn end_dhcp(&self, pid: i32) {
        self.ended.lock().unwrap().push(pid);
    }
}

/// A machine with these interfaces: name, link, address.
struct Machine {
    root: tempfile::TempDir,
    recorder: Recorder,
}

impl Machine {
    fn new(interfaces: &[(&str, bool, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (number, (name, ..)) in interfaces.iter().enumerate() {
            let folder = root.path().join("sys").join(name);
            fs::create_dir_all(folder.join("device")).unwrap();
            fs::write(
                folder.join("address"),
                format!("52:54:00:00:00:0{number}\n"),
            )
            .unwrap();
        }
        fs::create_dir_all(root.path().join("sys/lo")).unwrap();
        let machine = Self {
            root,
            recorder: Recorder::default(),
        };
        machine.show(interfaces);
        machine
    }

    fn show(&self, interfaces: &[(&str, bool, &str)]) {
        let links: Vec<String> = interfaces
            .iter()
            .map(|(name, link, address)| {
                let flag = if *link { "LOWER_UP" } else { "NO-CARRIER" };
                let address = address.split_once('/').map(|(local, len)| {
                    format!(r#"{{"local":"{local}","prefixlen":{len},"scope":"global"}}"#)
                });
                format!(
                    r#"{{"ifname":"{name}","flags":["{flag}"],"addr_info":[{}]}}"#,
                    address.unwrap_or_default()
                )
            })
            .collect();
        *self.recorder.addresses.lock().unwrap() = format!("[{}]", links.join(","));
    }

    fn net(&self) -> Net<'_> {
        Net {
            runner: &self.recorder,
            places: Places {
                run: self.root.path().join("run"),
                sys_class_net: self.root.path().join("sys"),
                resolv_conf: self.root.path().join("resolv.conf"),
                carrier_timeout: Duration::from_millis(300),
            },
        }
    }

    /// What was run since the last time, the temporary folder taken out.
    fn ran(&self) -> Vec<String> {
        let root = self.root.path().to_string_lossy().into_owned();
        let ran = std::mem::take(&mut *self.recorder.ran.lock().unwrap());
        ran.into_iter()
            .map(|line| line.replace(&root, ""))
            .collect()
    }
}

fn dhcp_line(name: &str) -> String {
    format!(
        "udhcpc -i {name} -s /run/udhcpc.script -p /run/udhcpc.{name}.pid -O staticroutes -t 4 -T 2 -A 10 -b"
    )
}

fn on(interface: &str, address: Addressing) -> InterfaceConfig {
    InterfaceConfig {
        interface: Some(interface.into()),
        address,
        vlan: None,
        bond: None,
    }
}

fn fixed(address: &str, prefix_len: u8, gateway: Option<&str>, dns: &[&str]) -> Addressing {
    Addressing::Static {
        address: address.parse().unwrap(),
        prefix_len,
        gateway: gateway.map(|text| text.parse().unwrap()),
        dns: dns
            .iter()
            .map(|text| text.parse::<IpAddr>().unwrap())
            .collect(),
        hostname: None,
    }
}

#[test]
fn by_default_every_interface_with_a_link_asks_for_an_address() {
    let machine = Machine::new(&[
        ("eth0", true, "192.0.2.7/24"),
        ("eth1", false, ""),
        ("eth2", true, ""),
    ]);
    machine.net().configure(&[]).unwrap();
    let mut ran = machine.ran();
    ran[3..].sort();
    assert_eq!(
        ran,
        [
            "ip link set dev eth0 up".to_owned(),
            "ip link set dev eth1 up".to_owned(),
            "ip link set dev eth2 up".to_owned(),
            dhcp_line("eth0"),
            dhcp_line("eth2"),
        ]
    );
}

#[test]
fn without_a_link_or_an_address_it_says_so() {
    let machine = Machine::new(&[("eth0", false, "")]);
    assert!(matches!(machine.net().configure(&[]), Err(Error::NoLink)));
    machine.show(&[("eth0", true, "")]);
    let error = machine.net().configure(&[]).unwrap_err();
    assert!(
        matches!(&error, Error::NoAddress(names) if names == "eth0"),
        "{error}"
    );
    let error = machine.net().wait_up(Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::NoAddress(_)), "{error}");
    machine.show(&[("eth0", true, "192.0.2.7/24")]);
    machine.net().wait_up(Duration::ZERO).unwrap();
}

#[test]
fn a_static_address_with_a_vlan_and_its_undoing() {
    let machine = Machine::new(&[("eth0", true, "")]);
    let mut wanted = on(
        "eth0",
        fixed("192.0.2.9", 24, Some("192.0.2.1"), &["192.0.2.2"]),
    );
    wanted.vlan = Some(7);
    machine.net().configure(&[wanted]).unwrap();
    assert_eq!(
        machine.ran(),
        [
            "ip link set dev eth0 up",
            "ip link add link eth0 name eth0.7 type vlan id 7",
            "ip link set dev eth0.7 up",
            "ip address replace 192.0.2.9/24 broadcast + dev eth0.7",
            "ip -4 route replace default via 192.0.2.1 dev eth0.7 onlink",
        ]
    );
    let resolv = machine.root.path().join("resolv.conf");
    assert_eq!(
        fs::read_to_string(&resolv).unwrap(),
        "nameserver 192.0.2.2\n"
    );
    // The next set-up takes all of it back first, whatever fails.
    let v6 = on(
        "52:54:00:00:00:00",
        fixed("2001:db8::9", 64, Some("fe80::1"), &[]),
    );
    machine.net().configure(std::slice::from_ref(&v6)).unwrap();
    assert_eq!(
        machine.ran(),
        [
            "ip -4 route delete default via 192.0.2.1 dev eth0.7",
            "ip address delete 192.0.2.9/24 dev eth0.7",
            "ip link delete dev eth0.7",
            "ip link set dev eth0 up",
            "ip address replace 2001:db8::9/64 dev eth0",
            "ip -6 route replace default via fe80::1 dev eth0 onlink",
        ]
    );
    assert_eq!(fs::read_to_string(&resolv).unwrap(), "");
    // Twice the same: taken back and done again, nothing twice.
    machine.net().configure(&[v6]).unwrap();
    assert_eq!(machine.ran().len(), 5);
}

#[test]
fn a_bond_is_made_of_ports_that_are_off() {
    let machine = Machine::new(&[
        ("eth0", true, ""),
        ("eth1", true, ""),
        ("bond0", true, "192.0.2.7/24"),
    ]);
    fs::remove_dir_all(machine.root.path().join("sys/bond0")).unwrap();
    let wanted = InterfaceConfig {
        bond: Some(BondConfig {
            ports: vec!["eth0".into(), "52-54-00-00-00-01".into()],
            mode: "802.3ad".into(),
            options: vec![("lacp_rate".into(), "fast".into())],
        }),
        ..on("bond0", Addressing::Dhcp)
    };
    machine.net().configure(&[wanted]).unwrap();
    assert_eq!(
        machine.ran(),
        [
            "modprobe bonding max_bonds=0".to_owned(),
            "ip link add name bond0 type bond mode 802.3ad miimon 100 lacp_rate fast".to_owned(),
            "ip link set dev eth0 down".to_owned(),
            "ip link set dev eth0 master bond0".to_owned(),
            "ip link set dev eth1 down".to_owned(),
            "ip link set dev eth1 master bond0".to_owned(),
            "ip link set dev bond0 up".to_owned(),
            dhcp_line("bond0"),
        ]
    );
    fs::write(machine.root.path().join("run/udhcpc.bond0.pid"), "4711\n").unwrap();
    machine.net().undo();
    assert_eq!(*machine.recorder.ended.lock().unwrap(), [4711]);
    assert_eq!(
        machine.ran(),
        [
            "ip -4 address flush dev bond0",
            "ip -4 route flush dev bond0",
            "ip link delete dev bond0",
        ]
    );
}

#[test]
fn one_wrong_interface_does_not_stop_the_others() {
    let mut machine = Machine::new(&[("eth0", true, "192.0.2.7/24"), ("eth1", true, "")]);
    machine.recorder.fails = Some("192.0.2.9/24");
    let wanted = [
        on("eth7", Addressing::Dhcp),
        on("eth1", fixed("192.0.2.9", 24, None, &[])),
        on("eth0", Addressing::Dhcp),
    ];
    let error = machine.net().configure(&wanted).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no interface `eth7` is there; there are: eth0, eth1"
    );
    assert_eq!(machine.ran().last(), Some(&dhcp_line("eth0")));
}

#[test]
fn names_from_the_kernel_command_line_are_not_options_or_paths() {
    let machine = Machine::new(&[("eth0", true, "")]);
    for name in [
        "-json",
        "../eth0",
        "eth0;reboot",
        "",
        "averylongnameforanif",
    ] {
        let error = machine
            .net()
            .configure(&[on(name, Addressing::Dhcp)])
            .unwrap_err();
        assert!(
            matches!(error, Error::NoInterface { .. }),
            "{name}: {error}"
        );
    }
    let bond = |options: Vec<(String, String)>| InterfaceConfig {
        bond: Some(BondConfig {
            ports: vec!["eth0".into()],
            mode: String::new(),
            options,
        }),
        ..on("bond1", Addressing::Dhcp)
    };
    let wrong = bond(vec![("miimon".into(), "1 2".into())]);
    assert!(machine.net().configure(&[wrong]).is_err());
    let wrong = InterfaceConfig {
        vlan: Some(4095),
        ..on("eth0", Addressing::Dhcp)
    };
    assert!(machine.net().configure(&[wrong]).is_err());
    let wrong = on("eth0", fixed("192.0.2.9", 33, None, &[]));
    assert!(machine.net().configure(&[wrong]).is_err());
    assert!(machine.ran().iter().all(|line| !line.contains("udhcpc")));
}

/// Ends a namespace, its interfaces and what runs in it.
struct Namespace(String);

impl Namespace {
    fn new() -> Option<Self> {
        let name = format!("p2v-test-{}", std::process::id());
        let added = Host.run(&["ip", "netns", "add", &name]);
        match added {
            Ok(_) => Some(Self(name)),
            Err(error) => {
                testkit::skip(&format!("no network namespaces here: {error}"));
                None
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let pids = Host
            .run(&["ip", "netns", "pids", &self.0])
            .unwrap_or_default();
        for pid in pids.split_whitespace() {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = Host.run(&["ip", "netns", "delete", &self.0]);
    }
}

/// The DHCP server, ended with the test however that ends.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Set for the copy of the test that runs inside.
const INSIDE: &str = "P2V_TEST_NETNS";

#[test]
fn it_works_in_a_network_namespace() {
    if !testkit::require_root() || !testkit::require_tool("ip") || !testkit::require_tool("busybox")
    {
        return;
    }
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let output = std::process::Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "--include-ignored",
            "net::tests::inside",
        ])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let also = String::from_utf8_lossy(&output.stderr);
    if said.contains("no veth") {
        testkit::skip("no veth interfaces here");
        return;
    }
    assert!(output.status.success(), "{said}\n{also}");
    assert!(said.contains("leased and undone"), "{said}");
}

#[test]
#[ignore = "run by the test above inside of a namespace"]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let veth = [
        "ip", "link", "add", "srv", "type", "veth", "peer", "name", "eth0",
    ];
    if let Err(error) = Host.run(&veth) {
        println!("no veth: {error}");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let run = |argv: &[&str]| Host.run(argv).unwrap();
    run(&["ip", "address", "add", "192.0.2.1/24", "dev", "srv"]);
    run(&["ip", "link", "set", "dev", "srv", "up"]);
    let config = root.path().join("udhcpd.conf");
    let leases = root.path().join("leases");
    fs::write(&leases, "").unwrap();
    let text = format!(
        "start 192.0.2.50\nend 192.0.2.50\ninterface srv\nlease_file {}\npidfile {}\n\
         option subnet 255.255.255.0\noption router 192.0.2.254\noption dns 192.0.2.2\n",
        leases.display(),
        root.path().join("udhcpd.pid").display()
    );
    fs::write(&config, text).unwrap();
    let server = std::process::Command::new("busybox")
        .args(["udhcpd", "-f"])
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(server);
    let net = Net {
        runner: &Host,
        places: Places {
            run: root.path().join("run"),
            resolv_conf: root.path().join("resolv.conf"),
            ..Places::default()
        },
    };
    let shown = |name: &str| {
        let all = net.interfaces().unwrap();
        all.into_iter()
            .find(|interface| interface.name == name)
            .map(|i| i.addresses)
    };
    net.configure(&[on("eth0", Addressing::Dhcp)]).unwrap();
    assert_eq!(shown("eth0").unwrap(), ["192.0.2.50/24"]);
    net.wait_up(Duration::from_secs(1)).unwrap();
    let routes = run(&["ip", "-4", "route", "show", "default", "dev", "eth0"]);
    assert!(routes.contains("via 192.0.2.254"), "{routes}");
    let servers = fs::read_to_string(root.path().join("resolv.conf")).unwrap();
    assert_eq!(servers, "nameserver 192.0.2.2\n");
    let pid = fs::read_to_string(root.path().join("run/udhcpc.eth0.pid")).unwrap();
    // Static on a VLAN: the lease's address, its route and its client go.
    let mut wanted = on("eth0", fixed("198.51.100.9", 24, Some("198.51.100.1"), &[]));
    wanted.vlan = Some(7);
    match net.configure(&[wanted]) {
        Ok(()) => assert_eq!(shown("eth0.7").unwrap(), ["198.51.100.9/24"]),
        Err(error) => println!("no VLANs: {error}"),
    }
    assert_eq!(shown("eth0").unwrap(), Vec::<String>::new());
    std::thread::sleep(Duration::from_millis(300));
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // Z: it ended, and this system's PID 1 takes its time.
    let ended = !stat.contains("(udhcpc)") && !stat.contains("(busybox)") || stat.contains(") Z ");
    assert!(ended, "the client still runs: {stat}");
    let v6 = on("eth0", fixed("2001:db8::9", 64, None, &[]));
    net.configure(&[v6]).unwrap();
    assert_eq!(shown("eth0.7"), None);
    net.undo();
    assert_eq!(shown("eth0").unwrap(), Vec::<String>::new());
    println!("leased and undone");
}
