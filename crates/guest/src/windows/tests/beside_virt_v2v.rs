//! Whole conversions of the two real machines of ../shared/fixtures: every key and value that changed, golden, and beside what
//! virt-v2v 2.2 changed of the same machine. Each difference between the two has a reason here, and each reason a difference.

use registry::Hive;

use super::convert::{drivers, programs};
use super::machine;
use super::machine::Machine;
use super::regdiff::{Reasons, Values, compare, diff, ours, theirs, values};
use crate::tests::fixtures;

/// What became of a hive.
struct Change {
    before: Values,
    after: Values,
    /// virt-v2v's changes, as a difference of .reg files.
    theirs: String,
}

/// A conversion of one of them.
struct Conversion {
    system: Change,
    software: Change,
}

/// Converts a machine with the files of the phony guest `like`, and a second time, which must change nothing.
fn convert(name: &str, like: &str) -> Option<Conversion> {
    let hives = fixtures::hives(name)?;
    let mut machine = machine(like);
    machine.system = Hive::open(hives.system).unwrap();
    machine.software = Hive::open(hives.software).unwrap();
    for driver in fixtures::INBOX {
        machine.put(&format!("Windows/System32/drivers/{driver}"), b"MZ");
    }
    machine.save();
    let config = machine.path().join("Windows/System32/config");
    let read = |name: &str| values(&std::fs::read(config.join(name)).unwrap());
    let before = ["SYSTEM", "SOFTWARE"].map(read);
    let programs = programs();
    let run = || {
        let own = Some(programs.path().to_path_buf());
        machine
            .try_convert(&Machine::options(), drivers().unwrap(), own)
            .unwrap_or_else(|error| panic!("{name}: {}", error.chain()))
    };
    run();
    let after = ["SYSTEM", "SOFTWARE"].map(read);
    let again: Vec<String> = run()
        .changes
        .into_iter()
        .map(|change| change.path)
        .collect();
    assert_eq!(again, [""; 0], "a second run changes nothing");
    let mut pairs = before.into_iter().zip(after);
    let mut change = |theirs| {
        let (before, after) = pairs.next().unwrap();
        Change {
            before,
            after,
            theirs,
        }
    };
    Some(Conversion {
        system: change(hives.theirs),
        software: change(hives.theirs_software),
    })
}

impl Change {
    /// Compares with the golden file of this name, and with virt-v2v.
    fn judge(&self, name: &str, only_theirs: &Reasons, only_ours: &Reasons) {
        insta::assert_snapshot!(format!("whole-{name}"), diff(&self.before, &self.after));
        compare(
            &theirs(&self.theirs),
            &ours(&self.before, &self.after),
            only_theirs,
            only_ours,
        );
    }
}

const FIRSTBOOT: &str =
    "our own service, under another name; like theirs it removes itself when it is done";
const REBOOT: &str = "AutoReboot: a server that comes up again after a crash shall go on doing so";
const SCSI: &str = "both storage drivers, so that a disk may move to virtio-scsi later; virt-v2v installs only one";
const PARAMETERS: &str = "the .inf's AddReg: storport's interface and bus type, which Windows would write at installation";
const EVENTS: &str = "the .inf's event log source, so that a disk's errors can be read";
const LKG: &str = "the last known good control set boots as well";
const OTHER_BUS: &str = "the guest starts on SATA and IDE as well (KB 922976)";
const LEFTOVERS: &str = "drivers and services of the old hypervisor stay off, whether their uninstaller works or not; virt-v2v \
                         leaves that to a script at the first boot";

#[test]
fn windows_7() {
    let Some(done) = convert("win7-x86-vmware", "7-x86") else {
        return;
    };
    done.system.judge(
        "7-system",
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
            ("ControlSet001\\services\\v2v-firstboot", FIRSTBOOT),
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
            ("ControlSet001\\services\\msahci\\Start", OTHER_BUS),
            ("ControlSet001\\services\\pciide\\Start", OTHER_BUS),
            ("ControlSet001\\services\\vm", LEFTOVERS),
            ("ControlSet001\\services\\tpautoconnsvc", LEFTOVERS),
            (
                "ControlSet001\\Control\\CriticalDeviceDatabase\\*PNP0F03",
                LEFTOVERS,
            ),
            ("ControlSet001\\Enum\\ACPI\\PNP0F13", LEFTOVERS),
        ],
    );
    done.software.judge("7-software", SAME_PATH.0, SAME_PATH.1);
}

/// The difference of SOFTWARE has one line, without its key.
const SAME_PATH: (&Reasons, &Reasons) = (
    &[("?\\devicepath", "the same value; the difference has no key")],
    &[(
        "Microsoft\\Windows\\CurrentVersion\\DevicePath",
        "see ?\\devicepath",
    )],
);

#[test]
fn windows_8_1() {
    const STUB: &str = "virt-v2v's stub of a driver package: no files are behind it, which stops upgrades of Windows";
    const OWN: &str = "the package under its own name, as Windows registers it";
    let Some(done) = convert("win81-x64-virtualbox", "8.1") else {
        return;
    };
    done.system.judge(
        "8.1-system",
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
            ("ControlSet001\\services\\v2v-firstboot", FIRSTBOOT),
            ("ControlSet001\\services\\vioscsi", SCSI),
            ("ControlSet001\\services\\viostor\\Parameters", PARAMETERS),
            ("ControlSet001\\services\\viostor\\Owners", OWN),
            ("ControlSet001\\services\\eventlog\\System\\vio", EVENTS),
            ("ControlSet001\\services\\atapi\\StartOverride", OTHER_BUS),
            ("ControlSet001\\services\\intelide\\StartOverride", OTHER_BUS),
            ("ControlSet001\\services\\pciide\\StartOverride", OTHER_BUS),
            ("ControlSet001\\services\\VBox", LEFTOVERS),
            ("ControlSet001\\Control\\NetworkProvider", LEFTOVERS),
            (
                "ControlSet001\\Control\\Class\\{4d36e96f-e325-11ce-bfc1-08002be10318}\\UpperFilters",
                LEFTOVERS,
            ),
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
    done.software.judge(
        "8.1-software",
        SAME_PATH.0,
        &[
            SAME_PATH.1[0],
            (
                "Microsoft\\Windows\\CurrentVersion\\Setup\\PnpLockdownFiles",
                OWN,
            ),
        ],
    );
}
