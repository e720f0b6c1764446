//! Images that other programs packed: opened by content, equal to what was packed.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "unwrap is how a test fails; tests run on 64 bits"
)]

mod qcow2_support;

use std::path::{Path, PathBuf};
use std::process::Command;

use image::formats::{Format, OpenOptions, open};
use image::{BlockSource, ErrorKind, FileRange, Packing, extents};

use qcow2_support::*;

const SIZE: u64 = 6 << 20;

/// Words, noise and zeroes.
fn content() -> Vec<u8> {
    let mut rng = Rng::new(3);
    let mut bytes = Vec::new();
    while bytes.len() < SIZE as usize {
        let len = rng.index(400_000) + 1;
        match rng.below(3) {
            0 => bytes.extend((0..len).map(|_| rng.below(256) as u8)),
            1 => bytes.extend(b"lorem ipsum ".iter().cycle().take(len)),
            _ => bytes.resize(bytes.len() + 2 * len, 0),
        }
    }
    bytes.truncate(SIZE as usize);
    bytes
}

/// Packs `path` by a program that takes a name and writes to stdout.
fn pack(path: &Path, program: &[&str], to: &Path) {
    let output = Command::new(program[0])
        .args(&program[1..])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program:?}");
    std::fs::write(to, output.stdout).unwrap();
}

fn read_all(source: &dyn BlockSource) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(source.virtual_size()).unwrap()];
    for (number, piece) in bytes.chunks_mut(1 << 20).enumerate() {
        source.read_at(piece, (number as u64) << 20).unwrap();
    }
    bytes
}

#[test]
fn what_the_usual_programs_pack_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let want = content();
    std::fs::write(&raw, &want).unwrap();
    let mut images: Vec<(PathBuf, &str)> = vec![(raw.clone(), "raw")];
    if have("qemu-img") {
        for format in ["qcow2", "vmdk"] {
            let path = dir.path().join(format!("disk.{format}"));
            let options = if format == "vmdk" {
                "subformat=streamOptimized"
            } else {
                "compat=1.1"
            };
            let status = Command::new("qemu-img")
                .args(["convert", "-f", "raw", "-O", format, "-o", options])
                .args([&raw, &path])
                .status();
            assert!(status.unwrap().success());
            images.push((path, format));
        }
    }
    let programs: [&[&str]; 6] = [
        &["gzip", "-c", "-1"],
        &["xz", "-c", "-0", "-T1"],
        &[
            "xz",
            "-c",
            "-0",
            "-T2",
            "--block-size=1MiB",
            "--check=sha256",
        ],
        &["zstd", "-c", "-q", "-1"],
        &["zstd", "-c", "-q", "-1", "--no-check", "--long=24"],
        &["pzstd", "-c", "-q", "-1"],
    ];
    for program in programs {
        if !have(program[0]) {
            continue;
        }
        for (image, format) in &images {
            let packed = dir.path().join("packed");
            pack(image, program, &packed);
            let source = open(&packed, &OpenOptions::default()).unwrap();
            assert_eq!(source.format(), *format, "{program:?}");
            assert!(read_all(source.as_ref()) == want, "{program:?} {format}");
            let zero: u64 = extents(source.as_ref(), 0..SIZE)
                .map(|extent| extent.unwrap())
                .filter(|extent| extent.kind.reads_zero())
                .map(|extent| extent.len)
                .sum();
            assert!(zero > SIZE / 10, "{program:?} {format}: {zero} zero bytes");
        }
    }
    // The user's word for raw means the bytes as they are.
    let packed = dir.path().join("disk.gz");
    pack(&raw, &["gzip", "-c", "-1"], &packed);
    let source = open(&packed, &OpenOptions::with_format(Some(Format::Raw))).unwrap();
    let len = std::fs::metadata(&packed).unwrap().len();
    assert_eq!(source.virtual_size(), len.next_multiple_of(512));
    // Once is enough.
    let twice = dir.path().join("disk.gz.gz");
    pack(&packed, &["gzip", "-c", "-1"], &twice);
    let error = open(&twice, &OpenOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn a_window_beyond_the_limit_is_refused_by_its_size() {
    if !have("zstd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let packed = dir.path().join("packed");
    // From a pipe the length is not known, so the window is what --long says.
    let shell = format!("head -c 1000000 /dev/zero | zstd -q --long=31 > {packed:?}");
    let status = Command::new("sh").arg("-c").arg(shell).status().unwrap();
    assert!(status.success());
    let range = FileRange::open(&packed).unwrap();
    assert_eq!(range.packing().unwrap(), Some(Packing::Zstd));
    let error = range.unpacked(Packing::Zstd).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("2147483648"), "{error}");
}
