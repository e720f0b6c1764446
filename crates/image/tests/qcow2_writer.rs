//! Images that the qcow2 writer makes, read by qemu-img and by our reader.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use image::formats::{OutputFormat, create, qcow2};
use image::{BlockSink, ErrorKind, FileRange, Files, Preallocation, SinkStats};

use qcow2_support::*;

fn writer(
    path: &Path,
    len: u64,
    cluster_size: u32,
    preallocation: Preallocation,
) -> Box<dyn BlockSink> {
    let options = qcow2::Options {
        cluster_size,
        preallocation: preallocation.into(),
        ..qcow2::Options::default()
    };
    Box::new(qcow2::Writer::create(path, len, options).unwrap())
}

fn open(path: &Path) -> qcow2::Reader {
    qcow2::Reader::open(FileRange::open(path).unwrap(), Files::beside(path)).unwrap()
}

/// Writes a disk in chunks of some clusters, in random order.
fn write_shuffled(sink: &dyn BlockSink, disk: &[u8], rng: &mut Rng) {
    let cluster = usize::try_from(sink.granularity()).unwrap();
    let mut chunks = Vec::new();
    let mut start = 0;
    while start < disk.len() {
        let end = disk.len().min(start + cluster * (1 + rng.index(9)));
        chunks.push(start..end);
        start = end;
    }
    for at in (1..chunks.len()).rev() {
        chunks.swap(at, rng.index(at + 1));
    }
    for chunk in chunks {
        sink.write_at(&disk[chunk.clone()], chunk.start as u64)
            .unwrap();
    }
}

/// `qemu-img check` finds nothing at all, neither errors nor leaks.
fn check_clean(directory: &Path, image: &str) {
    let said = qemu_img(directory, &["check", "-f", "qcow2", image]);
    assert!(said.contains("No errors were found"), "{said}");
}

/// `qemu-img compare` finds the same bytes and the same length.
fn assert_compares(directory: &Path, raw: &str, image: &str) {
    let said = qemu_img(
        directory,
        &["compare", "-f", "raw", "-F", "qcow2", raw, image],
    );
    assert_eq!(said.trim(), "Images are identical.");
}

/// Both readers see `disk`, and the file is as long as the writer says.
fn assert_holds(directory: &Path, image: &str, disk: &[u8], stats: SinkStats) {
    fs::write(directory.join("expected.raw"), disk).unwrap();
    check_clean(directory, image);
    assert_compares(directory, "expected.raw", image);
    assert_eq!(
        fs::metadata(directory.join(image)).unwrap().len(),
        stats.file_len
    );
    assert_reads(
        &open(&directory.join(image)),
        disk,
        &mut Rng::new(stats.file_len),
    );
}

#[test]
fn every_cluster_size_holds_disks_of_every_length() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(1);
    for bits in 9..=21 {
        let cluster = 1u32 << bits;
        for len in [0, 512, (1 << 20) - 512, (5 << 20) + 1536] {
            if len % 1024 == 512 && bits % 4 != 1 && len < 1 << 20 {
                continue;
            }
            let disk = patchwork(&mut rng, len);
            let path = directory.path().join("disk.qcow2");
            let sink = writer(&path, len as u64, cluster, Preallocation::Sparse);
            assert_eq!(
                (sink.virtual_size(), sink.granularity()),
                (len as u64, u64::from(cluster))
            );
            write_shuffled(&*sink, &disk, &mut rng);
            let stats = sink.finish().unwrap();
            let stored = disk
                .chunks(cluster as usize)
                .filter(|unit| !image::is_zero(unit));
            assert_eq!(
                stats.data_bytes,
                stored.map(|unit| unit.len() as u64).sum::<u64>()
            );
            assert_holds(directory.path(), "disk.qcow2", &disk, stats);
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_preallocated_image_is_allocated_and_mapped() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(2);
    for (cluster, len) in [
        (512, (1 << 20) + 512),
        (65536, 0),
        (65536, 512),
        (65536, (7 << 20) + 512),
        (2 << 20, 9 << 20),
    ] {
        let disk = patchwork(&mut rng, len);
        let path = directory.path().join("disk.qcow2");
        let sink = writer(&path, len as u64, cluster, Preallocation::Falloc);
        let allocated = fs::metadata(&path).unwrap();
        write_shuffled(&*sink, &disk, &mut rng);
        let stats = sink.finish().unwrap();
        assert_eq!(
            stats.file_len,
            allocated.len(),
            "the metadata were counted in"
        );
        assert!(allocated.blocks() * 512 >= stats.file_len);
        assert_holds(directory.path(), "disk.qcow2", &disk, stats);
        let clusters = len.div_ceil(cluster as usize);
        let said = qemu_img(directory.path(), &["check", "--output=json", "disk.qcow2"]);
        if clusters > 0 {
            assert!(
                said.contains(&format!("\"allocated-clusters\": {clusters}")),
                "{said}"
            );
        }
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn two_tebibytes_cost_what_is_in_them() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.qcow2");
    let size = 2u64 << 40;
    let sink = create(&path, OutputFormat::Qcow2, size, Preallocation::Sparse).unwrap();
    let expected = File::create_new(directory.path().join("big.raw")).unwrap();
    expected.set_len(size).unwrap();
    let mut rng = Rng::new(3);
    let mut data = vec![0; 256 << 10];
    for at in [0, 1 << 30, (1 << 40) - (128 << 10), size - (256 << 10)] {
        rng.fill(&mut data);
        data[65536..131_072].fill(0);
        sink.write_at(&data, at).unwrap();
        expected.write_all_at(&data, at).unwrap();
    }
    let stats = sink.finish().unwrap();
    assert_eq!(stats.data_bytes, 4 * (192 << 10));
    assert!(stats.file_len < 2 << 20, "{stats:?}");
    check_clean(directory.path(), "big.qcow2");
    assert_compares(directory.path(), "big.raw", "big.qcow2");
    let source = open(&path);
    assert_eq!(data_bytes(&source), stats.data_bytes);
}

#[test]
fn threads_write_at_the_same_time() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for cluster in [4096, 65536] {
        let mut rng = Rng::new(4);
        let disk = patchwork(&mut rng, 24 << 20);
        let path = directory.path().join("disk.qcow2");
        let sink = writer(&path, disk.len() as u64, cluster, Preallocation::Sparse);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (sink, disk) = (&sink, &disk);
                scope.spawn(move || {
                    for (number, chunk) in disk.chunks(192 << 10).enumerate() {
                        if number % 4 == thread {
                            sink.write_at(chunk, number as u64 * (192 << 10)).unwrap();
                        }
                    }
                });
            }
        });
        let stats = sink.finish().unwrap();
        assert_holds(directory.path(), "disk.qcow2", &disk, stats);
        fs::remove_file(path).unwrap();
    }
}

/// 20000 L2 tables are touched twice, in an order in which each leaves memory between its two writes.
#[test]
fn tables_that_left_memory_are_continued() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let span = 32 << 10;
    let mut disk = vec![0; 20_000 * span];
    let path = directory.path().join("disk.qcow2");
    let sink = writer(&path, disk.len() as u64, 512, Preallocation::Sparse);
    let mut rng = Rng::new(5);
    for cluster in [3, 60] {
        for table in 0..20_000 {
            let at = table * span + cluster * 512;
            rng.fill(&mut disk[at..at + 512]);
            sink.write_at(&disk[at..at + 512], at as u64).unwrap();
        }
    }
    let stats = sink.finish().unwrap();
    assert_eq!(stats.data_bytes, 40_000 * 512);
    assert!(
        stats.file_len < 40_000 * 512 + 20_000 * 512 + (2 << 20),
        "each table has one place: {stats:?}"
    );
    assert_holds(directory.path(), "disk.qcow2", &disk, stats);
}

#[test]
fn an_unfinished_image_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let sink = create(&path, OutputFormat::Qcow2, 1 << 30, Preallocation::Sparse).unwrap();
    sink.write_at(&[1; 1 << 20], 0).unwrap();
    drop(sink);
    let error = qcow2::Reader::open(FileRange::open(&path).unwrap(), Files::none()).unwrap_err();
    assert!(
        error.to_string().contains("expected the qcow2 magic"),
        "{error}"
    );
    if have("qemu-img") {
        let out = attempt(
            directory.path(),
            "qemu-img",
            &["info", "-f", "qcow2", "disk.qcow2"],
        );
        assert!(!out.status.success());
    }
}

#[test]
fn wrong_uses_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let kind = |size, cluster_size| {
        let options = qcow2::Options {
            cluster_size,
            ..qcow2::Options::default()
        };
        qcow2::Writer::create(&path, size, options)
            .unwrap_err()
            .kind()
    };
    for cluster in [0, 1, 256, 513, 65_535, 4 << 20] {
        assert_eq!(kind(1 << 20, cluster), ErrorKind::Usage);
    }
    assert_eq!(kind(1000, 65_536), ErrorKind::Usage);
    assert_eq!(kind((128 << 30) + 512, 512), ErrorKind::Limit, "L1 table");
    assert_eq!(kind(128 << 30, 512), ErrorKind::Limit, "refcount table");
    assert!(!path.exists(), "refused before the file is made");
    let sink = create(&path, OutputFormat::Qcow2, 100 << 10, Preallocation::Sparse).unwrap();
    assert_eq!(kind(512, 65_536), ErrorKind::Io, "exists");
    for (offset, len) in [
        (512, 65_536),
        (0, 512),
        (65_536, 65_536),
        (131_072, 512),
        (u64::MAX - 65_535, 65_536),
    ] {
        assert_eq!(
            sink.write_at(&vec![1; len], offset).unwrap_err().kind(),
            ErrorKind::Usage
        );
    }
    sink.write_at(&[], 0).unwrap();
    sink.write_at(&[1; 36 << 10], 65_536).unwrap();
    assert_eq!(sink.finish().unwrap().data_bytes, 36 << 10);
}

/// Reads of a part of a file need no path, unless there is a backing file.
#[test]
fn an_image_inside_another_file_is_read_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let mut rng = Rng::new(6);
    let disk = patchwork(&mut rng, 3 << 20);
    let sink = create(
        &path,
        OutputFormat::Qcow2,
        disk.len() as u64,
        Preallocation::Sparse,
    )
    .unwrap();
    sink.write_at(&disk, 0).unwrap();
    sink.finish().unwrap();
    let image = fs::read(&path).unwrap();
    let archive = directory.path().join("archive");
    fs::write(&archive, [&[0xff; 1536][..], &image, &[0xff; 999]].concat()).unwrap();
    let range = FileRange::part(
        Arc::new(File::open(&archive).unwrap()),
        1536,
        image.len() as u64,
        "member",
    )
    .unwrap();
    assert_reads(
        &qcow2::Reader::open(range, Files::none()).unwrap(),
        &disk,
        &mut rng,
    );
}
