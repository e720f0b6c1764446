//! The two real machines of ../shared/fixtures: every change golden.

use types::Arch;

use super::machine::{Given, Machine};
use crate::tests::fixtures::{INBOX, hives};
use crate::windows::drivers::Role;
use crate::windows::drivers::fixture::tree;
use crate::windows::tests::regdiff::{Values, diff};

fn fixture(name: &str, version: (u32, u32, u32), arch: Arch, drivers: &str) -> Option<Machine> {
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
    Some(machine)
}

fn seven() -> Option<Machine> {
    fixture("win7-x86-vmware", (6, 1, 7601), Arch::I686, "Win7/x86")
}

fn eight() -> Option<Machine> {
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

#[test]
fn windows_7() {
    let Some(machine) = seven() else { return };
    let (before, after) = converted(&machine);
    insta::assert_snapshot!("windows_7_system", diff(&before, &after));
    insta::assert_snapshot!("windows_7_files", machine.files().join("\n"));
}

#[test]
fn windows_8_1() {
    let Some(machine) = eight() else { return };
    let (before, after) = converted(&machine);
    insta::assert_snapshot!("windows_8_1_system", diff(&before, &after));
    insta::assert_snapshot!("windows_8_1_files", machine.files().join("\n"));
}
