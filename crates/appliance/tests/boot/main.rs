//! The appliance's own story: real image, real QEMU, real disks in every arrangement that it knows.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "a test fails by panicking, prints what it saw, and tells one story from end to end"
)]

mod disks;
mod found;
mod fs;
mod layouts;
mod machine;
mod md;
mod stripes;
mod windows;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use appliance::{Error, Key};
use disks::{Disk, MIB, ext, fat, luks, lvm, raid1, run, tree};
use found::{content, mounts_of, root_of, uuid};
use machine::{available, launch, say};
use types::DeviceKind;

const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

#[test]
fn partitions_of_both_kinds_are_described_trimmed_and_left_sound() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mbr_fs = ext(
        dir.path(),
        "ext4",
        &tree(dir.path(), "mbr", "/dev/sda1 / ext4 defaults 0 1\n"),
        &uuid('1'),
        64 * MIB,
    );
    let mbr = Disk::new(dir.path(), "mbr.raw", 160 * MIB)
        .partition("label: dos\nlabel-id: 0x1234abcd\nstart=1MiB, size=64MiB, type=83, bootable\nstart=65MiB, size=80MiB, type=82\n")
        .put(MIB, &mbr_fs);
    let swap = Disk::new(dir.path(), "swap.raw", 80 * MIB);
    run(Command::new("/usr/sbin/mkswap")
        .args(["-q", "-U", &uuid('2')])
        .arg(&swap.path));
    let mbr = mbr.put(65 * MIB, &swap.path);

    let fstab = format!(
        "UUID={} / ext4 defaults 0 1\nUUID=BEEF-CAFE /boot/efi vfat umask=0077 0 1\n",
        uuid('3')
    );
    let gpt_fs = ext(
        dir.path(),
        "ext4",
        &tree(dir.path(), "gpt", &fstab),
        &uuid('3'),
        64 * MIB,
    );
    let table = format!(
        "label: gpt\nstart=1MiB, size=64MiB, type={ESP}, name=\"EFI System Partition\", uuid={}\n\
         start=65MiB, size=64MiB, type=L, uuid={}\n",
        uuid('A'),
        uuid('B')
    );
    let gpt = Disk::new(dir.path(), "gpt.raw", 132 * MIB)
        .partition(&table)
        .put(MIB, &fat(dir.path(), "beefcafe", 64 * MIB))
        .put(65 * MIB, &gpt_fs);
    let before = mbr.actual_size() + gpt.actual_size();

    let mut machine = launch(dir.path(), &[&mbr, &gpt]);
    let began = Instant::now();
    let (storage, guests) = machine.appliance.inspect(2, &[], &say).unwrap();
    say(&format!("inspected in {} ms", began.elapsed().as_millis()));

    let names: Vec<&str> = storage
        .devices
        .iter()
        .map(|device| device.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "/dev/sda",
            "/dev/sda1",
            "/dev/sda2",
            "/dev/sdb",
            "/dev/sdb1",
            "/dev/sdb2"
        ]
    );
    assert_eq!(
        storage.devices[0].kind,
        DeviceKind::Disk {
            disk: 0,
            table: "dos".into()
        }
    );
    assert_eq!(storage.devices[0].virtual_size, 160 * MIB);
    let sda1 = storage.get("/dev/sda1").unwrap();
    assert_eq!(
        (sda1.content.as_str(), sda1.uuid.as_deref()),
        ("ext4", Some(uuid('1').as_str()))
    );
    assert_eq!(
        (sda1.partuuid.as_deref(), sda1.parttype.as_deref()),
        (Some("1234abcd-01"), Some("0x83"))
    );
    assert_eq!(
        (content(&storage, "/dev/sda2"), sda1.virtual_size),
        ("swap", 64 * MIB)
    );
    assert_eq!(sda1.start, Some(MIB));
    let esp = storage.get("/dev/sdb1").unwrap();
    assert_eq!(
        (
            esp.content.as_str(),
            esp.uuid.as_deref(),
            esp.label.as_deref()
        ),
        ("vfat", Some("BEEF-CAFE"), Some("ESP"))
    );
    assert_eq!(esp.partuuid.as_deref(), Some(uuid('a').as_str()));
    assert!(esp.start.is_some_and(|start| start > 0));
    assert_eq!(
        (esp.partlabel.as_deref(), esp.parttype.as_deref()),
        (Some("EFI System Partition"), Some(ESP))
    );

    assert_eq!(guests.len(), 2);
    assert_eq!(root_of(&guests, "mbr").root, "/dev/sda1");
    let guest = root_of(&guests, "gpt");
    assert_eq!(
        mounts_of(guest),
        [("/", "/dev/sdb2"), ("/boot/efi", "/dev/sdb1")]
    );

    let discarded = machine.trim("/dev/sda1");
    machine.appliance.shutdown().unwrap();
    let after = mbr.actual_size() + gpt.actual_size();
    say(&format!("the disk files held {before} bytes, now {after}"));
    // 64 ext4, 80 swap, 64 ESP, 64 ext4, and gaps of 20 in which nothing is discarded.
    assert!(discarded > 240 * MIB, "{discarded}");
    assert!(before - after > 240 * MIB, "{before} to {after}");
    for image in [mbr.cut(MIB, 64 * MIB), gpt.cut(65 * MIB, 64 * MIB)] {
        run(Command::new("/usr/sbin/e2fsck")
            .args(["-f", "-n"])
            .arg(image));
    }
    run(Command::new("/usr/sbin/fsck.fat")
        .arg("-n")
        .arg(gpt.cut(MIB, 64 * MIB)));
    // The header of swap space stays: fstab may name it by UUID.
    let swap = run(Command::new("/usr/sbin/blkid")
        .args(["-p", "-s", "UUID", "-o", "value"])
        .arg(mbr.cut(65 * MIB, 80 * MIB)));
    assert_eq!(swap.trim(), uuid('2'));
}

#[test]
fn volumes_in_every_wrapping_are_opened() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = |hostname: &str, digit| {
        ext(
            dir.path(),
            "ext4",
            &tree(dir.path(), hostname, ""),
            &uuid(digit),
            16 * MIB,
        )
    };
    let on_lvm = lvm(
        dir.path(),
        "lvm.raw",
        "vg-one",
        "my_root",
        &image("lvm", '4'),
    );
    let on_luks = luks(dir.path(), "luks.raw", "open sesame", &image("luks", '5'));
    let in_array = image("md", '6');
    let array = [0, 1].map(|role| {
        raid1(
            dir.path(),
            &format!("md{role}.raw"),
            "root",
            role,
            &in_array,
        )
    });
    let nested = lvm(
        dir.path(),
        "nested-lvm.raw",
        "vg_two",
        "root",
        &image("nested", '7'),
    );
    let nested = luks(dir.path(), "nested.raw", "other key", &nested.path);
    let subvolumes = Disk::blank(dir.path(), "btrfs.raw", 128 * MIB);
    let on_btrfs = tree(dir.path(), "btrfs", "");
    run(Command::new("/usr/sbin/mkfs.btrfs")
        .args(["-q", "--rootdir"])
        .arg(&on_btrfs)
        .arg(&subvolumes.path));

    let keys = [
        Key {
            id: "/dev/sdb".into(),
            secret: b"open sesame".to_vec(),
        },
        Key {
            id: "all".into(),
            secret: b"wrong".to_vec(),
        },
        Key {
            id: "all".into(),
            secret: b"other key".to_vec(),
        },
    ];
    let mut machine = launch(
        dir.path(),
        &[
            &on_lvm,
            &on_luks,
            &array[0],
            &array[1],
            &nested,
            &subvolumes,
        ],
    );
    let began = Instant::now();
    let (storage, guests) = machine.appliance.inspect(6, &keys, &say).unwrap();
    say(&format!("inspected in {} ms", began.elapsed().as_millis()));
    assert_eq!(content(&storage, "/dev/sda"), "LVM2_member");
    assert_eq!(content(&storage, "/dev/sdb"), "crypto_LUKS");
    assert_eq!(content(&storage, "/dev/sdc"), "linux_raid_member");
    assert_eq!(root_of(&guests, "lvm").root, "/dev/vg-one/my_root");
    assert_eq!(root_of(&guests, "md").root, "/dev/md/root");
    assert_eq!(root_of(&guests, "nested").root, "/dev/vg_two/root");
    assert_eq!(root_of(&guests, "btrfs").root, "/dev/sdf");
    let opened = storage.get(&root_of(&guests, "luks").root).unwrap();
    assert_eq!(
        opened.kind,
        DeviceKind::Crypt {
            parent: "/dev/sdb".into()
        }
    );
    assert_eq!(guests.len(), 5);
    machine
        .appliance
        .trim("/dev/vg-one/my_root", true, &["/".into()], &say)
        .unwrap();
    machine.appliance.shutdown().unwrap();
    let lv = on_lvm.cut(MIB, 16 * MIB);
    run(Command::new("/usr/sbin/e2fsck").args(["-f", "-n"]).arg(lv));
    let halves = array.map(|disk| std::fs::read(disk.cut(MIB, 16 * MIB)).unwrap());
    assert!(halves[0] == halves[1], "the halves of the mirror differ");
}

#[test]
fn an_encrypted_disk_without_its_key_has_no_system() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inside = ext(
        dir.path(),
        "ext4",
        &tree(dir.path(), "luks", ""),
        &uuid('5'),
        16 * MIB,
    );
    let disk = luks(dir.path(), "luks.raw", "open sesame", &inside);
    let mut machine = launch(dir.path(), &[&disk]);
    let (storage, guests) = machine.appliance.inspect(1, &[], &say).unwrap();
    assert_eq!(
        (content(&storage, "/dev/sda"), guests.len()),
        ("crypto_LUKS", 0)
    );
    let key = Key {
        id: "/dev/sda".into(),
        secret: b"wrong".to_vec(),
    };
    let error = machine.appliance.inspect(1, &[key], &say).unwrap_err();
    assert!(
        matches!(&error, Error::Refused(text) if text.contains("/dev/sda")),
        "{error}"
    );
}

#[test]
fn a_hibernated_guest_is_refused() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = ext(
        dir.path(),
        "ext4",
        &tree(dir.path(), "asleep", ""),
        &uuid('8'),
        16 * MIB,
    );
    let swap = Disk::blank(dir.path(), "swap.raw", 16 * MIB);
    run(Command::new("/usr/sbin/mkswap").arg("-q").arg(&swap.path));
    // kernel/power/swap.c: struct swsusp_header ends the first page with the old signature and its own.
    let swap = swap.bytes(4096 - 10, b"S1SUSPEND\0");
    let disk = Disk::new(dir.path(), "disk.raw", 40 * MIB)
        .partition("label: dos\nstart=1MiB, size=16MiB\nstart=17MiB, size=16MiB, type=82\n")
        .put(MIB, &root)
        .put(17 * MIB, &swap.path);
    let mut machine = launch(dir.path(), &[&disk]);
    let error = machine.appliance.inspect(1, &[], &say).unwrap_err();
    assert!(
        matches!(&error, Error::Refused(text) if text.contains("/dev/sda2") && text.contains("hibernat")),
        "{error}"
    );
}

#[test]
fn a_damaged_file_system_is_refused_in_its_checkers_words() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = ext(
        dir.path(),
        "ext2",
        &tree(dir.path(), "damaged", ""),
        &uuid('9'),
        16 * MIB,
    );
    for request in ["sif /etc/hostname block[0] 99999999", "ssv state 0"] {
        run(Command::new("/usr/sbin/debugfs")
            .args(["-w", "-R", request])
            .arg(&root));
    }
    let disk = Disk::blank(dir.path(), "disk.raw", 20 * MIB)
        .partition("label: dos\nstart=1MiB, size=16MiB\n")
        .put(MIB, &root);
    let mut machine = launch(dir.path(), &[&disk]);
    let error = machine
        .appliance
        .inspect(1, &[], &say)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/dev/sda1") && error.contains("damaged") && error.contains("illegal block"),
        "{error}"
    );
    assert!(!error.contains("/dev/vda"), "{error}");
}

#[test]
fn blank_disks_in_great_number_hold_no_system() {
    if !available() {
        return;
    }
    const COUNT: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let disks: Vec<Disk> = (0..COUNT)
        .map(|index| {
            Disk::blank(
                dir.path(),
                &format!("{index}.raw"),
                (u64::try_from(index).unwrap() + 1) * MIB,
            )
        })
        .collect();
    let mut machine = launch(dir.path(), &disks.iter().collect::<Vec<_>>());
    let (storage, guests) = machine.appliance.inspect(COUNT, &[], &say).unwrap();
    assert!(guests.is_empty());
    // Size tells disk from disk, whatever order the kernel found them in.
    let sizes: Vec<u64> = storage
        .devices
        .iter()
        .map(|device| device.virtual_size / MIB)
        .collect();
    assert_eq!(sizes, (1..=40).collect::<Vec<u64>>());
    assert_eq!(storage.devices[39].name, "/dev/sdan");
    let error = machine
        .appliance
        .convert("/dev/sda", &types::ConvertOptions::default(), &say, &say)
        .unwrap_err();
    assert!(error.to_string().contains("/dev/sda"), "{error}");
    machine.appliance.shutdown().unwrap();
}

#[test]
fn the_machine_goes_off_when_the_host_closes_the_port() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = appliance::find_image().unwrap();
    let listener = UnixListener::bind(dir.path().join("port")).unwrap();
    let mut qemu = Command::new("qemu-system-x86_64")
        .current_dir(dir.path())
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            "q35",
        ])
        .args([
            "-accel",
            "tcg",
            "-m",
            "768",
            "-append",
            "console=ttyS0 quiet",
            "-serial",
            "file:console",
        ])
        .arg("-kernel")
        .arg(image.kernel)
        .arg("-initrd")
        .arg(image.initramfs)
        .args([
            "-chardev",
            "socket,id=port,path=port",
            "-device",
            "virtio-serial-pci",
        ])
        .args([
            "-device",
            "virtserialport,chardev=port,name=org.v2v.appliance.0",
        ])
        .spawn()
        .unwrap();
    let (mut port, _) = listener.accept().unwrap();
    // RFC 9113, section 3.4: the preface, and an empty SETTINGS frame; the server answers with its own.
    port.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    port.set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    let mut head = [0; 9];
    port.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "expected a SETTINGS frame, found {head:?}");
    drop(port);
    let closed = Instant::now();
    while qemu.try_wait().unwrap().is_none() {
        if closed.elapsed() > Duration::from_secs(30) {
            qemu.kill().unwrap();
            panic!(
                "still on: {}",
                std::fs::read_to_string(dir.path().join("console")).unwrap()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    say(&format!(
        "off {} ms after the port was closed",
        closed.elapsed().as_millis()
    ));
}
