//! Growing qcow2 images, judged by qemu-img: the content stays, what is new is zero, the refcounts are exact.
#![expect(clippy::unwrap_used, reason = "unwrap is how a test fails")]

mod qcow2_support;

use std::path::Path;

use image::ErrorKind;
use image::formats::{Format, NewSize, OpenOptions, open, resize};
use qcow2_support::{Rng, have, qemu_img, qemu_io};

fn grow(path: &Path, size: NewSize) -> image::Result<(u64, u64)> {
    resize(path, Some(Format::Qcow2), size, false)
}

#[test]
fn images_of_every_shape_grow_and_stay_clean() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("cluster_size=64k", "100M", "1T"),
        ("cluster_size=64k", "100M", "101M"),
        ("cluster_size=512", "1M", "300M"),
        ("cluster_size=512,refcount_bits=1", "3M", "40M"),
        ("cluster_size=512,refcount_bits=64", "1M", "64M"),
        ("cluster_size=4k,refcount_bits=2", "10M", "20G"),
        ("cluster_size=4k,refcount_bits=8", "10M", "20G"),
        ("cluster_size=2M", "10M", "60T"),
        ("compat=0.10", "512", "4G"),
        ("cluster_size=64k,extended_l2=on", "100M", "1T"),
        ("cluster_size=4k,preallocation=metadata", "16M", "1G"),
        ("cluster_size=512,lazy_refcounts=on", "1M", "100M"),
    ];
    for (index, (options, old, new)) in cases.into_iter().enumerate() {
        let name = format!("{index}.qcow2");
        let path = dir.path().join(&name);
        qemu_img(
            dir.path(),
            &["create", "-q", "-f", "qcow2", "-o", options, &name, old],
        );
        let size = open(&path, &OpenOptions::default()).unwrap().virtual_size();
        let mut rng = Rng::new(index as u64 + 1);
        let writes: Vec<String> = (0..12)
            .map(|n| format!("write -P {} {} 512", n + 1, rng.below(size / 512) * 512))
            .collect();
        qemu_io(dir.path(), &name, "qcow2", &writes);
        std::fs::copy(&path, dir.path().join("before")).unwrap();
        let bytes = qemu_size(dir.path(), new);
        let (from, to) = grow(&path, NewSize::Exactly(bytes)).unwrap();
        assert_eq!((from, to), (size, bytes), "{options}");
        let said = qemu_img(dir.path(), &["check", &name]);
        assert!(said.contains("No errors"), "{options}: {said}");
        // qemu-img compare takes what is longer for the same when it is zero.
        qemu_img(
            dir.path(),
            &["compare", "-f", "qcow2", "-F", "qcow2", "before", &name],
        );
        // QEMU can go on: it finds free clusters and grows by itself.
        let last = format!("write -P 77 {} 512", bytes - 512);
        qemu_io(dir.path(), &name, "qcow2", &[last]);
        let said = qemu_img(dir.path(), &["check", &name]);
        assert!(said.contains("No errors"), "{options}: {said}");
        grow(&path, NewSize::More(512)).unwrap();
        qemu_img(dir.path(), &["check", "-q", &name]);
    }
}

fn qemu_size(dir: &Path, text: &str) -> u64 {
    qemu_img(dir, &["create", "-q", "-f", "qcow2", "size", text]);
    open(&dir.join("size"), &OpenOptions::default())
        .unwrap()
        .virtual_size()
}

#[test]
fn what_growing_would_break_is_refused_by_name_and_untouched() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let create = |name: &str, args: &[&str]| {
        let all = [&["create", "-q", "-f", "qcow2"], args].concat();
        qemu_img(dir.path(), &all);
        dir.path().join(name)
    };
    let snapshot = create("snap", &["snap", "10M"]);
    qemu_img(dir.path(), &["snapshot", "-c", "one", "snap"]);
    create("base", &["base", "20M"]);
    let short = create("short", &["-b", "base", "-F", "qcow2", "short", "10M"]);
    let bitmap = create("bitmap", &["bitmap", "10M"]);
    qemu_img(dir.path(), &["bitmap", "--add", "bitmap", "b"]);
    let plain = create("plain", &["plain", "10M"]);
    let cases = [
        (&snapshot, NewSize::More(1 << 20), "internal snapshots"),
        (&short, NewSize::More(1 << 20), "longer than the disk"),
        (&bitmap, NewSize::More(1 << 20), "bitmaps"),
        (&plain, NewSize::Less(1 << 20), "only raw images"),
        (&plain, NewSize::Exactly(u64::MAX / 4), "expected at most"),
        (&plain, NewSize::Less(1 << 40), "expected a size"),
    ];
    for (path, size, word) in cases {
        let before = std::fs::read(path).unwrap();
        let error = grow(path, size).unwrap_err().to_string();
        assert!(error.contains(word), "{error} lacks {word}");
        assert!(std::fs::read(path).unwrap() == before, "{error}");
    }
    let vmdk = dir.path().join("disk.vmdk");
    qemu_img(
        dir.path(),
        &["create", "-q", "-f", "vmdk", "disk.vmdk", "10M"],
    );
    let error = resize(&vmdk, None, NewSize::More(512), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn raw_grows_and_shrinks_only_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raw");
    std::fs::write(&path, [5; 1000]).unwrap();
    let to = |size, shrink| resize(&path, None, size, shrink);
    assert_eq!(
        to(NewSize::More(1 << 20), false).unwrap(),
        (1000, 1_049_600)
    );
    assert!(to(NewSize::Exactly(512), false).is_err());
    assert_eq!(to(NewSize::Exactly(512), true).unwrap(), (1_049_600, 512));
    assert_eq!(std::fs::read(&path).unwrap(), [5; 512]);
}

#[test]
fn an_image_that_qemu_has_open_is_refused() {
    if !have("qemu-img") || !have("qemu-nbd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    qemu_img(dir.path(), &["create", "-q", "-f", "qcow2", "used", "10M"]);
    let socket = dir.path().join("s");
    let mut server = std::process::Command::new("qemu-nbd")
        .args(["-t", "-f", "qcow2", "-k"])
        .arg(&socket)
        .arg("used")
        .current_dir(dir.path())
        .spawn()
        .unwrap();
    for _ in 0..1000 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let result = grow(&dir.path().join("used"), NewSize::More(512));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(result.unwrap_err().to_string().contains("in use"));
    grow(&dir.path().join("used"), NewSize::More(512)).unwrap();
}

#[test]
fn damaged_images_are_refused_or_grown_never_a_panic() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = "cluster_size=512,refcount_bits=16";
    qemu_img(
        dir.path(),
        &["create", "-q", "-f", "qcow2", "-o", options, "seed", "256k"],
    );
    let writes = ["write -P 1 0 8k", "write -P 2 100k 8k"].map(str::to_owned);
    qemu_io(dir.path(), "seed", "qcow2", &writes);
    let seed = std::fs::read(dir.path().join("seed")).unwrap();
    let path = dir.path().join("mutant");
    let mut rng = Rng::new(11);
    let mut grown = 0;
    for _ in 0..1500 {
        let mut bytes = seed.clone();
        for _ in 0..=rng.index(3) {
            let at = match rng.below(2) {
                0 => rng.index(112),
                _ => rng.index(bytes.len()),
            };
            bytes[at] ^= 1 << rng.below(8);
        }
        if rng.below(8) == 0 {
            bytes.truncate(rng.index(seed.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        if grow(&path, NewSize::Exactly(64 << 20)).is_ok() {
            grown += 1;
            assert!(open(&path, &OpenOptions::default()).is_ok());
        }
    }
    assert!(grown > 100, "{grown}");
}
