//! Numbers that look random, disks that look real, and the comparison of a source with what it should hold.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image::formats::{OpenOptions, open};
use image::{BlockSource, ExtentKind, extents};

/// Bytes of one read of a long disk.
const CHUNK: usize = 4 << 20;

/// Opens a file by content.
pub(crate) fn opened(path: &Path) -> Arc<dyn BlockSource> {
    open(path, &OpenOptions::default()).unwrap()
}

/// Opens a file that must be refused; the message.
pub(crate) fn refusal(path: &Path) -> image::Error {
    open(path, &OpenOptions::default()).unwrap_err()
}

/// Runs qemu-img or qemu-io; what it said. It must succeed.
pub(crate) fn run(dir: &Path, program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success(), "{program} {args:?}: {said}");
    said
}

/// Numbers that are the same on every run (xorshift64*).
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

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }

    pub(crate) fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// A disk of stretches of noise and of zeroes, of a sector to a few MiB.
    pub(crate) fn disk(&mut self, len: usize, used_percent: u64) -> Vec<u8> {
        let mut disk = vec![0; len];
        let mut at = 0;
        while at < len {
            let part = (512 << self.below(13)) as usize;
            let end = (at + part).min(len);
            if self.below(100) < used_percent {
                self.fill(&mut disk[at..end]);
            }
            at = end;
        }
        disk
    }
}

/// All bytes of a disk, from several threads and in several ways: whole, and at random places; and the extents told
/// the truth.
pub(crate) fn assert_holds(source: &dyn BlockSource, expected: &[u8]) {
    assert_eq!(source.virtual_size(), expected.len() as u64);
    std::thread::scope(|scope| {
        for (number, part) in expected.chunks(CHUNK).enumerate() {
            scope.spawn(move || {
                let mut buf = vec![0xa5; part.len()];
                let start = number * CHUNK;
                source.read_at(&mut buf, start as u64).unwrap();
                assert_same(&buf, part, start);
            });
        }
    });
    let mut rng = Rng::new(expected.len() as u64);
    for _ in 0..200 {
        let start = rng.index(expected.len());
        let len = (1 + rng.index(100_000)).min(expected.len() - start);
        let mut buf = vec![0xa5; len];
        source.read_at(&mut buf, start as u64).unwrap();
        assert_same(&buf, &expected[start..start + len], start);
        let max_len = 1 + rng.below(1 << 22);
        let extent = source.extent_at(start as u64, max_len).unwrap();
        assert_eq!(extent.offset, start as u64);
        let end = extent.offset + extent.len;
        assert!((1..=max_len).contains(&extent.len) && end <= expected.len() as u64);
        if extent.kind != ExtentKind::Data {
            assert!(image::is_zero(&expected[start..end as usize]), "{extent:?}");
        }
    }
    let mut next = 0;
    for extent in extents(source, 0..source.virtual_size()) {
        let extent = extent.unwrap();
        assert_eq!(extent.offset, next);
        next += extent.len;
        if extent.kind != ExtentKind::Data {
            let range = extent.offset as usize..next as usize;
            assert!(image::is_zero(&expected[range]), "{extent:?}");
        }
    }
    assert_eq!(next, source.virtual_size());
    assert!(
        source
            .read_at(&mut [0; 2], source.virtual_size() - 1)
            .is_err()
    );
}

pub(crate) fn assert_same(found: &[u8], expected: &[u8], start: usize) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        panic!("bytes differ from {:#x} on", start + at.unwrap());
    }
}

/// Calls `visit` with every data extent of a long disk, in chunks; the rest is zero.
pub(crate) fn for_data(source: &dyn BlockSource, mut visit: impl FnMut(u64, &[u8])) {
    for extent in extents(source, 0..source.virtual_size()) {
        let extent = extent.unwrap();
        if extent.kind != ExtentKind::Data {
            continue;
        }
        let (mut at, end) = (extent.offset, extent.offset + extent.len);
        while at < end {
            let mut buf = vec![0; (end - at).min(CHUNK as u64) as usize];
            source.read_at(&mut buf, at).unwrap();
            visit(at, &buf);
            at += buf.len() as u64;
        }
    }
}

/// Compares two long disks without reading what is zero in both.
pub(crate) fn assert_equal_disks(one: &dyn BlockSource, other: &dyn BlockSource) {
    assert_eq!(one.virtual_size(), other.virtual_size());
    for (from, to) in [(one, other), (other, one)] {
        for_data(from, |at, bytes| {
            let mut buf = vec![0xa5; bytes.len()];
            to.read_at(&mut buf, at).unwrap();
            assert_same(&buf, bytes, at as usize);
        });
    }
}
