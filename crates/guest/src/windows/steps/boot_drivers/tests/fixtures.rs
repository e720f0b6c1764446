//! The two real machines of ../shared/fixtures: every change golden, and beside what virt-v2v 2.2 changed.

use std::collections::{BTreeMap, BTreeSet};

use types::Arch;

use super::machine::{Given, Machine, Values, diff};
use crate::tests::fixtures::hives;
use crate::windows::drivers::Role;
use crate::windows::drivers::fixture::tree;

/// Drivers of Windows' own that the machines have.
const INBOX: [&str; 10] = [
    "disk.sys",
    "partmgr.sys",
    "mountmgr.sys",
    "volmgr.sys",
    "pci.sys",
    "msahci.sys",
    "storahci.sys",
    "atapi.sys",
    "intelide.sys",
    "pciide.sys",
];

struct Fixture {
    machine: Machine,
    /// virt-v2v's changes of SYSTEM.
    theirs: String,
}

fn fixture(name: &str, version: (u32, u32, u32), arch: Arch, drivers: &str) -> Option<Fixture> {
    let tree = tree()?;
    let hives = hives(name)?;
    let mut machine = Machine::new(version, arch, &hives.system);
    for file in INBOX {
        machine.driver(file);
    }
    for (role, name) in [(Role::Block, "viostor.inf"), (Role::Scsi, "vioscsi.inf")] {
        let path = format!("{drivers}/{name}");
        let (_, inf) = tree.iter().find(|(own, _)| *own == path).unwrap();
        machine.given.push(Given {
            role,
            name,
            inf: inf.clone(),
        });
    }
    Some(Fixture {
        machine,
        theirs: hives.theirs,
    })
}

fn seven() -> Option<Fixture> {
    fixture("win7-x86-vmware", (6, 1, 7601), Arch::I686, "Win7/x86")
}

fn eight() -> Option<Fixture> {
    fixture(
        "win81-x64-virtualbox",
        (6, 3, 9600),
        Arch::X86_64,
        "Win8.1/amd64",
    )
}

/// Runs it twice; the registry before and after.
fn converted(machine: &Machine) -> (Values, Values) {
    let before = machine.values("SYSTEM");
    let outcome = machine.run().unwrap();
    assert_eq!(outcome.warnings, Vec::<String>::new());
    let after = machine.values("SYSTEM");
    let again = machine.run().unwrap();
    assert_eq!(again.changes, [], "a second run changes nothing");
    (before, after)
}

/// Keys and values by lower-case path, as they are set.
type Set = BTreeMap<String, String>;

/// What virt-v2v set. Its differences have no context: a value whose key is above the hunk is `?\NAME`.
fn theirs(text: &str) -> Set {
    let mut set = Set::new();
    let mut key = "?".to_owned();
    for line in text.lines() {
        if line.starts_with("@@") {
            "?".clone_into(&mut key);
        } else if let Some(line) = line
            .strip_prefix('+')
            .filter(|line| !line.starts_with("++"))
        {
            if let Some(own) = line.strip_prefix("[HKLM\\SYSTEM\\") {
                own.trim_end_matches(']')
                    .to_lowercase()
                    .clone_into(&mut key);
                set.insert(key.clone(), String::new());
            } else if let Some((name, value)) = line.split_once('=') {
                let name = name.trim_matches('"').replace('@', "").to_lowercase();
                set.insert(format!("{key}\\{name}"), decoded(value));
            }
        }
    }
    set
}

/// hivexregedit writes texts as hexadecimal.
fn decoded(value: &str) -> String {
    let Some((kind, hex)) = value
        .strip_prefix("hex(")
        .and_then(|rest| rest.split_once("):"))
    else {
        return value.to_owned();
    };
    let bytes: Vec<u8> = hex
        .split(',')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let units: Vec<u16> = bytes
        .chunks(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[pair.len() - 1]]))
        .collect();
    let text = String::from_utf16_lossy(&units);
    let texts: Vec<&str> = text.split('\0').filter(|text| !text.is_empty()).collect();
    match kind {
        "1" => format!("{:?}", texts.concat()),
        "2" => format!("expand:{:?}", texts.concat()),
        "7" => format!("multi:{texts:?}"),
        _ => value.to_owned(),
    }
}

/// What we set, `?\NAME` for nothing.
fn ours(before: &Values, after: &Values) -> Set {
    after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value))
        .map(|((key, name), value)| {
            let path = match name {
                Some(name) => format!("{key}\\{name}"),
                None => key.clone(),
            };
            (path.to_lowercase(), value.clone())
        })
        .collect()
}

/// Beginnings of paths, each with the reason for the difference.
type Reasons = [(&'static str, &'static str)];

/// Every path of one side that the other has not, or has with another value, must have a reason; every reason a path.
fn explain(side: &str, paths: &BTreeSet<String>, reasons: &Reasons) {
    let mut unexplained: Vec<&String> = Vec::new();
    let mut used = BTreeSet::new();
    for path in paths {
        match reasons
            .iter()
            .find(|(start, _)| path.starts_with(&start.to_lowercase()))
        {
            Some((start, _)) => {
                used.insert(*start);
            }
            None => unexplained.push(path),
        }
    }
    assert!(
        unexplained.is_empty(),
        "{side} without a reason: {unexplained:#?}"
    );
    let idle: Vec<&str> = reasons
        .iter()
        .map(|(start, _)| *start)
        .filter(|start| !used.contains(start))
        .collect();
    assert!(idle.is_empty(), "{side}: reasons for nothing: {idle:#?}");
}

fn compare(theirs: &Set, ours: &Set, only_theirs: &Reasons, only_ours: &Reasons) {
    let missing = |from: &Set, of: &Set| -> BTreeSet<String> {
        of.iter()
            .filter(|(path, value)| from.get(*path) != Some(value))
            .map(|(path, _)| path.clone())
            .collect()
    };
    explain("virt-v2v's", &missing(ours, theirs), only_theirs);
    explain("ours", &missing(theirs, ours), only_ours);
}

const FIRSTBOOT: &str = "our own service is another step's (first-boot), under another name";
const REBOOT: &str =
    "AutoReboot: a guest that cannot start says so on its screen; not a matter of drivers";
const SCSI: &str = "both storage drivers, so that a disk may move to virtio-scsi later; virt-v2v installs only one";
const PARAMETERS: &str = "the .inf's AddReg: storport's interface and bus type, which Windows would write at installation";
const EVENTS: &str = "the .inf's event log source, so that a disk's errors can be read";
const SHORT_IDS: &str = "the .inf's compatible ids: a device of another revision is driven too";
const LKG: &str = "the last known good control set boots as well";

#[test]
fn windows_7_is_as_virt_v2v_makes_it_and_more() {
    let Some(fixture) = seven() else { return };
    let (before, after) = converted(&fixture.machine);
    insta::assert_snapshot!("windows_7_system", diff(&before, &after));
    insta::assert_snapshot!("windows_7_files", fixture.machine.files().join("\n"));
    compare(
        &theirs(&fixture.theirs),
        &ours(&before, &after),
        &[
            ("?\\autoreboot", REBOOT),
            (
                "?\\type",
                "of viostor; the difference shows it before its key",
            ),
            ("ControlSet001\\services\\firstboot", FIRSTBOOT),
        ],
        &[
            ("ControlSet002\\", LKG),
            (
                "ControlSet001\\Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1001",
                SHORT_IDS,
            ),
            (
                "ControlSet001\\Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1042",
                SHORT_IDS,
            ),
            (
                "ControlSet001\\Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1004",
                SCSI,
            ),
            (
                "ControlSet001\\Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1048",
                SCSI,
            ),
            ("ControlSet001\\services\\vioscsi", SCSI),
            ("ControlSet001\\services\\viostor\\Parameters", PARAMETERS),
            (
                "ControlSet001\\services\\viostor\\Type",
                "of the same value; see ?\\type",
            ),
            ("ControlSet001\\services\\eventlog\\System\\vio", EVENTS),
            (
                "ControlSet001\\services\\msahci\\Start",
                "the guest starts on SATA as well (KB 922976)",
            ),
            (
                "ControlSet001\\services\\pciide\\Start",
                "the guest starts on IDE as well (KB 922976)",
            ),
        ],
    );
}

#[test]
fn windows_8_1_is_as_virt_v2v_makes_it_without_the_stub() {
    const STUB: &str = "virt-v2v's stub of a driver package: no files are behind it, which stops upgrades of Windows";
    const OWN: &str = "the package under its own name, as Windows registers it";
    let Some(fixture) = eight() else { return };
    let (before, after) = converted(&fixture.machine);
    insta::assert_snapshot!("windows_8_1_system", diff(&before, &after));
    insta::assert_snapshot!("windows_8_1_files", fixture.machine.files().join("\n"));
    compare(
        &theirs(&fixture.theirs),
        &ours(&before, &after),
        &[
            ("?\\autoreboot", REBOOT),
            ("ControlSet001\\Services\\firstboot", FIRSTBOOT),
            ("DriverDatabase\\DriverInfFiles\\guestor.inf", STUB),
            ("DriverDatabase\\DriverPackages\\guestor.inf_tmp", STUB),
            (
                "DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00\\guestor.inf",
                STUB,
            ),
            (
                "DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01\\guestor.inf",
                STUB,
            ),
        ],
        &[
            ("ControlSet001\\services\\vioscsi", SCSI),
            ("ControlSet001\\services\\viostor\\Parameters", PARAMETERS),
            ("ControlSet001\\services\\viostor\\Owners", OWN),
            ("ControlSet001\\services\\eventlog\\System\\vio", EVENTS),
            ("DriverDatabase\\OemInfMap", OWN),
            ("DriverDatabase\\DriverInfFiles\\oem3.inf", OWN),
            ("DriverDatabase\\DriverInfFiles\\oem4.inf", SCSI),
            ("DriverDatabase\\DriverPackages\\viostor.inf_amd64_", OWN),
            ("DriverDatabase\\DriverPackages\\vioscsi.inf_amd64_", SCSI),
            ("DriverDatabase\\DeviceIds\\{4d36e97b", OWN),
            ("DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1001", OWN),
            ("DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1042", OWN),
            ("DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1004", SCSI),
            ("DriverDatabase\\DeviceIds\\PCI\\VEN_1AF4&DEV_1048", SCSI),
        ],
    );
}
