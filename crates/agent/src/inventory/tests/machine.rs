//! The rest of a machine, and this one.

use super::tree::{Tree, order, run};
use crate::inventory::efivars::tests as efi;
use crate::inventory::smbios::tests as smbios;
use crate::inventory::{Paths, detect};

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

#[test]
fn this_machine_is_detected_without_harm() {
    let inventory = detect(&Paths::default());
    assert_eq!(inventory.machine_id.len(), 32);
    assert!(inventory.memory_bytes > 0 && !inventory.kernel_release.is_empty());
    assert!(inventory.cpu.unwrap().logical > 0);
}

#[test]
fn an_empty_machine_is_detected_without_harm() {
    let inventory = Tree::new().detect();
    assert!(
        inventory
            .concerns
            .iter()
            .any(|line| line.contains("no disk is chosen"))
    );
    assert_eq!((inventory.numa_nodes, inventory.memory_bytes), (1, 0));
}

#[test]
fn two_sockets_with_threads_and_memory_as_installed() {
    let tree = Tree::new();
    tree.files(&[("sys/devices/system/cpu/online", "0-7")]);
    for cpu in 0..8 {
        let dir = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        tree.files(&[
            (
                &format!("{dir}/physical_package_id"),
                &(cpu % 2).to_string(),
            ),
            (&format!("{dir}/core_id"), &((cpu / 2) % 2).to_string()),
        ]);
    }
    tree.files(&[
        (
            "proc/cpuinfo",
            "processor : 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nflags\t\t: fpu vme\n",
        ),
        ("proc/meminfo", "MemTotal:       130000000 kB\n"),
        ("sys/devices/system/node/node0/cpulist", "0,2,4,6"),
        ("sys/devices/system/node/node1/cpulist", "1,3,5,7"),
        ("sys/devices/system/node/node2/cpulist", ""),
        ("sys/class/tpm/tpm0/tpm_version_major", "2"),
        ("sys/class/dmi/id/sys_vendor", "Dell Inc."),
        (
            "sys/class/dmi/id/product_uuid",
            "4C4C4544-0058-4B10-8032-B7C04F4C3933",
        ),
    ]);
    let rounded = tree.detect();
    assert_eq!(rounded.memory_bytes, 124 << 30);
    let table = [
        smbios::array(0x1000, 3),
        smbios::device(0x1000, 0x7fff, 65536),
        smbios::device(0x1000, 0x7fff, 65536),
    ];
    tree.file("sys/firmware/dmi/tables/DMI", table.concat());
    let found = tree.detect();
    let cpu = found.cpu.unwrap();
    assert_eq!(
        (
            cpu.logical,
            cpu.sockets,
            cpu.cores_per_socket,
            cpu.threads_per_core
        ),
        (8, 2, 2, 2)
    );
    assert_eq!((&*cpu.vendor, cpu.flags.len()), ("GenuineIntel", 2));
    assert_eq!((found.memory_bytes, found.numa_nodes), (128 << 30, 2));
    assert_eq!(found.tpm_version, "2.0");
    assert_eq!(
        found.dmi.unwrap().product_uuid,
        "4c4c4544-0058-4b10-8032-b7c04f4c3933"
    );
}

#[test]
fn uefi_entries_name_the_system_and_put_its_disk_first() {
    if !testkit::require_tool("sfdisk") {
        return;
    }
    let tree = Tree::new();
    for (port, name) in [(1, "sda"), (2, "sdb")] {
        let place = format!("pci0000:00/0000:00:1f.2/ata{port}/host{port}/target/{port}:0:0:0");
        tree.scsi(name, &place, 64, &format!("S{port}"));
    }
    let script =
        "label: gpt\nsize=4MiB, type=U, uuid=01010101-0101-0101-0101-010101010101\nsize=8MiB\n";
    run(
        "sfdisk",
        &["-q", "--no-reread"],
        &tree.path("dev/sdb"),
        script,
    );
    tree.put("sdb", 5 << 20, &ext4_root());
    let variable = |name: &str, content: &[u8]| {
        tree.file(
            &format!("sys/firmware/efi/efivars/{name}-{GLOBAL}"),
            efi::variable(content),
        );
    };
    variable("SecureBoot", &[1]);
    variable("BootOrder", &[3, 0, 1, 0, 9, 0]);
    variable(
        "Boot0001",
        &efi::option("debian", [1; 16], "\\EFI\\debian\\shimx64.efi"),
    );
    variable("Boot0003", &efi::option("gone", [9; 16], "\\EFI\\x\\y.efi"));
    variable(
        "Boot0000",
        &efi::option("spare", [1; 16], "\\EFI\\BOOT\\BOOTX64.EFI"),
    );
    variable("BootCurrent", &[1, 0]);
    let found = tree.detect();
    let firmware = found.firmware.clone().unwrap();
    let numbers: Vec<_> = firmware
        .boot_entries
        .iter()
        .map(|e| (e.number, e.ordered))
        .collect();
    assert_eq!(numbers, [(3, true), (1, true), (0, false)]);
    assert_eq!((firmware.uefi, firmware.secure_boot), (true, Some(true)));
    assert_eq!(order(&found), ["sdb", "sda"]);
    let guess = &found.os_guesses[0];
    assert_eq!(
        (&*guess.device, &*guess.product_name),
        ("sdb2", "Debian GNU/Linux")
    );
    assert_eq!(found.clock.unwrap().utc, Some(true));
}

/// A superblock of ext4 that was mounted on /.
fn ext4_root() -> Vec<u8> {
    let mut head = vec![0u8; 2048];
    head[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    head[1024 + 0x60] = 0x40;
    head[1024 + 0x88] = b'/';
    head
}

#[test]
fn the_machine_id_stays_over_a_reset_and_differs_between_machines() {
    let make = |serial: &str, names: [&str; 2]| {
        let tree = Tree::new();
        for (port, name) in (1..).zip(names) {
            let place = format!("pci0000:00/0000:00:1f.2/ata{port}/host{port}/target/{port}:0:0:0");
            tree.scsi(name, &place, 8, &format!("S{port}"));
        }
        tree.files(&[("sys/class/dmi/id/product_serial", serial)]);
        tree.detect().machine_id
    };
    assert_eq!(make("A", ["sda", "sdb"]), make("A", ["sdb", "sda"]));
    assert_ne!(make("A", ["sda", "sdb"]), make("B", ["sda", "sdb"]));
}

#[test]
fn windows_on_an_mbr_disk_makes_the_clock_local() {
    let tree = Tree::new();
    tree.scsi(
        "sda",
        "pci0000:00/0000:00:1f.2/ata1/host1/target/1:0:0:0",
        64,
        "S1",
    );
    tree.put("sda", 0, &super::tree::mbr(1, 7, 2048, 4096));
    let mut ntfs = vec![0u8; 512];
    ntfs[3..11].copy_from_slice(b"NTFS    ");
    tree.put("sda", 1 << 20, &ntfs);
    let found = tree.detect();
    assert_eq!(
        (
            &*found.os_guesses[0].device,
            &*found.os_guesses[0].product_name
        ),
        ("sda1", "Windows")
    );
    assert_eq!(found.clock.unwrap().utc, Some(false));
}

#[test]
fn encrypted_disks_say_whose_key_is_needed() {
    let tree = Tree::new();
    tree.scsi(
        "sda",
        "pci0000:00/0000:00:1f.2/ata1/host1/target/1:0:0:0",
        64,
        "S1",
    );
    tree.put("sda", 0, b"LUKS\xba\xbe\x00\x02");
    let found = tree.detect();
    assert!(
        found
            .concerns
            .iter()
            .any(|line| line.contains("sda is encrypted with LUKS"))
    );
    assert_eq!(found.os_guesses[0].product_name, "LUKS, encrypted");
}
