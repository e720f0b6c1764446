//! Partition tables and superblocks, made by the tools that make real ones.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::tree::{mbr, run};
use crate::inventory::contents::Contents;
use crate::inventory::read::Device;
use crate::inventory::superblock;
use crate::inventory::table::{self, TableKind};

fn image(dir: &Path, name: &str, mib: u64) -> std::path::PathBuf {
    let path = dir.join(name);
    File::create(&path).unwrap().set_len(mib << 20).unwrap();
    path
}

fn open(path: &Path) -> Device {
    Device::open(path, fs::metadata(path).unwrap().len()).unwrap()
}

/// One line of blkid's answer.
fn blkid(path: &Path, key: &str) -> String {
    let output = Command::new("/usr/sbin/blkid")
        .args(["-p", "-o", "export"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_default().replace("\\ ", " ")
}

#[test]
fn superblocks_are_what_blkid_says() {
    if !testkit::require_tool("blkid") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let luks = [
        "luksFormat",
        "-q",
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
    ];
    let luks1 = [&luks[..], &["--type", "luks1"]].concat();
    let luks2 = [&luks[..], &["--type", "luks2", "--label", "crypt"]].concat();
    let makers: &[(&str, &[&str], u64, &str)] = &[
        ("mkfs.ext2", &["-q", "-F", "-L", "two"], 4, ""),
        ("mkfs.ext3", &["-q", "-F", "-L", "three"], 8, ""),
        ("mkfs.ext4", &["-q", "-F", "-L", "four"], 8, ""),
        ("mkfs.xfs", &["-q", "-f", "-L", "data"], 320, ""),
        ("mkfs.btrfs", &["-q", "-f", "-L", "butter"], 128, ""),
        ("mkfs.vfat", &["-F", "32", "-n", "ESP"], 64, ""),
        ("mkfs.vfat", &["-F", "16"], 16, ""),
        ("mkfs.ntfs", &["-q", "-F"], 8, ""),
        ("mkswap", &["-L", "sleepy"], 4, ""),
        ("cryptsetup", &luks1, 32, "key"),
        ("cryptsetup", &luks2, 32, "key"),
    ];
    for (index, (tool, args, mib, input)) in makers.iter().enumerate() {
        if !testkit::require_tool(tool) {
            continue;
        }
        let path = image(dir.path(), &index.to_string(), *mib);
        run(tool, args, &path, input);
        let found = superblock::probe(&open(&path)).unwrap().unwrap();
        assert_eq!(found.content, blkid(&path, "TYPE"), "{tool} {args:?}");
        assert_eq!(found.uuid, blkid(&path, "UUID"), "{tool} {args:?}");
        if *tool != "mkfs.ntfs" {
            assert_eq!(found.label, blkid(&path, "LABEL"), "{tool} {args:?}");
        }
    }
}

#[test]
fn superblocks_of_arrays_and_volumes_are_what_blkid_says() {
    if !testkit::require_tool("blkid") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let len: u64 = 8 << 20;
    let mut md1 = vec![0u8; 512];
    md1[0..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    md1[4] = 1;
    md1[16..32].copy_from_slice(&[0xab; 16]);
    md1[32..38].copy_from_slice(b"host:0");
    let mut at_end = md1.clone();
    let end_sector = (len / 512 - 16) & !7;
    at_end[144..152].copy_from_slice(&end_sector.to_le_bytes());
    let mut old = vec![0u8; 4096];
    old[0..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    old[8] = 90;
    old[20..24].copy_from_slice(&[1, 2, 3, 4]);
    old[52..64].copy_from_slice(&[5; 12]);
    let mut lvm = vec![0u8; 512];
    lvm[..8].copy_from_slice(b"LABELONE");
    lvm[20] = 32;
    lvm[24..32].copy_from_slice(b"LVM2 001");
    lvm[32..64].copy_from_slice(b"AbCdEfGhIjKlMnOpQrStUvWxYz012345");
    let mut bitlocker = vec![0u8; 512];
    bitlocker[..11].copy_from_slice(b"\xebX\x90-FVE-FS-");
    let cases: [(u64, &[u8], &str, &str); 8] = [
        (
            4096,
            &md1,
            "linux_raid_member",
            "abababab-abab-abab-abab-abababababab",
        ),
        (
            0,
            &md1,
            "linux_raid_member",
            "abababab-abab-abab-abab-abababababab",
        ),
        (
            end_sector * 512,
            &at_end,
            "linux_raid_member",
            "abababab-abab-abab-abab-abababababab",
        ),
        (
            len - 65536,
            &old,
            "linux_raid_member",
            "01020304-0505-0505-0505-050505050505",
        ),
        (
            512,
            &lvm,
            "LVM2_member",
            "AbCdEf-GhIj-KlMn-OpQr-StUv-WxYz-012345",
        ),
        (0, &bitlocker, "BitLocker", ""),
        (
            len - 1024,
            b"Intel Raid ISM Cfg Sig. 1.1.00",
            "isw_raid_member",
            "",
        ),
        (len - 512, &[0xde, 0x11, 0xde, 0x11], "ddf_raid_member", ""),
    ];
    for (index, (offset, bytes, content, uuid)) in cases.iter().enumerate() {
        use std::os::unix::fs::FileExt;
        let path = image(dir.path(), &index.to_string(), len >> 20);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(bytes, *offset).unwrap();
        let found = superblock::probe(&open(&path)).unwrap().unwrap();
        assert_eq!(
            (found.content, &*found.uuid),
            (*content, *uuid),
            "case {index}"
        );
    }
}

#[test]
fn where_a_file_system_was_mounted_last_is_read() {
    if !testkit::require_tool("mkfs.ext4") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "root", 8);
    run("mkfs.ext4", &["-q", "-F", "-M", "/"], &path, "");
    let found = superblock::probe(&open(&path)).unwrap().unwrap();
    assert_eq!(found.mounted_on, "/");
}

const GPT: &str = "label: gpt\nlabel-id: 11111111-2222-3333-4444-555555555555\n\
    size=4MiB, type=U, name=\"EFI System\", uuid=AAAAAAAA-0000-1111-2222-333333333333\n\
    size=8MiB, type=L\nstart=40MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649\n";

#[test]
fn gpt_is_read_from_the_start_and_from_its_backup() {
    if !testkit::require_tool("sfdisk") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "gpt", 64);
    run("sfdisk", &["-q", "--no-reread"], &path, GPT);
    for is_damaged in [false, true] {
        if is_damaged {
            use std::os::unix::fs::FileExt;
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[0xff; 16], 512 + 40).unwrap();
        }
        let table = table::read(&open(&path), 512).unwrap().unwrap();
        assert_eq!(table.kind, TableKind::Gpt);
        assert_eq!(table.id, "11111111-2222-3333-4444-555555555555");
        let spans: Vec<_> = table
            .parts
            .iter()
            .map(|p| (p.number, p.offset, p.len, p.role))
            .collect();
        let expected = [
            (1, 1 << 20, 4 << 20, "esp"),
            (2, 5 << 20, 8 << 20, ""),
            (3, 40 << 20, 1 << 20, "bios_boot"),
        ];
        assert_eq!(spans, expected, "damaged: {is_damaged}");
        assert_eq!(
            table.parts[0].partuuid,
            "aaaaaaaa-0000-1111-2222-333333333333"
        );
        assert_eq!(table.parts[0].name, "EFI System");
    }
}

#[test]
fn gpt_of_a_disk_with_4096_byte_sectors_counts_in_them() {
    let mut disk = vec![0u8; 1 << 20];
    disk[..512].copy_from_slice(&mbr(0, 0xee, 1, 255));
    let mut entries = vec![0u8; 128 * 4];
    entries[..16].fill(7);
    entries[16..32].fill(8);
    entries[32] = 10;
    entries[40] = 19;
    let mut header = vec![0u8; 92];
    header[..8].copy_from_slice(b"EFI PART");
    header[12] = 92;
    header[24] = 1;
    header[56..72].fill(9);
    header[72] = 2;
    header[80] = 4;
    header[84] = 128;
    header[88..92].copy_from_slice(&table::crc32(&entries).to_le_bytes());
    let crc = table::crc32(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    disk[4096..4096 + 92].copy_from_slice(&header);
    disk[8192..8192 + entries.len()].copy_from_slice(&entries);
    let found = table::read(&disk, 4096).unwrap().unwrap();
    assert_eq!(found.kind, TableKind::Gpt);
    assert_eq!(
        (found.parts[0].offset, found.parts[0].len),
        (10 * 4096, 10 * 4096)
    );
    // Read with the wrong sector size it is no GPT, as for the kernel.
    assert_eq!(table::read(&disk, 512).unwrap(), None);
}

const DOS: &str = "label: dos\nlabel-id: 0x1a2b3c4d\nsize=4MiB, type=83, bootable\nsize=4MiB\nsize=4MiB\nsize=40MiB, type=5\n\
    size=4MiB, type=83\nsize=4MiB, type=82\nsize=4MiB, type=8e\n";

#[test]
fn logical_partitions_are_numbered_from_five() {
    if !testkit::require_tool("sfdisk") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "dos", 64);
    run("sfdisk", &["-q", "--no-reread"], &path, DOS);
    let contents = Contents::read(&open(&path), 512);
    let table = contents.table.as_ref().unwrap();
    assert_eq!((table.kind, &*table.id), (TableKind::Dos, "1a2b3c4d"));
    assert_eq!(contents.mbr_signature, Some(0x1a2b_3c4d));
    let numbers: Vec<_> = table
        .parts
        .iter()
        .map(|p| (p.number, p.len >> 20, p.active))
        .collect();
    assert_eq!(
        numbers,
        [
            (1, 4, true),
            (2, 4, false),
            (3, 4, false),
            (5, 4, false),
            (6, 4, false),
            (7, 4, false)
        ]
    );
    let dump = Command::new("/usr/sbin/sfdisk")
        .arg("-d")
        .arg(&path)
        .output()
        .unwrap();
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    for part in &table.parts {
        let start = format!(
            "start={:>12}, size={:>12}",
            part.offset / 512,
            part.len / 512
        );
        assert!(dump.contains(&start), "{start}: {dump}");
    }
}

#[test]
fn damaged_tables_and_superblocks_neither_panic_nor_loop() {
    if !testkit::require_tool("sfdisk") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in [("dos", DOS), ("gpt", GPT)] {
        let path = image(dir.path(), name, 64);
        run("sfdisk", &["-q", "--no-reread"], &path, script);
        let good = fs::read(&path).unwrap();
        let mut disk = good.clone();
        let ebr = 13 << 20;
        for at in (440..512)
            .chain(512..604)
            .chain(1024..1100)
            .chain(ebr + 440..ebr + 512)
        {
            for value in [0u8, 1, 0x7f, 0xff] {
                let before = std::mem::replace(&mut disk[at], value);
                let _ = table::read(&disk, 512).unwrap();
                disk[at] = before;
            }
        }
        // A chain that leads to itself.
        disk[ebr + 446 + 16 + 4] = 5;
        disk[ebr + 446 + 16 + 8..ebr + 446 + 16 + 12].fill(0);
        let _ = table::read(&disk, 512).unwrap();
    }
    for len in [0usize, 1, 511, 512, 513, 1024, 4096, 65536, 70000] {
        for byte in [0u8, 0xff, 0x41] {
            let _ = Contents::read(&vec![byte; len], 512);
            let _ = Contents::read(&vec![byte; len], 4096);
        }
    }
}

#[test]
fn a_file_system_without_partitions_is_no_partition_table() {
    if !testkit::require_tool("mkfs.vfat") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "fat", 64);
    run("mkfs.vfat", &["-n", "DATA"], &path, "");
    let contents = Contents::read(&open(&path), 512);
    assert_eq!(contents.table, None);
    let wire = contents.to_wire(64 << 20);
    assert_eq!(
        (
            wire.len(),
            wire[0].number,
            &*wire[0].content,
            &*wire[0].label
        ),
        (1, 0, "vfat", "DATA")
    );
}
