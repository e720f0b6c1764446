//! Layouts that real machines have and samples do not: namesakes, halves, snapshots, dirt and damage.

use std::path::{Path, PathBuf};
use std::process::Command;

use appliance::Key;
use types::{DeviceKind, Severity};

use crate::disks::{
    Disk, MIB, array, ext, host_can_mount, luks, luks2, lvm, mounted, partial_lvm, run, tree,
};
use crate::found::{content, root_of, uuid};
use crate::machine::{available, launch, say};

/// Volume groups, arrays and keys, all on one machine: nothing of it stops the rest.
#[test]
fn namesakes_halves_and_locked_volumes_stop_nothing_else() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = |hostname: &str, digit, fstab: &str| {
        let tree = tree(dir.path(), hostname, fstab);
        ext(dir.path(), "ext4", &tree, &uuid(digit), 16 * MIB)
    };
    let fstab = "/dev/mapper/vg0-root / ext4 defaults 0 1\nUUID=gone /data ext4 defaults 0 2\n";
    let first = lvm(
        dir.path(),
        "first.raw",
        "vg0",
        "root",
        &image("first", '1', fstab),
    );
    let second = lvm(
        dir.path(),
        "second.raw",
        "vg0",
        "root",
        &image("second", '2', fstab),
    );
    let partial = partial_lvm(
        dir.path(),
        "partial.raw",
        "vg_half",
        &image("partial", '3', ""),
    );
    // Half of a mirror each: superblock at the end, as boot disks have it, and the oldest kind.
    let at_the_end = array(
        dir.path(),
        "end.raw",
        "1.0",
        "system",
        &image("end", '4', ""),
    );
    let oldest = array(
        dir.path(),
        "oldest.raw",
        "0.90",
        "5",
        &image("oldest", '5', ""),
    );
    let inside = lvm(
        dir.path(),
        "in-luks2.raw",
        "vg_in",
        "root",
        &image("inside", '6', ""),
    );
    let locked = luks2(dir.path(), "luks2.raw", "open sesame", &inside.path);
    let (locked_uuid, lost) = (
        locked.uuid(),
        luks(dir.path(), "lost.raw", "gone", &image("lost", '7', "")),
    );
    let before = [&first, &second].map(|disk| std::fs::read(disk.cut(0, MIB)).unwrap());

    let disks = [
        &first,
        &second,
        &partial,
        &at_the_end,
        &oldest,
        &locked,
        &lost,
    ];
    let mut machine = launch(dir.path(), &disks);
    let key = |id: &str, secret: &[u8]| Key {
        id: id.into(),
        secret: secret.to_vec(),
    };
    let keys = [
        key(&format!("UUID={locked_uuid}"), b"open sesame"),
        key("/dev/sdz9", b"x"),
    ];
    let (storage, guests) = machine.appliance.inspect(disks.len(), &keys, &say).unwrap();

    let namesake = root_of(&guests, "second").root.clone();
    assert_eq!(root_of(&guests, "first").root, "/dev/vg0/root");
    assert!(
        namesake.starts_with("/dev/vg0@") && namesake.ends_with("/root"),
        "{namesake}"
    );
    let kind = DeviceKind::Lv {
        vg: "vg0".into(),
        lv: "root".into(),
    };
    assert_eq!(storage.get(&namesake).unwrap().kind, kind);
    assert_eq!(root_of(&guests, "partial").root, "/dev/vg_half/root");
    assert_eq!(root_of(&guests, "end").root, "/dev/md/system");
    assert_eq!(root_of(&guests, "oldest").root, "/dev/md/5");
    assert_eq!(root_of(&guests, "inside").root, "/dev/vg_in/root");
    assert_eq!(
        (content(&storage, "/dev/sdg"), guests.len()),
        ("crypto_LUKS", 6)
    );

    let guest = root_of(&guests, "second");
    let said = |words: &[&str]| {
        let mut found = guest.concerns.iter();
        let found = found.any(|concern| {
            let text = format!(
                "{} {}",
                concern.what,
                concern.fix.as_deref().unwrap_or_default()
            );
            concern.severity == Severity::Warning && words.iter().all(|word| text.contains(word))
        });
        assert!(found, "{words:?} in {:#?}", guest.concerns);
    };
    said(&["two volume groups are called vg0", "vgrename"]);
    said(&["vg_half", "lacks 1", "lost", "all disks"]);
    said(&["array system (raid1) lacks 1 of its 2 disks", "mdadm"]);
    said(&["/dev/sdg (LUKS, UUID", "no key", "--key UUID="]);
    said(&["--key /dev/sdz9", "/dev/sdf (LUKS"]);
    said(&["UUID=gone for /data", "nofail"]);
    machine.appliance.trim(&namesake, true, &[], &say).unwrap();
    machine.appliance.shutdown().unwrap();
    // Labels and metadata of LVM are below the first extent.
    let after = [&first, &second].map(|disk| std::fs::read(disk.cut(0, MIB)).unwrap());
    assert!(before == after, "metadata of LVM were written");
}

/// The layout of openSUSE beside that of Ubuntu, an old system at the top, and snapshots of both.
#[test]
fn one_btrfs_gives_one_root_whatever_its_subvolumes_are_called() {
    if !available() || !host_can_mount("btrfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: PathBuf| {
        run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to));
    };
    let btrfs = |arguments: &[&str], at: &Path| {
        run(Command::new("btrfs").current_dir(at).args(arguments));
    };
    let suse = blank_fs(dir.path(), "suse.raw", "btrfs", &[]);
    mounted(dir.path(), &suse, "btrfs", |top| {
        btrfs(&["subvolume", "create", "@"], top);
        std::fs::create_dir_all(top.join("@/.snapshots/1")).unwrap();
        btrfs(&["subvolume", "create", "@/.snapshots/1/snapshot"], top);
        btrfs(&["subvolume", "create", "@/var"], top);
        let root = top.join("@/.snapshots/1/snapshot");
        copy(
            &tree(dir.path(), "suse", "UUID=s-1 / btrfs defaults 0 0\n"),
            root.clone(),
        );
        btrfs(&["subvolume", "set-default", "."], &root);
        std::fs::create_dir_all(top.join("@/.snapshots/2")).unwrap();
        btrfs(
            &[
                "subvolume",
                "snapshot",
                "@/.snapshots/1/snapshot",
                "@/.snapshots/2/snapshot",
            ],
            top,
        );
    });
    let ubuntu = blank_fs(dir.path(), "ubuntu.raw", "btrfs", &["-U", &uuid('a')]);
    mounted(dir.path(), &ubuntu, "btrfs", |top| {
        let fstab = format!(
            "UUID={0} / btrfs subvol=@ 0 0\nUUID={0} /home btrfs subvol=@home 0 0\n",
            uuid('a')
        );
        copy(&tree(dir.path(), "old", &fstab), top.to_owned());
        for name in ["@", "@home"] {
            btrfs(&["subvolume", "create", name], top);
        }
        copy(&tree(dir.path(), "ubuntu", &fstab), top.join("@"));
        btrfs(&["subvolume", "snapshot", "@", "root"], top);
    });
    let own = blank_fs(dir.path(), "own.raw", "btrfs", &[]);
    mounted(dir.path(), &own, "btrfs", |top| {
        std::fs::create_dir(top.join("sys")).unwrap();
        btrfs(&["subvolume", "create", "sys/arch"], top);
        copy(&tree(dir.path(), "own", ""), top.join("sys/arch"));
        btrfs(&["subvolume", "snapshot", "sys/arch", "before"], top);
    });
    let mut machine = launch(dir.path(), &[&suse, &ubuntu, &own]);
    let (_, guests) = machine.appliance.inspect(3, &[], &say).unwrap();
    let names: Vec<_> = guests
        .iter()
        .filter_map(|guest| guest.hostname.as_deref())
        .collect();
    assert_eq!(names, ["suse", "ubuntu", "own"]);
    let mounts = &guests[1].mountpoints;
    assert_eq!(mounts[1].path, "/home", "{mounts:?}");
}

/// Journals that the host left behind are replayed; damage is refused in the tool's own words.
#[test]
fn dirt_is_cleaned_and_damage_is_refused() {
    if !available() || !host_can_mount("xfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dirty = |name: &str, hostname: &str, arguments: &[&str]| {
        let disk = blank_fs(dir.path(), name, "xfs", arguments);
        let content = tree(dir.path(), hostname, "");
        mounted(dir.path(), &disk, "xfs", |top| {
            run(Command::new("cp").arg("-a").arg(content.join(".")).arg(top));
            run(Command::new("sync").arg("-f").arg(top));
            std::fs::write(top.join("etc/late"), "written last").unwrap();
            // What is in the log stays there; nothing reaches its place.
            run(Command::new("/usr/sbin/xfs_io")
                .args(["-x", "-c", "shutdown -f"])
                .arg(top));
        });
        let told = Command::new("/usr/sbin/xfs_repair")
            .arg("-n")
            .arg(&disk.path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(
            told.contains("valuable metadata changes in a log"),
            "the log is not dirty: {told}"
        );
        disk
    };
    let five = dirty("five.raw", "five", &[]);
    let four = version_four(dir.path(), "four.raw", "four");
    let broken = blank_fs(dir.path(), "broken.raw", "xfs", &[]);
    let content = tree(dir.path(), "broken", "");
    mounted(dir.path(), &broken, "xfs", |top| {
        run(Command::new("cp").arg("-a").arg(content.join(".")).arg(top));
    });
    // The third sector of the last allocation group: which of its inodes are in use (xfs_db(8), "agi").
    let agi = broken.ag_offset(3) + 1024;
    let broken = broken.bytes(agi, &[0xff; 512]);

    let mut machine = launch(dir.path(), &[&five, &four, &broken]);
    let (_, guests) = machine.appliance.inspect(3, &[], &say).unwrap();
    for hostname in ["five", "four"] {
        root_of(&guests, hostname);
    }
    machine.appliance.shutdown().unwrap();
    let alone = dir.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    let mut machine = launch(&alone, &[&broken]);
    let error = machine
        .appliance
        .inspect(1, &[], &say)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("xfs file system on /dev/sda is damaged") && error.contains("agi"),
        "{error}"
    );
    machine.appliance.shutdown().unwrap();
    for disk in [&five, &four] {
        run(Command::new("/usr/sbin/xfs_repair")
            .arg("-n")
            .arg(&disk.path));
    }
}

/// A disk of a file system without partitions, on nothing.
fn blank_fs(dir: &Path, name: &str, kind: &str, arguments: &[&str]) -> Disk {
    let disk = Disk::blank(dir, name, if kind == "xfs" { 320 * MIB } else { 128 * MIB });
    let mut command = Command::new(format!("/usr/sbin/mkfs.{kind}"));
    run(command.arg("-q").args(arguments).arg(&disk.path));
    disk
}

/// An XFS of the kind that RHEL 6 has, which the host's kernel need not be able to mount (mkfs.xfs(8), "protofile").
fn version_four(dir: &Path, name: &str, hostname: &str) -> Disk {
    let content = tree(dir, hostname, "").join("etc");
    let file = |name: &str| format!("{name} ---644 0 0 {}\n", content.join(name).display());
    let files = ["os-release", "hostname", "fstab"].map(file).concat();
    let prototype = dir.join("prototype");
    let text = format!(
        "/\n0 0\nd--755 0 0\netc d--755 0 0\n{files}$\nusr d--755 0 0\nbin d--755 0 0\n$\n$\n$\n"
    );
    std::fs::write(&prototype, text).unwrap();
    let prototype = prototype.display().to_string();
    blank_fs(
        dir,
        name,
        "xfs",
        &["-m", "crc=0", "-n", "ftype=0", "-p", &prototype],
    )
}
