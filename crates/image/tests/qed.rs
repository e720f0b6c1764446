//! QED images that qemu-img and qemu-io make, read and checked by us.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::ErrorKind::{self, Corrupt, Truncated, Unsupported};
use image::formats::{self, OpenOptions};
use image::{BlockSource, Error, MetadataCheck};

use qcow2_support::*;

fn open(path: &Path) -> Result<Arc<dyn BlockSource>, Error> {
    formats::open(path, &OpenOptions::default())
}

fn check(path: &Path) -> MetadataCheck {
    let source = open(path).unwrap();
    source
        .check_metadata(&types::CancelToken::new())
        .unwrap()
        .unwrap()
}

#[test]
fn images_of_every_shape_read_the_same() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(41);
    for shape in [
        "cluster_size=64k",
        "cluster_size=4k,table_size=2",
        "cluster_size=1M,table_size=16",
    ] {
        for len in [(5usize << 20) + 512, 512, 4 << 20] {
            let disk = patchwork(&mut rng, len);
            fs::write(here.join("disk.raw"), &disk).unwrap();
            let args = [
                "convert", "-f", "raw", "-O", "qed", "-o", shape, "disk.raw", "disk.qed",
            ];
            qemu_img(here, &args);
            let source = open(&here.join("disk.qed")).unwrap();
            assert_eq!(source.format(), "qed");
            assert_reads(&*source, &disk, &mut rng);
            assert!(check(&here.join("disk.qed")).is_clean());
        }
        let args = [
            "create",
            "-q",
            "-f",
            "qed",
            "-o",
            shape,
            "-b",
            "disk.qed",
            "-F",
            "qed",
            "child.qed",
            "5M",
        ];
        qemu_img(here, &args);
        let mut commands = Vec::new();
        for _ in 0..40 {
            let (offset, len) = (rng.below(8000) * 512, (1 + rng.below(400)) * 512);
            commands.push(match rng.below(3) {
                0 => format!("write -z {offset} {len}"),
                _ => format!("write -P {} {offset} {len}", 1 + rng.below(255)),
            });
        }
        qemu_io(here, "child.qed", "qed", &commands);
        qemu_img(
            here,
            &[
                "convert",
                "-f",
                "qed",
                "-O",
                "raw",
                "child.qed",
                "expected.raw",
            ],
        );
        let expected = fs::read(here.join("expected.raw")).unwrap();
        let source = open(&here.join("child.qed")).unwrap();
        assert_reads(&*source, &expected, &mut rng);
        assert_eq!(source.info().parent_name.as_deref(), Some("disk.qed"));
    }
}

/// The backing file is raw by the header's word, whatever a guest wrote into it.
#[test]
fn a_raw_backing_file_is_not_probed() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut disk = vec![6; 1 << 20];
    disk[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    fs::write(here.join("base.raw"), &disk).unwrap();
    qemu_img(
        here,
        &[
            "create",
            "-q",
            "-f",
            "qed",
            "-b",
            "base.raw",
            "-F",
            "raw",
            "child.qed",
        ],
    );
    let source = open(&here.join("child.qed")).unwrap();
    assert_reads(&*source, &disk, &mut Rng::new(42));
    assert_eq!(source.parent().unwrap().format(), "raw");
}

#[test]
fn what_cannot_be_is_refused_and_what_was_not_closed_is_checked() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let path = here.join("disk.qed");
    fs::write(here.join("disk.raw"), [5; 1 << 20]).unwrap();
    qemu_img(
        here,
        &["convert", "-f", "raw", "-O", "qed", "disk.raw", "disk.qed"],
    );
    let image = fs::read(&path).unwrap();
    let u64_at = |at: usize| {
        usize::try_from(u64::from_le_bytes(image[at..at + 8].try_into().unwrap())).unwrap()
    };
    let l1 = u64_at(40);
    let l2 = u64_at(l1);
    let read = |changes: &[(usize, &[u8])]| {
        let mut changed = image.clone();
        for (at, bytes) in changes {
            changed[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        fs::write(&path, changed).unwrap();
        open(&path).and_then(|source| source.read_at(&mut vec![0; 1 << 20], 0))
    };
    let cases: &[(usize, &[u8], ErrorKind, &str)] = &[
        (16, &[8], Unsupported, "unknown QED features 0x8"),
        (23, &[1], Unsupported, "unknown QED features"),
        (4, &[1], Corrupt, "cluster size"),
        (8, &[17], Corrupt, "table size"),
        (12, &[0], Corrupt, "header of whole clusters"),
        (48, &[1], Corrupt, "virtual size"),
        (55, &[0x7f], Corrupt, "virtual size"),
        (40, &[1], Corrupt, "L1 table"),
        (45, &[1], Truncated, "L1 table"),
        (l1 + 5, &[1], Truncated, "L2 table"),
        (l2 + 1, &[1], Corrupt, "data cluster"),
        (l2 + 6, &[1], Truncated, "data cluster"),
    ];
    for (at, bytes, kind, words) in cases {
        let error = read(&[(*at, bytes)]).unwrap_err();
        let text = error.to_string();
        assert!(
            error.kind() == *kind && text.contains(words),
            "{words}: {text}"
        );
    }
    // Not closed, yet whole: read. Not closed, and two entries for one cluster: refused.
    read(&[(16, &[2])]).unwrap();
    let twice = image[l2..l2 + 8].to_vec();
    read(&[(l2 + 8, &twice)]).unwrap();
    assert!(check(&path).corruptions > 0);
    let error = read(&[(16, &[2]), (l2 + 8, &twice)]).unwrap_err();
    assert!(error.to_string().contains("was not closed"), "{error}");
    // One entry less leaves its cluster to nobody.
    read(&[(l2, &[0; 8])]).unwrap();
    assert_eq!((check(&path).corruptions, check(&path).leaks), (0, 1));
}
