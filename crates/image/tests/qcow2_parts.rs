//! Parts of a qcow2 image beside its active state: internal snapshots, an external data file, a backing file of
//! another format, and what the image says of itself.

mod qcow2_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::formats::{self, OpenOptions};
use image::{BlockSource, Error, ErrorKind, Fact};

use qcow2_support::*;

fn open(path: &Path, snapshot: Option<&str>) -> Result<Arc<dyn BlockSource>, Error> {
    let options = OpenOptions {
        snapshot: snapshot.map(str::to_owned),
        ..OpenOptions::default()
    };
    formats::open(path, &options)
}

fn create(directory: &Path, shape: &str, size: &str) {
    let args = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        shape,
        "disk.qcow2",
        size,
    ];
    qemu_img(directory, &args);
}

#[test]
fn a_snapshot_is_read_by_identifier_and_by_name() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(21);
    for shape in [
        "cluster_size=64k",
        "compat=0.10",
        "extended_l2=on",
        "cluster_size=512",
    ] {
        create(here, shape, "4M");
        let write = |commands: &[&str]| {
            let commands: Vec<String> = commands.iter().map(|&c| c.to_owned()).collect();
            qemu_io(here, "disk.qcow2", "qcow2", &commands);
        };
        write(&["write -P 1 0 3M"]);
        qemu_img(here, &["snapshot", "-c", "first", "disk.qcow2"]);
        write(&["write -P 2 1M 1M", "discard 0 512k"]);
        // A name that is the identifier of another: the identifier wins.
        qemu_img(here, &["snapshot", "-c", "1", "disk.qcow2"]);
        write(&["write -P 3 0 4M"]);
        let path = here.join("disk.qcow2");
        for (wanted, by) in [
            ("1", "snapshot.id=1"),
            ("first", "snapshot.name=first"),
            ("2", "snapshot.id=2"),
        ] {
            let args = [
                "convert",
                "-f",
                "qcow2",
                "-O",
                "raw",
                "-l",
                by,
                "disk.qcow2",
                "expected.raw",
            ];
            qemu_img(here, &args);
            let expected = fs::read(here.join("expected.raw")).unwrap();
            assert_reads(&*open(&path, Some(wanted)).unwrap(), &expected, &mut rng);
        }
        let mut sector = [0; 512];
        open(&path, None).unwrap().read_at(&mut sector, 0).unwrap();
        assert_eq!(sector, [3; 512]);
        let error = open(&path, Some("third")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(
            error.to_string().contains("found 1 (first), 2 (1)"),
            "{error}"
        );
        let said = open(&path, None).unwrap().info().snapshots;
        let said: Vec<_> = said
            .iter()
            .map(|s| (s.id.as_str(), s.name.as_str(), s.date_sec > 0))
            .collect();
        assert_eq!(said, [("1", "first", true), ("2", "1", true)]);
    }
}

#[test]
fn a_snapshot_keeps_the_size_that_the_disk_had() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    create(here, "cluster_size=512", "1M");
    qemu_io(here, "disk.qcow2", "qcow2", &["write -P 1 0 1M".to_owned()]);
    qemu_img(here, &["snapshot", "-c", "small", "disk.qcow2"]);
    qemu_img(here, &["resize", "-q", "disk.qcow2", "3M"]);
    qemu_io(here, "disk.qcow2", "qcow2", &["write -P 2 0 3M".to_owned()]);
    let path = here.join("disk.qcow2");
    assert_reads(
        &*open(&path, Some("small")).unwrap(),
        &vec![1; 1 << 20],
        &mut Rng::new(22),
    );
    assert_reads(
        &*open(&path, None).unwrap(),
        &vec![2; 3 << 20],
        &mut Rng::new(23),
    );
}

#[test]
fn snapshots_are_for_the_image_that_was_named() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    create(here, "cluster_size=64k", "1M");
    qemu_img(here, &["snapshot", "-c", "base", "disk.qcow2"]);
    let args = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "disk.qcow2",
        "-F",
        "qcow2",
        "child.qcow2",
    ];
    qemu_img(here, &args);
    assert_eq!(
        open(&here.join("child.qcow2"), Some("base"))
            .unwrap_err()
            .kind(),
        ErrorKind::Usage
    );
}

#[test]
fn data_may_be_in_a_file_of_their_own() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(24);
    for raw in ["off", "on"] {
        for extended in ["off", "on"] {
            for name in ["disk.qcow2", "data.raw"] {
                let _ = fs::remove_file(here.join(name));
            }
            let shape = format!("data_file=data.raw,data_file_raw={raw},extended_l2={extended}");
            create(here, &shape, "4M");
            let commands: Vec<String> = [
                "write -P 1 0 200k",
                "write -P 2 1M 64k",
                "write -z 1M 16k",
                "write -P 3 4193792 512",
            ]
            .map(str::to_owned)
            .to_vec();
            qemu_io(here, "disk.qcow2", "qcow2", &commands);
            let args = [
                "convert",
                "-f",
                "qcow2",
                "-O",
                "raw",
                "disk.qcow2",
                "expected.raw",
            ];
            qemu_img(here, &args);
            let expected = fs::read(here.join("expected.raw")).unwrap();
            let path = here.join("disk.qcow2");
            let source = open(&path, None).unwrap();
            assert_reads(&*source, &expected, &mut rng);
            let info = source.info();
            assert!(info.files[0].ends_with("data.raw"), "{info:?}");
            assert!(
                info.facts
                    .contains(&("data file", Fact::Text("data.raw".to_owned())))
            );
            assert!(
                info.facts
                    .contains(&("data file raw", Fact::Flag(raw == "on")))
            );
            let report = source
                .check_metadata(&types::CancelToken::new())
                .unwrap()
                .unwrap();
            assert!(report.is_clean(), "{report:?}");
        }
    }
    // A data file that is too short, elsewhere, or not there.
    let path = here.join("disk.qcow2");
    fs::OpenOptions::new()
        .write(true)
        .open(here.join("data.raw"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let error = open(&path, None)
        .unwrap()
        .read_at(&mut [0; 512], 4_193_792)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
    fs::remove_file(here.join("data.raw")).unwrap();
    assert_eq!(open(&path, None).unwrap_err().kind(), ErrorKind::Missing);
    let mut image = fs::read(&path).unwrap();
    let at = image
        .windows(8)
        .position(|name| name == b"data.raw")
        .unwrap();
    image[at..at + 8].copy_from_slice(b"../a.raw");
    fs::write(&path, image).unwrap();
    assert_eq!(
        open(&path, None).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn a_backing_file_may_be_of_any_format() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(25);
    let disk = patchwork(&mut rng, 4 << 20);
    fs::write(here.join("disk.raw"), &disk).unwrap();
    for format in ["raw", "vmdk", "qcow", "qed", "qcow2"] {
        let base = format!("base.{format}");
        qemu_img(
            here,
            &["convert", "-f", "raw", "-O", format, "disk.raw", &base],
        );
        let args = [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            &base,
            "-F",
            format,
            "child.qcow2",
        ];
        qemu_img(here, &args);
        qemu_io(
            here,
            "child.qcow2",
            "qcow2",
            &["write -P 9 1M 1M".to_owned()],
        );
        let mut expected = disk.clone();
        expected[1 << 20..2 << 20].fill(9);
        let source = open(&here.join("child.qcow2"), None).unwrap();
        assert_reads(&*source, &expected, &mut rng);
        assert_eq!(source.parent().unwrap().format(), format);
        let info = source.info();
        assert_eq!(info.parent_name.as_deref(), Some(base.as_str()));
        assert_eq!(info.parent_format.as_deref(), Some(format));
        fs::remove_file(here.join("child.qcow2")).unwrap();
    }
}

#[test]
fn an_image_says_of_itself_what_qemu_img_info_lists() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    create(
        here,
        "compression_type=zstd,lazy_refcounts=on,cluster_size=32k,refcount_bits=8",
        "1G",
    );
    qemu_img(
        here,
        &["bitmap", "--add", "-g", "128k", "disk.qcow2", "dirty"],
    );
    let info = open(&here.join("disk.qcow2"), None).unwrap().info();
    let text = |word: &str| Fact::Text(word.to_owned());
    let bitmap = Fact::Group(vec![
        ("flags", Fact::List(vec![text("auto")])),
        ("name", text("dirty")),
        ("granularity", Fact::Number(128 << 10)),
    ]);
    let expected = vec![
        ("compat", text("1.1")),
        ("compression type", text("zstd")),
        ("lazy refcounts", Fact::Flag(true)),
        ("refcount bits", Fact::Number(8)),
        ("corrupt", Fact::Flag(false)),
        ("extended l2", Fact::Flag(false)),
        ("bitmaps", Fact::List(vec![bitmap])),
    ];
    assert_eq!(info.facts, expected);
    assert_eq!(info.cluster_size, Some(32 << 10));
}
