//! A file system that becomes full: the error is told apart, and no image is completed that lacks a write.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests; a skip is loud"
)]

mod qcow2_support;

use std::path::{Path, PathBuf};

use image::formats::{OutputFormat, create};
use image::{BlockSink, ErrorKind, Preallocation};
use tempfile::TempDir;

use qcow2_support::*;

/// A tmpfs of 2 MiB, unmounted on drop.
struct SmallFs(TempDir);

impl SmallFs {
    /// Needs root. Where it may not mount, the test says that it skips.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let args = ["-t", "tmpfs", "-o", "size=2m", "none"];
        let at = directory.path().to_str().unwrap().to_owned();
        let out = attempt(Path::new("/"), "mount", &[&args[..], &[&at]].concat());
        if !out.status.success() {
            let why = String::from_utf8_lossy(&out.stderr);
            eprintln!("SKIP: cannot mount a tmpfs: {}", why.trim());
            return None;
        }
        Some(Self(directory))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for SmallFs {
    fn drop(&mut self) {
        let at = self.0.path().to_str().unwrap().to_owned();
        attempt(Path::new("/"), "umount", &[&at]);
    }
}

/// Writes until it fails.
fn fill(sink: &dyn BlockSink) -> ErrorKind {
    let mut at = 0;
    loop {
        if let Err(error) = sink.write_at(&[1; 256 << 10], at) {
            return error.kind();
        }
        at += 256 << 10;
    }
}

#[test]
fn a_full_file_system_is_told_and_nothing_is_completed() {
    let Some(full) = SmallFs::mount() else { return };
    for format in [OutputFormat::Raw, OutputFormat::Qcow2] {
        let path = full.file(format.name());
        let sink = create(&path, format, 8 << 20, Preallocation::Sparse).unwrap();
        assert_eq!(fill(&*sink), ErrorKind::NoSpace, "{format}");
        let error = sink.finish().unwrap_err();
        assert!(error.to_string().contains("no failed write"), "{error}");
        std::fs::remove_file(&path).unwrap();

        let error = create(&path, format, 8 << 20, Preallocation::Falloc).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{format}: {error}");
        std::fs::remove_file(&path).unwrap();
    }
    // Full when the tables are to be written, at the end.
    let path = full.file("late.qcow2");
    let sink = create(&path, OutputFormat::Qcow2, 8 << 20, Preallocation::Sparse).unwrap();
    sink.write_at(&[1; 1 << 20], 0).unwrap();
    std::fs::write(full.file("other"), vec![1; 2 << 20]).unwrap_err();
    assert_eq!(sink.finish().unwrap_err().kind(), ErrorKind::NoSpace);
    let magic = &std::fs::read(&path).unwrap()[..4];
    assert_eq!(magic, [0; 4], "no header");
}
