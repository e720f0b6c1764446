//! Damaged images: whatever the bytes, the reader answers or refuses, soon and in little memory. A panic fails the
//! test by itself.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use image::formats::{OutputFormat, create, qcow2};
use image::{BlockSource, Error, FileRange, Files, Preallocation, extents};

use qcow2_support::*;

/// Mutants of each image.
const ROUNDS: usize = 250;
/// Most memory that the test may ever have held.
const MAX_RESIDENT_KIB: u64 = 256 << 10;

/// Opens, walks some extents, reads some pieces.
fn use_image(path: &Path, rng: &mut Rng) -> Result<(), Error> {
    let source = qcow2::Reader::open(FileRange::open(path)?, Files::beside(path))?;
    let size = source.virtual_size();
    if size == 0 {
        return Ok(());
    }
    for extent in extents(&source, 0..size).take(2000) {
        extent?;
    }
    let mut piece = vec![0; 96 << 10];
    for number in 0..40 {
        let offset = if number < 20 {
            number * (96 << 10)
        } else {
            rng.below(size)
        };
        let len = usize::try_from(size.saturating_sub(offset))
            .unwrap()
            .min(piece.len());
        if len > 0 {
            source.read_at(&mut piece[..len], offset)?;
        }
    }
    Ok(())
}

/// Changes a few places, most of them in the header and in what looks like a table.
fn mutate(image: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut image = image.to_vec();
    let tables: Vec<usize> = (0..image.len() / 8)
        .map(|word| word * 8)
        .filter(|&at| (image[at] & 0x3f == 0) && image[at..at + 8] != [0; 8])
        .collect();
    for _ in 0..1 + rng.below(4) {
        let at = match rng.below(4) {
            0 => rng.index(112),
            1 => 112 + rng.index(400),
            2 => tables[rng.index(tables.len())] + rng.index(8),
            _ => rng.index(image.len()),
        };
        match rng.below(4) {
            0 => image[at] ^= 1 << rng.below(8),
            1 => image[at] = if rng.below(2) == 0 { 0xff } else { 0 },
            2 => image[at] = rng.next().to_le_bytes()[0],
            _ => {
                let at = (at & !7).min(image.len() - 8);
                let word = rng.next() >> rng.below(64);
                image[at..at + 8].copy_from_slice(&word.to_be_bytes());
            }
        }
    }
    if rng.below(10) == 0 {
        image.truncate(rng.index(image.len()));
    }
    image
}

fn peak_resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn damaged_images_neither_panic_nor_hang() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(42);
    let disk = patchwork(&mut rng, 2 << 20);
    fs::write(here.join("disk.raw"), &disk).unwrap();
    let sink = create(
        &here.join("own.qcow2"),
        OutputFormat::Qcow2,
        2 << 20,
        Preallocation::Sparse,
    )
    .unwrap();
    sink.write_at(&disk, 0).unwrap();
    sink.finish().unwrap();
    for (name, shape) in [
        ("small.qcow2", "cluster_size=512"),
        ("old.qcow2", "cluster_size=4k,compat=0.10"),
        ("zstd.qcow2", "compression_type=zstd"),
        ("extended.qcow2", "extended_l2=on,cluster_size=16k"),
    ] {
        qemu_img(
            here,
            &[
                "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", shape, "disk.raw", name,
            ],
        );
    }
    let child = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        "own.qcow2",
        "-F",
        "qcow2",
        "child.qcow2",
    ];
    qemu_img(here, &child);

    let (mut read, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    for name in [
        "own.qcow2",
        "small.qcow2",
        "old.qcow2",
        "zstd.qcow2",
        "extended.qcow2",
        "child.qcow2",
    ] {
        let image = fs::read(here.join(name)).unwrap();
        use_image(&here.join(name), &mut rng).unwrap();
        for _ in 0..ROUNDS {
            let mutant = here.join("mutant.qcow2");
            fs::write(&mutant, mutate(&image, &mut rng)).unwrap();
            let start = Instant::now();
            match use_image(&mutant, &mut rng) {
                Ok(()) => read += 1,
                Err(error) => {
                    assert!(
                        error.to_string().contains(".qcow2: "),
                        "no file is named: {error}"
                    );
                    refused += 1;
                }
            }
            slowest = slowest.max(start.elapsed());
        }
    }
    let peak = peak_resident_kib();
    println!("{read} read, {refused} refused, slowest {slowest:?}, peak {peak} KiB");
    assert!(
        read > 100 && refused > 100,
        "{read} read, {refused} refused: the mutations miss"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(peak < MAX_RESIDENT_KIB, "{peak} KiB");
}
