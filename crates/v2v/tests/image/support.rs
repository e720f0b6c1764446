//! Running both programs, and the images that they look at.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub(crate) const V2V: &str = env!("CARGO_BIN_EXE_v2v");

/// What a program said and how it ended.
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.stdout, self.stderr))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

pub(crate) fn run(dir: &Path, program: &str, args: &[&str]) -> Said {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output();
    output.unwrap().into()
}

/// `v2v image ARGS`.
pub(crate) fn ours(dir: &Path, args: &[&str]) -> Said {
    run(dir, V2V, &[&["image"], args].concat())
}

/// The same, which must succeed.
pub(crate) fn ok(dir: &Path, args: &[&str]) -> Said {
    let said = ours(dir, args);
    assert_eq!(said.status, 0, "{args:?}: {} {}", said.stdout, said.stderr);
    said
}

/// The same, which must fail with one line that holds `word`.
pub(crate) fn refused(dir: &Path, args: &[&str], status: i32, word: &str) {
    let said = ours(dir, args);
    assert_eq!(said.status, status, "{args:?}: {}", said.stderr);
    assert!(said.stderr.starts_with("v2v: error: "), "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    assert!(said.stderr.contains(word), "{} lacks {word}", said.stderr);
}

pub(crate) fn qemu_img(dir: &Path, args: &[&str]) -> Said {
    run(dir, "qemu-img", args)
}

/// `None` (and a loud skip) where QEMU's tools are absent; else a folder with these images, all of 8 MiB:
/// `disk.raw`, `disk.qcow2` (the same), `base.qcow2` and `top.qcow2` on it, `stream.vmdk`, `sparse.vmdk`.
pub(crate) fn images() -> Option<tempfile::TempDir> {
    if !testkit::require_tool("qemu-img") || !testkit::require_tool("qemu-io") {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("disk.raw")).unwrap();
    file.set_len(8 << 20).unwrap();
    for (at, len, byte) in [
        (0u64, 65536usize, 1u8),
        (3 << 20, 300_000, 2),
        ((8 << 20) - 4096, 4096, 3),
    ] {
        file.write_all_at(&vec![byte; len], at).unwrap();
    }
    for args in [
        "convert -O qcow2 disk.raw disk.qcow2",
        "convert -O vmdk -o subformat=streamOptimized disk.raw stream.vmdk",
        "convert -O vmdk disk.raw sparse.vmdk",
        "create -q -f qcow2 base.qcow2 8M",
        "create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2",
    ] {
        let said = qemu_img(dir.path(), &args.split(' ').collect::<Vec<_>>());
        assert_eq!(said.status, 0, "{}", said.stderr);
    }
    for (image, commands) in [
        ("base.qcow2", ["write -P 1 0 1M", "write -P 2 3M 64k"]),
        ("top.qcow2", ["write -P 3 1M 64k", "write -z 3M 64k"]),
    ] {
        let [a, b] = commands;
        let said = run(
            dir.path(),
            "qemu-io",
            &["-f", "qcow2", "-c", a, "-c", b, image],
        );
        assert_eq!(said.status, 0, "{}", said.stderr);
    }
    Some(dir)
}

/// Whether qcow2 tells facts and parents; said loudly where not.
pub(crate) fn qcow2_tells(dir: &Path) -> bool {
    let info = ok(dir, &["info", "--output", "json", "top.qcow2"]).json();
    let tells = info.get("format-specific").is_some();
    if !tells {
        testkit::skip("this build's qcow2 reader tells no facts");
    }
    tells
}

/// Names in the folder, hidden ones too.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
