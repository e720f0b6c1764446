//! Files that Windows 10, Virtual PC and VirtualBox made.

use std::path::{Path, PathBuf};

use image::formats::{OpenOptions, open};
use image::{BlockSource, ErrorKind, Fact, Files};
use sha2::{Digest, Sha256};
use types::CancelToken;

use crate::support::{assert_equal_disks, assert_holds, opened, refusal};

fn pack(name: &str) -> Option<PathBuf> {
    let found = testkit::fixture(name).unwrap();
    if found.is_none() {
        testkit::skip(&format!("fixture {name} is absent: set V2V_FIXTURES"));
    }
    found
}

/// SHA-256 of all that the guest sees.
fn hash(source: &dyn BlockSource) -> String {
    let mut digest = Sha256::new();
    let mut at = 0;
    while at < source.virtual_size() {
        let len = (source.virtual_size() - at).min(1 << 20) as usize;
        let mut buf = vec![0xa5; len];
        source.read_at(&mut buf, at).unwrap();
        digest.update(&buf);
        at += len as u64;
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn is_clean(source: &dyn BlockSource) {
    let check = source.check_metadata(&CancelToken::new()).unwrap().unwrap();
    assert!(check.is_clean(), "{check:?}");
}

#[test]
fn disks_of_windows_and_virtual_pc_have_their_hashes() {
    let Some(pack) = pack("disks") else { return };
    let disks = pack.join("disks");
    for (name, variant, expected) in [
        (
            "ntfs-fixed.vhd",
            "fixed",
            "cd81fade3878f1b2957f1ece168201876bdf4e90c9b30f60c2f232eba5fea76c",
        ),
        (
            "fat-parent.vhd",
            "fixed",
            "bbdb657bc5aa2fde44e2456149f9257a862cb84f4668e338b90e357b0fbdf118",
        ),
        (
            "fat-differential.vhd",
            "differencing",
            // The fixtures' README has 79f1d5f8…, which is what comes out when a set bit takes all four sectors of
            // its nibble from the child. That zeroes sector 186, the content of WPSettings.dat (12 bytes, "0c 00 00
            // 00 …"), whose bit is 0: the parent's, which the child never wrote. VHD 1.0, Data Block: one bit, one sector.
            "f4b61a33ee2f7e8c19f737792a4107e46340026a9a829e4169b751901cc3ef02",
        ),
    ] {
        let source = opened(&disks.join(name));
        assert_eq!(
            (source.format(), source.info().variant.as_str()),
            ("vpc", variant)
        );
        assert_eq!(hash(&*source), expected, "{name}");
        is_clean(&*source);
    }
    let child = opened(&disks.join("fat-differential.vhd"));
    let info = child.info();
    assert_eq!(info.parent_name.as_deref(), Some(r".\fat-parent.vhd"));
    assert_eq!(info.cluster_size, Some(2 << 20));
    assert!(
        info.facts
            .contains(&("creator application", Fact::Text("win".to_owned())))
    );
    let mut file = [0; 4];
    child.read_at(&mut file, 186 * 512).unwrap();
    assert_eq!(
        file,
        [12, 0, 0, 0],
        "a file of the parent that the child did not write"
    );
    let parent = child.parent().unwrap();
    assert_equal_disks(&*parent, &*opened(&disks.join("fat-parent.vhd")));
}

#[test]
fn a_disk_of_virtual_pc_is_as_long_as_its_geometry() {
    let Some(pack) = pack("disks") else { return };
    let source = opened(&pack.join("disks/virtualpc-dynamic.vhd"));
    assert_eq!(source.virtual_size(), 136_363_130_880);
    let all = image::extents(&*source, 0..source.virtual_size())
        .map(|extent| extent.unwrap())
        .collect::<Vec<_>>();
    assert_eq!(all.len(), 1);
    assert!(all[0].kind.reads_zero());
    is_clean(&*source);
}

#[test]
fn a_differencing_disk_without_its_parent_is_refused() {
    let Some(pack) = pack("disks") else { return };
    let dir = tempfile::tempdir().unwrap();
    let child = dir.path().join("fat-differential.vhd");
    std::fs::copy(pack.join("disks/fat-differential.vhd"), &child).unwrap();
    let error = refusal(&child);
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    assert!(error.to_string().contains("fat-parent.vhd"), "{error}");
    // Another disk under the parent's name.
    std::fs::copy(
        pack.join("disks/ntfs-fixed.vhd"),
        dir.path().join("fat-parent.vhd"),
    )
    .unwrap();
    let error = refusal(&child);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("unique identifier"), "{error}");
}

#[test]
fn disks_of_virtualbox_equal_their_raw_twins() {
    let Some(pack) = pack("vbox-made") else {
        return;
    };
    let img = pack.join("img");
    let small = std::fs::read(img.join("src4m.raw")).unwrap();
    for (name, format, variant) in [
        ("src4m-vbox-vdi-standard.vdi", "vdi", "dynamic"),
        ("src4m-vbox-vdi-fixed.vdi", "vdi", "static"),
        ("src4m-vbox-vhd-standard.vhd", "vpc", "dynamic"),
        ("src4m-vbox-vhd-fixed.vhd", "vpc", "fixed"),
        ("src4m-vbox-parallels.hdd", "parallels", "WithoutFreeSpace"),
        ("lin-root.vdi", "vdi", "dynamic"),
    ] {
        let source = opened(&img.join(name));
        assert_eq!(
            (source.format(), source.info().variant.as_str()),
            (format, variant)
        );
        if name.starts_with("src4m") {
            assert_holds(&*source, &small);
        }
        is_clean(&*source);
    }
    let vdi = opened(&img.join("src5g-vbox-vdi-standard.vdi"));
    let vhd = opened(&img.join("src5g-vbox-vhd-standard.vhd"));
    assert_eq!(vdi.virtual_size(), 5 << 30);
    assert_equal_disks(&*vdi, &*vhd);
    assert_equal_disks(&*vdi, &*opened(&img.join("src5g-vbox-vmdk-standard.vmdk")));
    for name in ["win-c.vdi", "xp-d.vdi", "win-d.vhd"] {
        let empty = opened(&img.join(name));
        is_clean(&*empty);
        let kinds = image::extents(&*empty, 0..empty.virtual_size())
            .map(|extent| extent.unwrap().kind.reads_zero());
        assert_eq!(kinds.collect::<Vec<_>>(), [true], "{name}");
    }
}

fn snapshots(pack: &Path) -> PathBuf {
    pack.join("home/VirtualBox VMs/lin-bios/Snapshots")
}

#[test]
fn a_snapshot_chain_of_virtualbox_equals_its_merged_twin() {
    let Some(pack) = pack("vbox-made") else {
        return;
    };
    let merged = std::fs::read(pack.join("img/diff-sata0-merged.raw")).unwrap();
    let leaf = snapshots(&pack).join("{4664ba10-e748-4b86-b40c-92a5fb1fdff2}.vdi");
    let options = OpenOptions {
        files: Some(Files::below(&pack)),
        ..OpenOptions::default()
    };
    let source = open(&leaf, &options).unwrap();
    assert_holds(&*source, &merged);
    is_clean(&*source);
    let middle = source.parent().unwrap();
    assert_eq!(
        source.info().parent_name.as_deref(),
        Some("{4dc67360-2fa6-42cb-93f8-61adbc1603e2}")
    );
    let base = middle.parent().unwrap();
    assert!(base.parent().is_none());
    assert_equal_disks(&*base, &*opened(&pack.join("img/lin-root.vdi")));

    // All three in one folder, whatever they are called.
    let dir = tempfile::tempdir().unwrap();
    for (number, file) in [
        leaf.clone(),
        leaf.with_file_name("{4dc67360-2fa6-42cb-93f8-61adbc1603e2}.vdi"),
        pack.join("img/lin-root.vdi"),
    ]
    .iter()
    .enumerate()
    {
        std::fs::copy(file, dir.path().join(format!("disk {number}.VDI"))).unwrap();
    }
    assert_holds(&*opened(&dir.path().join("disk 0.VDI")), &merged);

    // A parent that was changed after the snapshot, and one that is gone.
    let base = dir.path().join("disk 2.VDI");
    let mut bytes = std::fs::read(&base).unwrap();
    bytes[0x198] ^= 1;
    std::fs::write(&base, bytes).unwrap();
    let error = refusal(&dir.path().join("disk 0.VDI"));
    assert!(
        error.to_string().contains("written to after the snapshot"),
        "{error}"
    );
    std::fs::remove_file(&base).unwrap();
    let error = refusal(&dir.path().join("disk 0.VDI"));
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    assert!(error.to_string().contains("disk 1.VDI"), "{error}");
    assert!(
        error
            .to_string()
            .contains("ed00b7f8-dc71-4876-baff-33a0576decee"),
        "{error}"
    );
}
