//! `-o local` and `-o null`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;
use crate::ErrorKind;
use image::formats::OutputFormat;
use testkit::{SmallFs, has_tool};

#[test]
fn a_guest_lands_with_its_disks_and_xml_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut sample = small(samples::many());
    sample.name = "web".into();
    let placed = convert(&local(dir.path()), &sample).unwrap();
    assert_eq!(
        names(dir.path()),
        ["web-sda", "web-sdb", "web-sdc", "web.xml"]
    );
    let here = fs::canonicalize(dir.path()).unwrap();
    assert_eq!(
        placed.files,
        ["web-sda", "web-sdb", "web-sdc", "web.xml"].map(|name| here.join(name))
    );
    assert_eq!((placed.domain, placed.notes.len()), (None, 2));
    let xml = fs::read_to_string(here.join("web.xml")).unwrap();
    let doc = roxmltree::Document::parse(&xml).unwrap();
    let sources: Vec<_> = doc
        .descendants()
        .filter_map(|n| n.attribute("file"))
        .map(std::path::PathBuf::from)
        .collect();
    assert_eq!(sources, placed.files[..3]);
    if !has_tool("qemu-img") {
        return testkit::skip("qemu-img is not installed");
    }
    for disk in &placed.files[..3] {
        let check = Command::new("qemu-img")
            .arg("check")
            .arg(disk)
            .output()
            .unwrap();
        assert!(check.status.success(), "{check:?}");
    }
}

#[test]
fn raw_disks_have_their_size_and_a_clean_xml() {
    let dir = tempfile::tempdir().unwrap();
    let options = TargetOptions {
        format: OutputFormat::Raw,
        ..local(dir.path())
    };
    let placed = convert(&options, &sample()).unwrap();
    assert_eq!(fs::metadata(&placed.files[0]).unwrap().len(), 4 * MIB);
    assert!(
        fs::read_to_string(&placed.files[1])
            .unwrap()
            .contains("type=\"raw\"")
    );
}

#[test]
fn dropping_before_the_end_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let mut target = prepare(&local(dir.path()), &sample.name).unwrap();
    target.check(&plan(&sample.machine)).unwrap();
    fs::write(target.scratch_dir().join("overlay-0"), "the caller's").unwrap();
    write_disks(target.as_mut(), &sample.machine);
    assert_eq!(names(dir.path()).len(), 1);
    drop(target);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_disk_that_was_never_created_fails_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let mut target = prepare(&local(dir.path()), &sample.name).unwrap();
    let error = target
        .finalise(&finished(&sample.machine, &sample.caps))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected 1 finished disks, found 0"),
        "{error}"
    );
    assert!(names(dir.path()).is_empty());
}

#[test]
fn one_disk_is_not_created_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = prepare(&local(dir.path()), "x").unwrap();
    target.create_disk(0, MIB).unwrap();
    assert_eq!(
        target.create_disk(0, MIB).unwrap_err().kind(),
        ErrorKind::Usage
    );
}

#[test]
fn a_taken_name_is_refused_before_any_work_with_a_hint() {
    let sample = sample();
    for taken in ["debian12-sda", "debian12.xml"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(taken), "foreign").unwrap();
        let error = refusal(&local(dir.path()), &sample);
        assert_eq!(error.kind(), ErrorKind::NameTaken);
        assert!(error.to_string().contains(taken) && error.hint().unwrap().contains("--overwrite"));
        assert_eq!(names(dir.path()), [taken]);
    }
    let dir = tempfile::tempdir().unwrap();
    symlink("/no/such/device", dir.path().join("debian12-sda")).unwrap();
    assert_eq!(
        refusal(&local(dir.path()), &sample).kind(),
        ErrorKind::NameTaken
    );
    let other = TargetOptions {
        name: "other".into(),
        ..local(dir.path())
    };
    convert(&other, &sample).unwrap();
}

#[test]
fn overwriting_replaces_files_only() {
    let dir = tempfile::tempdir().unwrap();
    let sample = sample();
    for name in ["debian12-sda", "debian12.xml"] {
        fs::write(dir.path().join(name), "old").unwrap();
    }
    let options = TargetOptions {
        overwrite: true,
        ..local(dir.path())
    };
    convert(&options, &sample).unwrap();
    assert_eq!(names(dir.path()), ["debian12-sda", "debian12.xml"]);
    assert_ne!(fs::read(dir.path().join("debian12-sda")).unwrap(), b"old");
    fs::remove_file(dir.path().join("debian12.xml")).unwrap();
    fs::create_dir(dir.path().join("debian12.xml")).unwrap();
    let error = refusal(&options, &sample);
    assert!(error.to_string().contains("no regular file"), "{error}");
}

#[test]
fn folders_that_cannot_take_a_result_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let absent = refusal(&local(&dir.path().join("absent")), &sample());
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    assert!(absent.hint().unwrap().contains("-os"));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(
        refusal(&local(&file), &sample()).kind(),
        ErrorKind::NotFound
    );
    for odd in [&b"not-utf8-\xff"[..], b"line\nbreak"] {
        let odd = dir.path().join(std::ffi::OsStr::from_bytes(odd));
        fs::create_dir(&odd).unwrap();
        assert_eq!(refusal(&local(&odd), &sample()).kind(), ErrorKind::Usage);
        assert!(names(&odd).is_empty());
    }
}

#[test]
fn a_name_with_a_slash_stays_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let options = TargetOptions {
        name: "../up/x".into(),
        ..local(&inner)
    };
    let placed = convert(&options, &sample()).unwrap();
    assert_eq!(names(&inner), [".._up_x-sda", ".._up_x.xml"]);
    assert_eq!(names(dir.path()), ["inner"]);
    assert!(placed.notes[0].contains("../up/x"), "{:?}", placed.notes);
    let options = TargetOptions {
        name: "a\nb".into(),
        ..local(&inner)
    };
    assert_eq!(refusal(&options, &sample()).kind(), ErrorKind::Usage);
}

/// `-oo nvram`.
fn with_nvram(dir: &Path) -> TargetOptions {
    let kind = TargetKind::Local {
        dir: dir.to_owned(),
        nvram: true,
    };
    TargetOptions::new(kind, "")
}

#[test]
fn a_boot_menu_is_written_when_asked_for() {
    if !Path::new("/usr/share/qemu/firmware/60-edk2-x86_64.json").exists() {
        return testkit::skip("the package ovmf is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let placed = convert_with(&with_nvram(dir.path()), &uefi(), &menu()).unwrap();
    let want = ["debian12-sda", "debian12.xml", "debian12_VARS.fd"];
    assert_eq!(names(dir.path()), want);
    assert_eq!(placed.notes, Vec::<String>::new());
    let file = fs::canonicalize(dir.path()).unwrap().join(want[2]);
    assert_eq!(menu_of(&file), menu());
    let xml = fs::read_to_string(dir.path().join(want[1])).unwrap();
    let doc = roxmltree::Document::parse(&xml).unwrap();
    let text = |name| {
        doc.descendants()
            .find(|n| n.has_tag_name(name))
            .unwrap()
            .text()
    };
    assert_eq!(text("loader"), Some("/usr/share/OVMF/OVMF_CODE_4M.fd"));
    assert_eq!(text("nvram"), file.to_str());
    assert!(!xml.contains("firmware="), "{xml}");
    let error = refusal(&with_nvram(dir.path()), &uefi());
    assert_eq!(error.kind(), ErrorKind::NameTaken);
}

#[test]
fn a_boot_menu_that_nobody_asked_for_is_a_word_only_where_something_is_lost() {
    for (options, is_noted) in [(&menu()[..], true), (&menu()[..1], false)] {
        let dir = tempfile::tempdir().unwrap();
        let placed = convert_with(&local(dir.path()), &uefi(), options).unwrap();
        assert_eq!(names(dir.path()), ["debian12-sda", "debian12.xml"]);
        let xml = fs::read_to_string(dir.path().join("debian12.xml")).unwrap();
        assert!(xml.contains("firmware=\"efi\""), "{xml}");
        let noted = placed.notes.iter().any(|note| note.contains("-oo nvram"));
        assert_eq!(
            (noted, placed.notes.len()),
            (is_noted, usize::from(is_noted))
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let placed = convert_with(&local(dir.path()), &sample(), &menu()).unwrap();
    assert_eq!(placed.notes, Vec::<String>::new(), "a BIOS has no menu");
}

#[test]
fn a_shortage_of_room_is_refused_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let mut sample = sample();
    sample.machine.disks[0].virtual_size = 1 << 60;
    let mut target = prepare(&local(dir.path()), &sample.name).unwrap();
    target.check(&plan(&sample.machine)).unwrap();
    let all = Plan {
        machine: &sample.machine,
        caps: None,
        estimated_bytes: vec![1 << 59],
    };
    let error = target.check(&all).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(
        error.to_string().contains("512.1 PiB") && error.hint().unwrap().contains("-os"),
        "{error}"
    );
    drop(target);
    let options = TargetOptions {
        preallocation: Preallocation::Falloc,
        ..local(dir.path())
    };
    assert_eq!(refusal(&options, &sample).kind(), ErrorKind::NoSpace);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_guest_that_no_domain_can_describe_is_refused_as_soon_as_it_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut sample = sample();
    sample.caps.arch = types::Arch::Other;
    let mut target = prepare(&local(dir.path()), &sample.name).unwrap();
    target.check(&plan(&sample.machine)).unwrap();
    let known = Plan {
        caps: Some(&sample.caps),
        ..plan(&sample.machine)
    };
    assert_eq!(
        target.check(&known).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn a_full_file_system_shows_in_check_and_leaves_nothing() {
    if !testkit::require_root() {
        return;
    }
    let small_fs = SmallFs::new(16).unwrap();
    let before = names(small_fs.path());
    let mut sample = sample();
    sample.machine.disks[0].virtual_size = 64 * MIB;
    let mut target = prepare(&local(small_fs.path()), &sample.name).unwrap();
    let plan = Plan {
        machine: &sample.machine,
        caps: None,
        estimated_bytes: vec![32 * MIB],
    };
    assert_eq!(target.check(&plan).unwrap_err().kind(), ErrorKind::NoSpace);
    drop(target);
    assert_eq!(names(small_fs.path()), before);
}

#[test]
fn after_kill_9_the_next_run_for_the_name_clears_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child::start("copy", dir.path());
    let left = names(dir.path());
    assert_eq!(
        left,
        [format!(".debian12.v2v-{}", child.id())],
        "one scratch folder and no final name"
    );
    assert_eq!(
        refusal(&local(dir.path()), &sample()).kind(),
        ErrorKind::NameTaken
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(dir.path()), left);
    let other = TargetOptions {
        name: "other".into(),
        ..local(dir.path())
    };
    drop(prepare(&other, "x").unwrap());
    assert_eq!(
        names(dir.path()),
        left,
        "the run for another name leaves it"
    );
    convert(&local(dir.path()), &sample()).unwrap();
    assert_eq!(names(dir.path()), ["debian12-sda", "debian12.xml"]);
}

#[test]
fn null_works_in_tmpdir_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = child::command("null", dir.path())
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("files: [] notes: [\"64.0 KiB of guest data"),
        "{text}"
    );
    assert!(names(dir.path()).is_empty());
}
