//! The step on a directory with two small hives.

use std::path::Path;

use registry::Hive;
use types::{ConvertOptions, GuestInfo, OsType, StepOutcome, StepReport, StorageMap, WindowsInfo};

use super::*;
use crate::payload::Payload;
use crate::windows::firstboot::{Phase, Scripts};
use crate::windows::hives::Registry;
use crate::{Recorder, Root};

struct Guest {
    dir: tempfile::TempDir,
    programs: tempfile::TempDir,
    arch: Arch,
    major: u32,
}

struct Outcome {
    registry: Registry,
    changes: usize,
    warnings: Vec<String>,
    step: StepReport,
}

impl Guest {
    fn new() -> Self {
        let (dir, programs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = dir.path().join("WINDOWS/System32/config");
        std::fs::create_dir_all(&config).unwrap();
        for name in ["SYSTEM", "SOFTWARE"] {
            std::fs::write(config.join(name), Hive::create(name).to_bytes(0)).unwrap();
        }
        for arch in ["x86", "amd64"] {
            let name = format!("v2v-firstboot-{arch}.exe");
            std::fs::write(programs.path().join(name), arch).unwrap();
        }
        Self {
            dir,
            programs,
            arch: Arch::X86_64,
            major: 10,
        }
    }

    fn run(&self, programs: Option<&Path>, scripts: Scripts) -> Outcome {
        let root = Root::open(self.dir.path()).unwrap();
        let windows = WindowsInfo {
            system_root: "/WINDOWS".into(),
            major: self.major,
            control_sets: vec!["ControlSet001".into(), "ControlSet002".into()],
            ..WindowsInfo::default()
        };
        let guest = GuestInfo {
            os: OsType::Windows,
            arch: self.arch,
            ..GuestInfo::default()
        };
        let (options, storage) = (ConvertOptions::default(), StorageMap::default());
        let payload = Payload::default();
        let context = Context::new(&root, &guest, &windows, &storage, &options, &payload);
        let mut context = context.unwrap();
        context.firstboot = scripts;
        context.programs = programs;
        context.recorder.begin("first-boot");
        apply(&mut context).unwrap();
        context.recorder.end();
        // Only the hives, not the copies of the untouched ones.
        context.registry.save(&mut Recorder::new(&root)).unwrap();
        let (changes, warnings, mut steps) = context.recorder.finish();
        Outcome {
            registry: context.registry,
            changes: changes.len(),
            warnings,
            step: steps.remove(0),
        }
    }

    fn read(&self, path: &str) -> String {
        let path = self.dir.path().join("WINDOWS/v2v/firstboot").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    }
}

fn scripts() -> Scripts {
    let mut scripts = Scripts::default();
    scripts.add(Phase::Drivers, "drivers", "pnputil /add-driver x");
    scripts.add_repeatable(Phase::Network, "addresses", "netsh");
    scripts.file("network.txt", "[adapter]\n");
    scripts
}

#[test]
fn the_service_is_in_every_control_set_and_twice_is_once() {
    let guest = Guest::new();
    let outcome = guest.run(Some(guest.programs.path()), scripts());
    assert_eq!(outcome.step.outcome, StepOutcome::Applied);
    for set in ["ControlSet001", "ControlSet002"] {
        let key = format!("{set}\\Services\\v2v-firstboot");
        let value = |name| {
            outcome
                .registry
                .system()
                .value(&key, name)
                .unwrap()
                .unwrap()
        };
        assert_eq!(value("Start").as_u32(), Some(2));
        assert_eq!(value("Type").as_u32(), Some(0x10));
        let image = value("ImagePath");
        assert_eq!(image.kind, registry::Kind::EXPAND_SZ);
        assert_eq!(
            image.as_text().unwrap(),
            "\"%SystemRoot%\\v2v\\firstboot\\v2v-firstboot.exe\" service"
        );
    }
    assert_eq!(guest.read("v2v-firstboot.exe"), "amd64");
    assert_eq!(guest.read("network.txt"), "[adapter]\n");
    assert_eq!(
        guest.read("scripts/100-drivers.bat"),
        "@echo off\r\npnputil /add-driver x\r\n"
    );
    assert!(
        guest
            .read("scripts/200-addresses.again.bat")
            .contains("netsh")
    );
    let again = guest.run(Some(guest.programs.path()), scripts());
    assert_eq!((again.changes, again.warnings.len()), (0, 0));
}

#[test]
fn without_scripts_there_is_no_service() {
    let guest = Guest::new();
    let outcome = guest.run(Some(guest.programs.path()), Scripts::default());
    assert_eq!(outcome.changes, 0);
    assert_eq!(outcome.step.outcome, StepOutcome::NotNeeded);
}

#[test]
fn without_the_program_the_administrator_hears_what_remains() {
    let guest = Guest::new();
    let outcome = guest.run(None, scripts());
    assert_eq!(
        (outcome.changes, outcome.step.outcome),
        (0, StepOutcome::Skipped)
    );
    assert!(outcome.warnings[0].contains("drivers, addresses"));
    std::fs::remove_file(guest.programs.path().join("v2v-firstboot-amd64.exe")).unwrap();
    let outcome = guest.run(Some(guest.programs.path()), scripts());
    assert_eq!((outcome.changes, outcome.warnings.len()), (0, 1));
}

#[test]
fn arm_runs_the_program_for_x86() {
    let mut guest = Guest::new();
    for (arch, program) in [(Arch::Aarch64, "x86"), (Arch::I686, "x86")] {
        guest.arch = arch;
        guest.run(Some(guest.programs.path()), scripts());
        assert_eq!(guest.read("v2v-firstboot.exe"), program);
    }
}

#[test]
fn scripts_of_an_earlier_conversion_do_not_run() {
    let guest = Guest::new();
    guest.run(Some(guest.programs.path()), scripts());
    let folder = guest.dir.path().join("WINDOWS/v2v/firstboot");
    std::fs::write(folder.join("state"), "old").unwrap();
    let mut fewer = Scripts::default();
    fewer.add(Phase::Customer, "hello", "echo hello");
    guest.run(Some(guest.programs.path()), fewer);
    let root = Root::open(&folder).unwrap();
    assert_eq!(root.names("/scripts"), ["500-hello.bat"]);
    assert!(!root.exists("/state"));
}

#[test]
fn xp_is_not_told_of_utf_8() {
    let mut guest = Guest::new();
    guest.major = 5;
    let mut scripts = Scripts::default();
    scripts.add(Phase::Customer, "greeting", "echo Grüße");
    let outcome = guest.run(Some(guest.programs.path()), scripts);
    assert!(!guest.read("scripts/500-greeting.bat").contains("chcp"));
    assert!(outcome.warnings[0].contains("code page"));
}
