//! Disks of 2 TiB open at once and are walked in seconds, in little memory.

use std::time::{Duration, Instant};

use image::{BlockSource, ExtentKind, FileRange, extents};

use crate::builder::{GRAIN_LEN, GRAIN_SECTORS, grain_content, hosted, stream};
use crate::support::{has_qemu, open_bytes, run};

const SECTORS: u64 = 2 << 31;

#[test]
fn a_sparse_stream_of_two_tib_is_walked_at_once() {
    let last = u32::try_from(SECTORS / GRAIN_SECTORS).unwrap() - 1;
    for damage in [false, true] {
        let mut image = stream(SECTORS, &[0, 1000, last]);
        if damage {
            image.put(image.footer_at, &[0; 8]);
        }
        let start = Instant::now();
        let reader = open_bytes(&image.bytes).unwrap();
        let found: Vec<_> = extents(&reader, 0..reader.virtual_size())
            .map(Result::unwrap)
            .collect();
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        let data: Vec<_> = found
            .iter()
            .filter(|extent| extent.kind == ExtentKind::Data)
            .collect();
        assert_eq!(data.len(), 3);
        assert_eq!(data[2].offset, u64::from(last) * GRAIN_LEN as u64);
        assert_eq!(found.len(), 5);
        let mut buf = vec![0; GRAIN_LEN];
        reader.read_at(&mut buf, data[2].offset).unwrap();
        assert!(buf == grain_content(last));
    }
}

#[test]
fn tables_in_a_row_are_walked_in_seconds() {
    if !has_qemu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.vmdk");
    run(
        "qemu-img",
        &["create", "-q", "-f", "vmdk", path.to_str().unwrap(), "2T"],
    );
    run(
        "qemu-io",
        &[
            "-f",
            "vmdk",
            "-c",
            "write -P 9 1500G 64k",
            path.to_str().unwrap(),
        ],
    );
    let start = Instant::now();
    let source = image::formats::open_range(
        FileRange::open(&path).unwrap(),
        &image::formats::OpenOptions::with_format(None),
    )
    .unwrap();
    let opened = start.elapsed();
    assert!(opened < Duration::from_secs(1), "opening took {opened:?}");
    let data: Vec<_> = extents(source.as_ref(), 0..source.virtual_size())
        .map(Result::unwrap)
        .filter(|extent| extent.kind == ExtentKind::Data)
        .collect();
    eprintln!(
        "2 TiB: opened in {opened:?}, walked in {:?}",
        start.elapsed() - opened
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(data.len(), 1);
    assert_eq!((data[0].offset, data[0].len), (1500 << 30, 65536));
}

#[test]
fn a_full_table_is_one_extent() {
    let grains: Vec<u32> = (0..512).collect();
    let reader = open_bytes(&hosted(513 * GRAIN_SECTORS, &grains).bytes).unwrap();
    let extent = reader.extent_at(4096, u64::MAX).unwrap();
    assert_eq!(
        (extent.len, extent.kind),
        ((32 << 20) - 4096, ExtentKind::Data)
    );
    let clipped = reader.extent_at(4096, 1000).unwrap();
    assert_eq!((clipped.offset, clipped.len), (4096, 1000));
    let tail = reader.extent_at(32 << 20, u64::MAX).unwrap();
    assert_eq!((tail.len, tail.kind), (65536, ExtentKind::Unallocated));
}
