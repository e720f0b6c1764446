use wire::join::{Fingerprint, JoinString, Secret};

use super::*;

fn join() -> JoinString {
    JoinString {
        servers: vec!["192.0.2.7:7440".into(), "[2001:db8::7]:7440".into()],
        fingerprint: Fingerprint([0xa5; 32]),
        secret: Secret([7; 16]),
    }
}

#[test]
fn words_are_cut_as_the_kernel_cuts_them() {
    let table: &[(&str, &[&str])] = &[
        ("a b\tc\n", &["a", "b", "c"]),
        (r#"p2v.name="my guest" x"#, &["p2v.name=my guest", "x"]),
        (r#""p2v.name=my guest" x"#, &["p2v.name=my guest", "x"]),
        (r#"p2v.name=my" "guest x"#, &[r#"p2v.name=my" "guest"#, "x"]),
        (r#"p2v.name="open end"#, &["p2v.name=open end"]),
        ("", &[]),
    ];
    for (text, words) in table {
        assert_eq!(split_command_line(text), *words, "{text}");
    }
}

/// A word and the lines of the dump that it adds to those of an empty command line.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_word_is_understood_in_both_spellings() {
    let table: &[(&str, &str)] = &[
        ("p2v.server=conv", "server = conv:7440"),
        ("p2v.remote.server=10.0.0.1", "server = 10.0.0.1:7440"),
        ("p2v.server=10.0.0.1:99", "server = 10.0.0.1:99"),
        ("p2v.server=2001:db8::7", "server = [2001:db8::7]:7440"),
        ("p2v.server=[2001:db8::7]:8", "server = [2001:db8::7]:8"),
        ("p2v.server=conv p2v.port=22", "server = conv:22"),
        ("p2v.remote.port=22 p2v.server=::1", "server = [::1]:22"),
        ("p2v.name=web", "name = web"),
        ("p2v.guestname=web", "name = web"),
        ("p2v.name=a p2v.name=b", "name = b"),
        ("p2v.disks=sda,nvme0n1", "disks = sda,nvme0n1"),
        ("p2v.removable=", "removable = "),
        ("p2v.interfaces=em1,eth1", "interfaces = em1,eth1"),
        (
            "p2v.network=em1:wired,other",
            "network = em1:wired|network = *:other",
        ),
        ("p2v.network_map=lab", "network = *:lab"),
        ("p2v.network-map=lab", "network = *:lab"),
        ("p2v.memory=4G", "memory_bytes = 4294967296"),
        ("p2v.memory=512M", "memory_bytes = 536870912"),
        ("p2v.memory=2048", "memory_bytes = 2147483648"),
        ("p2v.memory=1gib", "memory_bytes = 1073741824"),
        ("p2v.memory=1073741824", "memory_bytes = 1073741824"),
        (
            "p2v.memory=x",
            "problem = p2v.memory: expected a size such as 4G or 512M, found x",
        ),
        (
            "p2v.memory=99999999999999G",
            "problem = p2v.memory: expected a size such as 4G or 512M, found 99999999999999G",
        ),
        ("p2v.vcpu.cores=8", "vcpu.cores = 8"),
        (
            "p2v.vcpu.cores=0",
            "problem = p2v.vcpu.cores: expected 1 to 4096, found 0",
        ),
        ("p2v.vcpu.phys_topo", "vcpu.phys_topo = true"),
        ("p2v.cpu.vendor=Intel", "cpu.vendor = Intel"),
        ("p2v.cpu.model=Nehalem", "cpu.model = Nehalem"),
        (
            "p2v.cpu.acpi=0 p2v.cpu.apic p2v.cpu.pae=off",
            "cpu.acpi = false|cpu.apic = true|cpu.pae = false",
        ),
        (
            "p2v.rtc.basis=utc p2v.rtc.offset=-3600",
            "rtc.basis = utc|rtc.offset = -3600",
        ),
        ("p2v.o=local p2v.os=/srv", "o = local|os = /srv"),
        (
            "p2v.output.type=libvirt p2v.output.connection=qemu:///system",
            "o = libvirt|oc = qemu:///system",
        ),
        (
            "p2v.output.format=qcow2 p2v.output.allocation=sparse",
            "of = qcow2|oa = sparse",
        ),
        (
            "p2v.output.storage=default p2v.on=web",
            "os = default|on = web",
        ),
        ("p2v.oo=a p2v.output.misc=b", "oo = a|oo = b"),
        ("p2v.resync", "resync = true"),
        ("p2v.skip_test_connection", "skip_test_connection = true"),
        ("p2v.post=poweroff", "post = poweroff"),
        (
            "p2v.post=shell p2v.fail=reboot",
            "post = shell|fail = reboot",
        ),
        ("p2v.post=wait", ""),
        ("p2v.post=/sbin/reboot", "post = reboot"),
        (r#"p2v.post="systemctl poweroff""#, "post = poweroff"),
        (
            "p2v.post=/root/x.sh",
            "problem = p2v.post: commands are not run: expected poweroff, reboot, shell or wait, found /root/x.sh",
        ),
        (
            "p2v.pre=true",
            "problem = p2v.pre: commands are not run: nothing is needed before the start",
        ),
        (
            "p2v.password=geheim",
            "problem = p2v.password: there is no ssh and no account here: make a join string with `v2v token create` and give it as p2v.join=",
        ),
        (
            "p2v.auth.sudo",
            "problem = p2v.auth.sudo: there is no ssh and no account here: make a join string with `v2v token create` and give it as p2v.join=",
        ),
        (
            "p2v.auto",
            "unattended = true|post = poweroff|problem = p2v.auto: nobody can be reached without p2v.join= (or p2v.server=, p2v.fingerprint= and p2v.code=)",
        ),
        ("p2v.nonsense=1", "problem = p2v.nonsense: not known"),
        (
            "p2v.disks=",
            "problem = p2v.disks: expected a list such as sda,nvme0n1",
        ),
        ("p2v.port=1", "problem = p2v.port: there is no p2v.server"),
        ("quiet root=/dev/sda1 p2vx", ""),
    ];
    let empty = Config::parse("").dump();
    let known: Vec<&str> = empty.lines().collect();
    for (text, expected) in table {
        let dump = Config::parse(text).dump();
        let new: Vec<&str> = dump.lines().filter(|l| !known.contains(l)).collect();
        assert_eq!(new.join("|"), *expected, "{text}");
    }
}

#[test]
fn network_words() {
    let table: &[(&str, &str)] = &[
        ("ip=dhcp", "* dhcp"),
        ("ip=eth1:dhcp", "eth1 dhcp"),
        ("ip=eth1:auto6:1500", "eth1 dhcp"),
        ("ip=:::::eth1:dhcp", "eth1 dhcp"),
        (
            "ip=192.0.2.9::192.0.2.1:255.255.255.0:web:eth0:none:192.0.2.2:192.0.2.3",
            "eth0 192.0.2.9/24 via 192.0.2.1 dns 192.0.2.2 dns 192.0.2.3 host web",
        ),
        (
            "ip=192.0.2.9::192.0.2.1:255.255.255.0:web:eth0:192.0.2.2",
            "eth0 192.0.2.9/24 via 192.0.2.1 dns 192.0.2.2 host web",
        ),
        ("ip=192.0.2.9::192.0.2.1:24", "* 192.0.2.9/24 via 192.0.2.1"),
        ("ip=192.0.2.9/20:::::eth0:off", "eth0 192.0.2.9/20"),
        (
            "ip=192.0.2.9::192.0.2.1:24::52-54-00-AB-cd-01:none",
            "52:54:00:ab:cd:01 192.0.2.9/24 via 192.0.2.1",
        ),
        (
            "ip=192.0.2.9::192.0.2.1:24::eth0:none:9000:52:54:00:ab:cd:01",
            "eth0 192.0.2.9/24 via 192.0.2.1",
        ),
        (
            "ip=[2001:db8::9]::[2001:db8::1]:64:web:eth0:none:[2001:db8::2]",
            "eth0 2001:db8::9/64 via 2001:db8::1 dns 2001:db8::2 host web",
        ),
        (
            "ip=192.0.2.9:::24::eth0:none nameserver=192.0.2.4 nameserver=[2001:db8::4]",
            "eth0 192.0.2.9/24 dns 192.0.2.4 dns 2001:db8::4",
        ),
        ("vlan=vlan5:eth0 ip=vlan5:dhcp", "eth0 vlan 5 dhcp"),
        (
            "vlan=eth0.0007:eth0 ip=192.0.2.9:::24::eth0.0007:none",
            "eth0 vlan 7 192.0.2.9/24",
        ),
        ("vlan=vlan5:eth0", "eth0 vlan 5 dhcp"),
        (
            "vlan=vlan5:eth0 ip=192.0.2.9:::24",
            "eth0 vlan 5 192.0.2.9/24",
        ),
        (
            "bond=bond0:eth0,eth1:mode=802.3ad,miimon=100 ip=bond0:dhcp",
            "bond0 bond of eth0,eth1 mode 802.3ad miimon=100 dhcp",
        ),
        (
            "bond=bond0:eth0,eth1 vlan=vlan9:bond0",
            "bond0 vlan 9 bond of eth0,eth1 mode balance-rr dhcp",
        ),
        (
            "ip=eth0:dhcp ip=192.0.2.9:::24::eth1:none",
            "eth0 dhcp|eth1 192.0.2.9/24",
        ),
    ];
    for (text, expected) in table {
        let config = Config::parse(text);
        let dump = config.dump();
        let lines: Vec<&str> = dump
            .lines()
            .filter_map(|l| l.strip_prefix("ip = "))
            .collect();
        assert_eq!(lines.join("|"), *expected, "{text}");
        assert!(config.problems.is_empty(), "{:?}", config.problems);
    }
    for wrong in [
        "ip=",
        "ip=off",
        "ip=eth0:nonsense",
        "ip=192.0.2.9",
        "ip=192.0.2.9::192.0.2.1",
        "ip=192.0.2.9:::33",
        "ip=192.0.2.9:::255.0.255.0",
        "ip=192.0.2.9::[2001:db8::1]:24",
        "ip=192.0.2.9:::24::eth0:none:nonsense",
        "vlan=vlan0:eth0",
        "vlan=vlan4095:eth0",
        "vlan=vlan5",
        "nameserver=x",
        "nameserver=192.0.2.1",
    ] {
        assert_eq!(Config::parse(wrong).problems.len(), 1, "{wrong}");
    }
}

#[test]
fn a_join_string_makes_it_unattended_unless_that_is_switched_off() {
    let join = join();
    let apart = format!(
        "p2v.server=192.0.2.7 p2v.fingerprint={} p2v.code={}",
        join.fingerprint,
        join.secret.code()
    );
    let joined = format!("p2v.join={join}");
    for (text, unattended) in [
        (joined.clone(), true),
        (format!("{joined} p2v.auto=0"), false),
        (apart.clone(), true),
        (format!("{apart} p2v.auto=0"), false),
        ("p2v.server=192.0.2.7".to_owned(), false),
    ] {
        let config = Config::parse(&text);
        assert_eq!(config.unattended, unattended, "{text}");
        assert!(config.problems.is_empty(), "{:?}", config.problems);
    }
    let target = Config::parse(&format!("{joined} p2v.server=192.0.2.99"))
        .target()
        .unwrap();
    assert_eq!(target.secret, join.secret);
    assert_eq!(
        target.addresses,
        ["192.0.2.99:7440", "192.0.2.7:7440", "[2001:db8::7]:7440"]
    );
    assert_eq!(
        Config::parse(&apart).target().unwrap().fingerprint,
        join.fingerprint
    );
}

#[test]
fn the_dump_of_a_full_command_line() {
    let text = format!(
        r#"BOOT_IMAGE=/vmlinuz quiet p2v.join={} p2v.name="old web" p2v.disks=sda p2v.network=em1:wired,other
        p2v.memory=4G p2v.vcpu.cores=2 p2v.o=local p2v.os=/srv p2v.post=reboot p2v.password=x
        ip=192.0.2.9::192.0.2.1:255.255.255.0:web:eth0:192.0.2.2 p2v.dump_config_and_exit"#,
        join()
    );
    let config = Config::parse(&text);
    assert!(config.dump_config_and_exit);
    insta::assert_snapshot!(config.dump(), @r"
    server = 192.0.2.7:7440
    server = [2001:db8::7]:7440
    fingerprint = a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5
    code = given
    unattended = true
    name = old web
    disks = sda
    network = em1:wired
    network = *:other
    memory_bytes = 4294967296
    vcpu.cores = 2
    vcpu.phys_topo = false
    o = local
    os = /srv
    resync = false
    skip_test_connection = false
    post = reboot
    fail = wait
    ip = eth0 192.0.2.9/24 via 192.0.2.1 dns 192.0.2.2 host web
    problem = p2v.password: there is no ssh and no account here: make a join string with `v2v token create` and give it as p2v.join=
    ");
}

#[test]
fn no_command_line_panics_and_no_secret_is_printed() {
    let mut text = format!(
        "p2v.join={} ip=[ vlan=: bond=: p2v.memory=\u{e9} p2v.post= p2v.",
        join()
    );
    for _ in 0..200 {
        text.push_str(" ip=dhcp \"");
    }
    for (end, _) in text.char_indices() {
        let _ = Config::parse(&text[..end]).dump();
    }
    let config = Config::parse(&format!("p2v.join={} p2v.code=ABCD-EFGH", join()));
    let shown = format!("{:?} {}", config, config.dump());
    assert!(!shown.contains("ABCD"), "{shown}");
    assert!(!shown.contains(&join().secret.code()), "{shown}");
    Config::parse(&"x".repeat(1 << 20));
}
