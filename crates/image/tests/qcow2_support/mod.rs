//! What the tests of raw and qcow2 share: qemu's tools as the other implementation, a seeded generator, and the
//! comparison of a source with the bytes that it should hold.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "each test program uses a part; unwrap is how a test fails; a skip is loud; tests run on 64 bits"
)]

use std::path::Path;
use std::process::{Command, Output};

use image::{BlockSource, ExtentKind, extents};

/// Says loudly that a test skips, or fails it under CI.
pub(crate) fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "cannot be skipped under CI: {reason}"
    );
    eprintln!("SKIP: {reason}");
}

/// True when `name` can be run. Without it a test skips loudly, and fails where `CI` is set.
pub(crate) fn have(name: &str) -> bool {
    let found = Command::new(name)
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success());
    if !found {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Runs a program and returns what it said, whatever its exit status.
pub(crate) fn attempt(directory: &Path, program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .current_dir(directory)
        .output()
        .unwrap()
}

/// Runs a program that must succeed.
pub(crate) fn run(directory: &Path, program: &str, args: &[&str]) -> String {
    let out = attempt(directory, program, args);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(
        out.status.success(),
        "{program} {args:?} ended with {}: {said}",
        out.status
    );
    said
}

pub(crate) fn qemu_img(directory: &Path, args: &[&str]) -> String {
    run(directory, "qemu-img", args)
}

/// Runs qemu-io commands on an image.
pub(crate) fn qemu_io(directory: &Path, image: &str, format: &str, commands: &[String]) {
    let mut args = vec!["-f", format];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.push(image);
    let said = run(directory, "qemu-io", &args);
    assert!(
        !said.contains("failed") && !said.contains("error"),
        "{said}"
    );
}

/// A small generator (xorshift64*); the same seed gives the same run.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    pub(crate) fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A disk of stretches of noise, text and zeroes, of lengths from sectors to clusters.
pub(crate) fn patchwork(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut disk = vec![0; len];
    let mut at = 0;
    while at < len {
        let part = (512 << rng.below(9)) as usize * (1 + rng.index(3));
        let end = (at + part).min(len);
        match rng.below(4) {
            0 => rng.fill(&mut disk[at..end]),
            1 => {
                let word = format!("compressible {} ", rng.next());
                for (byte, from) in disk[at..end].iter_mut().zip(word.bytes().cycle()) {
                    *byte = from;
                }
            }
            _ => {}
        }
        at = end;
    }
    disk
}

/// Compares a source with its expected bytes: whole, in pieces at odd places, and by its extents.
pub(crate) fn assert_reads(source: &dyn BlockSource, expected: &[u8], rng: &mut Rng) {
    assert_eq!(source.virtual_size(), expected.len() as u64);
    let mut found = vec![0xaa; expected.len()];
    source.read_at(&mut found, 0).unwrap();
    assert_same(&found, expected, 0);
    if expected.is_empty() {
        return;
    }
    for _ in 0..200 {
        let start = rng.index(expected.len());
        let longest = (expected.len() - start).min(512 << rng.below(12));
        let len = 1 + rng.index(longest);
        let mut piece = vec![0xaa; len];
        source.read_at(&mut piece, start as u64).unwrap();
        assert_same(&piece, &expected[start..start + len], start);
    }
    assert_extents(source, expected, rng);
    let mut past = [0; 2];
    let error = source
        .read_at(&mut past, expected.len() as u64 - 1)
        .unwrap_err();
    assert_eq!(error.kind(), image::ErrorKind::Usage);
}

/// What the extents call zero is zero, and they cover the disk without a gap.
pub(crate) fn assert_extents(source: &dyn BlockSource, expected: &[u8], rng: &mut Rng) {
    let mut next = 0;
    for extent in extents(source, 0..source.virtual_size()) {
        let extent = extent.unwrap();
        assert_eq!(extent.offset, next);
        next += extent.len;
        if extent.kind.reads_zero() {
            let (start, end) = (extent.offset as usize, next as usize);
            assert!(image::is_zero(&expected[start..end]), "{extent:?}");
        }
    }
    assert_eq!(next, source.virtual_size());
    for _ in 0..100 {
        let offset = rng.below(source.virtual_size());
        let max_len = 1 + rng.below(1 << 20);
        let extent = source.extent_at(offset, max_len).unwrap();
        assert_eq!(extent.offset, offset);
        assert!(
            extent.len >= 1
                && extent.len <= max_len
                && offset + extent.len <= source.virtual_size()
        );
        if extent.kind.reads_zero() {
            let (start, end) = (offset as usize, (offset + extent.len) as usize);
            assert!(image::is_zero(&expected[start..end]), "{extent:?}");
        }
    }
}

/// Bytes of the disk that must be read.
pub(crate) fn data_bytes(source: &dyn BlockSource) -> u64 {
    extents(source, 0..source.virtual_size())
        .map(|extent| extent.unwrap())
        .filter(|extent| extent.kind == ExtentKind::Data)
        .map(|extent| extent.len)
        .sum()
}

fn assert_same(found: &[u8], expected: &[u8], start: usize) {
    if found != expected {
        let at = found
            .iter()
            .zip(expected)
            .position(|(a, b)| a != b)
            .unwrap();
        panic!("bytes differ from {:#x} on", start + at);
    }
}
