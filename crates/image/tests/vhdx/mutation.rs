//! Images with random damage, checksums put right again: no panic, no endless loop, bounded memory.

use std::time::{Duration, Instant};

use image::formats::vhdx::Reader;
use image::{BlockSource, FileRange, Files, extents};
use types::CancelToken;

use crate::builder::{
    BAT, Change, Disk, Entry, HEADERS, LOG, METADATA, MIB, TABLES, put, put_in_log, reseal,
    set_dirty,
};
use crate::support::Random;

const IMAGES: u64 = 1500;
const MAX_TIME: Duration = Duration::from_secs(5);
/// Values that parsers get wrong.
const EVIL: [u64; 11] = [
    0,
    1,
    7,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 20,
    1 << 44,
    1 << 63,
    u64::MAX,
];

fn disk() -> Disk {
    let mut disk = Disk::new(MIB, 512, 6000 * MIB as u64 + 512);
    for block in [0, 3, 4095, 4096, 5999] {
        disk.blocks.insert(block, (6, vec![1; MIB]));
    }
    disk.blocks.insert(6000, (2, Vec::new()));
    disk
}

fn bases(directory: &std::path::Path) -> Vec<Vec<u8>> {
    let clean = disk();
    std::fs::write(directory.join("p.vhdx"), clean.build()).unwrap();
    let mut child = disk().child_of(r".\p.vhdx", clean.identity);
    for block in [1, 2, 4097] {
        child.blocks.insert(block, (7, vec![2; MIB]));
        child
            .present
            .extend((block * 2048 + 3..block * 2048 + 2000).step_by(3));
    }
    let mut dirty = clean.build();
    let (len, mut at) = (dirty.len() as u64, 0xff000);
    for number in 5..9 {
        let changes = vec![
            Change::Page {
                offset: (BAT + 4096) as u64,
                bytes: vec![0; 4096],
            },
            Change::Zero {
                offset: len - 8192,
                len: 4096,
            },
        ];
        let entry = Entry {
            number,
            tail: 0xff000,
            flushed: len,
            last: len,
            changes,
        }
        .build();
        put_in_log(&mut dirty, at, &entry);
        at = (at + entry.len()) % MIB;
    }
    set_dirty(&mut dirty);
    vec![clean.build(), child.build(), dirty]
}

fn mutate(base: &[u8], random: &mut Random) -> Vec<u8> {
    let mut image = base.to_vec();
    let targets = [
        (0, 600),
        (HEADERS[0], 80),
        (HEADERS[1], 80),
        (TABLES[0], 80),
        (METADATA, 256),
        (METADATA + (64 << 10), 300),
        (METADATA + (64 << 10), 40),
        (BAT, 64),
        (BAT + 4096 * 8, 64),
        (LOG, 16 << 10),
        (LOG + 0xff000, 4096),
        (LOG, 128),
        (LOG + 0xff000, 128),
    ];
    for _ in 0..=random.below(3) {
        let (start, len) = targets[random.below(targets.len() as u64) as usize];
        let at = start + random.below(len) as usize;
        match random.below(4) {
            0 => image[at] ^= 1 << random.below(8),
            1 => image[at] = random.next() as u8,
            2 => {
                let width = [1, 2, 4, 8][random.below(4) as usize];
                let evil = EVIL[random.below(11) as usize].to_le_bytes();
                put(&mut image, at / 4 * 4, &evil[..width]);
            }
            _ => {
                let from = random.below(image.len() as u64 - 64) as usize;
                image.copy_within(from..from + 64, at);
            }
        }
    }
    if random.below(8) != 0 {
        for at in HEADERS {
            reseal(&mut image, at, 4096);
        }
        let first = image[TABLES[0]..TABLES[0] + (64 << 10)].to_vec();
        put(&mut image, TABLES[1], &first);
        for at in TABLES {
            reseal(&mut image, at, 64 << 10);
        }
        for at in [0xff000, 0x2000, 0x4000, 0x6000].map(|at| LOG + at % MIB) {
            let len = u32::from_le_bytes(image[at + 8..at + 12].try_into().unwrap()) as usize;
            if &image[at..at + 4] == b"loge" && len > 64 && at + len <= LOG + MIB {
                reseal(&mut image, at, len);
            }
        }
    }
    if random.below(10) == 0 {
        image.truncate(random.below(image.len() as u64) as usize);
    }
    image
}

/// Opens and reads; true when nothing was refused.
fn survives(image: Vec<u8>, directory: &std::path::Path, random: &mut Random) -> bool {
    let label = directory.join("c.vhdx");
    let range = FileRange::from_store(std::sync::Arc::new(image), label.to_str().unwrap());
    let Ok(reader) = Reader::open(range, Files::beside(&label)) else {
        return false;
    };
    let size = reader.virtual_size();
    let mut whole = extents(&reader, 0..size)
        .take(5000)
        .all(|extent| extent.is_ok());
    let _ = (
        reader.info(),
        reader.check_metadata(&CancelToken::new()).unwrap(),
    );
    let mut buf = vec![0; 300 << 10];
    for _ in 0..8 {
        if size == 0 {
            break;
        }
        let offset = random.below(size.min(7 << 30));
        let len = (size - offset).min(random.below(buf.len() as u64) + 1) as usize;
        whole &= reader.read_at(&mut buf[..len], offset).is_ok();
        let offset = random.below(size.min(5 << 20));
        let len = (size - offset).min(4096) as usize;
        whole &= reader.read_at(&mut buf[..len], offset).is_ok();
    }
    whole
}

#[test]
fn damaged_images_end_in_an_error_or_in_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let bases = bases(scratch.path());
    let (mut survived, mut slowest) = (0, Duration::ZERO);
    for base in &bases {
        assert!(survives(base.clone(), scratch.path(), &mut Random(1)));
    }
    for seed in 1..=IMAGES {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let image = mutate(&bases[(seed % 3) as usize], &mut random);
        let start = Instant::now();
        survived += u64::from(survives(image, scratch.path(), &mut random));
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
        "the damage is of one kind only"
    );
}
