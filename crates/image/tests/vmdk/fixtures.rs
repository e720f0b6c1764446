//! Files that VMware and VirtualBox made.

use image::formats::vmdk::Reader;
use image::{BlockSource, ErrorKind, FileRange, Files};

use crate::compare::{assert_reader_same, assert_same, assert_same_as_qemu};
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
fn virtualbox_files_in_several_parts_read_the_same() {
    let Some(pack) = unpack("vbox-made.tar.xz") else {
        return;
    };
    let img = pack.path().join("img");
    assert_same(
        &img.join("src4m-vbox-vmdk-fixed.vmdk"),
        &img.join("src4m.raw"),
    );
    assert_same(
        &img.join("src4m-vbox-vmdk-split2g.vmdk"),
        &img.join("src4m.raw"),
    );
    if has_qemu() {
        assert_same_as_qemu(&img.join("src5g-vbox-vmdk-split2g.vmdk"), pack.path());
        assert_same(
            &img.join("src5g-vbox-vmdk-standard.vmdk"),
            &pack.path().join("by-qemu.raw"),
        );
    }
    let part = img.join("src5g-vbox-vmdk-split2g-s002.vmdk");
    let error = Reader::open(FileRange::open(&part).unwrap(), Files::beside(&part)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(
        error
            .to_string()
            .contains("open its descriptor, src5g-vbox-vmdk-split2g.vmdk"),
        "{error}"
    );
}

#[test]
fn files_of_others_pass_the_check() {
    for name in ["disks.tar.xz", "vbox-made.tar.xz"] {
        let Some(pack) = unpack(name) else { return };
        let (mut folders, mut seen) = (vec![pack.path().to_owned()], 0);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "vmdk")
                    && let Ok(reader) =
                        Reader::open(FileRange::open(&path).unwrap(), Files::beside(&path))
                {
                    let check = reader.check_metadata(&types::CancelToken::new()).unwrap();
                    assert!(
                        check.is_none_or(|check| check.is_clean()),
                        "{}",
                        path.display()
                    );
                    assert!(!reader.info().variant.is_empty());
                    seen += 1;
                }
            }
        }
        assert!(seen > 1, "{seen} in {name}");
    }
}

/// VirtualBox names parents by UUID; the first of the chain has a name that only the machine's settings tell.
#[test]
fn a_virtualbox_snapshot_chain_reads_as_merged() {
    let Some(pack) = unpack("vbox-made.tar.xz") else {
        return;
    };
    let snapshots = pack.path().join("home/VirtualBox VMs/lin-bios/Snapshots");
    let leaf = snapshots.join("{51d36d73-76c8-4123-a07a-6f59e6c324c0}.vmdk");
    let open = || Reader::open(FileRange::open(&leaf).unwrap(), Files::beside(&leaf));
    let error = open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    assert!(
        error
            .to_string()
            .contains("19376c01-2e65-4a17-b720-e84770bee6a6"),
        "{error}"
    );
    let img = pack.path().join("img");
    let base = snapshots.join("{19376c01-2e65-4a17-b720-e84770bee6a6}.vmdk");
    std::os::unix::fs::symlink(img.join("lin-data.vmdk"), &base).unwrap();
    let reader = open().unwrap();
    assert_reader_same(&reader, &img.join("diff-sata1-merged.raw"));
    let parent = BlockSource::parent(&reader).unwrap();
    assert!(parent.parent().is_some());
    std::fs::remove_file(&base).unwrap();
    std::os::unix::fs::symlink(img.join("src4m-vbox-vmdk-standard.vmdk"), &base).unwrap();
    let error = open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("6d3c74fc-be87"), "{error}");
}
