//! Boot files: the fallback loader, the BCD, the boot menu of the new machine; and hibernation as a step.

use registry::{Hive, Value};
use types::{ConvertOptions, GuestInfo};

use super::bcd::{gpt_device, store, with_element};
use super::machine;
use super::machine::Machine;
use super::storage::PARTITION;
use crate::windows::convert::Context;
use crate::windows::hibernation;
use crate::windows::steps::boot_files;
use crate::{BootVolume, Payload, Recorder, Result};

const FALLBACK: &str = "EFI/BOOT/bootx64.efi";
const BCD: &str = "EFI/Microsoft/Boot/BCD";

/// Runs `with` on a context of the machine.
fn with_context<T>(
    machine: &Machine,
    options: &ConvertOptions,
    with: impl FnOnce(&mut Context<'_>) -> T,
) -> T {
    let guest: GuestInfo = machine.inspect();
    let boot: Option<BootVolume> = machine.boot_volume();
    let (root, payload) = (machine.root(), Payload::default());
    let windows = guest.windows.as_ref().unwrap();
    let mut context =
        Context::new(&root, &guest, windows, &machine.storage, options, &payload).unwrap();
    context.boot = boot.as_ref();
    with(&mut context)
}

/// Paths that the step changed, its warnings, and entries of the boot menu.
fn run(machine: &Machine) -> (Vec<String>, Vec<String>, usize) {
    with_context(machine, &ConvertOptions::default(), |context| {
        context.recorder.begin("boot-files");
        boot_files::apply(context).unwrap();
        context.recorder.end();
        let entries = context.boot_entries.len();
        for entry in &context.boot_entries {
            assert_eq!((entry.disk, entry.partition), (0, 1));
            assert_eq!(entry.path, "\\EFI\\Microsoft\\Boot\\bootmgfw.efi");
        }
        let root = context.root;
        let recorder = std::mem::replace(&mut context.recorder, Recorder::new(root));
        let (changes, warnings, _) = recorder.finish();
        let paths = changes.into_iter().map(|change| change.path).collect();
        (paths, warnings, entries)
    })
}

#[test]
fn a_missing_fallback_loader_is_the_boot_manager() {
    let machine = machine("2k22");
    let (changed, warnings, entries) = run(&machine);
    assert_eq!(changed, ["/dev/sda1:/EFI/BOOT/bootx64.efi"]);
    assert_eq!((warnings, entries), (Vec::new(), 1));
    let made = std::fs::read(machine.boot_path().unwrap().join(FALLBACK)).unwrap();
    assert_eq!(made, b"MZ phony boot manager");
    assert_eq!(run(&machine).0, [""; 0], "twice");
}

#[test]
fn a_fallback_loader_of_another_vendor_is_replaced_and_kept() {
    let machine = machine("10");
    machine.put_boot("EFI/Boot/BOOTX64.EFI", b"shim");
    let (changed, ..) = run(&machine);
    assert_eq!(
        changed,
        [
            "/dev/sda1:/EFI/Boot/BOOTX64.EFI.pre-v2v",
            "/dev/sda1:/EFI/Boot/BOOTX64.EFI"
        ]
    );
    let kept = machine
        .boot_path()
        .unwrap()
        .join("EFI/Boot/BOOTX64.EFI.pre-v2v");
    assert_eq!(std::fs::read(kept).unwrap(), b"shim");
}

#[test]
fn a_fallback_loader_of_microsoft_stays() {
    let machine = machine("11");
    let words: Vec<u8> = "bootmgfw.efi"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    machine.put_boot(FALLBACK, &[b"MZ older", words.as_slice()].concat());
    assert_eq!(run(&machine).0, [""; 0]);
}

#[test]
fn the_fallback_loader_is_called_after_the_programs_architecture() {
    let machine = machine("11-arm64");
    assert_eq!(run(&machine).0, ["/dev/sda1:/EFI/BOOT/bootaa64.efi"]);
}

#[test]
fn a_bcd_without_graphics_gets_them_back() {
    let machine = machine("2k19");
    let manager = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}";
    let whole = store(&[("Windows", "\\Windows", gpt_device(PARTITION))]);
    let dark = with_element(whole.clone(), manager, "16000046", &Value::binary([1]));
    machine.put_boot(BCD, &dark);
    let (changed, warnings, _) = run(&machine);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(
        changed.contains(&format!("/dev/sda1:/{BCD}")),
        "{changed:?}"
    );
    let bytes = std::fs::read(machine.boot_path().unwrap().join(BCD)).unwrap();
    let hive = Hive::open(bytes).unwrap();
    hive.verify().unwrap();
    let elements = format!("Objects\\{manager}\\Elements");
    let clean = Hive::open(whole).unwrap();
    assert_eq!(
        hive.keys(&elements).unwrap(),
        clean.keys(&elements).unwrap()
    );
    assert_eq!(run(&machine).0, [""; 0], "twice");
}

#[test]
fn an_entry_without_its_partition_is_told() {
    for (device, words) in [
        (
            gpt_device("99999999-1111-4222-8333-445566778899"),
            "on none of the disks",
        ),
        (
            gpt_device("e5e5e5e5-0000-4000-8000-000000000002"),
            "not the Windows that was converted",
        ),
        (vec![0; 3], ""),
    ] {
        let machine = machine("2k16");
        machine.put_boot(BCD, &store(&[("Windows", "\\Windows", device)]));
        let (_, warnings, _) = run(&machine);
        assert_eq!(
            warnings.len(),
            usize::from(!words.is_empty()),
            "{warnings:?}"
        );
        assert!(warnings.iter().all(|warning| warning.contains(words)));
    }
}

#[test]
fn boot_data_that_is_no_hive_is_told_and_left() {
    let machine = machine("2k25");
    machine.put_boot(BCD, b"rubbish");
    let (changed, warnings, entries) = run(&machine);
    assert_eq!(
        (changed.len(), warnings.len(), entries),
        (1, 1, 1),
        "{warnings:?}"
    );
}

#[test]
fn machines_with_bios_are_left_alone() {
    for name in ["xp", "2k3", "vista", "7-x64", "2k12r2"] {
        let (changed, warnings, entries) = run(&machine(name));
        assert_eq!(
            (changed, warnings, entries),
            (Vec::new(), Vec::new(), 0),
            "{name}"
        );
    }
}

fn sleeping(machine: &Machine, force: bool) -> Result<usize> {
    let options = ConvertOptions {
        force_hibernated: force,
        ..Machine::options()
    };
    with_context(machine, &options, |context| {
        hibernation::check(context)?;
        hibernation::apply(context)?;
        Ok(context.recorder.changes().len())
    })
}

#[test]
fn a_sleeping_guest_is_refused_unless_forced() {
    let machine = machine("8.1");
    assert_eq!(sleeping(&machine, false).unwrap(), 0, "awake");
    machine.put("hiberfil.sys", b"hibr and a gigabyte");
    let error = sleeping(&machine, false).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Refused);
    assert!(error.to_string().contains("shutdown /s /t 0"), "{error}");
    assert!(machine.path().join("hiberfil.sys").exists());
    assert_eq!(sleeping(&machine, true).unwrap(), 1);
    assert!(!machine.path().join("hiberfil.sys").exists());
    assert_eq!(sleeping(&machine, true).unwrap(), 0, "twice");
}
