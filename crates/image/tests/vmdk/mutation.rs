//! Images with random damage: no panic, no endless loop, no memory beyond what the file can justify.

use std::time::{Duration, Instant};

use image::{BlockSource, extents};

use crate::builder::{Image, SECTOR, hosted, stream};
use crate::support::{Random, open_bytes};

const SECTORS: u64 = 200 * 1024 + 10;
const IMAGES: u64 = 1200;
const MAX_TIME: Duration = Duration::from_secs(5);
/// Peak of the whole test process, in KiB; without damage it stays below 100 MiB.
const MAX_RSS_KIB: u64 = 400 << 10;

/// Values that parsers get wrong.
const EVIL: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0xff,
    0x200,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    1 << 63,
    u64::MAX,
];

fn mutate(image: &Image, random: &mut Random) -> Vec<u8> {
    let mut bytes = image.bytes.clone();
    // Metadata is a small part of the file; most damage is aimed at it.
    let mut targets = vec![
        (0, 80),
        (SECTOR, 400),
        (image.directory_at, 16),
        (image.directory_at - SECTOR, 16),
    ];
    targets.extend(
        image
            .tables
            .values()
            .flat_map(|at| [(*at, 64), (*at, 2048)]),
    );
    targets.extend(image.grains.values().map(|at| (*at, 32)));
    if image.footer_at > 0 {
        targets.extend([
            (image.footer_at, 80),
            (image.footer_at - SECTOR, 16),
            (image.footer_at + SECTOR, 16),
        ]);
    }
    for _ in 0..=random.below(3) {
        let (start, len) = targets[usize::try_from(random.below(targets.len() as u64)).unwrap()];
        let at = (start + usize::try_from(random.below(len)).unwrap()).min(bytes.len() - 8);
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => {
                let width = [1, 2, 4, 8][usize::try_from(random.below(4)).unwrap()];
                let evil = EVIL[usize::try_from(random.below(EVIL.len() as u64)).unwrap()];
                bytes[at..at + width].copy_from_slice(&evil.to_le_bytes()[..width]);
            }
            3 => {
                let from = usize::try_from(random.below(bytes.len() as u64 - 64)).unwrap();
                let to = at.min(bytes.len() - 64);
                bytes.copy_within(from..from + 64, to);
            }
            _ => {
                let at = at / 4 * 4;
                let near = u32::try_from(random.below(bytes.len() as u64 / 512 + 4)).unwrap();
                bytes[at..at + 4].copy_from_slice(&near.to_le_bytes());
            }
        }
    }
    if random.below(8) == 0 {
        bytes.truncate(usize::try_from(random.below(bytes.len() as u64)).unwrap());
    }
    bytes
}

/// Opens and reads; true when nothing was refused.
fn survives(bytes: &[u8], random: &mut Random) -> bool {
    let Ok(reader) = open_bytes(bytes) else {
        return false;
    };
    let size = reader.virtual_size();
    let mut whole = extents(&reader, 0..size)
        .take(20_000)
        .all(|extent| extent.is_ok());
    let mut buf = vec![0; 3 << 20];
    for _ in 0..12 {
        let offset = random.below(size.min(120 << 20));
        let len = usize::try_from((size - offset).min(random.below(buf.len() as u64) + 1)).unwrap();
        whole &= reader.read_at(&mut buf[..len], offset).is_ok();
        whole &= reader.read_at(&mut buf[..len.min(4096)], offset).is_ok();
    }
    whole
}

#[test]
fn damaged_images_end_in_an_error_or_in_bytes() {
    let grains: Vec<u32> = (0..40).chain([300, 511, 512, 700, 1500]).collect();
    let bases = [hosted(SECTORS, &grains), stream(SECTORS, &grains)];
    let (mut survived, mut slowest) = (0, Duration::ZERO);
    for seed in 1..=IMAGES {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bytes = mutate(&bases[usize::try_from(seed % 2).unwrap()], &mut random);
        let start = Instant::now();
        survived += u64::from(survives(&bytes, &mut random));
        slowest = slowest.max(start.elapsed());
        assert!(
            start.elapsed() < MAX_TIME,
            "image {seed} took {:?}",
            start.elapsed()
        );
    }
    eprintln!("{survived} of {IMAGES} damaged images were read, the slowest took {slowest:?}");
    assert!(
        survived > 0 && survived < IMAGES,
        "the damage is of one kind only: {survived} survived"
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MAX_RSS_KIB, "peak memory {peak} KiB");
}

#[test]
fn damaged_descriptors_end_in_an_error_or_in_a_disk() {
    use image::formats::vmdk::{Descriptor, Reader};
    use image::{FileRange, Files};

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a-flat.vmdk"), [1; 8192]).unwrap();
    std::fs::write(folder.path().join("a-s002.vmdk"), hosted(1000, &[1]).bytes).unwrap();
    let path = folder.path().join("a.vmdk");
    let text = b"# Disk DescriptorFile\nversion=1\nencoding=\"Shift_JIS\"\nCID=12345678\nparentCID=ffffffff\n\
        createType=\"custom\"\nRW 9 FLAT \"a-flat.vmdk\" 3\nRW 1000 SPARSE \"a-s002.vmdk\"\nRW 7 ZERO\n\
        parentFileNameHint=\"\"\nddb.adapterType = \"ide\"\n";
    let words: &[&[u8]] = &[
        b"18446744073709551615",
        b"\"",
        b"\r",
        b"parentFileNameHint=\"a.vmdk\"\n",
        b"\xff\xfe",
        b"\0",
    ];
    let mut survived = 0;
    for seed in 1..=2000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = text.to_vec();
        for _ in 0..=random.below(3) {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => {
                    bytes.remove(at);
                }
                2 => {
                    let word = words[usize::try_from(random.below(words.len() as u64)).unwrap()];
                    bytes.splice(at..at, word.iter().copied());
                }
                _ => bytes[at] = b"0 =\"9"[usize::try_from(random.below(5)).unwrap()],
            }
        }
        let _ = Descriptor::parse(&bytes);
        std::fs::write(&path, &bytes).unwrap();
        let Ok(reader) = Reader::open(FileRange::open(&path).unwrap(), Files::beside(&path)) else {
            continue;
        };
        let size = reader.virtual_size().min(1 << 20);
        let walked = extents(&reader, 0..size)
            .take(1000)
            .all(|extent| extent.is_ok());
        let mut buf = vec![0; usize::try_from(size).unwrap()];
        survived += u64::from(walked && reader.read_at(&mut buf, 0).is_ok());
    }
    assert!(survived > 0 && survived < 2000, "{survived}");
}
