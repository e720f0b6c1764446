//! Images that qemu-img and qemu-io make, in every shape that is supported, read by our reader.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::fs;
use std::path::Path;

use image::formats::qcow2;
use image::{BlockSource, FileRange, Files};

use qcow2_support::*;

fn open(path: &Path) -> qcow2::Reader {
    qcow2::Reader::open(FileRange::open(path).unwrap(), Files::beside(path)).unwrap()
}

/// Converts the image to raw with qemu-img and compares.
fn assert_as_qemu_reads(directory: &Path, image: &str, rng: &mut Rng) {
    qemu_img(
        directory,
        &["convert", "-f", "qcow2", "-O", "raw", image, "expected.raw"],
    );
    let expected = fs::read(directory.join("expected.raw")).unwrap();
    assert_reads(&open(&directory.join(image)), &expected, rng);
}

/// Random writes, zeroes, discards and compressed writes of whole clusters.
fn scribble(
    directory: &Path,
    image: &str,
    size: u64,
    cluster: u64,
    compressed: bool,
    rng: &mut Rng,
) {
    let mut args = vec!["-f".to_owned(), "qcow2".to_owned()];
    for _ in 0..60 {
        args.push("-c".to_owned());
        args.push({
            let offset = rng.below(size / 512) * 512;
            let len = (512 * (1 + rng.below(400))).min(size - offset);
            let pattern = 1 + rng.below(255);
            match rng.below(6) {
                0 => format!("write -z {offset} {len}"),
                1 => format!("write -z -u {offset} {len}"),
                2 => format!("discard {offset} {len}"),
                3 if compressed => {
                    let offset = offset / cluster * cluster;
                    format!(
                        "write -c -P {pattern} {offset} {}",
                        cluster.min(size - offset)
                    )
                }
                _ => format!("write -P {pattern} {offset} {len}"),
            }
        });
    }
    args.push(image.to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // A compressed write to a cluster that is in use fails, which is as good.
    let said = attempt(directory, "qemu-io", &args).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.matches("wrote").count() + said.matches("discard").count() > 30,
        "{said}"
    );
}

#[test]
fn converted_images_of_every_shape_read_the_same() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(1);
    let disk = patchwork(&mut rng, (9 << 20) + 1536);
    fs::write(directory.path().join("disk.raw"), &disk).unwrap();
    let mut shapes: Vec<String> = (9..=21)
        .map(|bits| format!("cluster_size={}", 1 << bits))
        .collect();
    shapes.extend(
        [
            "compat=0.10",
            "compat=0.10,cluster_size=4k",
            "refcount_bits=1",
            "refcount_bits=64,cluster_size=512",
            "lazy_refcounts=on",
            "compression_type=zstd",
            "compression_type=zstd,cluster_size=4k",
            "compression_type=zstd,cluster_size=2M",
            "extended_l2=on,cluster_size=16k",
            "extended_l2=on,cluster_size=128k,compression_type=zstd",
            "preallocation=metadata",
            "preallocation=falloc,cluster_size=32k",
        ]
        .map(str::to_owned),
    );
    for shape in shapes {
        for compress in [false, true] {
            // qemu-img refuses to preallocate what it compresses.
            if compress && shape.contains("preallocation") {
                continue;
            }
            let mut args = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", &shape];
            args.extend(compress.then_some("-c"));
            args.extend(["disk.raw", "disk.qcow2"]);
            qemu_img(directory.path(), &args);
            let source = open(&directory.path().join("disk.qcow2"));
            assert_eq!(source.format(), "qcow2");
            assert!(source.read_granularity().is_power_of_two());
            assert_reads(&source, &disk, &mut rng);
        }
    }
}

#[test]
fn scribbled_images_read_the_same() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(2);
    let size = (6 << 20) + 512;
    for (shape, cluster, compressed) in [
        ("cluster_size=512", 512, true),
        ("cluster_size=4k,compat=0.10", 4096, true),
        ("cluster_size=64k", 65_536, true),
        ("cluster_size=64k,compression_type=zstd", 65_536, true),
        ("cluster_size=2M", 2 << 20, true),
        ("cluster_size=64k,extended_l2=on", 65_536, true),
        ("cluster_size=16k,extended_l2=on", 16_384, false),
        ("preallocation=metadata", 65_536, false),
    ] {
        for _ in 0..3 {
            qemu_img(
                directory.path(),
                &[
                    "create",
                    "-q",
                    "-f",
                    "qcow2",
                    "-o",
                    shape,
                    "disk.qcow2",
                    &size.to_string(),
                ],
            );
            scribble(
                directory.path(),
                "disk.qcow2",
                size,
                cluster,
                compressed,
                &mut rng,
            );
            assert_as_qemu_reads(directory.path(), "disk.qcow2", &mut rng);
            // The file may end anywhere qemu leaves its end.
            qemu_img(
                directory.path(),
                &["snapshot", "-c", "before", "disk.qcow2"],
            );
            scribble(
                directory.path(),
                "disk.qcow2",
                size,
                cluster,
                compressed,
                &mut rng,
            );
            assert_as_qemu_reads(directory.path(), "disk.qcow2", &mut rng);
        }
    }
}

#[test]
fn chains_read_the_same_whatever_their_lengths() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(3);
    for (base, middle, top) in [
        (4u64 << 20, 4u64 << 20, 4u64 << 20),
        (3 << 20, 5 << 20, (4 << 20) + 1024),
        (5 << 20, (2 << 20) + 512, 6 << 20),
    ] {
        for top_shape in [
            "cluster_size=64k",
            "cluster_size=32k,extended_l2=on",
            "cluster_size=4k,compat=0.10",
        ] {
            let raw = patchwork(&mut rng, usize::try_from(base).unwrap());
            fs::write(directory.path().join("base.raw"), raw).unwrap();
            let create = |name: &str, shape: &str, backing: &str, format: &str, size: u64| {
                let size = size.to_string();
                qemu_img(
                    directory.path(),
                    &[
                        "create", "-q", "-f", "qcow2", "-o", shape, "-b", backing, "-F", format,
                        name, &size,
                    ],
                );
            };
            create(
                "middle.qcow2",
                "cluster_size=16k",
                "base.raw",
                "raw",
                middle,
            );
            scribble(
                directory.path(),
                "middle.qcow2",
                middle,
                16_384,
                true,
                &mut rng,
            );
            create("top.qcow2", top_shape, "./middle.qcow2", "qcow2", top);
            scribble(directory.path(), "top.qcow2", top, 65_536, false, &mut rng);
            assert_as_qemu_reads(directory.path(), "top.qcow2", &mut rng);
        }
    }
}

#[test]
fn holes_of_a_preallocated_image_are_not_data() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for preallocation in ["metadata", "falloc"] {
        let shape = format!("preallocation={preallocation}");
        qemu_img(
            directory.path(),
            &[
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                &shape,
                "disk.qcow2",
                "64M",
            ],
        );
        qemu_io(
            directory.path(),
            "disk.qcow2",
            "qcow2",
            &["write -P 5 20M 100k".to_owned()],
        );
        let data = data_bytes(&open(&directory.path().join("disk.qcow2")));
        // The holes of falloc are unwritten blocks, which st_blocks counts as used: there nothing is promised.
        if preallocation == "metadata" {
            assert!(
                (100 << 10..1 << 20).contains(&data),
                "{preallocation}: {data}"
            );
        }
        assert_as_qemu_reads(directory.path(), "disk.qcow2", &mut Rng::new(4));
    }
}

/// Several threads read compressed clusters in pieces: the cache and the decoders are shared.
#[test]
fn threads_read_at_the_same_time() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(5);
    let disk = patchwork(&mut rng, 8 << 20);
    fs::write(directory.path().join("disk.raw"), &disk).unwrap();
    for kind in ["zlib", "zstd"] {
        let shape = format!("compression_type={kind}");
        qemu_img(
            directory.path(),
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                "qcow2",
                "-c",
                "-o",
                &shape,
                "disk.raw",
                "disk.qcow2",
            ],
        );
        let source = open(&directory.path().join("disk.qcow2"));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (source, disk) = (&source, &disk);
                scope.spawn(move || {
                    let mut rng = Rng::new(100 + thread);
                    for _ in 0..300 {
                        let start = rng.index(disk.len());
                        let mut piece = vec![0; 1 + rng.index((disk.len() - start).min(200_000))];
                        source.read_at(&mut piece, start as u64).unwrap();
                        assert!(piece == disk[start..start + piece.len()]);
                    }
                });
            }
        });
    }
}

/// A sparse disk is walked by its tables: seconds would show that the walk is not linear.
#[test]
fn the_extents_of_two_sparse_tebibytes_are_quick() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    qemu_img(
        directory.path(),
        &["create", "-q", "-f", "qcow2", "base.qcow2", "2T"],
    );
    qemu_img(
        directory.path(),
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            "base.qcow2",
            "-F",
            "qcow2",
            "disk.qcow2",
        ],
    );
    let writes: Vec<String> = (0..200)
        .map(|n| format!("write -P 1 {}G 128k", n * 10))
        .collect();
    qemu_io(directory.path(), "base.qcow2", "qcow2", &writes);
    qemu_io(directory.path(), "disk.qcow2", "qcow2", &writes[..100]);
    let source = open(&directory.path().join("disk.qcow2"));
    let start = std::time::Instant::now();
    assert_eq!(data_bytes(&source), 200 * (128 << 10));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
