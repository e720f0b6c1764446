//! Scratch folders, tools that may be absent, and numbers that look random.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use image::formats::vmdk::Reader;
use image::{FileRange, Result};

/// Says loudly that a test skips, or fails it under CI.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "cannot be skipped under CI: {reason}"
    );
    eprintln!("SKIP: {reason}");
}

/// True when qemu-img and qemu-io run.
pub(crate) fn has_qemu() -> bool {
    let runs = |tool: &str| {
        Command::new(tool)
            .arg("--version")
            .output()
            .is_ok_and(|out| out.status.success())
    };
    let both = runs("qemu-img") && runs("qemu-io");
    if !both {
        skip("qemu-img and qemu-io (Debian: qemu-utils) are not installed");
    }
    both
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// A fixture pack, unpacked into a scratch folder.
pub(crate) fn unpack(pack: &str) -> Option<tempfile::TempDir> {
    let folder = std::env::var_os("V2V_FIXTURES").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/fixtures"
            ))
        },
        PathBuf::from,
    );
    let archive = folder.join(pack);
    if !archive.is_file() {
        skip(&format!("fixture {} is absent", archive.display()));
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    run(
        "tar",
        &[
            "-xf",
            archive.to_str().unwrap(),
            "-C",
            scratch.path().to_str().unwrap(),
        ],
    );
    Some(scratch)
}

/// Opens an image that is only in memory, through an unlinked file.
pub(crate) fn open_bytes(bytes: &[u8]) -> Result<Reader> {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Reader::open(
        FileRange::part(Arc::new(file), 0, bytes.len() as u64, "test.vmdk")?,
        image::Files::none(),
    )
}

/// Numbers that are the same on every run (xorshift64*).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
