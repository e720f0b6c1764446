use serde_json::Value;

use crate::support::{images, ok, ours, qcow2_tells, qemu_img, refused};

/// Keys that are ours alone.
fn without_ours(mut value: Value) -> Value {
    let object = value.as_object_mut().unwrap();
    for key in ["logical-sector-size", "variant", "files"] {
        object.remove(key);
    }
    value
}

#[test]
fn raw_and_qcow2_are_described_as_qemu_img_does() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    let mut files = vec!["disk.raw"];
    if qcow2_tells(dir) {
        files.extend(["disk.qcow2", "base.qcow2", "top.qcow2"]);
    }
    for file in files {
        let theirs = qemu_img(dir, &["info", "--output", "json", file]).json();
        let ours = ok(dir, &["info", "--output", "json", file]).json();
        assert_eq!(without_ours(ours), theirs, "{file}");
        let theirs = qemu_img(dir, &["info", file]).stdout;
        assert_eq!(ok(dir, &["info", file]).stdout, theirs, "{file}");
    }
}

#[test]
fn the_chain_is_shown_in_order() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    if !qcow2_tells(dir) {
        return;
    }
    let theirs = qemu_img(dir, &["info", "--backing-chain", "top.qcow2"]).stdout;
    let ours = ok(dir, &["info", "--backing-chain", "top.qcow2"]).stdout;
    assert_eq!(ours, theirs);
    let chain = ok(
        dir,
        &["info", "--backing-chain", "--output=json", "top.qcow2"],
    )
    .json();
    assert_eq!(chain.as_array().unwrap().len(), 2);
}

#[test]
fn every_format_has_the_common_keys() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    for file in ["stream.vmdk", "sparse.vmdk", "disk.qcow2"] {
        let theirs = qemu_img(dir, &["info", "--output", "json", file]).json();
        let ours = ok(dir, &["info", "--output", "json", file]).json();
        for key in [
            "filename",
            "format",
            "virtual-size",
            "actual-size",
            "dirty-flag",
        ] {
            assert_eq!(ours[key], theirs[key], "{file} {key}");
        }
    }
}

#[test]
fn what_is_no_image_is_refused_in_one_line() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    refused(dir, &["info", "absent"], 1, "absent");
    refused(dir, &["info", "-f", "qcow2", "disk.raw"], 1, "magic");
    refused(dir, &["info", "nbds://h/x"], 1, "TLS");
    assert_eq!(ours(dir, &["info", "-f", "floppy", "disk.raw"]).status, 2);
    assert_eq!(ours(dir, &["info"]).status, 2);
    // -f raw makes a disk of anything.
    let raw = ok(dir, &["info", "-f", "raw", "--output=json", "disk.qcow2"]).json();
    assert_eq!(raw["format"], "raw");
}

#[test]
fn a_parent_elsewhere_is_refused_unless_allowed() {
    let Some(dir) = images() else { return };
    let dir = dir.path();
    std::fs::create_dir(dir.join("sub")).unwrap();
    std::fs::rename(dir.join("base.qcow2"), dir.join("sub/base.qcow2")).unwrap();
    let rebase = [
        "rebase",
        "-u",
        "-b",
        "../sub/base.qcow2",
        "-F",
        "qcow2",
        "top.qcow2",
    ];
    std::fs::create_dir(dir.join("top")).unwrap();
    std::fs::rename(dir.join("top.qcow2"), dir.join("top/top.qcow2")).unwrap();
    let said = qemu_img(&dir.join("top"), &rebase);
    assert_eq!(said.status, 0, "{}", said.stderr);
    refused(dir, &["info", "top/top.qcow2"], 1, "--base-dir");
    let base = dir.to_str().unwrap();
    ok(dir, &["info", "--base-dir", base, "top/top.qcow2"]);
    ok(dir, &["info", "--allow-any-path", "top/top.qcow2"]);
}
