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

#[test]
fn a_boot_menu_lands_beside_the_disks() {
    let dir = tempfile::tempdir().unwrap();
    let placed = convert_with(&qemu(dir.path()), &uefi(), &menu()).unwrap();
    let want = ["debian12-sda", "debian12.sh", "debian12_VARS.fd"];
    assert_eq!(names(dir.path()), want);
    assert_eq!(
        (placed.files.len(), placed.notes),
        (3, Vec::<String>::new())
    );
    assert_eq!(menu_of(&dir.path().join(want[2])), menu());
    assert_eq!(
        refusal(&qemu(dir.path()), &uefi()).kind(),
        ErrorKind::NameTaken
    );
}

#[test]
fn variables_of_an_earlier_guest_are_refused_and_replaced_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("debian12_VARS.fd");
    fs::write(&stale, "stale").unwrap();
    let error = refusal(&qemu(dir.path()), &uefi());
    assert_eq!(error.kind(), ErrorKind::NameTaken);
    assert!(error.to_string().contains("_VARS.fd"), "{error}");
    let options = TargetOptions {
        overwrite: true,
        ..qemu(dir.path())
    };
    convert_with(&options, &uefi(), &menu()).unwrap();
    assert_eq!(menu_of(&stale), menu());
}

#[test]
fn a_bios_guest_and_one_without_a_menu_have_no_variables() {
    for (sample, menu) in [(sample(), menu()), (uefi(), vec![])] {
        let dir = tempfile::tempdir().unwrap();
        convert_with(&qemu(dir.path()), &sample, &menu).unwrap();
        assert_eq!(names(dir.path()), ["debian12-sda", "debian12.sh"]);
    }
}
