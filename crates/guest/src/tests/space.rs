//! A /boot that is too small, on a tmpfs of its own.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::tree::{KVER, Packed, Tree, options, tools};
use crate::ErrorKind;
use crate::linux::initrd;

/// Length of the initramfs, made long by a file of its own.
const INITRD_LEN: usize = 4 << 20;

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.0.as_path(), UnmountFlags::DETACH).unwrap();
    }
}

/// Mounts a tmpfs on the tree's /boot with what is there and `free` bytes beside it.
fn small_boot(tree: &Tree, free: usize) -> Option<Mounted> {
    let boot = tree.at("/boot");
    let saved = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        super::tree::run(
            std::process::Command::new("cp")
                .arg("-a")
                .arg(from.join("."))
                .arg(to),
        );
    };
    copy(&boot, saved.path());
    let used: u64 = walk(saved.path());
    let size = format!("size={},mode=0755", usize::try_from(used).unwrap() + free);
    let size = std::ffi::CString::new(size).unwrap();
    if let Err(error) = mount(
        "tmpfs",
        boot.as_path(),
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        size.as_c_str(),
    ) {
        assert!(
            std::env::var_os("CI").is_none(),
            "mounting a tmpfs in CI: {error}"
        );
        eprintln!("SKIP: mounting a tmpfs: {error}");
        return None;
    }
    let mounted = Mounted(boot.clone());
    copy(saved.path(), &boot);
    Some(mounted)
}

/// Bytes that the files below take on a tmpfs: whole pages.
fn walk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                walk(&entry.path())
            } else {
                meta.len().next_multiple_of(4096)
            }
        })
        .sum()
}

fn tree() -> Tree {
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.add_initrd(KVER, &["scsi_mod", "sd_mod"], |cpio| {
        let mut early = initrd::cpio::Builder::default();
        early.file("kernel/x86/microcode/x.bin", &vec![1; INITRD_LEN]);
        [early.finish(), cpio.to_vec()].concat()
    });
    tree
}

#[test]
fn without_room_for_two_files_the_archive_is_appended_in_place() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = tree();
    let Some(_mounted) = small_boot(&tree, 2 << 20) else {
        return;
    };
    let path = format!("/boot/initrd.img-{KVER}");
    let before = fs::read(tree.at(&path)).unwrap();
    let outcome = tree.convert(&options(&[]));
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("/boot has too little room")),
        "{:?}",
        outcome.warnings
    );
    assert!(!tree.at(&format!("{path}.pre-v2v")).exists());
    let after = fs::read(tree.at(&path)).unwrap();
    assert!(after.starts_with(&before) && after.len() > before.len());
    assert!(tree.inspect().kernels[0].initrd_has_virtio);
    assert_eq!(tree.convert(&options(&[])).changes, []);
}

#[test]
fn a_full_boot_is_refused_before_anything_is_touched() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = tree();
    // An older kernel, and none that reads anything packed.
    tree.add_kernel("6.1.0-17-amd64", Packed::No);
    for kver in [KVER, "6.1.0-17-amd64"] {
        tree.put(&format!("/boot/config-{kver}"), b"CONFIG_X=y\n");
    }
    let Some(_mounted) = small_boot(&tree, 512 << 10) else {
        return;
    };
    let before = tree.fingerprint();
    let error = tree.try_convert(&options(&[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(
        error.to_string().starts_with("/boot: expected ") && error.to_string().contains("KiB"),
        "{error}"
    );
    let hint = "remove old kernels in the guest: 6.1.0-17-amd64";
    assert!(error.to_string().ends_with(hint), "{error}");
    assert_eq!(tree.fingerprint(), before);
}

#[test]
fn a_full_boot_takes_what_is_packed_harder() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = tree();
    let Some(_mounted) = small_boot(&tree, 512 << 10) else {
        return;
    };
    let path = format!("/boot/initrd.img-{KVER}");
    let before = fs::read(tree.at(&path)).unwrap();
    let outcome = tree.convert(&options(&[]));
    assert!(
        outcome
            .warnings
            .iter()
            .any(|warning| warning.contains("packed harder")),
        "{:?}",
        outcome.warnings
    );
    let after = fs::read(tree.at(&path)).unwrap();
    assert!(after.len() <= before.len() + (512 << 10), "{}", after.len());
    // The microcode is still plain and at the front.
    assert_eq!(after[..INITRD_LEN], before[..INITRD_LEN]);
    let contents = initrd::contents(&tree.root(), &path).unwrap();
    let packed: Vec<_> = contents
        .segments
        .iter()
        .map(|segment| segment.compression)
        .collect();
    let zstd = initrd::Compression::Zstd;
    assert_eq!(
        packed,
        [initrd::Compression::None, zstd, initrd::Compression::Gzip]
    );
    assert!(tree.inspect().kernels[0].initrd_has_virtio);
    assert_eq!(tree.convert(&options(&[])).changes, []);
}
