use serde_json::Value;

use crate::support::{images, ok, ours, qcow2_tells, qemu_img};

#[test]
fn raw_and_qcow2_are_mapped_as_qemu_img_does() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    let mut files = vec!["disk.raw", "disk.qcow2", "base.qcow2"];
    if qcow2_tells(dir) {
        files.push("top.qcow2");
    }
    for file in files {
        for output in ["--output=human", "--output=json"] {
            let theirs = qemu_img(dir, &["map", output, file]).stdout;
            assert_eq!(ok(dir, &["map", output, file]).stdout, theirs, "{file}");
        }
        let theirs = [
            "--start-offset",
            "1000k",
            "--max-length",
            "3M",
            "--output=json",
        ];
        let theirs = qemu_img(dir, &[&["map"], &theirs[..], &[file]].concat()).stdout;
        let short = ["map", "-s", "1000k", "-l", "3M", "--output=json", file];
        assert_eq!(ok(dir, &short).stdout, theirs, "{file}");
    }
}

#[test]
fn other_formats_agree_on_what_is_where() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    for file in ["stream.vmdk", "sparse.vmdk"] {
        let theirs = qemu_img(dir, &["map", "--output=json", file]).json();
        let ours = ok(dir, &["map", "--output=json", file]).json();
        assert_eq!(pieces(&ours), pieces(&theirs), "{file}");
    }
}

/// Which bytes read as zero.
fn pieces(map: &Value) -> Vec<(u64, bool)> {
    let mut pieces: Vec<(u64, bool)> = Vec::new();
    for piece in map.as_array().unwrap() {
        let (start, zero) = (piece["start"].as_u64(), piece["zero"].as_bool());
        let zero = zero.unwrap();
        if pieces.last().is_none_or(|(_, last)| *last != zero) {
            pieces.push((start.unwrap(), zero));
        }
    }
    pieces
}

#[test]
fn an_empty_disk_of_ten_tebibytes_is_one_line_at_once() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    ok(dir, &["create", "-q", "-f", "qcow2", "huge.qcow2", "10T"]);
    let started = std::time::Instant::now();
    let map = ok(dir, &["map", "--output=json", "huge.qcow2"]).json();
    assert_eq!(map.as_array().unwrap().len(), 1);
    assert!(started.elapsed().as_secs() < 5);
    assert_eq!(ours(dir, &["map", "-s", "x", "huge.qcow2"]).status, 2);
}
