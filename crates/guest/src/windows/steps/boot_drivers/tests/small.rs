//! Machines of a few keys: exact lists of what is set.

use registry::Value;
use types::{Arch, StepOutcome};

use super::machine::{Given, Machine, hive};
use crate::windows::drivers::Role;
use crate::windows::tests::regdiff::diff;

/// A driver of the shape of viostor's.
const INF: &str = "[Version]
Signature=\"$Windows NT$\"
Class=SCSIAdapter
ClassGUID={4D36E97B-E325-11CE-BFC1-08002BE10318}
Provider=%MAKER%
DriverVer=12/02/2021,100.90.104.21500
CatalogFile=disk1.cat
PnpLockdown=1
[SourceDisksFiles]
disk1.sys = 1,,
[Manufacturer]
%MAKER% = Models,NTamd64,NTx86
[Models.NTamd64]
%Device.Desc% = disk_inst, PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00, PCI\\VEN_1AF4&DEV_1001
%Device.Desc% = disk_inst, PCI\\VEN_1AF4&DEV_1042
[Models.NTx86]
%Device.Desc% = disk_inst, PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4
[disk_inst.Services]
AddService = other,,Other
AddService = disk1, 0x2, Service, Events
[disk_inst.HW]
AddReg = Hardware
[Service]
DisplayName = %Service.Name%
ServiceType = 1
StartType = 3
ErrorControl = 1
ServiceBinary = %12%\\disk1.sys
LoadOrderGroup = SCSI miniport
AddReg = Parameters
[Parameters]
HKR, \"Parameters\\PnpInterface\", \"5\", 0x00010001, 1
HKR, Parameters, BusType, 0x00010003, 0xA
HKLM, Software, Bad, , 1
[Hardware]
HKR, \"Interrupt Management\",, 0x10
[Events]
AddReg = Log
[Log]
HKR,,EventMessageFile,0x20000,\"%%SystemRoot%%\\System32\\IoLogMsg.dll\"
[disk_inst]
CopyFiles = Files
[Strings]
MAKER = \"Maker, Inc.\"
Device.Desc = \"Controller\"
Service.Name = \"Service of it\"
";

fn given() -> Vec<Given> {
    vec![Given {
        role: Role::Block,
        name: "disk1.inf",
        inf: INF.as_bytes().to_vec(),
    }]
}

fn ten() -> Machine {
    let none = Value::dword(0);
    let system = hive(&[
        ("ControlSet001\\Services\\storahci", "Type", Value::dword(1)),
        (
            "ControlSet001\\Services\\storahci",
            "Start",
            Value::dword(0),
        ),
        (
            "ControlSet001\\Services\\storahci\\StartOverride",
            "0",
            Value::dword(3),
        ),
        ("ControlSet001\\Services\\atapi", "Type", Value::dword(1)),
        ("ControlSet001\\Services\\atapi", "Start", Value::dword(3)),
        ("DriverDatabase", "OemInfMap", Value::binary([0xe0])),
        ("DriverDatabase\\DriverInfFiles\\oem3.inf", "", none),
        (
            "DriverDatabase\\DriverInfFiles\\disk.inf",
            "Active",
            Value::text("disk.inf_amd64_1"),
        ),
        (
            "DriverDatabase\\DriverPackages\\disk.inf_amd64_1\\Configurations\\disk_install.NT",
            "ConfigScope",
            Value::dword(0xf7f),
        ),
        (
            "DriverDatabase\\DriverInfFiles\\guestor.inf",
            "Active",
            Value::text("guestor.inf_tmp"),
        ),
        (
            "DriverDatabase\\DriverPackages\\guestor.inf_tmp\\Configurations\\guestor_conf",
            "Service",
            Value::text("disk1"),
        ),
        (
            "DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1042",
            "guestor.inf",
            Value::binary([1, 255, 0, 0]),
        ),
    ]);
    let mut machine = Machine::new((10, 0, 19045), Arch::X86_64, &system);
    machine.given = given();
    machine.driver("storahci.sys");
    machine.file("INF/oem4.inf", b"");
    machine
}

#[test]
fn windows_10_gets_a_package_under_its_own_name() {
    let machine = ten();
    let before = machine.values("SYSTEM");
    let outcome = machine.run().unwrap();
    insta::assert_snapshot!(diff(&before, &machine.values("SYSTEM")));
    insta::assert_snapshot!("windows_10_files", machine.files().join("\n"));
    assert_eq!(outcome.report.outcome, StepOutcome::Applied);
    assert_eq!(outcome.warnings, Vec::<String>::new());
    let again = machine.run().unwrap();
    assert_eq!(again.changes, []);
    assert_eq!(again.report.outcome, StepOutcome::NotNeeded);
}

#[test]
fn the_software_hive_knows_whose_file_it_is() {
    let machine = ten();
    let before = machine.values("SOFTWARE");
    machine.run().unwrap();
    insta::assert_snapshot!(diff(&before, &machine.values("SOFTWARE")));
}

#[test]
fn a_driver_that_drives_all_is_kept() {
    let machine = ten();
    machine.run().unwrap();
    // An administrator switched it off, and Windows found another disk at its first start.
    let mut system = registry::Hive::open(read(&machine)).unwrap();
    let key = "ControlSet001\\Services\\disk1";
    system.set(key, "Start", &Value::dword(3)).unwrap();
    system
        .set(&format!("{key}\\StartOverride"), "0", &Value::dword(3))
        .unwrap();
    machine.file("System32/config/SYSTEM", &system.to_bytes(2));
    machine.file("System32/drivers/disk1.sys", b"MZ another build");
    let before = machine.values("SYSTEM");
    machine.run().unwrap();
    insta::assert_snapshot!(diff(&before, &machine.values("SYSTEM")), @r#"
     [ControlSet001\Services\disk1]
    -"Start"=dword:00000003
    +"Start"=dword:00000000
    -[ControlSet001\Services\disk1\StartOverride]
    -"0"=dword:00000003
    "#);
    let sys = machine
        .dir
        .path()
        .join("Windows/System32/drivers/disk1.sys");
    assert_eq!(std::fs::read(sys).unwrap(), b"MZ another build");
}

fn read(machine: &Machine) -> Vec<u8> {
    std::fs::read(machine.dir.path().join("Windows/System32/config/SYSTEM")).unwrap()
}

#[test]
fn a_driver_that_knows_no_modern_device_is_replaced() {
    let machine = ten();
    machine.run().unwrap();
    let mut system = registry::Hive::open(read(&machine)).unwrap();
    let id = "DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1042";
    assert!(system.delete_key(id).unwrap());
    machine.file("System32/config/SYSTEM", &system.to_bytes(2));
    machine.file("System32/drivers/disk1.sys", b"MZ of old");
    machine.run().unwrap();
    let sys = machine
        .dir
        .path()
        .join("Windows/System32/drivers/disk1.sys");
    assert_eq!(std::fs::read(sys).unwrap(), b"MZ disk1");
    let own = (id.to_owned(), Some("oem5.inf".to_owned()));
    assert!(machine.values("SYSTEM").contains_key(&own));
    assert!(!machine.has("INF/oem6.inf"), "its number is kept");
}

#[test]
fn a_package_without_its_driver_is_refused_before_the_first_change() {
    let mut machine = ten();
    let text = INF.replace("\\disk1.sys", "\\disk2.sys");
    machine.given = vec![Given {
        role: Role::Scsi,
        name: "disk1.inf",
        inf: text.into_bytes(),
    }];
    let before = (machine.values("SYSTEM"), machine.files());
    let error = machine.run().err().unwrap().to_string();
    assert!(error.contains("disk1.inf has no disk2.sys"), "{error}");
    assert!(before == (machine.values("SYSTEM"), machine.files()));
}

#[test]
fn a_newer_file_is_kept_and_an_older_one_replaced() {
    let with_version = |minor: u8| {
        let mut file = b"MZ  \xbd\x04\xef\xfe\0\0\x01\0".to_vec();
        file.extend([minor, 0, 1, 0, 0, 0, 0, 0]);
        file
    };
    let mut machine = ten();
    machine.file("System32/drivers/disk1.sys", &with_version(7));
    machine.run().unwrap();
    let sys = machine
        .dir
        .path()
        .join("Windows/System32/drivers/disk1.sys");
    assert_eq!(std::fs::read(&sys).unwrap(), with_version(7));
    machine = ten();
    machine.file("System32/drivers/disk1.sys", b"MZ of unknown age");
    machine.run().unwrap();
    let sys = machine
        .dir
        .path()
        .join("Windows/System32/drivers/disk1.sys");
    assert_eq!(std::fs::read(&sys).unwrap(), b"MZ disk1");
}

#[test]
fn xp_gets_critical_devices_and_ide() {
    let none = Value::dword(0);
    let system = hive(&[
        ("ControlSet001\\Services\\disk", "Type", Value::dword(1)),
        ("ControlSet001\\Services\\disk", "Start", Value::dword(0)),
        (
            "ControlSet001\\Services\\intelppm",
            "Start",
            Value::dword(1),
        ),
        ("ControlSet001\\Services\\pciide", "Type", Value::dword(1)),
        ("ControlSet001\\Services\\pciide", "Start", Value::dword(4)),
        (
            "ControlSet001\\Control\\CriticalDeviceDatabase",
            "",
            none.clone(),
        ),
        ("ControlSet002\\Control\\CriticalDeviceDatabase", "", none),
    ]);
    let mut machine = Machine::new((5, 1, 2600), Arch::I686, &system);
    machine.given = given();
    machine.driver("pciide.sys");
    machine.driver("pciidex.sys");
    machine.driver("atapi.sys");
    machine.file(
        "ServicePackFiles/i386/intelide.sys",
        b"MZ from the service pack",
    );
    let before = machine.values("SYSTEM");
    let outcome = machine.run().unwrap();
    insta::assert_snapshot!(diff(&before, &machine.values("SYSTEM")));
    assert!(machine.has("System32/drivers/intelide.sys"));
    assert_eq!(outcome.warnings, Vec::<String>::new());
    assert_eq!(machine.run().unwrap().changes, []);
}

#[test]
fn without_a_driver_sata_starts_and_it_is_said() {
    let system = hive(&[
        ("ControlSet001\\Services\\msahci", "Type", Value::dword(1)),
        ("ControlSet001\\Services\\msahci", "Start", Value::dword(3)),
        // Its file is missing: with ErrorControl=3 a start at boot would stop Windows.
        ("ControlSet001\\Services\\pciide", "Type", Value::dword(1)),
        ("ControlSet001\\Services\\pciide", "Start", Value::dword(3)),
    ]);
    let machine = Machine::new((6, 1, 7601), Arch::X86_64, &system);
    machine.driver("msahci.sys");
    let before = machine.values("SYSTEM");
    let outcome = machine.run().unwrap();
    assert_eq!(outcome.report.outcome, StepOutcome::Skipped);
    insta::assert_snapshot!(diff(&before, &machine.values("SYSTEM")), @r#"
    +[ControlSet001\Control]
    +[ControlSet001\Control\CriticalDeviceDatabase]
    +[ControlSet001\Control\CriticalDeviceDatabase\PCI#CC_010601]
    +"ClassGUID"="{4D36E96A-E325-11CE-BFC1-08002BE10318}"
    +"Service"="msahci"
     [ControlSet001\Services\msahci]
    -"Start"=dword:00000003
    +"Start"=dword:00000000
    "#);
}
