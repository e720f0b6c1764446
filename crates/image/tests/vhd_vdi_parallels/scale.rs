//! Long empty disks cost what is used.

use std::time::{Duration, Instant};

use image::formats::vdi::Reader as Vdi;
use image::{BlockSource, FileRange, Files, extents};

/// Far more than it takes, on a machine that does much else.
const MAX_TIME: Duration = Duration::from_secs(2);

/// A VDI of 10 TiB in blocks of 1 MiB, all free but one.
#[test]
fn ten_tebibytes_are_walked_at_once() {
    const BLOCKS: usize = 10 << 20;
    let data = (512 + BLOCKS * 4).next_multiple_of(512);
    let mut file = vec![0xff; data + (1 << 20)];
    file[..512].fill(0);
    for (at, value) in [
        (0x40, 0xbeda_107f_u32),
        (0x44, 0x0001_0001),
        (0x48, 400),
        (0x4c, 1),
        (0x154, 512),
        (0x158, data as u32),
        (0x174, (BLOCKS >> 12) as u32),
        (0x178, 1 << 20),
        (0x180, BLOCKS as u32),
    ] {
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    file[512 + 4 * 5_000_000..516 + 4 * 5_000_000].fill(0);
    let range = FileRange::from_store(std::sync::Arc::new(file), "long.vdi");
    let start = Instant::now();
    let source = Vdi::open(range, Files::none()).unwrap();
    let opened = start.elapsed();
    assert_eq!(source.virtual_size(), 10 << 40);
    let found: Vec<_> = extents(&source, 0..10 << 40)
        .map(|extent| extent.unwrap().len >> 20)
        .collect();
    assert_eq!(found, [5_000_000, 1, BLOCKS as u64 - 5_000_001]);
    let all = start.elapsed();
    eprintln!("opened in {opened:?}, walked in {:?}", all - opened);
    assert!(all < MAX_TIME, "{all:?}");
}
