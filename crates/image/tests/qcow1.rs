//! QCOW version 1 images that qemu-img and VirtualBox make, read by our reader; damaged ones.

#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use image::ErrorKind::{Corrupt, Limit, Truncated, Unsupported};
use image::formats::{self, OpenOptions};
use image::{BlockSource, Error, extents};

use qcow2_support::*;

fn open(path: &Path) -> Result<Arc<dyn BlockSource>, Error> {
    formats::open(path, &OpenOptions::default())
}

/// qemu-img 10 writes a whole compressed QCOW and then ends with status 1, without a word: the comparison with the
/// disk tells.
fn convert(directory: &Path, args: &[&str]) {
    let said = attempt(directory, "qemu-img", args).stderr;
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn plain_compressed_and_backed_images_read_the_same() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(31);
    for len in [(5 << 20) + 512, 64 << 10, 512, 3 << 20] {
        let disk = patchwork(&mut rng, len);
        fs::write(here.join("disk.raw"), &disk).unwrap();
        for compress in [false, true] {
            let mut args = vec!["convert", "-f", "raw", "-O", "qcow"];
            args.extend(compress.then_some("-c"));
            args.extend(["disk.raw", "disk.qcow"]);
            convert(here, &args);
            let source = open(&here.join("disk.qcow")).unwrap();
            assert_eq!(source.format(), "qcow");
            assert_reads(&*source, &disk, &mut rng);
        }
    }
    let args = [
        "create",
        "-q",
        "-f",
        "qcow",
        "-b",
        "disk.qcow",
        "-F",
        "qcow",
        "child.qcow",
        "5M",
    ];
    qemu_img(here, &args);
    let commands = [
        "write -P 7 1M 700k".to_owned(),
        "write -P 8 4M 512".to_owned(),
    ];
    qemu_io(here, "child.qcow", "qcow", &commands);
    qemu_img(
        here,
        &[
            "convert",
            "-f",
            "qcow",
            "-O",
            "raw",
            "child.qcow",
            "expected.raw",
        ],
    );
    let expected = fs::read(here.join("expected.raw")).unwrap();
    let source = open(&here.join("child.qcow")).unwrap();
    assert_reads(&*source, &expected, &mut rng);
    assert_eq!(source.info().parent_name.as_deref(), Some("disk.qcow"));
    assert_eq!(source.parent().unwrap().format(), "qcow");
}

#[test]
fn the_images_of_virtualbox_are_read() {
    let fixtures = std::env::var_os("V2V_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        Into::into,
    );
    let pack = fixtures.join("vbox-made.tar.xz");
    if !pack.exists() {
        skip(&format!("{} is absent", pack.display()));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let names = [
        "img/src4m.raw",
        "img/src4m-vbox-qcow-standard.qcow",
        "img/src4m-vbox-qed-standard.qed",
    ];
    let args = [&["xJf", pack.to_str().unwrap()], &names[..]].concat();
    run(directory.path(), "tar", &args);
    let expected = fs::read(directory.path().join(names[0])).unwrap();
    for (name, format) in [(names[1], "qcow"), (names[2], "qed")] {
        let source = open(&directory.path().join(name)).unwrap();
        assert_eq!(source.format(), format);
        assert_reads(&*source, &expected, &mut Rng::new(32));
    }
}

#[test]
fn what_cannot_be_is_refused() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow");
    fs::write(directory.path().join("disk.raw"), [5; 1 << 20]).unwrap();
    let args = [
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow",
        "disk.raw",
        "disk.qcow",
    ];
    qemu_img(directory.path(), &args);
    let image = fs::read(&path).unwrap();
    let l1 = usize::try_from(u64::from_be_bytes(image[40..48].try_into().unwrap())).unwrap();
    for (at, bytes, kind, words) in [
        (36, vec![0, 0, 0, 1], Unsupported, "AES"),
        (36, vec![0, 0, 0, 9], Unsupported, "crypt_method 9"),
        (32, vec![8], Corrupt, "cluster_bits"),
        (32, vec![17], Corrupt, "cluster_bits"),
        (33, vec![5], Corrupt, "l2_bits"),
        (33, vec![14], Corrupt, "l2_bits"),
        (24, vec![0xff; 8], Limit, "virtual size"),
        (24, vec![0x7f], Limit, "L1 table of at most"),
        (40, vec![0; 8], Corrupt, "after the header"),
        (40, vec![0x0f], Truncated, "the file ends"),
        (l1, vec![0x10], Truncated, "L2 table"),
    ] {
        let mut changed = image.clone();
        changed[at..at + bytes.len()].copy_from_slice(&bytes);
        fs::write(&path, changed).unwrap();
        let options = OpenOptions::with_format(Some(formats::Format::Qcow1));
        let error = formats::open(&path, &options)
            .and_then(|source| source.read_at(&mut [0; 512], 0))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            error.kind() == kind && text.contains(words),
            "{kind:?} {words}: {text}"
        );
    }
}

#[test]
fn damaged_images_neither_panic_nor_hang() {
    if !have("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut rng = Rng::new(33);
    fs::write(here.join("disk.raw"), patchwork(&mut rng, 1 << 20)).unwrap();
    convert(
        here,
        &[
            "convert",
            "-c",
            "-f",
            "raw",
            "-O",
            "qcow",
            "disk.raw",
            "disk.qcow",
        ],
    );
    qemu_img(
        here,
        &["convert", "-f", "raw", "-O", "qed", "disk.raw", "disk.qed"],
    );
    let (mut read, mut refused) = (0, 0);
    let started = Instant::now();
    for name in ["disk.qcow", "disk.qed"] {
        let image = fs::read(here.join(name)).unwrap();
        let words: Vec<usize> = (0..image.len() / 8)
            .map(|word| word * 8)
            .filter(|&at| image[at..at + 8] != [0; 8])
            .take(400)
            .collect();
        for _ in 0..500 {
            let mut mutant = image.clone();
            for _ in 0..1 + rng.below(3) {
                let at = match rng.below(3) {
                    0 => rng.index(64),
                    1 => words[rng.index(words.len())] + rng.index(8),
                    _ => rng.index(mutant.len()),
                };
                mutant[at] = match rng.below(3) {
                    0 => mutant[at] ^ 1 << rng.below(8),
                    1 => 0xff,
                    _ => rng.next().to_le_bytes()[0],
                };
            }
            if rng.below(10) == 0 {
                mutant.truncate(rng.index(mutant.len()));
            }
            let path = here.join("mutant");
            fs::write(&path, &mutant).unwrap();
            match use_image(&path) {
                Ok(()) => read += 1,
                Err(error) => {
                    assert!(error.to_string().contains("mutant: "), "{error}");
                    refused += 1;
                }
            }
        }
    }
    println!("{read} read, {refused} refused in {:?}", started.elapsed());
    assert!(
        read > 100 && refused > 100,
        "{read} read, {refused} refused"
    );
    assert!(started.elapsed().as_secs() < 60);
}

fn use_image(path: &Path) -> Result<(), Error> {
    let source = open(path)?;
    let size = source.virtual_size();
    for extent in extents(&*source, 0..size).take(500) {
        extent?;
    }
    source.check_metadata(&types::CancelToken::new())?;
    let mut piece = vec![0; 64 << 10];
    for number in 0..20 {
        let offset = (number * 50_001 * 512) % size.max(1) / 512 * 512;
        let len = usize::try_from(size - offset).unwrap().min(piece.len());
        source.read_at(&mut piece[..len], offset)?;
    }
    Ok(())
}
