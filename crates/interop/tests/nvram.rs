//! Stores of UEFI variables through another reader and writer: virt-firmware (PyPI). It sees what we wrote, and we see what it
//! wrote.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

#[path = "common/venv.rs"]
mod venv;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use testkit::cmd;
use uefi::device_path::{HardDrive, Signature};
use uefi::{Guid, Layout, LoadOption, Store, menu, store};

/// The release that these tests were written with.
const RELEASE: &str = "virt-firmware==26.10";
const KERNEL: &str = r"\EFI\Linux\kernel.efi";

/// (GUID, name) to content in hexadecimal.
type Variables = BTreeMap<(String, String), String>;

/// What virt-fw-vars finds.
fn theirs(bin: &Path, file: &Path) -> Variables {
    let json = file.with_extension("json");
    let mut command = cmd::command(bin.join("virt-fw-vars").to_str().unwrap(), ["--input"]);
    cmd::output(command.arg(file).arg("--output-json").arg(&json)).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let all = read["variables"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    all.iter()
        .map(|one| ((text(&one["guid"]), text(&one["name"])), text(&one["data"])))
        .collect()
}

/// What we find.
fn ours(file: &Path) -> Variables {
    let flash = fs::read(file).unwrap();
    let hex = |data: &[u8]| data.iter().map(|byte| format!("{byte:02x}")).collect();
    store::variables(&flash)
        .unwrap()
        .map(Result::unwrap)
        .filter(|variable| variable.is_live())
        .map(|one| ((one.vendor.to_string(), one.name()), hex(one.data)))
        .collect()
}

fn entry(description: &str, partuuid: &str, data: &[u8]) -> Vec<u8> {
    let drive = HardDrive {
        number: 2,
        start_blocks: 2048,
        size_blocks: 262_144,
        signature: Signature::of_partuuid(partuuid).unwrap(),
    };
    let option = LoadOption::new(description, &drive, KERNEL, data.to_vec());
    option.unwrap().to_bytes()
}

fn written(bin: &Path, dir: &Path, name: &str, mut store: Store) {
    let other = Guid([7; 16]);
    store.set(other, "twice", 7, b"first").unwrap();
    store.set(other, "twice", 7, b"second, and longer").unwrap();
    store.set(other, "odd", 3, &[1, 2, 3]).unwrap();
    let options = [
        entry(
            "Grün & Söhne",
            "aaaaaaaa-0001-4000-8000-0123456789ab",
            b"r\0o\0",
        ),
        entry("old disk", "1234abcd-02", b""),
    ];
    menu::add(&mut store, &options).unwrap();
    let file = dir.join(name);
    fs::write(&file, store.bytes()).unwrap();
    let found = theirs(bin, &file);
    assert_eq!(found, ours(&file), "{name}");
    let twice = (other.to_string(), "twice".to_owned());
    assert_eq!(found[&twice], "7365636f6e642c20616e64206c6f6e676572");
    let mut dump = cmd::command(bin.join("virt-fw-dump").to_str().unwrap(), ["--input"]);
    let dump = cmd::output(dump.arg(&file)).unwrap();
    for title in ["Grün & Söhne", "old disk"] {
        let want = format!("title=\"{title}\" devpath=Partition(nr=2)/FilePath({KERNEL})");
        assert!(dump.contains(&want), "{want}\n{dump}");
    }
}

#[test]
fn virt_firmware_reads_what_we_wrote() {
    let Some(bin) = venv::programs(RELEASE) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for (name, layout) in [("4m.fd", Layout::Ovmf4M), ("2m.fd", Layout::Ovmf2M)] {
        written(&bin, dir.path(), name, Store::empty(layout));
    }
    match fs::read("/usr/share/OVMF/OVMF_VARS_4M.ms.fd") {
        Ok(keys) => written(&bin, dir.path(), "keys.fd", Store::open(keys).unwrap()),
        Err(_) => testkit::skip("OVMF_VARS_4M.ms.fd is not installed (package ovmf)"),
    }
}

#[test]
fn we_read_and_extend_what_virt_firmware_wrote() {
    let Some(bin) = venv::programs(RELEASE) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (empty, made) = (dir.path().join("empty.fd"), dir.path().join("made.fd"));
    fs::write(&empty, Store::empty(Layout::Ovmf4M).bytes()).unwrap();
    let args = [
        "--append-boot-filepath",
        KERNEL,
        "--set-true",
        "SecureBootEnable",
    ];
    let mut command = cmd::command(bin.join("virt-fw-vars").to_str().unwrap(), args);
    cmd::output(
        command
            .arg("--input")
            .arg(&empty)
            .arg("--output")
            .arg(&made),
    )
    .unwrap();
    assert_eq!(ours(&made), theirs(&bin, &made));
    let flash = fs::read(&made).unwrap();
    let [option] = &menu::read(&flash).unwrap()[..] else {
        panic!("expected one entry");
    };
    let option = LoadOption::parse(option).unwrap();
    // It starts from no partition: such an entry does not come along.
    assert_eq!(
        (option.file_on_partition(), option.shortened()),
        (None, None)
    );
    written(&bin, dir.path(), "extended.fd", Store::open(flash).unwrap());
}
