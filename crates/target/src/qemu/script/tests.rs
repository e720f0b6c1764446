//! Scripts: golden files, hostile names, and whether QEMU takes them.

use super::*;
use crate::domain::samples;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn script(sample: &samples::Sample) -> String {
    build(&sample.spec(), &files(sample)).unwrap().text
}

/// Names of the disks.
fn files(sample: &samples::Sample) -> Vec<String> {
    (0u32..)
        .map(|index| format!("{}-sd{}", sample.name, types::disk_letters(index)))
        .take(sample.machine.disks.len())
        .collect()
}

/// Runs a script with an emulator that prints its arguments, one a line.
fn argv(dir: &Path, name: &str, text: &str) -> Vec<String> {
    let fake = dir.join("fake-qemu");
    fs::write(&fake, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.join(format!("{name}.sh"));
    fs::write(&path, text).unwrap();
    let output = Command::new("sh")
        .arg(&path)
        .args(["-snapshot", "a b"])
        .env("V2V_QEMU", fake)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn scripts_match_their_golden_files() {
    for (name, sample) in samples::all() {
        insta::assert_snapshot!(format!("script-{name}"), script(&sample));
    }
}

#[test]
fn a_hostile_name_reaches_qemu_as_one_word_and_runs_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("a,b $(touch pwned) 'c");
    fs::create_dir(&dir).unwrap();
    let mut sample = samples::bios();
    sample.name = "x,y'; touch pwned; $(touch pwned) `touch pwned` \"z".into();
    let args = argv(&dir, "run", &script(&sample));
    let twice = |text: &str| text.replace(',', ",,");
    assert!(
        args.contains(&format!("guest={}", twice(&sample.name))),
        "{args:#?}"
    );
    let file = format!(
        "{}/{}-sda",
        fs::canonicalize(&dir).unwrap().display(),
        sample.name
    );
    let drive = format!(
        "if=none,id=disk0,format=qcow2,discard=unmap,file={}",
        twice(&file)
    );
    assert!(args.contains(&drive), "{drive}\n{args:#?}");
    assert_eq!(args[args.len() - 2..], ["-snapshot", "a b"]);
    assert!(!dir.join("pwned").exists() && !Path::new("pwned").exists());
}

#[test]
fn the_firmwares_variables_are_copied_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut sample = samples::uefi();
    sample.name = "it's".into();
    if !Path::new("/usr/share/OVMF/OVMF_CODE_4M.ms.fd").exists() {
        return testkit::skip("ovmf is not installed");
    }
    let args = argv(dir.path(), "run", &script(&sample));
    let vars = dir.path().join("it's_VARS.fd");
    assert!(
        args.iter()
            .any(|arg| arg.ends_with("file=/usr/share/OVMF/OVMF_CODE_4M.ms.fd")),
        "{args:#?}"
    );
    assert!(
        args.iter().any(|arg| arg.ends_with(vars.to_str().unwrap())),
        "{args:#?}"
    );
    let own = vec![7; fs::read(&vars).unwrap().len()];
    fs::write(&vars, &own).unwrap();
    let args = argv(dir.path(), "run", &script(&sample));
    assert!(
        args.iter().any(|arg| arg.ends_with(vars.to_str().unwrap())),
        "{args:#?}"
    );
    assert_eq!(fs::read(&vars).unwrap(), own);
}

#[test]
fn variables_for_another_firmware_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let sample = samples::uefi();
    if !Path::new("/usr/share/OVMF/OVMF_CODE_4M.ms.fd").exists() {
        return testkit::skip("ovmf is not installed");
    }
    let vars = dir.path().join("debian12_VARS.fd");
    fs::write(&vars, "short").unwrap();
    let template = fs::read("/usr/share/OVMF/OVMF_VARS_4M.ms.fd").unwrap();
    let other = dir
        .path()
        .join(format!("debian12_VARS-{}.fd", template.len()));
    for _ in 0..2 {
        let args = argv(dir.path(), "run", &script(&sample));
        assert!(
            args.iter()
                .any(|arg| arg.ends_with(other.to_str().unwrap())),
            "{args:#?}"
        );
        assert_eq!(fs::read_to_string(&vars).unwrap(), "short");
        assert!(fs::read(&other).unwrap() == template);
    }
}

#[test]
fn a_menu_is_made_for_the_firmware_that_the_script_finds() {
    let options = [crate::nvram::tests::option("debian", b"")];
    let platform = |secure_boot| {
        let mut sample = samples::uefi();
        sample.machine.secure_boot = secure_boot;
        Platform::of(&sample.spec(), &mut Vec::new()).unwrap()
    };
    let plain = nvram(platform(false), &options).unwrap();
    assert_eq!(uefi::menu::read(&plain).unwrap(), options);
    if !Path::new("/usr/share/OVMF/OVMF_VARS_4M.ms.fd").exists() {
        let why = nvram(platform(true), &options).unwrap_err();
        return assert!(why.contains("no UEFI firmware"), "{why}");
    }
    // The keys of the template stay.
    let secure = nvram(platform(true), &options).unwrap();
    let names: Vec<_> = uefi::store::variables(&secure)
        .unwrap()
        .map(|variable| variable.unwrap().name())
        .collect();
    assert!(names.iter().any(|name| name == "PK"), "{names:?}");
    assert_eq!(uefi::menu::read(&secure).unwrap()[0], options[0]);
}

#[test]
fn an_absent_emulator_is_named_with_its_package() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sh");
    fs::write(&path, script(&samples::bios())).unwrap();
    let output = Command::new("sh")
        .arg(&path)
        .env("V2V_QEMU", "qemu-absent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("install the package qemu-system-x86")
    );
}

#[test]
fn qemu_accepts_every_script() {
    if !testkit::require_tool("qemu-system-x86_64") {
        return;
    }
    let mut samples = samples::all();
    let mut physical = samples::physical();
    physical.machine.firmware = Some(Firmware::Bios);
    physical.caps.firmware = Some(Firmware::Bios);
    samples.push(("physical", physical));
    for (name, mut sample) in samples {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..u32::try_from(sample.machine.disks.len()).unwrap() {
            let disk = dir
                .path()
                .join(format!("{}-sd{}", sample.name, types::disk_letters(index)));
            fs::File::create(disk).unwrap().set_len(1 << 20).unwrap();
        }
        sample.machine.memory_bytes = 64 << 20;
        let path = dir.path().join("run.sh");
        // Raw disks, so that empty files will do; `-S` stops before the first instruction, and the monitor
        // on stdin is told to quit.
        let spec = DomainSpec {
            keep_smbios: true,
            ..sample.spec()
        };
        let text = build(&spec, &files(&sample)).unwrap().text;
        let text = text.replace("format=qcow2", "format=raw");
        fs::write(&path, text).unwrap();
        fs::write(dir.path().join("quit"), "\u{1}cquit\n").unwrap();
        let output = Command::new("timeout")
            .args(["60", "sh"])
            .arg(&path)
            .args(["-S"])
            .env("V2V_ACCEL", "tcg")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(fs::File::open(dir.path().join("quit")).unwrap())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{name}: {:?} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn smbios_strings_and_sectors_reach_qemu_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut sample = samples::physical();
    sample.machine.firmware = Some(Firmware::Bios);
    sample.caps.firmware = Some(Firmware::Bios);
    let spec = DomainSpec {
        keep_smbios: true,
        ..sample.spec()
    };
    let built = build(&spec, &files(&sample)).unwrap();
    let args = argv(dir.path(), "run", &built.text);
    for expected in [
        "type=0,vendor=Dell Inc.,version=2.19.1",
        "type=1,manufacturer=Dell Inc.,product=PowerEdge R740,, <rev \"2\">,serial=7XK2L93,\
         sku=SKU=NotProvided;ModelName=PowerEdge R740,uuid=564d2ba1-7ac2-4c1e-8b8e-4f1ab10ca9d2",
        "type=2,manufacturer=Dell Inc.,product=0WGD1O,serial=.7XK2L93.CNFCP0099P00XX.",
        "type=3,manufacturer=Dell Inc.",
        "base=localtime",
        "564d2ba1-7ac2-4c1e-8b8e-4f1ab10ca9d2",
    ] {
        assert!(
            args.iter().any(|arg| arg == expected),
            "{expected}\n{args:#?}"
        );
    }
    let sizes = ",logical_block_size=4096,physical_block_size=4096";
    assert!(args.iter().any(|arg| arg.contains(sizes)), "{args:#?}");
    assert!(!argv(dir.path(), "run", &script(&sample)).contains(&"-smbios".to_owned()));
}
