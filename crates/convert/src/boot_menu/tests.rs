//! Menus of old machines and new ones.

use super::*;
use types::SectorSizes;

const ESP: &str = "aaaaaaaa-0001-4000-8000-0123456789ab";
const OTHER: &str = "bbbbbbbb-0001-4000-8000-0123456789ab";
const SHIM: &str = r"\EFI\debian\shimx64.efi";
const GRUB: &str = r"\EFI\debian\grubx64.efi";
const WINDOWS: &str = r"\EFI\Microsoft\Boot\bootmgfw.efi";

fn machine(old: &[LoadOption]) -> Machine {
    let mut machine = crate::networks::tests::machine(&[]);
    machine.details.boot_options = old.iter().map(LoadOption::to_bytes).collect();
    machine
}

/// Disk 1 has an ESP.
fn storage() -> StorageMap {
    let device = |name: &str, kind, partuuid: Option<&str>| BlockDevice {
        name: name.into(),
        kind,
        virtual_size: 100 << 20,
        start: Some(1 << 20),
        content: "vfat".into(),
        uuid: None,
        label: None,
        partuuid: partuuid.map(str::to_owned),
        partlabel: None,
        parttype: None,
    };
    let number = 1;
    let disk = DeviceKind::Disk {
        disk: 0,
        table: "gpt".into(),
    };
    StorageMap {
        devices: vec![
            device("/dev/sda", disk, None),
            device("/dev/sda1", DeviceKind::Partition { disk: 0, number }, None),
            device(
                "/dev/sdb1",
                DeviceKind::Partition { disk: 1, number },
                Some(ESP),
            ),
        ],
    }
}

fn drive(partuuid: &str) -> HardDrive {
    HardDrive {
        number: 1,
        start_blocks: 2048,
        size_blocks: 204_800,
        signature: Signature::of_partuuid(partuuid).unwrap(),
    }
}

fn old(description: &str, partuuid: &str, path: &str, data: &[u8]) -> LoadOption {
    LoadOption::new(description, &drive(partuuid), path, data.to_vec()).unwrap()
}

fn found(description: &str, path: &str) -> BootEntry {
    BootEntry {
        description: description.into(),
        disk: 1,
        partition: 1,
        path: path.into(),
        arguments: None,
    }
}

/// (description, file, what it is told) of a menu.
fn menu(machine: &Machine, found: &[BootEntry]) -> Vec<(String, String, Vec<u8>)> {
    entries(machine, &storage(), found)
        .iter()
        .map(|bytes| {
            let option = LoadOption::parse(bytes).unwrap();
            let (found, file) = option.file_on_partition().unwrap();
            assert_eq!(found, drive(ESP));
            (option.description(), file, option.data)
        })
        .collect()
}

fn names(menu: &[(String, String, Vec<u8>)]) -> Vec<&str> {
    menu.iter().map(|(name, _, _)| name.as_str()).collect()
}

#[test]
fn without_an_old_menu_there_is_what_the_guest_has() {
    let mut kernel = found("Kernel", r"\vmlinuz.efi");
    kernel.arguments = Some("root=/dev/vda ro".into());
    let made = menu(&machine(&[]), &[found("debian", SHIM), kernel]);
    assert_eq!(made[0], ("debian".into(), SHIM.into(), vec![]));
    assert_eq!(made[1].2, uefi::utf16("root=/dev/vda ro"));
    let nowhere = BootEntry {
        disk: 0,
        ..found("no partition UUID", SHIM)
    };
    assert!(menu(&machine(&[]), &[nowhere]).is_empty());
}

#[test]
fn the_old_order_and_data_stay_and_what_is_new_follows() {
    let data = b"WINDOWS\0data";
    let machine = machine(&[
        old("Windows Boot Manager", ESP, WINDOWS, data),
        old("Debian of old", ESP, &SHIM.to_uppercase(), b""),
        old("again", ESP, SHIM, b""),
        old("a disk that stays", OTHER, SHIM, b""),
    ]);
    let made = menu(
        &machine,
        &[
            found("debian", SHIM),
            found("grub", GRUB),
            found("w", WINDOWS),
        ],
    );
    assert_eq!(
        names(&made),
        ["Windows Boot Manager", "Debian of old", "grub"]
    );
    assert_eq!(made[0].2, data);
}

#[test]
fn entries_that_start_from_no_partition_are_left_out() {
    // A network card: a PCI root, a device and its address; then the end.
    let mut network = old("PXE", ESP, SHIM, b"").to_bytes();
    network.truncate(6 + 8);
    let path = [2, 1, 4, 0, 3, 11, 4, 0, 0x7f, 0xff, 4, 0];
    network[4] = u8::try_from(path.len()).unwrap();
    network.extend(path);
    let mut machine = machine(&[old("debian", ESP, SHIM, b"")]);
    machine.details.boot_options.insert(0, network);
    machine.details.boot_options.insert(0, b"damaged".to_vec());
    assert_eq!(names(&menu(&machine, &[])), ["debian"]);
}

#[test]
fn the_guests_default_goes_first_where_the_old_one_is_unknown() {
    let gone = old("gone", ESP, r"\EFI\old\grubx64.efi", b"");
    let machine = machine(&[gone, old("second", ESP, GRUB, b"told")]);
    let made = menu(&machine, &[found("debian", SHIM), found("grub", GRUB)]);
    assert_eq!(names(&made), ["debian", "gone", "second"]);
    // The default may be among the old ones; it moves up and keeps what it tells.
    let made = menu(&machine, &[found("grub", GRUB), found("debian", SHIM)]);
    assert_eq!(names(&made), ["second", "gone", "debian"]);
    assert_eq!(made[0].2, b"told");
}

#[test]
fn a_kernel_that_was_told_of_disks_by_their_bus_is_told_anew() {
    let kernel = r"\EFI\arch\vmlinuz.efi";
    let told = |text: &str| uefi::utf16(text);
    let machine = machine(&[
        old("Arch", ESP, kernel, &told("root=/dev/sda2 initrd=a.img")),
        old(
            "Arch, fallback",
            ESP,
            kernel,
            &told("root=/dev/sda2 initrd=b.img"),
        ),
        old("Arch, rescue", ESP, kernel, &told("root=UUID=ab-12 single")),
        old("Arch, LVM", ESP, kernel, &told("root=/dev/vg0/root")),
    ]);
    let new = BootEntry {
        arguments: Some("root=UUID=ab-12 initrd=a.img".into()),
        ..found("Arch Linux", kernel)
    };
    let made = menu(&machine, std::slice::from_ref(&new));
    assert_eq!(names(&made), ["Arch", "Arch, rescue", "Arch, LVM"]);
    assert_eq!(made[0].2, told("root=UUID=ab-12 initrd=a.img"));
    assert_eq!(made[1].2, told("root=UUID=ab-12 single"));
    // Where conversion knows no better, nothing is changed.
    let made = menu(&machine, &[]);
    assert_eq!(made[0].2, told("root=/dev/sda2 initrd=a.img"));
    assert_eq!(made.len(), 4);
}

#[test]
fn large_sectors_count_in_blocks_of_their_own() {
    let mut machine = machine(&[]);
    let size = |logical| SectorSizes {
        logical,
        physical: 4096,
    };
    machine.details.sector_sizes = vec![size(512), size(4096)];
    let made = entries(&machine, &storage(), &[found("debian", SHIM)]);
    let (drive, _) = LoadOption::parse(&made[0])
        .unwrap()
        .file_on_partition()
        .unwrap();
    assert_eq!((drive.start_blocks, drive.size_blocks), (256, 25600));
}

#[test]
fn a_flood_of_entries_is_cut() {
    let many: Vec<_> = (0..100)
        .map(|index| old("x", ESP, &format!(r"\{index}"), b""))
        .collect();
    assert_eq!(entries(&machine(&many), &storage(), &[]).len(), MAX_ENTRIES);
    let long = old("long", ESP, SHIM, &[0; MAX_LEN]);
    assert!(entries(&machine(&[long]), &storage(), &[]).is_empty());
}
