//! Windows machines in the appliance: found and described, trimmed without the loss of a byte, refused where their volumes
//! are not what they seem.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use testkit::guest::windows::{Span, Volume, Windows, cut, require_ntfs, windows};
use types::{Arch, OsType, Severity};

use crate::disks::{Disk, MIB};
use crate::machine::{available, launch, say};

/// A copy of the machine's disk.
fn copy(dir: &Path, which: Windows) -> Disk {
    copy_as(dir, which, &format!("{}.raw", which.name()))
}

/// Hashes of everything on C:, and of what is in the streams and lists of files that tells them apart.
fn hashes(dir: &Path, disk: &Disk, which: Windows) -> BTreeMap<PathBuf, String> {
    let part = cut(&disk.path, which.system(), &dir.join("c")).unwrap();
    let volume = Volume::at(&part);
    let all = volume.mounted("ro", |root| {
        let mut all = BTreeMap::new();
        walk(root, root, &mut all);
        Ok(all)
    });
    fs::remove_file(&part).unwrap();
    all.unwrap()
}

fn walk(root: &Path, dir: &Path, all: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, all);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        all.insert(name, testkit::guest::windows::hash(&bytes));
    }
}

#[test]
fn both_are_described_and_trimmed_to_what_they_use() {
    if !available() || !require_ntfs() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disks = Windows::ALL.map(|which| copy(dir.path(), which));
    let before = disks.each_ref().map(Disk::actual_size);
    let mut files = [0, 1].map(|at| hashes(dir.path(), &disks[at], Windows::ALL[at]));
    let mut machine = launch(dir.path(), &[&disks[0], &disks[1]]);
    let began = Instant::now();
    let (storage, guests) = machine.appliance.inspect(2, &[], &say).unwrap();
    say(&format!("inspected in {} ms", began.elapsed().as_millis()));
    assert_eq!(guests.len(), 2, "{guests:#?}");
    let [seven, eight] = guests.as_slice() else {
        panic!("{guests:#?}");
    };
    let described = |guest: &types::GuestInfo| {
        let windows = guest.windows.clone().unwrap();
        (
            guest.root.clone(),
            guest.os,
            guest.arch,
            (windows.major, windows.minor, windows.build),
            windows.boot_device,
        )
    };
    assert_eq!(
        described(seven),
        (
            "/dev/sda1".into(),
            OsType::Windows,
            Arch::I686,
            (6, 1, 7601),
            Some("/dev/sda2".into())
        )
    );
    assert_eq!(
        described(eight),
        (
            "/dev/sdb3".into(),
            OsType::Windows,
            Arch::X86_64,
            (6, 3, 9600),
            Some("/dev/sdb1".into())
        )
    );
    assert_eq!(storage.get("/dev/sdb3").unwrap().content, "ntfs");
    for guest in &guests {
        let blockers = guest
            .concerns
            .iter()
            .filter(|concern| concern.severity == Severity::Blocker);
        assert_eq!(blockers.count(), 0, "{:#?}", guest.concerns);
    }
    machine.trim(&seven.root);
    machine.appliance.shutdown().unwrap();
    let after = disks.each_ref().map(Disk::actual_size);
    say(&format!(
        "the disk files held {before:?} bytes, now {after:?}"
    ));
    let noise = windows(Windows::Seven).unwrap().noise;
    for (before, after) in before.iter().zip(after) {
        assert!(after + noise - 2 * MIB < *before, "{before} to {after}");
    }
    for at in [0, 1] {
        let mut left = hashes(dir.path(), &disks[at], Windows::ALL[at]);
        for gone in ["pagefile.sys", "hiberfil.sys"] {
            assert!(
                left.remove(Path::new(gone)) != files[at].remove(Path::new(gone)),
                "{gone}"
            );
        }
        assert!(left == files[at] && left.len() > 10, "{} files", left.len());
    }
}

#[test]
fn volumes_that_are_not_closed_or_dynamic_are_named() {
    if !available() || !require_ntfs() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let which = Windows::Seven;
    let disk = copy(dir.path(), which);
    let part = cut(&disk.path, which.system(), &dir.path().join("open")).unwrap();
    Volume::at(&part).leave_open().unwrap();
    let disk = disk.put(which.system().start, &part);
    // The second disk is dynamic: the type of its first partition says so (offset 4 of its entry in the MBR).
    let dynamic = copy_as(dir.path(), which, "dynamic.raw").bytes(0x1be + 4, &[0x42]);
    let mut machine = launch(dir.path(), &[&disk, &dynamic]);
    let (_, guests) = machine.appliance.inspect(2, &[], &say).unwrap();
    let [guest] = guests.as_slice() else {
        panic!("{guests:#?}");
    };
    assert_eq!(guest.root, "/dev/sda1");
    let concern = |words: &str| {
        let mut all = guest.concerns.iter();
        all.find(|concern| concern.what.contains(words))
            .unwrap_or_else(|| panic!("no {words} in {:#?}", guest.concerns))
    };
    let open = concern("was not closed");
    assert_eq!(open.severity, Severity::Blocker);
    assert!(open.fix.as_deref().unwrap().contains("chkdsk C: /f"));
    assert_eq!(concern("a dynamic disk").severity, Severity::Warning);
    let refused = machine
        .appliance
        .convert(
            &guest.root,
            &types::ConvertOptions::default(),
            &say,
            &|_| {},
        )
        .unwrap_err()
        .to_string();
    assert!(refused.contains("chkdsk C: /f"), "{refused}");
    machine.appliance.shutdown().unwrap();
}

fn copy_as(dir: &Path, which: Windows, name: &str) -> Disk {
    let guest = windows(which).unwrap();
    let len = fs::metadata(&guest.raw).unwrap().len();
    let path = dir.join(name);
    cut(&guest.raw, Span { start: 0, len }, &path).unwrap();
    Disk::at(&path)
}
