//! `-o qemu`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::ErrorKind;

fn qemu(dir: &Path) -> TargetOptions {
    TargetOptions::new(
        TargetKind::Qemu {
            dir: dir.to_owned(),
            boot: false,
        },
        "",
    )
}

#[test]
fn a_guest_lands_with_an_executable_script() {
    let dir = tempfile::tempdir().unwrap();
    let placed = convert(&qemu(dir.path()), &small(samples::uefi())).unwrap();
    assert_eq!(names(dir.path()), ["debian12-sda", "debian12.sh"]);
    let mode = fs::metadata(&placed.files[1]).unwrap().permissions().mode();
    assert_eq!(mode & 0o500, 0o500);
    assert!(
        placed.notes.iter().any(|note| note.contains("TPM")),
        "{:?}",
        placed.notes
    );
}

#[test]
fn a_taken_script_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("debian12.sh"), "").unwrap();
    assert_eq!(
        refusal(&qemu(dir.path()), &sample()).kind(),
        ErrorKind::NameTaken
    );
}

#[test]
fn qemu_boot_runs_the_script_and_its_failure_spares_the_result() {
    for (emulator, noted) in [("true", false), ("false", true)] {
        let dir = tempfile::tempdir().unwrap();
        let output = child::command("qemu-boot", dir.path())
            .env("V2V_QEMU", emulator)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            text.contains("debian12.sh ended with a failure"),
            noted,
            "{text}"
        );
        assert_eq!(names(dir.path()), ["debian12-sda", "debian12.sh"]);
    }
}
