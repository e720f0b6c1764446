//! File systems that the host of these tests cannot mount: f2fs as a root, JFS and ReiserFS beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disks::{Disk, MIB, run, tree};
use crate::found::{content, mounts_of, root_of, uuid};
use crate::machine::{available, launch, say};

/// Where mkfs.f2fs puts the main area of so small a file system, or later: superblocks, checkpoints, SIT, NAT and SSA lie before
/// it (kernel Documentation/filesystems/f2fs.rst, "On-disk Layout").
const F2FS_MAIN: u64 = 16 * MIB;

/// An f2fs that holds `tree`, written by sload.f2fs, on top of old data.
fn f2fs(dir: &Path, tree: &Path, uuid: &str, size: u64) -> PathBuf {
    let disk = Disk::new(dir, &format!("f2fs-{uuid}"), size);
    run(Command::new("/usr/sbin/mkfs.f2fs")
        .args(["-q", "-f", "-t", "0", "-U", uuid])
        .arg(&disk.path));
    run(Command::new("/usr/sbin/sload.f2fs")
        .args(["-P", "-f"])
        .args([tree, &disk.path]));
    disk.path
}

fn jfs(dir: &Path, size: u64) -> PathBuf {
    let disk = Disk::new(dir, "jfs", size);
    run(Command::new("/usr/sbin/mkfs.jfs").arg("-q").arg(&disk.path));
    disk.path
}

fn reiserfs(dir: &Path, uuid: &str, size: u64) -> PathBuf {
    let disk = Disk::new(dir, "reiserfs", size);
    run(Command::new("/usr/sbin/mkreiserfs")
        .args(["-q", "-ff", "-u", uuid])
        .arg(&disk.path));
    disk.path
}

#[test]
fn an_f2fs_root_and_older_file_systems_beside_it_are_opened_and_trimmed() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let fstab = format!(
        "UUID={} / f2fs defaults 0 1\n/dev/sda2 /home jfs defaults 0 2\nUUID={} /var reiserfs notail 0 2\n",
        uuid('1'),
        uuid('2')
    );
    let tree = tree(dir.path(), "flash", &fstab);
    let disk = Disk::new(dir.path(), "disk.raw", 300 * MIB)
        .partition("label: dos\nstart=1MiB, size=160MiB, type=83\nstart=161MiB, size=64MiB, type=83\nstart=225MiB, size=64MiB, type=83\n")
        .put(MIB, &f2fs(dir.path(), &tree, &uuid('1'), 160 * MIB))
        .put(161 * MIB, &jfs(dir.path(), 64 * MIB))
        .put(225 * MIB, &reiserfs(dir.path(), &uuid('2'), 64 * MIB));
    let before = disk.actual_size();

    let mut machine = launch(dir.path(), &[&disk]);
    let (storage, guests) = machine.appliance.inspect(1, &[], &say).unwrap();
    let kinds = ["/dev/sda1", "/dev/sda2", "/dev/sda3"].map(|name| content(&storage, name));
    assert_eq!(kinds, ["f2fs", "jfs", "reiserfs"]);
    let guest = root_of(&guests, "flash");
    assert_eq!(
        mounts_of(guest),
        [
            ("/", "/dev/sda1"),
            ("/home", "/dev/sda2"),
            ("/var", "/dev/sda3")
        ]
    );
    for concern in &guest.concerns {
        assert!(!concern.what.contains("can't be read here"), "{concern:?}");
    }
    let discarded = machine.trim("/dev/sda1");
    machine.appliance.shutdown().unwrap();
    // Of JFS. The f2fs says of itself that its free blocks are discarded already (CP_TRIMMED_FLAG, which mkfs.f2fs sets), and
    // ReiserFS cannot be trimmed.
    assert!(discarded > 60 * MIB, "{discarded}");
    assert!(before - disk.actual_size() > 60 * MIB);
    for (program, option, start, size) in [
        ("fsck.f2fs", "--dry-run", 1, 160),
        ("jfs_fsck", "-n", 161, 64),
        ("reiserfsck", "-qy", 225, 64),
    ] {
        run(Command::new(Path::new("/usr/sbin").join(program))
            .arg(option)
            .arg(disk.cut(start * MIB, size * MIB)));
    }
}

#[test]
fn a_damaged_f2fs_is_refused_in_words() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path(), "broken", "/dev/sda / f2fs defaults 0 1\n");
    let path = f2fs(dir.path(), &tree, &uuid('3'), 96 * MIB);
    let lost = vec![0xaa; usize::try_from(80 * MIB).unwrap()];
    let disk = Disk::at(&path).bytes(F2FS_MAIN, &lost);
    let mut machine = launch(dir.path(), &[&disk]);
    let error = machine.appliance.inspect(1, &[], &say).unwrap_err();
    say(&format!("refused: {error}"));
    let words = error.to_string();
    assert!(
        words.contains("/dev/sda") && words.contains("f2fs") && words.contains("damaged"),
        "{words}"
    );
    machine.appliance.shutdown().unwrap();
}
