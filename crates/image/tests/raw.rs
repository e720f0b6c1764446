//! The raw reader and writer: holes, ends within a sector, parts of a file, preallocation.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "unwrap is how a test fails; a skip is loud"
)]

mod qcow2_support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use image::formats::{OutputFormat, create, raw};
use image::{BlockSource, ErrorKind, FileRange, Preallocation};

use qcow2_support::*;

fn open(path: &Path) -> raw::Reader {
    raw::Reader::open(FileRange::open(path).unwrap()).unwrap()
}

#[test]
fn a_sparse_file_reads_back_and_shows_its_holes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse.raw");
    let file = File::create_new(&path).unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(&[7; 4096], 1 << 20).unwrap();
    file.write_all_at(&[9; 100], (8 << 20) - 100).unwrap();
    let mut expected = vec![0; 8 << 20];
    expected[1 << 20..(1 << 20) + 4096].fill(7);
    expected[(8 << 20) - 100..].fill(9);
    let source = open(&path);
    assert_reads(&source, &expected, &mut Rng::new(1));
    assert!(
        data_bytes(&source) <= 256 << 10,
        "holes are not seen: {}",
        data_bytes(&source)
    );
}

#[test]
fn an_end_within_a_sector_is_filled_up_with_zeroes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("odd.raw");
    for len in [0usize, 1, 511, 512, 513, 70_001] {
        let mut expected = vec![0; len];
        Rng::new(2).fill(&mut expected);
        fs::write(&path, &expected).unwrap();
        expected.resize(len.next_multiple_of(512), 0);
        assert_reads(&open(&path), &expected, &mut Rng::new(3));
    }
    // The same, when a hole precedes the end.
    let file = File::create(&path).unwrap();
    file.set_len((1 << 20) + 100).unwrap();
    assert_reads(&open(&path), &vec![0; (1 << 20) + 512], &mut Rng::new(4));
}

#[test]
fn a_part_of_a_file_is_a_disk_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("whole.raw");
    let mut whole = vec![0; 4 << 20];
    Rng::new(5).fill(&mut whole[1 << 20..2 << 20]);
    let file = File::create_new(&path).unwrap();
    file.set_len(4 << 20).unwrap();
    file.write_all_at(&whole[1 << 20..2 << 20], 1 << 20)
        .unwrap();
    let file = Arc::new(File::open(&path).unwrap());
    for (start, len) in [
        (0usize, 2 << 20),
        ((1 << 20) - 700, 1 << 20),
        ((1 << 20) + 1, 2 << 20),
        (3 << 20, 1000),
    ] {
        let part = FileRange::part(Arc::clone(&file), start as u64, len as u64, "part").unwrap();
        let mut expected = whole[start..start + len].to_vec();
        expected.resize(len.next_multiple_of(512), 0);
        assert_reads(
            &raw::Reader::open(part).unwrap(),
            &expected,
            &mut Rng::new(6),
        );
    }
}

#[test]
fn what_is_written_is_sparse_and_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(7);
    for (number, len) in [0usize, 512, 4096, 4608, 3 << 20, (3 << 20) + 512]
        .into_iter()
        .enumerate()
    {
        let path = directory.path().join(format!("{number}.raw"));
        let disk = patchwork(&mut rng, len);
        let sink = create(&path, OutputFormat::Raw, len as u64, Preallocation::Sparse).unwrap();
        let chunk = usize::try_from(sink.granularity()).unwrap() * 5;
        // Back to front: order must not matter.
        for start in (0..len).step_by(chunk).rev() {
            sink.write_at(&disk[start..len.min(start + chunk)], start as u64)
                .unwrap();
        }
        let stats = sink.finish().unwrap();
        assert_eq!(stats.file_len, len as u64);
        assert_eq!(fs::read(&path).unwrap(), disk);
        let blocks = disk.chunks(4096).filter(|block| !image::is_zero(block));
        assert_eq!(
            stats.data_bytes,
            blocks.map(|block| block.len() as u64).sum::<u64>()
        );
        let used = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(
            used <= stats.data_bytes.next_multiple_of(4096) + (64 << 10),
            "{used} of {stats:?}"
        );
    }
}

#[test]
fn a_preallocated_file_has_all_its_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("full.raw");
    let sink = create(&path, OutputFormat::Raw, 5 << 20, Preallocation::Falloc).unwrap();
    sink.write_at(&[1; 8192], 4096).unwrap();
    sink.write_at(&[0; 8192], 1 << 20).unwrap();
    assert_eq!(sink.finish().unwrap().data_bytes, 8192);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 5 << 20);
    let mut expected = vec![0; 5 << 20];
    expected[4096..4096 + 8192].fill(1);
    assert_reads(&open(&path), &expected, &mut Rng::new(8));
}

#[test]
fn wrong_uses_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let kind = |size| {
        create(&path, OutputFormat::Raw, size, Preallocation::Sparse)
            .unwrap_err()
            .kind()
    };
    assert_eq!(kind(1000), ErrorKind::Usage);
    assert_eq!(kind(u64::MAX - 511), ErrorKind::Limit);
    assert!(!path.exists(), "refused before the file is made");
    let sink = create(&path, OutputFormat::Raw, 10_240, Preallocation::Sparse).unwrap();
    assert_eq!(kind(512), ErrorKind::Io, "exists");
    for (offset, len) in [
        (512, 4096),
        (0, 512),
        (8192, 4096),
        (12_288, 512),
        (u64::MAX - 4095, 4096),
    ] {
        let error = sink.write_at(&vec![1; len], offset).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{offset} {len}");
        assert!(error.to_string().contains("disk.raw"), "{error}");
    }
    sink.write_at(&[1; 2048], 8192).unwrap();
    sink.finish().unwrap();
    assert_eq!(open(&path).virtual_size(), 10_240);
}

/// A loop device over a file; `None` where there are no privileges or no free device.
struct Loop(String);

impl Loop {
    fn over(path: &Path) -> Option<Self> {
        let out = attempt(
            Path::new("/"),
            "losetup",
            &["-f", "--show", path.to_str().unwrap()],
        );
        if !out.status.success() {
            eprintln!(
                "SKIP: no loop device: {}",
                String::from_utf8_lossy(&out.stderr)
            );
            return None;
        }
        Some(Self(
            String::from_utf8(out.stdout).unwrap().trim().to_owned(),
        ))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        attempt(Path::new("/"), "losetup", &["-d", &self.0]);
    }
}

#[test]
fn a_block_device_is_written_in_place_and_read_by_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let mut rng = Rng::new(8);
    let mut old = vec![0; 8 << 20];
    rng.fill(&mut old);
    fs::write(&path, &old).unwrap();
    let Some(device) = Loop::over(&path) else {
        return;
    };
    let name = Path::new(&device.0);
    assert_reads(&open(name), &old, &mut rng);
    let size = (5 << 20) + 512;
    let disk = patchwork(&mut rng, size);
    let sink = create(name, OutputFormat::Raw, size as u64, Preallocation::Sparse).unwrap();
    let error = create(name, OutputFormat::Raw, 512, Preallocation::Sparse).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "in use: {error}");
    let step = usize::try_from(sink.granularity()).unwrap().max(1 << 20);
    for (number, part) in disk.chunks(step).enumerate() {
        // What is not written must read as zero as well.
        if !image::is_zero(part) && number != 2 {
            sink.write_at(part, (number * step) as u64).unwrap();
        }
    }
    sink.finish().unwrap();
    let mut expected = disk;
    expected[2 * step..3 * step].fill(0);
    let found = fs::read(name).unwrap();
    assert!(found[..size] == expected);
    assert!(
        found[size..] == old[size..],
        "the rest of the device is not ours"
    );
    let error = create(name, OutputFormat::Raw, 9 << 20, Preallocation::Sparse).unwrap_err();
    assert!(
        error.to_string().contains("a device of at least"),
        "{error}"
    );
}

#[test]
fn the_keys_of_raw_are_those_of_qemu_img() {
    use image::formats::{WriteOptions, create_with};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let parse = |key: &str, value: &str| {
        WriteOptions::parse(
            OutputFormat::Raw,
            false,
            &[(key.to_owned(), value.to_owned())],
        )
    };
    for (value, allocated) in [("off", false), ("falloc", true), ("full", true)] {
        let options = parse("preallocation", value).unwrap();
        create_with(&path, 1 << 20, &options)
            .unwrap()
            .finish()
            .unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(
            (meta.len(), meta.blocks() * 512 >= 1 << 20),
            (1 << 20, allocated),
            "{value}"
        );
        fs::remove_file(&path).unwrap();
    }
    for (key, value) in [("preallocation", "metadata"), ("cluster_size", "64k")] {
        assert_eq!(parse(key, value).unwrap_err().kind(), ErrorKind::Usage);
    }
    assert!(WriteOptions::parse(OutputFormat::Raw, true, &[]).is_err());
}
