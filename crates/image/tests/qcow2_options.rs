//! Every option of the qcow2 writer: the images are clean to `qemu-img check`, equal to qemu-img and to our reader,
//! and clean to our own check.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use image::formats::{OpenOptions, OutputFormat, WriteOptions, create_with, open};
use image::{BlockSink, ExtentKind, SinkStats};
use types::CancelToken;

use qcow2_support::*;

fn options(compress: bool, text: &str) -> WriteOptions {
    let pairs: Vec<_> = text
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    WriteOptions::parse(OutputFormat::Qcow2, compress, &pairs).unwrap()
}

/// Writes a disk in chunks from two threads.
fn write(path: &Path, disk: &[u8], options: &WriteOptions) -> SinkStats {
    let sink = create_with(path, disk.len() as u64, options).unwrap();
    write_chunks(&*sink, disk);
    sink.finish().unwrap()
}

fn write_chunks(sink: &dyn BlockSink, disk: &[u8]) {
    let chunk = usize::try_from(sink.granularity().max(256 << 10)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                for (number, part) in disk.chunks(chunk).enumerate() {
                    if number % 2 == thread {
                        sink.write_at(part, (number * chunk) as u64).unwrap();
                    }
                }
            });
        }
    });
}

fn assert_sound(directory: &Path, image: &str, disk: &[u8], what: &str) {
    fs::write(directory.join("expected.raw"), disk).unwrap();
    let said = qemu_img(directory, &["check", "-f", "qcow2", image]);
    assert!(said.contains("No errors were found"), "{what}: {said}");
    let args = ["compare", "-f", "raw", "-F", "qcow2", "expected.raw", image];
    assert_eq!(
        qemu_img(directory, &args).trim(),
        "Images are identical.",
        "{what}"
    );
    let source = open(&directory.join(image), &OpenOptions::default()).unwrap();
    assert_reads(&*source, disk, &mut Rng::new(7));
    let report = source.check_metadata(&CancelToken::new()).unwrap().unwrap();
    assert!(report.is_clean(), "{what}: {report:?}");
}

#[test]
fn every_shape_is_sound() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(51);
    let full = {
        let mut disk = vec![0; 2 << 20];
        rng.fill(&mut disk);
        disk
    };
    let disks = [
        Vec::new(),
        vec![0; 1 << 20],
        full,
        patchwork(&mut rng, (5 << 20) + 1536),
        vec![0x55; (3 << 20) + 512],
    ];
    let mut shapes: Vec<(bool, String)> = Vec::new();
    for cluster in ["512", "4k", "64k", "2M"] {
        for compression in ["zlib", "zstd"] {
            shapes.push((
                true,
                format!("cluster_size={cluster},compression_type={compression}"),
            ));
        }
    }
    for (compress, shape) in [
        (false, "extended_l2=on"),
        (false, "extended_l2=on,cluster_size=16k"),
        (false, "extended_l2=on,cluster_size=2M"),
        (
            true,
            "extended_l2=on,cluster_size=32k,compression_type=zstd",
        ),
        (true, "extended_l2=on"),
        (false, "lazy_refcounts=on,compression_type=zstd"),
        (false, "refcount_bits=32,cluster_size=1k"),
        (true, "refcount_bits=64"),
        (false, "compat=0.10"),
        (true, "compat=0.10,cluster_size=8k"),
        (false, "preallocation=metadata"),
        (false, "preallocation=metadata,extended_l2=on"),
        (false, "preallocation=falloc,cluster_size=16k"),
        (false, "preallocation=full"),
    ] {
        shapes.push((compress, shape.to_owned()));
    }
    for (compress, shape) in shapes {
        let options = options(compress, &shape);
        for disk in &disks {
            let what = format!("{shape}, compressed {compress}, {} bytes", disk.len());
            let path = here.join("disk.qcow2");
            let stats = write(&path, disk, &options);
            assert_eq!(fs::metadata(&path).unwrap().len(), stats.file_len, "{what}");
            assert_sound(here, "disk.qcow2", disk, &what);
            if shape.contains("falloc") || shape.contains("full") {
                assert!(
                    fs::metadata(&path).unwrap().blocks() * 512 >= stats.file_len,
                    "{what}"
                );
            }
            fs::remove_file(&path).unwrap();
        }
    }
}

/// What qemu-img says of the image is what was asked for.
#[test]
fn qemu_sees_the_options() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for (shape, words) in [
        ("lazy_refcounts=on", "lazy refcounts: true"),
        ("compression_type=zstd", "compression type: zstd"),
        ("extended_l2=on", "extended l2: true"),
        ("refcount_bits=32", "refcount bits: 32"),
        ("compat=0.10", "compat: 0.10"),
        ("cluster_size=1M", "cluster_size: 1048576"),
    ] {
        write(
            &here.join("disk.qcow2"),
            &[1; 1 << 20],
            &options(false, shape),
        );
        let said = qemu_img(here, &["info", "-f", "qcow2", "disk.qcow2"]);
        assert!(said.contains(words), "{shape}: {said}");
        fs::remove_file(here.join("disk.qcow2")).unwrap();
    }
}

/// A linked clone: what is written hides the backing file, zeroes as well; what is not written shows it.
#[test]
fn a_clone_shows_its_backing_file_where_nothing_was_written() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(52);
    let mut base = vec![0; (4 << 20) + 512];
    rng.fill(&mut base);
    fs::write(here.join("base.raw"), &base).unwrap();
    for (compress, shape) in [
        (false, "cluster_size=64k"),
        (true, "cluster_size=64k"),
        (false, "extended_l2=on"),
        (true, "extended_l2=on,cluster_size=16k"),
        (false, "compat=0.10"),
        (true, "compat=0.10"),
        (false, "cluster_size=512"),
    ] {
        let path = here.join("clone.qcow2");
        let options = options(
            compress,
            &format!("{shape},backing_file=base.raw,backing_fmt=raw"),
        );
        let sink = create_with(&path, base.len() as u64, &options).unwrap();
        let top = patchwork(&mut rng, 1 << 20);
        sink.write_at(&top, 1 << 20).unwrap();
        // The last, short cluster is zero now.
        let cluster = usize::try_from(sink.granularity()).unwrap();
        let last = base.len() / cluster * cluster;
        let last = if last == base.len() {
            last - cluster
        } else {
            last
        };
        sink.write_at(&vec![0; base.len() - last], last as u64)
            .unwrap();
        sink.finish().unwrap();
        let mut expected = base.clone();
        expected[1 << 20..2 << 20].copy_from_slice(&top);
        expected[last..].fill(0);
        assert_sound(here, "clone.qcow2", &expected, shape);
        let said = qemu_img(here, &["info", "clone.qcow2"]);
        assert!(
            said.contains("backing file: base.raw") && said.contains("backing file format: raw"),
            "{said}"
        );
        fs::remove_file(path).unwrap();
    }
}

/// No worse than qemu-img, whose matches reach 4 KiB; and packed tight when plain clusters come in between.
#[test]
fn compressed_images_are_no_larger_than_those_of_qemu() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(53);
    // Text made of words, then noise, in stretches of 100 KiB.
    let words: Vec<String> = (0..3000)
        .map(|_| format!("{:x} ", rng.next() >> rng.below(50)))
        .collect();
    let mut disk = Vec::new();
    while disk.len() < 12 << 20 {
        let end = disk.len() + (100 << 10);
        while disk.len() < end {
            disk.extend_from_slice(words[rng.index(words.len())].as_bytes());
        }
        let mut noise = vec![0; 100 << 10];
        rng.fill(&mut noise);
        disk.extend_from_slice(&noise);
    }
    disk.resize(12 << 20, 0);
    fs::write(here.join("disk.raw"), &disk).unwrap();
    for compression in ["zlib", "zstd"] {
        let shape = format!("compression_type={compression}");
        let stats = write(&here.join("disk.qcow2"), &disk, &options(true, &shape));
        assert_sound(here, "disk.qcow2", &disk, &shape);
        let args = [
            "convert",
            "-c",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            &shape,
            "disk.raw",
            "theirs.qcow2",
        ];
        qemu_img(here, &args);
        let theirs = fs::metadata(here.join("theirs.qcow2")).unwrap().len();
        println!("{shape}: {} against {theirs}", stats.file_len);
        assert!(
            stats.file_len <= theirs + (256 << 10),
            "{} against {theirs}",
            stats.file_len
        );
        fs::remove_file(here.join("disk.qcow2")).unwrap();
    }
}

#[test]
fn subclusters_of_zeroes_are_no_data() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let mut disk = vec![0; 1 << 20];
    disk[200 << 10..204 << 10].fill(1);
    write(&path, &disk, &options(false, "extended_l2=on"));
    let source = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(data_bytes(&*source), 4 << 10);
    assert_eq!(
        source.extent_at(0, 1 << 20).unwrap().kind,
        ExtentKind::Unallocated
    );
}

/// 10 TiB with a little in it: time and memory follow what is used, packed or not.
#[test]
fn ten_tebibytes_cost_what_is_in_them() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.qcow2");
    let size = 10u64 << 40;
    for compress in [false, true] {
        let start = std::time::Instant::now();
        let sink = create_with(&path, size, &options(compress, "")).unwrap();
        let data = vec![3; 1 << 20];
        for number in 0..64 {
            sink.write_at(&data, number * (160 << 30)).unwrap();
        }
        sink.finish().unwrap();
        let source = open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(data_bytes(&*source), 64 << 20);
        let report = source.check_metadata(&CancelToken::new()).unwrap().unwrap();
        assert!(report.is_clean(), "{report:?}");
        let said = qemu_img(directory.path(), &["check", "-f", "qcow2", "big.qcow2"]);
        assert!(said.contains("No errors were found"), "{said}");
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
        fs::remove_file(&path).unwrap();
    }
}
