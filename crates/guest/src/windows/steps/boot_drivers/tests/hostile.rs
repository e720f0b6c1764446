//! An .inf or a hive from a hostile hand changes nothing but what it should.

use registry::Value;
use types::Arch;

use super::machine::{Given, Machine, hive};
use crate::windows::drivers::Role;

fn inf(service: &str, binary: &str, id: &str, add_reg: &str) -> Vec<u8> {
    format!(
        "[Version]\nSignature=\"$Windows NT$\"\nClassGuid={{4D36E97B-E325-11CE-BFC1-08002BE10318}}\n\
         Provider=\"P\"\nDriverVer=01/02/2020,1.2.3.4\n[Manufacturer]\n\"M\"=Models,NTamd64\n\
         [Models.NTamd64]\n\"D\"=inst, \"{id}\"\n[inst]\n[inst.Services]\n\
         AddService=\"{service}\",2,Service\n[Service]\nServiceType=1\nServiceBinary=\"{binary}\"\n\
         AddReg=Reg\n[Reg]\n{add_reg}\n"
    )
    .into_bytes()
}

fn machine(inf: Vec<u8>) -> Machine {
    let system = hive(&[
        ("ControlSet001\\Services", "", Value::dword(0)),
        ("DriverDatabase", "", Value::dword(0)),
    ]);
    let mut machine = Machine::new((10, 0, 19045), Arch::X86_64, &system);
    machine.given = vec![Given {
        role: Role::Scsi,
        name: "x.inf",
        inf,
    }];
    machine
}

const ID: &str = "PCI\\VEN_1AF4&DEV_1004";

#[test]
fn names_that_are_paths_are_refused_before_the_first_change() {
    let long = "a".repeat(4000);
    let deep = format!("HKR,\"{}\",v,0x10001,1", "k\\".repeat(300));
    let cases = [
        inf("..\\..\\Control", "%12%\\x.sys", ID, ""),
        inf("a/b", "%12%\\x.sys", ID, ""),
        inf(&long, "%12%\\x.sys", ID, ""),
        inf("", "%12%\\x.sys", ID, ""),
        inf("x", "%12%\\..\\..\\ntoskrnl.sys", ID, ""),
        inf("x", "C:\\Windows\\x.sys", ID, ""),
        inf("x", "%12%\\x.exe", ID, ""),
        inf("x", "%12%\\", ID, ""),
        inf("x", "%12%\\x.sys", "PCI\\CC_0101", ""),
        inf("x", "%12%\\x.sys", "PCI\\VEN_1AF4\\..\\..\\Select", ""),
        inf(
            "x",
            "%12%\\x.sys",
            &format!("PCI\\VEN_{}", "1".repeat(400)),
            "",
        ),
        inf("x", "%12%\\x.sys", ID, "HKR,\"..\\\\..\\\\x\",v,0x10001,1"),
        inf("x", "%12%\\x.sys", ID, "HKR,,v,0x10001,99999999999"),
        inf("x", "%12%\\x.sys", ID, &deep),
        inf("x", "%12%\\x.sys", ID, &"HKR,,v,,x\n".repeat(400)),
    ];
    for (at, inf) in cases.into_iter().enumerate() {
        let machine = machine(inf);
        let before = (machine.values("SYSTEM"), machine.files());
        assert!(machine.run().is_err(), "case {at}");
        assert!(
            before == (machine.values("SYSTEM"), machine.files()),
            "case {at}"
        );
    }
}

#[test]
fn dots_in_a_key_are_only_a_name() {
    let machine = machine(inf("x", "%12%\\x.sys", ID, "HKR,\"..\",v,0x10001,1"));
    machine.run().unwrap();
    let key = (
        "ControlSet001\\Services\\x\\..".to_owned(),
        Some("v".to_owned()),
    );
    assert!(machine.values("SYSTEM").contains_key(&key));
}

#[test]
fn control_sets_that_are_none_are_left() {
    let mut machine = machine(inf("x", "%12%\\x.sys", ID, ""));
    machine.windows.control_sets = [
        "ControlSet001",
        "controlset001",
        "ControlSet001",
        "ControlSet999",
        "Select",
        "",
        "ControlSet0\u{e9}",
        "ControlSet001\\Services",
    ]
    .map(str::to_owned)
    .to_vec();
    machine.run().unwrap();
    let values = machine.values("SYSTEM");
    assert!(
        values
            .keys()
            .all(|(key, _)| !key.starts_with("Select") && !key.contains("999"))
    );
    assert!(
        values
            .keys()
            .any(|(key, _)| key == "ControlSet001\\Services\\x")
    );
}

#[test]
fn a_database_that_lies_does_no_harm() {
    let long = "x".repeat(3000);
    let system = hive(&[
        ("ControlSet001\\Services\\x", "ImagePath", Value::dword(7)),
        (
            "DriverDatabase",
            "OemInfMap",
            Value::binary(vec![0xff; 60_000]),
        ),
        (
            "DriverDatabase\\DriverInfFiles\\disk.inf",
            "Active",
            Value::text(&long),
        ),
        (
            "DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1004",
            "..\\..\\x",
            Value::text(""),
        ),
    ]);
    let mut machine = Machine::new((10, 0, 19045), Arch::X86_64, &system);
    let inf = inf("x", "%12%\\x.sys", ID, "");
    machine.given = vec![Given {
        role: Role::Scsi,
        name: "x.inf",
        inf,
    }];
    // No number is free: refused.
    let files = machine.files();
    assert!(machine.run().is_err());
    assert_eq!(files, machine.files());
}
