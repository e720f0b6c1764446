//! Whole conversions of the phony guests with the drivers of the fixtures' tree: they run through, the registry verifies,
//! and a second run changes nothing.

use std::path::Path;

use registry::Value;
use types::{BlockBus, Change, ConvertOptions, Firmware, StepOutcome};

use super::machine;
use super::machine::Machine;
use super::version::VERSIONS;
use crate::payload::tests::payload;
use crate::windows::drivers::{MEMBER, fixture};
use crate::windows::hives::Which;
use crate::{ErrorKind, Payload};

/// The update that makes Windows 7 believe signatures with SHA-2.
const SHA2: &str = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages\\Package_1_for_KB4474419~31bf3856ad364e35~amd64~~6.1.3.2";

/// The real tree's .inf files; all others are empty.
pub(super) fn drivers() -> Option<Payload> {
    let files = fixture::tree()?;
    let members: Vec<(String, Vec<u8>)> = files
        .into_iter()
        .map(|(name, content)| (format!("{MEMBER}/{name}"), content))
        .collect();
    let members: Vec<(&str, u32, &[u8])> = members
        .iter()
        .map(|(name, content)| (name.as_str(), 0o644, content.as_slice()))
        .collect();
    Some(payload(&members))
}

/// Stand-ins for our programs.
pub(super) fn programs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for arch in ["x86", "amd64"] {
        let name = format!("v2v-firstboot-{arch}.exe");
        std::fs::write(dir.path().join(name), b"MZ phony").unwrap();
    }
    dir
}

fn convert(machine: &Machine, options: &ConvertOptions, programs: &Path) -> types::ConvertOutcome {
    let payload = drivers().unwrap();
    machine
        .try_convert(options, payload, Some(programs.to_path_buf()))
        .unwrap_or_else(|error| panic!("{}: {}", machine.version.name, error.chain()))
}

fn paths(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.path.as_str()).collect()
}

#[test]
fn every_release_is_converted_and_only_once() {
    if drivers().is_none() {
        return;
    }
    let programs = programs();
    for version in VERSIONS {
        let mut machine = machine(version.name);
        // Drivers for Windows 7 are not chosen without it.
        machine.set(Which::Software, SHA2, "CurrentState", &Value::dword(0x70));
        machine.save();
        let options = Machine::options();
        let first = convert(&machine, &options, programs.path());
        assert!(!first.changes.is_empty(), "{}", version.name);
        for which in [Which::System, Which::Software] {
            let hive = machine.read(which);
            hive.verify().unwrap();
        }
        let name = version.name;
        let bus = first.caps.block_bus;
        let is_virtio = matches!(bus, BlockBus::VirtioBlk | BlockBus::VirtioScsi);
        // The tree of the fixtures has no disk driver for these.
        assert!(
            is_virtio || version.major < 6 || matches!(name, "vista" | "11-arm64"),
            "{name}: {bus:?} {:#?}",
            first.warnings
        );
        let wanted = if version.uefi {
            Firmware::Uefi
        } else {
            Firmware::Bios
        };
        assert_eq!(first.caps.firmware, Some(wanted), "{name}");
        assert_eq!(
            first.boot_entries.len(),
            usize::from(version.uefi),
            "{name}"
        );
        let again = convert(&machine, &options, programs.path());
        assert_eq!(paths(&again.changes), [""; 0], "{name}: a second run");
        assert_eq!(again.caps, first.caps, "{name}");
    }
}

#[test]
fn no_drivers_are_no_reason_not_to_convert() {
    let programs = programs();
    for name in ["2k3", "7-x64", "2k22"] {
        let machine = machine(name);
        let outcome = machine.try_convert(
            &Machine::options(),
            Payload::default(),
            Some(programs.path().to_path_buf()),
        );
        let outcome = outcome.unwrap_or_else(|error| panic!("{name}: {}", error.chain()));
        let bus = outcome.caps.block_bus;
        assert!(
            matches!(bus, BlockBus::Sata | BlockBus::Ide),
            "{name}: {bus:?}"
        );
        assert!(!outcome.warnings.is_empty(), "{name}");
        machine.read(Which::System).verify().unwrap();
    }
}

#[test]
fn a_sleeping_guest_is_refused_before_anything_is_changed() {
    let machine = machine("10");
    machine.put("hiberfil.sys", b"HIBR");
    let before = machine.read(Which::System).to_bytes(0);
    let refused = machine.try_convert(&Machine::options(), Payload::default(), None);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(machine.read(Which::System).to_bytes(0), before);
    assert!(!machine.boot_path().unwrap().join("EFI/BOOT").exists());
    let forced = ConvertOptions {
        force_hibernated: true,
        ..Machine::options()
    };
    let outcome = machine
        .try_convert(&forced, Payload::default(), None)
        .unwrap();
    let step = outcome.steps.iter().find(|step| step.name == "hibernation");
    assert_eq!(step.unwrap().outcome, StepOutcome::Applied);
    assert!(!machine.path().join("hiberfil.sys").exists());
}
