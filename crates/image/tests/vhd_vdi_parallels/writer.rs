//! What we write: qemu-img and we read the same.

use std::path::Path;

use image::formats::vhd::{Options, Subformat};
use image::formats::{OutputFormat, WriteOptions, create, create_with};
use image::{ErrorKind, Preallocation};
use types::CancelToken;

use crate::support::{Rng, assert_holds, opened, run};

/// Writes a disk in pieces of one granule, from two threads, last first.
fn write(path: &Path, disk: &[u8], options: Options) -> u64 {
    let sink = create_with(path, disk.len() as u64, &WriteOptions::Vpc(options)).unwrap();
    let granule = sink.granularity() as usize;
    let sink_ref = &*sink;
    std::thread::scope(|scope| {
        for parity in [1, 0] {
            scope.spawn(move || {
                for (number, part) in disk.chunks(granule).enumerate().rev() {
                    if number % 2 == parity {
                        sink_ref.write_at(part, (number * granule) as u64).unwrap();
                    }
                }
            });
        }
    });
    sink.finish().unwrap().file_len
}

#[test]
fn what_is_written_is_read_by_qemu_img_and_by_us() {
    let dir = tempfile::tempdir().unwrap();
    let qemu = testkit::require_tool("qemu-img");
    let mut rng = Rng::new(7);
    for (size, used) in [
        (512, 100),
        (4 << 20, 0),
        (9_437_696, 40),
        (12 << 20, 100),
        (7 << 20, 3),
    ] {
        let disk = rng.disk(size, used);
        std::fs::write(dir.path().join("disk.raw"), &disk).unwrap();
        for (subformat, force_size) in [
            (Subformat::Dynamic, true),
            (Subformat::Dynamic, false),
            (Subformat::Fixed, true),
            (Subformat::Fixed, false),
        ] {
            let path = dir.path().join("out.vhd");
            let _ = std::fs::remove_file(&path);
            let options = Options {
                subformat,
                force_size,
                ..Options::default()
            };
            let len = write(&path, &disk, options);
            assert_eq!(path.metadata().unwrap().len(), len);
            let source = opened(&path);
            let mut expected = disk.clone();
            if force_size {
                assert_eq!(source.virtual_size(), size as u64);
            }
            expected.resize(source.virtual_size() as usize, 0);
            assert_holds(&*source, &expected);
            let check = source.check_metadata(&CancelToken::new()).unwrap().unwrap();
            assert!(check.is_clean(), "{check:?}");
            if qemu {
                let compare = ["compare", "-f", "raw", "-F", "vpc", "disk.raw", "out.vhd"];
                run(dir.path(), "qemu-img", &compare);
                let said = run(dir.path(), "qemu-img", &["info", "-f", "vpc", "out.vhd"]);
                let bytes = format!("({} bytes)", source.virtual_size());
                assert!(said.contains(&bytes), "{said}");
            }
        }
    }
}

#[test]
fn options_are_taken_and_refused_by_name() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let parsed = WriteOptions::parse(
        OutputFormat::Vpc,
        false,
        &pairs(&[("subformat", "fixed"), ("force_size", "on")]),
    );
    let expected = Options {
        subformat: Subformat::Fixed,
        ..Options::default()
    };
    assert_eq!(parsed.unwrap(), WriteOptions::Vpc(expected));
    assert!(WriteOptions::parse(OutputFormat::Vpc, true, &[]).is_err());
    assert!(WriteOptions::parse(OutputFormat::Vpc, false, &pairs(&[("x", "y")])).is_err());
}

#[test]
fn what_a_vhd_cannot_hold_is_refused_before_the_file_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.vhd");
    let error = create(
        &path,
        OutputFormat::Vpc,
        (2040 << 30) + 512,
        Preallocation::Sparse,
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(error.to_string().contains("2040 GiB"), "{error}");
    assert!(create(&path, OutputFormat::Vpc, 511, Preallocation::Sparse).is_err());
    assert!(!path.exists());
    // The longest: nearly nothing is written, at both ends.
    let sink = create(&path, OutputFormat::Vpc, 2040 << 30, Preallocation::Sparse).unwrap();
    let granule = sink.granularity();
    sink.write_at(&vec![7; granule as usize], 0).unwrap();
    sink.write_at(&vec![9; granule as usize], (2040 << 30) - granule)
        .unwrap();
    sink.finish().unwrap();
    let source = opened(&path);
    assert_eq!(source.virtual_size(), 2040 << 30);
    let mut buf = [0; 512];
    source.read_at(&mut buf, (2040 << 30) - 512).unwrap();
    assert_eq!(buf, [9; 512]);
}

#[test]
fn a_preallocated_vhd_is_a_fixed_one() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.vhd");
    let sink = create(&path, OutputFormat::Vpc, 3 << 20, Preallocation::Falloc).unwrap();
    sink.finish().unwrap();
    assert_eq!(opened(&path).info().variant, "fixed");
    assert!(path.metadata().unwrap().blocks() * 512 >= 3 << 20);
}
