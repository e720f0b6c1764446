//! What qemu-img writes, and how long it takes a disk to be.

use crate::builder::{Layer, Vhd};
use crate::support::{Rng, assert_equal_disks, assert_holds, opened, run};

#[test]
fn everything_that_qemu_img_writes_is_read() {
    if !testkit::require_tool("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(6);
    for (size, used) in [
        (512, 100),
        (1 << 20, 0),
        (3_000_320, 50),
        (9 << 20, 30),
        (5 << 20, 100),
    ] {
        let disk = rng.disk(size, used);
        std::fs::write(dir.path().join("disk.raw"), &disk).unwrap();
        for (format, options) in [
            ("vpc", "subformat=dynamic,force_size=on"),
            ("vpc", "subformat=fixed,force_size=on"),
            ("vpc", "subformat=dynamic"),
            ("vpc", "subformat=fixed"),
            ("vdi", "static=off"),
            ("vdi", "static=on"),
            ("parallels", "cluster_size=1M"),
            ("parallels", "cluster_size=64k"),
        ] {
            let image = dir.path().join("image");
            let _ = std::fs::remove_file(&image);
            run(
                dir.path(),
                "qemu-img",
                &[
                    "convert", "-f", "raw", "-O", format, "-o", options, "disk.raw", "image",
                ],
            );
            let source = opened(&image);
            assert_eq!(source.format(), format);
            let mut expected = disk.clone();
            // Some round the disk up to whole cylinders.
            expected.resize(source.virtual_size() as usize, 0);
            assert!(expected.len() >= disk.len(), "{format} {options}");
            assert_holds(&*source, &expected);
        }
    }
}

#[test]
fn disks_are_as_long_as_qemu_img_takes_them_to_be() {
    if !testkit::require_tool("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let size = 6 << 20;
    let layer = Layer {
        disk: vec![0; size],
        own: vec![false; size / 512],
    };
    for creator in [
        b"vpc ", b"vs  ", b"qemu", b"qem2", b"win ", b"d2v ", b"tap\0", b"CTXS", b"wa\0\0", b"vbox",
    ] {
        for geometry in [(180, 4, 17), (65535, 16, 255)] {
            let vhd = Vhd {
                creator: *creator,
                geometry,
                ..Vhd::dynamic(2 << 20, 1)
            };
            std::fs::write(dir.path().join("a.vhd"), vhd.build(&layer)).unwrap();
            let said = run(dir.path(), "qemu-img", &["info", "-f", "vpc", "a.vhd"]);
            let ours = opened(&dir.path().join("a.vhd")).virtual_size();
            assert!(
                said.contains(&format!("({ours} bytes)")),
                "{creator:?}: {ours}: {said}"
            );
        }
    }
}

#[test]
fn long_sparse_disks_of_qemu_img_equal_each_other() {
    if !testkit::require_tool("qemu-img") || !testkit::require_tool("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for (format, options) in [
        ("vpc", "force_size=on"),
        ("vdi", "static=off"),
        ("parallels", "cluster_size=1M"),
        ("qcow2", "cluster_size=64k"),
    ] {
        let name = format!("long.{format}");
        run(
            dir.path(),
            "qemu-img",
            &["create", "-q", "-f", format, "-o", options, &name, "200G"],
        );
        run(
            dir.path(),
            "qemu-io",
            &[
                "-f",
                format,
                "-c",
                "write -P 7 0 100k",
                "-c",
                "write -P 8 4g 3M",
                "-c",
                "write -P 9 199g 64k",
                &name,
            ],
        );
        images.push(opened(&dir.path().join(name)));
    }
    for image in &images {
        let size = image.virtual_size();
        // Parallels is rounded to cylinders.
        if size == images[3].virtual_size() {
            assert_equal_disks(&**image, &*images[3]);
        }
        assert!(size >= 200 << 30);
    }
}
