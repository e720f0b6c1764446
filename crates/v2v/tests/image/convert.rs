use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{V2V, images, listing, ok, ours, qemu_img, refused};

#[test]
fn every_source_becomes_the_same_disk() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    for source in ["disk.raw", "disk.qcow2", "stream.vmdk", "sparse.vmdk"] {
        for format in ["raw", "qcow2"] {
            let said = ok(
                dir,
                &["convert", "-p", "-m", "2", "-O", format, source, "out"],
            );
            assert_eq!(said.stdout, "");
            let same = qemu_img(dir, &["compare", "-F", format, "disk.raw", "out"]);
            assert_eq!(same.status, 0, "{source} {format}: {}", same.stdout);
            std::fs::remove_file(dir.join("out")).unwrap();
        }
    }
    ok(dir, &["convert", "-O", "raw", "top.qcow2", "out"]);
    assert_eq!(
        qemu_img(dir, &["compare", "-F", "raw", "top.qcow2", "out"]).status,
        0
    );
    let sparse = std::fs::metadata(dir.join("out")).unwrap();
    assert!(sparse.blocks() * 512 < sparse.len() / 2);
}

#[test]
fn in_place_means_the_file_that_is_there() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    std::fs::write(dir.join("target"), vec![0xee; 9 << 20]).unwrap();
    let inode = std::fs::metadata(dir.join("target")).unwrap().ino();
    ok(dir, &["convert", "-n", "-O", "raw", "disk.qcow2", "target"]);
    let written = std::fs::read(dir.join("target")).unwrap();
    assert!(written[..8 << 20] == std::fs::read(dir.join("disk.raw")).unwrap());
    assert!(written[8 << 20..].iter().all(|&byte| byte == 0xee));
    assert_eq!(std::fs::metadata(dir.join("target")).unwrap().ino(), inode);
    for (args, word) in [
        (&["-n", "-O", "qcow2"][..], "only be raw"),
        (&["-n", "-O", "raw", "-c"], "-c"),
        (&["-n", "-O", "raw", "-o", "preallocation=off"], "-o"),
    ] {
        let all = [&["convert"], args, &["disk.raw", "target"]].concat();
        refused(dir, &all, 1, word);
    }
    std::fs::write(dir.join("small"), [0; 512]).unwrap();
    let args = ["convert", "-n", "-O", "raw", "disk.raw", "small"];
    refused(dir, &args, 1, "at least 8388608 bytes");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    let before = listing(dir);
    for (args, word) in [
        (&["disk.raw", "disk.qcow2"][..], "exists already"),
        (&["disk.raw", "-"], "expected a file"),
        (&["disk.raw", "nbd://h/x"], "expected a file"),
        (&["absent", "out"], "absent"),
        (&["-o", "nonsense=1", "disk.raw", "out"], "nonsense"),
        (&["-o", "nonsense", "disk.raw", "out"], "KEY=VALUE"),
        (&["-m", "0", "disk.raw", "out"], "-m 0"),
        (&["-l", "nope", "disk.raw", "out"], "nope"),
        (&["-l", "snapshot.name=nope", "disk.qcow2", "out"], "nope"),
        (&["-B", "base.qcow2", "disk.raw", "out"], "-F"),
        (&["-B", "gone", "-F", "qcow2", "disk.raw", "out"], "gone"),
        (&["-f", "qcow2", "disk.raw", "out"], "magic"),
        (&["disk.raw", "no/such/folder/out"], "no/such"),
    ] {
        refused(dir, &[&["convert"], args].concat(), 1, word);
        assert_eq!(listing(dir), before, "{args:?}");
    }
    assert_eq!(
        ours(dir, &["convert", "-O", "floppy", "disk.raw", "x"]).status,
        2
    );
    assert_eq!(ours(dir, &["convert", "disk.raw"]).status, 2);
}

#[test]
fn a_linked_clone_holds_the_difference_only() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    let args = [
        "convert",
        "-O",
        "qcow2",
        "-B",
        "base.qcow2",
        "-F",
        "qcow2",
        "top.qcow2",
        "clone",
    ];
    let said = ours(dir, &args);
    assert_eq!(said.status, 0, "{}", said.stderr);
    assert_eq!(qemu_img(dir, &["compare", "top.qcow2", "clone"]).status, 0);
    let map = qemu_img(dir, &["map", "--output=json", "clone"]).json();
    let own: u64 = map
        .as_array()
        .unwrap()
        .iter()
        .filter(|piece| piece["depth"] == 0)
        .map(|piece| piece["length"].as_u64().unwrap())
        .sum();
    assert_eq!(own, 2 * 65536, "{map}");
}

#[test]
fn ctrl_c_leaves_nothing() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    // Enough noise, and it is compressed: the copy does not end before the signal.
    let mut file = std::fs::File::create(dir.join("noise")).unwrap();
    let block: Vec<u8> = (0..1u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for _ in 0..768 {
        file.write_all(&block).unwrap();
    }
    drop(file);
    let before = listing(dir);
    let mut child = Command::new(V2V)
        .args([
            "image", "convert", "-m", "1", "-c", "-O", "qcow2", "noise", "out",
        ])
        .current_dir(dir)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while listing(dir) == before && Instant::now() < end && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cancelled"));
    assert_eq!(listing(dir), before);
}
