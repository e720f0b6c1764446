//! Compares a reader with the raw bytes that it must give.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use image::formats::vmdk::Reader;
use image::{BlockSource, ExtentKind, FileRange, Files, extents};
use rustix::fs::SeekFrom;

use crate::support::{Random, run};

const CHUNK_LEN: usize = 1 << 20;

/// Opens `vmdk` and compares all of it with `raw`, by large reads, by odd reads, by small reads from several threads,
/// and by extents.
pub(crate) fn assert_same(vmdk: &Path, raw: &Path) -> Reader {
    let reader = Reader::open(FileRange::open(vmdk).unwrap(), Files::beside(vmdk)).unwrap();
    assert_reader_same(&reader, raw);
    reader
}

/// The same for a reader that is open.
pub(crate) fn assert_reader_same(reader: &Reader, raw: &Path) {
    let raw_file = File::open(raw).unwrap();
    assert_eq!(
        reader.virtual_size(),
        raw_file.metadata().unwrap().len(),
        "{reader:?}"
    );
    sequential(reader, &raw_file);
    odd_reads(reader, &raw_file, 7, 300, 300_000);
    std::thread::scope(|scope| {
        for seed in 1..5 {
            let raw_file = &raw_file;
            scope.spawn(move || odd_reads(reader, raw_file, seed, 500, 4096));
        }
    });
    check_extents(reader, &raw_file);
}

/// Compares with what qemu-img makes of the same file.
pub(crate) fn assert_same_as_qemu(vmdk: &Path, scratch: &Path) -> Reader {
    let raw = scratch.join("by-qemu.raw");
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "vmdk",
            "-O",
            "raw",
            vmdk.to_str().unwrap(),
            raw.to_str().unwrap(),
        ],
    );
    assert_same(vmdk, &raw)
}

fn sequential(reader: &Reader, raw: &File) {
    let (mut ours, mut theirs) = (vec![1; CHUNK_LEN], vec![2; CHUNK_LEN]);
    let mut offset = 0;
    while offset < reader.virtual_size() {
        let len = usize::try_from(reader.virtual_size() - offset)
            .unwrap()
            .min(CHUNK_LEN);
        // Of what both call a hole, one MiB in 64 is enough.
        let extent = reader.extent_at(offset, len as u64).unwrap();
        let hole =
            extent.kind.reads_zero() && extent.len == len as u64 && is_hole(raw, offset, len);
        if !hole || (offset >> 20) % 64 == 0 {
            reader.read_at(&mut ours[..len], offset).unwrap();
            raw.read_exact_at(&mut theirs[..len], offset).unwrap();
            assert!(
                ours[..len] == theirs[..len],
                "{reader:?} differs in the MiB at {offset:#x}"
            );
        }
        offset += len as u64;
    }
}

fn is_hole(file: &File, offset: u64, len: usize) -> bool {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data >= offset + len as u64,
        Err(error) => error == rustix::io::Errno::NXIO,
    }
}

fn odd_reads(reader: &Reader, raw: &File, seed: u64, count: usize, max_len: u64) {
    let size = reader.virtual_size();
    let mut random = Random(seed);
    for _ in 0..count {
        let offset = random.below(size);
        let len = usize::try_from(random.below(max_len.min(size - offset)) + 1).unwrap();
        let (mut ours, mut theirs) = (vec![1; len], vec![2; len]);
        reader.read_at(&mut ours, offset).unwrap();
        raw.read_exact_at(&mut theirs, offset).unwrap();
        assert!(ours == theirs, "{len} bytes at {offset:#x} differ");
    }
}

/// Extents cover the disk without gaps, and those that read zero are zero in `raw`.
fn check_extents(reader: &Reader, raw: &File) {
    let mut next = 0;
    let mut bytes = vec![0; CHUNK_LEN];
    for extent in extents(reader, 0..reader.virtual_size()) {
        let extent = extent.unwrap();
        assert_eq!(extent.offset, next);
        assert!(extent.len > 0);
        next += extent.len;
        if !extent.kind.reads_zero() {
            continue;
        }
        let mut at = extent.offset;
        while at < next {
            let len = usize::try_from(next - at).unwrap().min(CHUNK_LEN);
            if !is_hole(raw, at, len) {
                raw.read_exact_at(&mut bytes[..len], at).unwrap();
                assert!(
                    bytes[..len].iter().all(|byte| *byte == 0),
                    "data in {extent:?}"
                );
            }
            at += len as u64;
        }
    }
    assert_eq!(next, reader.virtual_size());
}

/// Bytes of each kind.
pub(crate) fn bytes_of(reader: &Reader, kind: ExtentKind) -> u64 {
    let all = extents(reader, 0..reader.virtual_size()).map(|extent| extent.unwrap());
    all.filter(|extent| extent.kind == kind)
        .map(|extent| extent.len)
        .sum()
}
