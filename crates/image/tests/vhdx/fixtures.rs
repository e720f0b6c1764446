//! Files that Windows, Hyper-V and QEMU made.

use image::{ErrorKind, Fact};
use types::CancelToken;

use crate::support::{open_path, sha256};

const HASHES: [(&str, &str); 5] = [
    (
        "ext2.vhdx",
        "a6c2f0e39afe6c6ab432ca5465349fcefe8dc944398e97b2d957d3f89dbb5d80",
    ),
    (
        "ntfs-fixed.vhdx",
        "5237dd895f38052344e2ef35a207fe9df08cd18d17b6ea857a1b93cc475e1f2e",
    ),
    (
        "fat-parent.vhdx",
        "2d1954fec68faefe81dd3687282a9b387bf8417f6d2cf0da3825fa1445b64cfb",
    ),
    (
        "fat-differential.vhdx",
        "a538161f34bc44c12bf9a542ce9218741c62728723ea18d0e4f6ea92e9f32e93",
    ),
    (
        "iotest-dynamic-1G.vhdx",
        "d3d112d8dab7fd360609f7d5a7b769904b7a2a7d7b6b8c535f65a23293c05478",
    ),
];

#[test]
fn every_fixture_has_its_hash() {
    let Some(pack) = testkit::fixture("disks").unwrap() else {
        return testkit::skip("the fixtures are absent");
    };
    let scratch = tempfile::tempdir().unwrap();
    for (name, hash) in HASHES {
        let disk = open_path(&pack.join("disks").join(name)).unwrap();
        assert_eq!(disk.format(), "vhdx");
        assert_eq!(sha256(disk.as_ref(), scratch.path()), hash, "{name}");
        let check = disk.check_metadata(&CancelToken::new()).unwrap().unwrap();
        assert!(check.is_clean(), "{name}: {:?}", check.findings);
    }
}

#[test]
fn facts_of_a_differencing_disk_are_told() {
    let Some(pack) = testkit::fixture("disks").unwrap() else {
        return testkit::skip("the fixtures are absent");
    };
    let disk = open_path(&pack.join("disks/fat-differential.vhdx")).unwrap();
    let info = disk.info();
    assert_eq!(info.variant, "differencing");
    assert_eq!(info.cluster_size, Some(2 << 20));
    assert_eq!(info.parent_name.as_deref(), Some(r".\fat-parent.vhdx"));
    assert!(info.facts.contains(&(
        "creator",
        Fact::Text("Microsoft Windows 10.0.19041.0".to_owned())
    )));
    assert!(
        info.facts
            .contains(&("log", Fact::Text("clean".to_owned())))
    );
    let parent = disk.parent().unwrap();
    assert_eq!(parent.info().variant, "fixed");
    // Without its parent, and with one that is not the parent.
    let scratch = tempfile::tempdir().unwrap();
    let child = scratch.path().join("child.avhdx");
    std::fs::copy(pack.join("disks/fat-differential.vhdx"), &child).unwrap();
    let error = open_path(&child).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    std::fs::copy(
        pack.join("disks/ntfs-fixed.vhdx"),
        scratch.path().join("fat-parent.vhdx"),
    )
    .unwrap();
    let error = open_path(&child).unwrap_err().to_string();
    assert!(
        error.contains("expected the DataWriteGuid f88d4d92-6fcc-408d-9bef-9b7c89f15c89, found "),
        "{error}"
    );
}
