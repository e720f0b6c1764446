//! Files that VMware and VirtualBox made.

use std::path::Path;

use image::formats::vmdk::Reader;
use image::{BlockSource, ErrorKind, FileRange};

use crate::compare::{assert_same, assert_same_as_qemu};
use crate::support::{has_qemu, unpack};

#[test]
fn vmware_files_read_the_same() {
    let Some(pack) = unpack("disks.tar.xz") else {
        return;
    };
    let disks = pack.path().join("disks");
    let reader = assert_same(&disks.join("ext2.vmdk"), &disks.join("ext2.raw"));
    assert_eq!(
        reader.descriptor().unwrap().adapter_type().as_deref(),
        Some("ide")
    );
    if has_qemu() {
        // Version 3, written by ovftool: 16 GiB, of which 279 KiB are stored.
        let reader = assert_same_as_qemu(&disks.join("iotest-version3.vmdk"), pack.path());
        assert_eq!(reader.virtual_size(), 16 << 30);
        assert_eq!(
            reader.descriptor().unwrap().adapter_type().as_deref(),
            Some("lsilogic")
        );
    }
}

#[test]
fn virtualbox_files_read_the_same() {
    let Some(pack) = unpack("vbox-made.tar.xz") else {
        return;
    };
    let img = pack.path().join("img");
    for name in ["standard", "esx", "stream"] {
        assert_same(
            &img.join(format!("src4m-vbox-vmdk-{name}.vmdk")),
            &img.join("src4m.raw"),
        );
    }
    if !has_qemu() {
        return;
    }
    let stream = img.join("src5g-vbox-vmdk-stream.vmdk");
    assert_same_as_qemu(&stream, pack.path());
    assert_same(
        &img.join("src5g-vbox-vmdk-standard.vmdk"),
        &pack.path().join("by-qemu.raw"),
    );
    let exported = pack.path().join("export/win11-efi-ovf20");
    for disk in ["win11-efi-disk002.vmdk", "win11-efi-disk003.vmdk"] {
        assert_same_as_qemu(&exported.join(disk), pack.path());
    }
}

#[test]
fn virtualbox_files_of_other_kinds_are_refused_by_name() {
    let Some(pack) = unpack("vbox-made.tar.xz") else {
        return;
    };
    let refusal = |path: &Path| {
        let error = Reader::open(FileRange::open(path).unwrap(), image::Files::none()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        error.to_string()
    };
    let img = pack.path().join("img");
    assert!(
        refusal(&img.join("src4m-vbox-vmdk-fixed.vmdk")).contains("monolithicFlat is not read yet")
    );
    assert!(
        refusal(&img.join("src5g-vbox-vmdk-split2g.vmdk"))
            .contains("twoGbMaxExtentSparse is not read yet")
    );
    assert!(
        refusal(&img.join("src5g-vbox-vmdk-split2g-s002.vmdk")).contains("one of several files")
    );
    let snapshots = pack.path().join("home/VirtualBox VMs/lin-bios/Snapshots");
    let mut deltas = 0;
    for entry in std::fs::read_dir(snapshots).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "vmdk")
        {
            assert!(refusal(&path).contains("delta disk"), "{}", path.display());
            deltas += 1;
        }
    }
    assert!(deltas > 0);
}
