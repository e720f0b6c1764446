//! Trees that try to lead out of themselves, or nowhere.

mod guests;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::tree::{Tree, options};
use crate::{ErrorKind, Recorder, Root};

fn pair() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("guest/etc")).unwrap();
    fs::write(dir.path().join("secret"), "host").unwrap();
    let root = Root::open(&dir.path().join("guest")).unwrap();
    (dir, root)
}

#[test]
fn links_are_resolved_inside_the_guest() {
    let (dir, root) = pair();
    let guest = dir.path().join("guest");
    symlink(dir.path().join("secret"), guest.join("etc/absolute")).unwrap();
    symlink("../../../../../secret", guest.join("etc/up")).unwrap();
    symlink("/etc", guest.join("alias")).unwrap();
    fs::write(guest.join("secret"), "guest").unwrap();
    assert_eq!(root.read_text("/etc/up").unwrap().as_deref(), Some("guest"));
    assert_eq!(
        root.read_text("../../../secret").unwrap().as_deref(),
        Some("guest")
    );
    assert_eq!(root.read_text("/etc/absolute").unwrap(), None);
    root.write("/alias/new", b"x", 0o644).unwrap();
    assert_eq!(fs::read_to_string(guest.join("etc/new")).unwrap(), "x");
    // Written through the link, and into the guest.
    root.write("/etc/up", b"changed", 0o644).unwrap();
    assert_eq!(fs::read_to_string(guest.join("secret")).unwrap(), "changed");
    assert!(guest.join("etc/up").is_symlink());
    assert_eq!(
        fs::read_to_string(dir.path().join("secret")).unwrap(),
        "host"
    );
}

#[test]
fn loops_and_devices_are_errors() {
    let (dir, root) = pair();
    let guest = dir.path().join("guest");
    symlink("b", guest.join("a")).unwrap();
    symlink("a", guest.join("b")).unwrap();
    assert!(root.read_text("/a").is_err());
    assert!(root.write("/a", b"x", 0o644).is_err());
    let fifo = guest.join("etc/fifo");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    // Would block for ever if it were opened.
    let error = root.read_text("/etc/fifo").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    for bad in ["", "/", "/etc/..", "/etc/."] {
        assert!(root.write(bad, b"x", 0o644).is_err(), "{bad:?}");
    }
}

#[test]
fn a_replaced_file_keeps_mode_owner_and_attributes() {
    let (dir, root) = pair();
    let path = dir.path().join("guest/etc/file");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let name = "user.v2v-test";
    let has_xattrs =
        rustix::fs::setxattr(&path, name, b"value", rustix::fs::XattrFlags::empty()).is_ok();
    root.write("/etc/file", b"new", 0o644).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    if has_xattrs {
        let mut value = [0u8; 16];
        let len = rustix::fs::getxattr(&path, name, &mut value).unwrap();
        assert_eq!(&value[..len], b"value");
    } else {
        assert!(std::env::var_os("CI").is_none(), "no user xattrs in CI");
        eprintln!("SKIP: no user xattrs on this file system");
    }
    let left: Vec<_> = fs::read_dir(dir.path().join("guest/etc"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "a temporary file is left");
}

#[test]
fn files_beyond_the_limit_are_refused() {
    let (dir, root) = pair();
    let file = fs::File::create(dir.path().join("guest/etc/huge")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(
        root.read_text("/etc/huge").unwrap_err().kind(),
        ErrorKind::Limit
    );
}

#[test]
fn an_fstab_that_points_out_is_edited_inside_or_not_at_all() {
    let tree = Tree::debian();
    let fstab = tree.at("/etc/fstab");
    fs::remove_file(&fstab).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "/dev/sda1 / ext4 defaults 0 1\n").unwrap();
    let up = format!(
        "{}{}",
        "../".repeat(12),
        outside.path().display().to_string().trim_start_matches('/')
    );
    symlink(up, &fstab).unwrap();
    tree.convert(&options(&[]));
    assert_eq!(
        fs::read_to_string(outside.path()).unwrap(),
        "/dev/sda1 / ext4 defaults 0 1\n"
    );
}

#[test]
fn bytes_that_are_no_utf8_survive_an_edit() {
    let (dir, root) = pair();
    let path = dir.path().join("guest/etc/x");
    fs::write(&path, b"caf\xe9 old \xc3\xa9\n").unwrap();
    let mut recorder = Recorder::new(&root);
    assert!(
        recorder
            .edit("/etc/x", "why", |text| Some(text.replace("old", "new")))
            .unwrap()
    );
    assert_eq!(fs::read(&path).unwrap(), b"caf\xe9 new \xc3\xa9\n");
    assert!(
        !recorder
            .edit("/etc/x", "why", |text| Some(text.to_owned()))
            .unwrap()
    );
    assert_eq!(recorder.changes().len(), 1);
}
