//! Which disks there are, who they are, in which order.

use wire::inventory::{Bus, DiskKind};

use super::tree::{Tree, disk, mbr, order};

const AHCI: &str = "pci0000:00/0000:00:1f.2";

fn ahci(port: u32) -> String {
    format!("{AHCI}/ata{port}/host{port}/target{port}:0:0/{port}:0:0:0")
}

#[test]
fn a_server_with_perc_and_edd_lists_its_disks_as_the_bios_does() {
    let tree = Tree::new();
    let perc = "pci0000:02/0000:02:00.0";
    tree.pci(perc, "megaraid_sas", "0x010400");
    for (index, name) in ["sda", "sdb"].iter().enumerate() {
        let place = format!("{perc}/host0/target0:2:{index}/0:2:{index}:0");
        tree.scsi(name, &place, 64, &format!("61866da0{index}"));
        tree.file(&format!("sys/devices/{place}/vendor"), "DELL    ");
    }
    tree.put("sda", 0, &mbr(0x1111_1111, 0x83, 2048, 4096));
    tree.put("sdb", 0, &mbr(0x2222_2222, 0x83, 2048, 4096));
    tree.files(&[
        ("sys/firmware/edd/int13_dev80/mbr_signature", "0x22222222"),
        ("sys/firmware/edd/int13_dev81/mbr_signature", "0x11111111"),
    ]);
    let found = tree.detect();
    assert_eq!(order(&found), ["sdb", "sda"]);
    let first = disk(&found, "sdb");
    assert_eq!(first.edd_number, Some(0x80));
    assert_eq!(
        (first.bus(), &*first.vendor, &*first.model, &*first.serial),
        (Bus::Scsi, "DELL", "DISK 9000", "61866da01")
    );
    assert!(!found.firmware.unwrap().uefi);
}

#[test]
fn a_laptop_sends_its_nvme_and_leaves_the_stick_and_the_medium() {
    let tree = Tree::new();
    let nvme = "pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0";
    tree.block(
        "nvme0n1",
        nvme,
        64,
        &[
            ("device/model", "Samsung SSD 980"),
            ("device/serial", "S64DNX0R"),
            ("wwid", "eui.002538b911b3f1a2"),
            ("queue/logical_block_size", "4096"),
            ("queue/physical_block_size", "4096"),
            ("hidden", "0"),
        ],
    );
    tree.block("nvme0c0n1", &format!("{nvme}/x"), 64, &[("hidden", "1")]);
    for (name, port) in [("sda", 1), ("sdb", 2), ("sdc", 3)] {
        let place = format!(
            "pci0000:00/0000:00:14.0/usb1/1-{port}/1-{port}:1.0/host{port}/target{port}:0:0/{port}:0:0:0"
        );
        tree.scsi(name, &place, 8, &format!("usb{port}"));
        tree.file(&format!("sys/devices/{place}/block/{name}/removable"), "1");
    }
    // Our ISO on a stick, found by its label; another that the kernel command line names; a stick of the user's.
    let mut volume = vec![0u8; 72];
    volume[..6].copy_from_slice(b"\x01CD001");
    volume[40..72].copy_from_slice(format!("{:32}", "P2V").as_bytes());
    tree.put("sda", 0, &mbr(7, 0x17, 1, 100));
    tree.put("sda", 32 << 10, &volume);
    tree.files(&[("proc/cmdline", "quiet p2v.medium=/dev/sdc1")]);
    tree.block("loop0", "virtual/loop0", 8, &[]);
    tree.block("mmcblk0", "pci0/mmc_host/mmc0/mmc0:0001", 8, &[]);
    tree.block("mmcblk0boot0", "pci0/mmc_host/mmc0/mmc0:0001/b", 8, &[]);
    tree.block("sr0", "pci0/ata9/host9/x", 8, &[]);
    tree.block("sdd", "pci0/host7/reader", 0, &[]);
    let found = tree.detect();
    assert_eq!(order(&found), ["(sdb)", "mmcblk0", "nvme0n1"]);
    assert_eq!(disk(&found, "sdb").left_out, "on USB");
    let nvme = disk(&found, "nvme0n1");
    assert_eq!(
        (nvme.bus(), nvme.logical_sector_size, &*nvme.serial),
        (Bus::Nvme, 4096, "S64DNX0R")
    );
    assert_eq!(disk(&found, "mmcblk0").bus(), Bus::Mmc);
    assert_eq!(found.removables[0].name, "sr0");
}

#[test]
fn an_old_smart_array_keeps_its_slash() {
    let tree = Tree::new();
    let place = "pci0000:06/0000:06:00.0/cciss0/c0d0";
    tree.pci("pci0000:06/0000:06:00.0", "cciss", "0x010400");
    tree.block(
        "cciss/c0d0",
        place,
        64,
        &[("device/vendor", "HP"), ("device/model", "LOGICAL VOLUME")],
    );
    let found = tree.detect();
    let disk = disk(&found, "cciss/c0d0");
    assert_eq!(
        (disk.bus(), &*disk.vendor, disk.virtual_size),
        (Bus::RaidController, "HP", 64 << 20)
    );
    assert!(disk.left_out.is_empty());
}

#[test]
fn a_firmware_mirror_is_one_disk_and_its_members_and_spares_are_left_out() {
    let tree = Tree::new();
    for (port, name) in (1..).zip(["sda", "sdb", "sdc", "sdd"]) {
        tree.scsi(name, &ahci(port), 64, &format!("S{port}"));
    }
    let external = [
        ("md/metadata_version", "external:imsm"),
        ("md/level", "container"),
    ];
    tree.made_of("md127", 0, &external, &["sda", "sdb", "sdc"]);
    tree.made_of(
        "md126",
        60,
        &[
            ("md/metadata_version", "external:/md127/0"),
            ("md/level", "raid1"),
            ("md/degraded", "1"),
        ],
        &["sda", "sdb"],
    );
    let found = tree.detect();
    let array = disk(&found, "md126");
    assert_eq!(array.kind(), DiskKind::FirmwareRaid);
    assert_eq!(array.members, ["sda", "sdb"]);
    assert_eq!(order(&found), ["md126", "(sda)", "(sdb)", "(sdc)", "sdd"]);
    assert!(disk(&found, "sda").left_out.contains("md126"));
    assert!(
        found
            .concerns
            .iter()
            .any(|line| line.contains("md126 is degraded"))
    );
}

#[test]
fn multipath_is_one_disk_with_its_daemon_and_without() {
    let tree = Tree::new();
    for (index, name) in (0..).zip(["sda", "sdb", "sdc"]) {
        let place =
            format!("pci0000:04/0000:04:00.{index}/host{index}/rport-{index}/target/{index}:0:0:1");
        tree.scsi(
            name,
            &place,
            64,
            if name == "sdc" { "OTHER" } else { "LUN1" },
        );
        tree.file(
            &format!("sys/devices/{place}/access_state"),
            if name == "sda" {
                "standby"
            } else {
                "active/optimized"
            },
        );
    }
    let without = tree.detect();
    assert_eq!(order(&without), ["sdb", "(sda)", "sdc"]);
    assert_eq!(disk(&without, "sdb").kind(), DiskKind::Multipath);
    assert_eq!(disk(&without, "sda").left_out, "another path to sdb");

    tree.made_of(
        "dm-0",
        64,
        &[("dm/uuid", "mpath-36005"), ("dm/name", "mpatha")],
        &["sda", "sdb"],
    );
    tree.made_of(
        "dm-1",
        32,
        &[("dm/uuid", "part1-mpath-36005"), ("dm/name", "mpatha1")],
        &["dm-0"],
    );
    tree.made_of(
        "dm-2",
        16,
        &[("dm/uuid", "LVM-abc"), ("dm/name", "vg0-root")],
        &["dm-1"],
    );
    let with = tree.detect();
    assert_eq!(order(&with), ["dm-0", "(sda)", "(sdb)", "sdc"]);
    let map = disk(&with, "dm-0");
    assert_eq!(
        (map.kind(), &*map.wwid, &*map.serial, &*map.model),
        (DiskKind::Multipath, "36005", "LUN1", "DISK 9000")
    );
    assert!(disk(&with, "sda").left_out.contains("dm-0"));
    assert_eq!(
        with.machine_id, without.machine_id,
        "one machine, however its paths are shown"
    );
}

#[test]
fn members_of_software_arrays_are_sent_and_the_arrays_are_not() {
    let tree = Tree::new();
    for (port, name) in (1..).zip(["sda", "sdb", "sdc", "sdd"]) {
        tree.scsi(name, &ahci(port), 64, &format!("S{port}"));
    }
    tree.partition("sda", "sda1").partition("sdb", "sdb1");
    let native = [("md/metadata_version", "1.2"), ("md/level", "raid1")];
    tree.made_of("md0", 60, &native, &["sda1", "sdb1"]);
    tree.made_of("md1", 60, &native, &["sdc", "sdd"]);
    let found = tree.detect();
    assert_eq!(order(&found), ["sda", "sdb", "(md1)", "sdc", "sdd"]);
    assert!(disk(&found, "md1").left_out.contains("sdc, sdd are sent"));
}

#[test]
fn ata_ports_are_serial_or_parallel_by_driver_and_link() {
    let tree = Tree::new();
    let piix = "pci0000:00/0000:00:01.1";
    tree.pci(AHCI, "ahci", "0x010601")
        .pci(piix, "ata_piix", "0x01018a");
    tree.scsi("sda", &ahci(1), 8, "S1");
    for (port, name) in [(2, "sdb"), (3, "sdc")] {
        let place = format!("{piix}/ata{port}/host{port}/target/{port}:0:0:0");
        tree.scsi(name, &place, 8, &format!("S{port}"));
    }
    tree.files(&[
        ("sys/class/ata_link/link2/sata_spd", "<unknown>"),
        ("sys/class/ata_link/link3/sata_spd", "3.0 Gbps"),
    ]);
    let found = tree.detect();
    let buses = ["sda", "sdb", "sdc"].map(|name| disk(&found, name).bus());
    assert_eq!(buses, [Bus::Sata, Bus::Ide, Bus::Sata]);
}

#[test]
fn smartctl_is_asked_and_a_failing_disk_is_a_concern() {
    use std::os::unix::fs::PermissionsExt;
    let tree = Tree::new();
    tree.scsi("sda", &ahci(1), 8, "S1");
    tree.file(
        "bin/smartctl",
        "#!/bin/sh\ncase $4 in */sda) echo '{\"smart_status\":{\"passed\":false}}';; esac\nexit 8\n",
    );
    let tool = tree.path("bin/smartctl");
    std::fs::set_permissions(tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let found = tree.detect();
    assert_eq!(disk(&found, "sda").healthy, Some(false));
    assert!(
        found
            .concerns
            .iter()
            .any(|line| line.contains("sda is failing"))
    );
}

#[test]
fn a_disk_in_use_and_an_unreadable_one_are_concerns() {
    let tree = Tree::new();
    tree.scsi("sda", &ahci(1), 8, "S1")
        .scsi("sdb", &ahci(2), 8, "S2");
    std::fs::remove_file(tree.path("dev/sdb")).unwrap();
    tree.files(&[
        ("proc/mounts", "/dev/sda1 /mnt ext4 rw,relatime 0 0"),
        ("proc/swaps", "Filename Type\n/dev/sda2 partition"),
    ]);
    let concerns = tree.detect().concerns.join("\n");
    for part in [
        "/dev/sda1 is mounted on /mnt",
        "/dev/sda2 is used as swap",
        "sdb could not be read",
    ] {
        assert!(concerns.contains(part), "{part}: {concerns}");
    }
}
