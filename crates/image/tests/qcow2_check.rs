//! The check of qcow2 metadata against `qemu-img check`, on sound images of every shape and on damaged ones.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use image::formats::qcow2;
use image::{BlockSource, ErrorKind, FileRange, Files, FindingKind, MetadataCheck};
use types::CancelToken;

use qcow2_support::*;

fn check(path: &Path) -> Result<MetadataCheck, image::Error> {
    let source = qcow2::Reader::open(FileRange::open(path)?, Files::beside(path))?;
    Ok(source.check_metadata(&CancelToken::new())?.unwrap())
}

/// Corruptions and leaks as qemu-img counts them; `None` where it cannot check.
fn qemu_check(directory: &Path, image: &str) -> Option<(u64, u64)> {
    let out = attempt(
        directory,
        "qemu-img",
        &["check", "--output=json", "-f", "qcow2", image],
    );
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let field = |name: &str| {
        let rest = said.split(&format!("\"{name}\": ")).nth(1);
        rest.map_or(0, |rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        })
    };
    let usable = matches!(out.status.code(), Some(0 | 2 | 3)) && field("check-errors") == 0;
    usable.then(|| (field("corruptions"), field("leaks")))
}

/// A scribbled image with snapshots and a bitmap.
fn rich(directory: &Path, shape: &str, compressed: bool, rng: &mut Rng) {
    let size = 6 << 20;
    let args = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        shape,
        "disk.qcow2",
        "6M",
    ];
    qemu_img(directory, &args);
    for round in 0..3 {
        let mut commands = Vec::new();
        for _ in 0..30 {
            let offset = rng.below(size / 512) * 512;
            let len = (512 * (1 + rng.below(400))).min(size - offset);
            commands.push(match rng.below(4) {
                0 => format!("write -z -u {offset} {len}"),
                1 => format!("discard {offset} {len}"),
                _ => format!("write -P {} {offset} {len}", 1 + rng.below(255)),
            });
        }
        qemu_io(directory, "disk.qcow2", "qcow2", &commands);
        if round < 2 {
            let name = format!("state {round}");
            qemu_img(directory, &["snapshot", "-c", &name, "disk.qcow2"]);
        }
    }
    if compressed {
        let args = ["-f", "qcow2", "-c", "write -c -P 7 5M 64k", "disk.qcow2"];
        attempt(directory, "qemu-io", &args);
    }
    if !shape.contains("compat=0.10") {
        qemu_img(directory, &["bitmap", "--add", "disk.qcow2", "first"]);
        let args = [
            "bitmap",
            "--add",
            "--disable",
            "-g",
            "4k",
            "disk.qcow2",
            "second",
        ];
        qemu_img(directory, &args);
        let commands = ["write -P 9 1M 2M".to_owned()];
        qemu_io(directory, "disk.qcow2", "qcow2", &commands);
    }
}

#[test]
fn sound_images_are_clean_whatever_their_shape() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(11);
    for shape in [
        "cluster_size=512",
        "cluster_size=64k",
        "compat=0.10,cluster_size=4k",
        "cluster_size=2M",
        "cluster_size=16k,extended_l2=on",
        "refcount_bits=1,cluster_size=4k",
        "refcount_bits=8",
        "refcount_bits=64,cluster_size=1k",
        "compression_type=zstd",
        "preallocation=metadata",
    ] {
        // One bit cannot count what snapshots share.
        if shape.contains("refcount_bits=1,") {
            let args = [
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                shape,
                "disk.qcow2",
                "6M",
            ];
            qemu_img(directory.path(), &args);
            let commands = ["write -P 3 100k 3M".to_owned()];
            qemu_io(directory.path(), "disk.qcow2", "qcow2", &commands);
        } else {
            rich(directory.path(), shape, true, &mut rng);
        }
        let report = check(&directory.path().join("disk.qcow2")).unwrap();
        assert!(report.is_clean(), "{shape}: {report:?}");
        assert_eq!(qemu_check(directory.path(), "disk.qcow2"), Some((0, 0)));
    }
}

/// Damage to tables and refcounts: where qemu-img finds something, so does the check, and the other way round.
#[test]
fn damage_is_found_where_qemu_finds_it() {
    const ROUNDS: usize = 60;
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let mut rng = Rng::new(12);
    let (mut agreed, mut refused, mut equal) = (0, 0, 0);
    for shape in [
        "cluster_size=4k",
        "cluster_size=64k",
        "cluster_size=16k,extended_l2=on",
    ] {
        rich(directory.path(), shape, true, &mut rng);
        let image = fs::read(&path).unwrap();
        let words: Vec<usize> = (14..image.len() / 8)
            .map(|word| word * 8)
            .filter(|&at| image[at] & 0x3f == 0 && image[at..at + 8] != [0; 8])
            .collect();
        for _ in 0..ROUNDS {
            let mut mutant = image.clone();
            let at = words[rng.index(words.len())] + rng.index(8);
            mutant[at] ^= 1 << rng.below(8);
            fs::write(&path, &mutant).unwrap();
            let theirs = qemu_check(directory.path(), "disk.qcow2");
            match (check(&path), theirs) {
                (Ok(ours), Some((corruptions, leaks))) => {
                    assert_eq!(
                        ours.corruptions > 0,
                        corruptions > 0,
                        "{shape}, byte {at:#x}: {ours:?}, qemu-img: {corruptions} and {leaks}"
                    );
                    if corruptions == 0 {
                        assert_eq!(ours.leaks, leaks, "{shape}, byte {at:#x}: {ours:?}");
                    }
                    equal += usize::from((ours.corruptions, ours.leaks) == (corruptions, leaks));
                    agreed += 1;
                }
                _ => refused += 1,
            }
        }
    }
    println!("{agreed} agreed, {equal} of them in numbers, {refused} refused by one");
    assert!(agreed > ROUNDS, "{agreed} agreed, {refused} refused");
}

#[test]
fn a_repaired_copied_flag_and_a_leak_are_told_apart() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    qemu_img(
        directory.path(),
        &["create", "-q", "-f", "qcow2", "disk.qcow2", "1M"],
    );
    let commands = ["write -P 1 0 64k".to_owned()];
    qemu_io(directory.path(), "disk.qcow2", "qcow2", &commands);
    let image = fs::read(&path).unwrap();
    let field = |at: usize| {
        usize::try_from(u64::from_be_bytes(image[at..at + 8].try_into().unwrap())).unwrap()
    };
    let refcount_block = field(field(48));
    // One cluster more is in use than anything refers to; the file is made to have it.
    let mut leaking = image.clone();
    let clusters = leaking.len().div_ceil(65536);
    leaking.resize((clusters + 1) * 65536, 0);
    leaking[refcount_block + clusters * 2 + 1] = 1;
    fs::write(&path, &leaking).unwrap();
    let report = check(&path).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 1), "{report:?}");
    assert_eq!(qemu_check(directory.path(), "disk.qcow2"), Some((0, 1)));
    assert_eq!(report.findings[0].kind, FindingKind::Leak);

    let mut flag = image.clone();
    flag[field(40)] &= 0x7f;
    fs::write(&path, &flag).unwrap();
    let report = check(&path).unwrap();
    assert_eq!((report.corruptions, report.leaks), (1, 0), "{report:?}");
    assert!(
        report.findings[0].message.contains("copied flag"),
        "{report:?}"
    );

    // The corrupt bit keeps data from being read, not the metadata from being checked.
    let mut marked = image.clone();
    marked[79] |= 2;
    fs::write(&path, &marked).unwrap();
    assert_eq!(check(&path).unwrap().corruptions, 1);
    let source = qcow2::Reader::open(FileRange::open(&path).unwrap(), Files::none()).unwrap();
    assert_eq!(
        source.read_at(&mut [0; 512], 0).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(
        source.extent_at(0, 512).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    let mut dirty = image;
    dirty[79] |= 1;
    fs::write(&path, &dirty).unwrap();
    let report = check(&path).unwrap();
    assert!(
        report.is_clean() && report.findings.len() == 1,
        "{report:?}"
    );
}

/// Whatever the bytes, the check ends, soon and in bounded memory.
#[test]
fn damaged_images_are_checked_without_panic_or_hang() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let mut rng = Rng::new(13);
    let (mut told, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    for shape in ["cluster_size=512", "cluster_size=64k,extended_l2=on"] {
        rich(directory.path(), shape, true, &mut rng);
        let image = fs::read(&path).unwrap();
        let snapshots =
            usize::try_from(u64::from_be_bytes(image[64..72].try_into().unwrap())).unwrap();
        for _ in 0..700 {
            let mut mutant = image.clone();
            for _ in 0..1 + rng.below(3) {
                let at = match rng.below(4) {
                    0 => rng.index(112),
                    1 => 112 + rng.index(300),
                    2 => snapshots + rng.index(200),
                    _ => rng.index(mutant.len() / 512) * 512 + rng.index(8),
                };
                match rng.below(3) {
                    0 => mutant[at] ^= 1 << rng.below(8),
                    1 => mutant[at] = 0xff,
                    _ => mutant[at] = rng.next().to_le_bytes()[0],
                }
            }
            if rng.below(10) == 0 {
                mutant.truncate(rng.index(mutant.len()));
            }
            fs::write(&path, &mutant).unwrap();
            let start = Instant::now();
            if let Ok(source) = qcow2::Reader::open(FileRange::open(&path).unwrap(), Files::none())
            {
                let _ = source.info();
            }
            match check(&path) {
                Ok(_) => told += 1,
                Err(error) => {
                    assert!(error.to_string().contains("disk.qcow2: "), "{error}");
                    refused += 1;
                }
            }
            slowest = slowest.max(start.elapsed());
        }
    }
    println!("{told} checked, {refused} refused, slowest {slowest:?}");
    assert!(
        told > 200 && refused > 50,
        "{told} checked, {refused} refused"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn a_cancelled_check_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let sink = image::formats::create(
        &path,
        image::formats::OutputFormat::Qcow2,
        1 << 30,
        image::Preallocation::Sparse,
    )
    .unwrap();
    sink.write_at(&[1; 65536], 0).unwrap();
    sink.finish().unwrap();
    let source = qcow2::Reader::open(FileRange::open(&path).unwrap(), Files::none()).unwrap();
    let cancel = CancelToken::new();
    assert!(source.check_metadata(&cancel).unwrap().unwrap().is_clean());
    cancel.cancel();
    let error = source.check_metadata(&cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
