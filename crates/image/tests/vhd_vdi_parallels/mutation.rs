//! Images with random damage: no panic, no endless loop, bounded time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use image::formats::{OpenOptions, open, open_range};
use image::{BlockSource, FileRange, extents};
use types::CancelToken;

use crate::builder::{Layer, Vdi, Vhd, checksum, parallels};
use crate::support::Rng;

/// Damaged images of each kind.
const ROUNDS: usize = 1000;
const MAX_TIME: Duration = Duration::from_secs(3);
const SIZE: usize = 300 << 10;

/// Opens and uses an image in every way.
fn use_image(source: &dyn BlockSource, rng: &mut Rng) -> image::Result<()> {
    source.info();
    source.check_metadata(&CancelToken::new())?;
    let size = source.virtual_size();
    for extent in extents(source, 0..size).take(2000) {
        extent?;
    }
    for _ in 0..6 {
        let offset = rng.below(size.max(1));
        let len = (size - offset).min(1 + rng.below(40_000)) as usize;
        source.read_at(&mut vec![0; len], offset)?;
    }
    Ok(())
}

fn mutate(image: &[u8], metadata: usize, rng: &mut Rng) -> Vec<u8> {
    let mut image = image.to_vec();
    for _ in 0..1 + rng.below(4) {
        let at = match rng.below(8) {
            0 => rng.index(image.len()),
            1 => image.len() - 1 - rng.index(512),
            _ => rng.index(metadata),
        };
        match rng.below(4) {
            0 => image[at] ^= 1 << rng.below(8),
            1 => image[at] = [0, 0xff, 0x7f, 0x80][rng.index(4)],
            2 => image[at] = rng.next() as u8,
            _ => {
                let at = (at & !3).min(image.len() - 4);
                let word = (rng.next() as u32) >> rng.below(32);
                let bytes = if rng.below(2) == 0 {
                    word.to_be_bytes()
                } else {
                    word.to_le_bytes()
                };
                image[at..at + 4].copy_from_slice(&bytes);
            }
        }
    }
    if rng.below(8) == 0 {
        image.truncate(1 + rng.index(image.len()));
    }
    image
}

/// Makes the checksums of a VHD right again, so that the damage gets past them.
fn repair(image: &mut [u8]) {
    let len = image.len();
    for (start, size, field) in [
        (0, 512, 64),
        (512, 1024, 36),
        (len.saturating_sub(512), 512, 64),
    ] {
        let Some(part) = image.get_mut(start..start + size) else {
            continue;
        };
        part[field..field + 4].fill(0);
        let sum = checksum(part);
        part[field..field + 4].copy_from_slice(&sum);
    }
}

fn layer(rng: &mut Rng) -> Layer {
    Layer {
        disk: rng.disk(SIZE, 70),
        own: (0..SIZE / 512).map(|_| rng.below(3) > 0).collect(),
    }
}

#[test]
fn damaged_images_neither_panic_nor_hang() {
    let mut rng = Rng::new(12);
    let dir = tempfile::tempdir().unwrap();
    let whole = layer(&mut rng);
    let vdi = Vdi {
        block_size: 4096,
        block_extra: 0,
        image_type: 1,
        id: 1,
        parent_id: 0,
    };
    let vhd = Vhd::dynamic(16 << 10, 1);
    let child = Vhd::child(8 << 10, 2, 1, "base.vhd");
    let mut zeroes = vec![false; 75];
    zeroes[3..9].fill(true);
    std::fs::write(dir.path().join("base.vhd"), vhd.build(&whole)).unwrap();
    std::fs::write(dir.path().join("base.vdi"), vdi.build(&whole, &zeroes)).unwrap();
    let other = layer(&mut rng);
    let vdi_child = Vdi {
        image_type: 4,
        id: 2,
        parent_id: 1,
        ..vdi.clone()
    };
    let mut fixed = whole.disk.clone();
    fixed.extend(
        Vhd {
            disk_type: 2,
            ..vhd.clone()
        }
        .footer(SIZE as u64),
    );
    let images = [
        ("dynamic.vhd", vhd.build(&whole), 5800),
        ("child.vhd", child.build(&other), 5800),
        ("fixed.vhd", fixed, 1),
        ("dynamic.vdi", vdi.build(&whole, &zeroes), 900),
        ("child.vdi", vdi_child.build(&other, &zeroes), 900),
        ("sectors.hdd", parallels(&whole.disk, 63, false), 120),
        ("clusters.hdd", parallels(&whole.disk, 8, true), 400),
    ];
    let mut slowest = Duration::ZERO;
    for (name, image, metadata) in &images {
        let path = dir.path().join(name);
        std::fs::write(&path, image).unwrap();
        let good = open(&path, &OpenOptions::default()).unwrap();
        use_image(&*good, &mut rng).unwrap();
        let (mut read, mut refused) = (0, 0);
        for round in 0..ROUNDS {
            let mut bytes = mutate(image, *metadata, &mut rng);
            if name.ends_with("vhd") && round % 4 != 0 {
                repair(&mut bytes);
            }
            let start = Instant::now();
            let range = FileRange::from_store(Arc::new(bytes), path.to_str().unwrap());
            let options = OpenOptions {
                format: Some(good.format().parse().unwrap()),
                files: Some(image::Files::beside(&path)),
                ..OpenOptions::default()
            };
            let result =
                open_range(range, &options).and_then(|source| use_image(&*source, &mut rng));
            match result {
                Ok(()) => read += 1,
                Err(error) => {
                    assert!(
                        error.to_string().contains(dir.path().to_str().unwrap()),
                        "no file: {error}"
                    );
                    refused += 1;
                }
            }
            slowest = slowest.max(start.elapsed());
        }
        eprintln!("{name}: {read} read, {refused} refused, slowest {slowest:?}");
        assert!(
            read > 20 && refused > 20,
            "{name}: {read} read, {refused} refused: the damage misses"
        );
    }
    assert!(slowest < MAX_TIME, "{slowest:?}");
}
