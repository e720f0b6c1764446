//! What the qcow2 reader refuses, and what it says: encryption, unknown features, backing files that are
//! not beside the image, loops, contradictions, and the ends of truncated files.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::ErrorKind::{Corrupt, Limit, Truncated, Unsupported};
use image::formats::{OutputFormat, create, qcow2};
use image::{BlockSource, Error, ErrorKind, FileRange, Files, Preallocation};

use qcow2_support::*;

fn open(path: &Path) -> Result<qcow2::Reader, Error> {
    qcow2::Reader::open(FileRange::open(path).unwrap(), Files::beside(path))
}

/// Opens and reads all.
fn read(path: &Path) -> Result<(), Error> {
    let source = open(path)?;
    let mut disk = vec![0; usize::try_from(source.virtual_size()).unwrap()];
    source.read_at(&mut disk, 0)
}

#[track_caller]
fn assert_refused(path: &Path, kind: ErrorKind, words: &str) {
    let error = read(path).unwrap_err();
    let text = error.to_string();
    assert!(
        error.kind() == kind && text.contains(words),
        "{:?}: {text}",
        error.kind()
    );
    assert!(
        text.starts_with(path.parent().unwrap().to_str().unwrap()),
        "the file is not named: {text}"
    );
}

/// A small image made by our writer: one cluster of data in a disk of 1 MiB.
fn small(path: &Path) -> Vec<u8> {
    let sink = create(path, OutputFormat::Qcow2, 1 << 20, Preallocation::Sparse).unwrap();
    sink.write_at(&[7; 65_536], 0).unwrap();
    sink.finish().unwrap();
    fs::read(path).unwrap()
}

/// Host offset of the L1 table of [`small`].
const L1: usize = 3 << 16;
/// Host offset of its L2 table.
const L2: usize = 2 << 16;

fn u32s(n: u32) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn u64s(n: u64) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

/// Puts bytes at an offset of [`small`], each case by itself, and looks at the refusal.
fn assert_changes_refused(cases: &[(usize, Vec<u8>, ErrorKind, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let image = small(&path);
    for (at, bytes, kind, words) in cases {
        let mut changed = image.clone();
        changed[*at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, changed).unwrap();
        assert_refused(&path, *kind, words);
    }
}

#[test]
fn sizes_and_places_that_cannot_be_are_refused() {
    assert_changes_refused(&[
        (0, b"QFI\xfa".to_vec(), Corrupt, "expected the qcow2 magic"),
        (4, u32s(1), Unsupported, "QCOW version 1"),
        (4, u32s(4), Unsupported, "version 2 or 3, found 4"),
        (
            8,
            [u64s(1 << 40), u32s(5)].concat(),
            Corrupt,
            "in the first cluster",
        ),
        (
            8,
            [u64s(8), u32s(5)].concat(),
            Corrupt,
            "in the first cluster",
        ),
        (
            8,
            [u64s(200), u32s(1024)].concat(),
            Corrupt,
            "at most 1023 bytes",
        ),
        (20, u32s(8), Corrupt, "expected cluster_bits"),
        (20, u32s(22), Corrupt, "expected cluster_bits"),
        (20, u32s(u32::MAX), Corrupt, "expected cluster_bits"),
        (24, u64s(u64::MAX), Limit, "virtual size"),
        (24, u64s(1 << 62), Limit, "bytes of disk"),
        (24, u64s(1 << 40), Corrupt, "an L1 table of 2048 entries"),
        (36, u32s(0), Corrupt, "an L1 table of 1 entries"),
        (36, u32s(u32::MAX), Limit, "an L1 table of at most"),
        (
            36,
            u32s(4 << 20),
            Truncated,
            "an L1 table of 33554432 bytes",
        ),
        (40, u64s(0), Corrupt, "after the header"),
        (40, u64s(L1 as u64 + 8), Corrupt, "at a multiple"),
        (40, u64s(u64::MAX << 16), Truncated, "the file ends"),
        (96, u32s(7), Corrupt, "refcount_order"),
        (100, u32s(96), Corrupt, "header_length"),
        (100, u32s(108), Corrupt, "header_length"),
        (100, u32s(1 << 20), Corrupt, "header_length"),
        (
            112,
            [u32s(0x1234), u32s(1 << 20)].concat(),
            Corrupt,
            "extension 0x00001234",
        ),
    ]);
}

#[test]
fn features_that_are_not_read_are_named() {
    assert_changes_refused(&[
        (32, u32s(1), Unsupported, "AES encryption"),
        (32, u32s(2), Unsupported, "LUKS encryption"),
        (32, u32s(3), Unsupported, "unknown crypt_method 3"),
        (72, u64s(1 << 1), Corrupt, "marked corrupt"),
        (72, u64s(1 << 2), Unsupported, "external data file"),
        (72, u64s(1 << 3), Corrupt, "compression type"),
        (72, u64s(1 << 5 | 1 << 63), Unsupported, "feature bit 5, 63"),
        (104, vec![1], Corrupt, "zstd without its feature bit"),
        (104, vec![2], Unsupported, "unknown compression type 2"),
    ]);
    // The dirty bit only says that the refcounts are stale.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let mut dirty = small(&path);
    dirty[79] = 1;
    fs::write(&path, dirty).unwrap();
    read(&path).unwrap();
}

#[test]
fn table_entries_that_cannot_be_are_refused() {
    const COPIED: u64 = 1 << 63;
    const COMPRESSED: u64 = 1 << 62;
    let (l1, l2) = (L1 as u64, L2 as u64);
    let directory = tempfile::tempdir().unwrap();
    let image = small(&directory.path().join("disk.qcow2"));
    assert_eq!(image[L1..L1 + 8], (l2 | COPIED).to_be_bytes());
    assert_eq!(image[L2..L2 + 8], (1u64 << 16 | COPIED).to_be_bytes());
    assert_changes_refused(&[
        (L1, u64s(COPIED | 1), Corrupt, "reserved bits are set in L1"),
        (L1, u64s(1 << 60), Corrupt, "reserved bits are set in L1"),
        (
            L1,
            u64s(COPIED | l2 | 512),
            Corrupt,
            "L2 table at a multiple",
        ),
        (L1, u64s(COPIED | l1), Corrupt, "overlaps the L1 table"),
        (L1, u64s(1 << 40), Truncated, "L2 table"),
        (L2, u64s(COPIED), Corrupt, "in use without a host cluster"),
        (
            L2,
            u64s(COPIED | 1 << 16 | 2),
            Corrupt,
            "reserved bits are set in L2",
        ),
        (
            L2,
            u64s(1 << 16 | 1 << 57),
            Corrupt,
            "reserved bits are set in L2",
        ),
        (
            L2,
            u64s(1 << 16 | 1 << 9),
            Corrupt,
            "data cluster at a multiple",
        ),
        (L2, u64s(l1), Corrupt, "overlaps the L1 table"),
        (L2, u64s(1 << 50), Truncated, "data cluster"),
        (L2, u64s(COMPRESSED | 100), Corrupt, "overlaps the header"),
        (L2, u64s(COMPRESSED | l1), Corrupt, "overlaps the L1 table"),
        (
            L2,
            u64s(COMPRESSED | 1 << 50),
            Truncated,
            "compressed cluster",
        ),
        (L2, u64s(COMPRESSED | 1 << 16), Corrupt, "deflate"),
    ]);
}

#[test]
fn zero_clusters_came_with_version_3() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let mut image = small(&path);
    image[L2 + 7] |= 1;
    fs::write(&path, &image).unwrap();
    let mut sector = [1; 512];
    open(&path).unwrap().read_at(&mut sector, 0).unwrap();
    assert_eq!(sector, [0; 512]);
    image[7] = 2;
    fs::write(&path, &image).unwrap();
    assert_refused(&path, Corrupt, "in a version 2 image");
}

#[test]
fn a_truncated_image_is_refused_wherever_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let image = small(&path);
    for end in [
        0,
        1,
        71,
        72,
        100,
        111,
        65_535,
        65_536,
        L2 - 1,
        L2,
        L2 + 8,
        L1 - 1,
        L1,
        L1 + 7,
    ] {
        fs::write(&path, &image[..end]).unwrap();
        assert_refused(&path, Truncated, "");
    }
    // The refcounts come last, and are not needed.
    fs::write(&path, &image[..L1 + 8]).unwrap();
    read(&path).unwrap();
}

#[test]
fn a_compressed_cluster_of_the_wrong_length_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let image = small(&path);
    for (len, words) in [
        (65_535, "of 65536 bytes, found 65535"),
        (65_537, "more than a cluster"),
    ] {
        let mut packed = vec![0; 70_000];
        let used = libdeflater::Compressor::new(libdeflater::CompressionLvl::default())
            .deflate_compress(&vec![7; len], &mut packed)
            .unwrap();
        let mut changed = image.clone();
        changed[65_536..65_536 + used].copy_from_slice(&packed[..used]);
        changed[L2..L2 + 8].copy_from_slice(&(1u64 << 62 | 1 << 54 | 1 << 16).to_be_bytes());
        fs::write(&path, changed).unwrap();
        assert_refused(&path, Corrupt, words);
    }
}

#[test]
fn what_qemu_makes_and_we_do_not_read_is_named() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let luks = [
        "--object",
        "secret,id=s,data=xyz",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
    ];
    let args = [
        &["create", "-q", "-f", "qcow2"],
        &luks[..],
        &["luks.qcow2", "1M"],
    ]
    .concat();
    qemu_img(here, &args);
    assert_refused(&here.join("luks.qcow2"), Unsupported, "LUKS encryption");
    qemu_img(here, &["create", "-q", "-f", "qcow", "old.qcow", "1M"]);
    assert_refused(&here.join("old.qcow"), Unsupported, "QCOW version 1");
}

#[test]
fn backing_files_elsewhere_missing_or_in_a_loop_are_refused() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::create_dir(here.join("sub")).unwrap();
    fs::write(here.join("base.raw"), [3; 1 << 20]).unwrap();
    let child = here.join("sub/child.qcow2");
    let make = |name: &str, backing: &str| {
        let args = [
            "create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "raw", name, "1M",
        ];
        qemu_img(here, &args);
    };
    let absolute = here.join("base.raw");
    for (backing, words) in [
        (absolute.to_str().unwrap(), "lies in another folder"),
        ("../base.raw", "climbs out"),
        ("nbd://localhost/x", "named by a protocol"),
    ] {
        make("sub/child.qcow2", backing);
        assert_refused(&child, Unsupported, words);
    }
    make("sub/child.qcow2", "gone.raw");
    assert_refused(&child, ErrorKind::Missing, "gone.raw");

    // The same base is taken when it lies beside the image, by name or by the directory's own path.
    for backing in ["base.raw", absolute.to_str().unwrap()] {
        make("child.qcow2", backing);
        let mut sector = [0; 512];
        open(&here.join("child.qcow2"))
            .unwrap()
            .read_at(&mut sector, 4096)
            .unwrap();
        assert_eq!(sector, [3; 512]);
    }

    // Another directory may be given, and without one there is no backing file.
    make("sub/child.qcow2", "base.raw");
    let range = FileRange::open(&child).unwrap();
    assert!(qcow2::Reader::open(range.clone(), Files::below(here)).is_ok());
    let error = qcow2::Reader::open(range.clone(), Files::none()).unwrap_err();
    assert!(error.to_string().contains("no folder to look"), "{error}");
    let whole = fs::read(&child).unwrap();
    fs::write(&child, [&[0; 512][..], &whole].concat()).unwrap();
    let file = Arc::new(fs::File::open(&child).unwrap());
    let part = FileRange::part(file, 512, whole.len() as u64, range.label()).unwrap();
    let error = qcow2::Reader::open(part, Files::none()).unwrap_err();
    assert!(error.to_string().contains("no folder to look"), "{error}");

    for (image, backing) in [
        ("a.qcow2", "b.qcow2"),
        ("b.qcow2", "a.qcow2"),
        ("other.qcow2", "self.qcow2"),
    ] {
        let args = [
            "create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", image, "1M",
        ];
        qemu_img(here, &args);
    }
    fs::rename(here.join("other.qcow2"), here.join("self.qcow2")).unwrap();
    assert_refused(&here.join("a.qcow2"), Corrupt, "loop");
    assert_refused(&here.join("self.qcow2"), Corrupt, "loop");
}

#[test]
fn a_chain_has_a_limit() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    qemu_img(
        here,
        &[
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-b",
            "next.qcow2",
            "-F",
            "qcow2",
            "0.qcow2",
            "1M",
        ],
    );
    let image = fs::read(here.join("0.qcow2")).unwrap();
    let at = image
        .windows(10)
        .position(|name| name == b"next.qcow2")
        .unwrap();
    let put = |number: u32, backing: &str| {
        let mut image = image.clone();
        image[at..at + 10].copy_from_slice(backing.as_bytes());
        fs::write(here.join(format!("{number:04}.qcow2")), image).unwrap();
    };
    for number in 0..256 {
        put(number, &format!("{:04}.qcow2", number + 1));
    }
    small(&here.join("0256.qcow2"));
    assert_refused(
        &here.join("0000.qcow2"),
        Limit,
        "expected a chain of at most 256 images",
    );
    read(&here.join("0001.qcow2")).unwrap();
}
