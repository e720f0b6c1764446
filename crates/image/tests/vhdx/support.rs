//! Programs, comparisons, and numbers that look random.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image::formats::vhdx::Reader;
use image::formats::{OpenOptions, open};
use image::{BlockSource, FileRange, Files, Result, extents};

/// True when qemu-img and qemu-io are there.
pub(crate) fn has_qemu() -> bool {
    testkit::require_tool("qemu-img") && testkit::require_tool("qemu-io")
}

/// Runs a program that must succeed, and returns what it said.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

pub(crate) fn open_path(path: &Path) -> Result<Arc<dyn BlockSource>> {
    open(path, &OpenOptions::default())
}

/// Opens an image that is only in memory.
pub(crate) fn open_bytes(bytes: Vec<u8>) -> Result<Reader> {
    Reader::open(
        FileRange::from_store(Arc::new(bytes), "test.vhdx"),
        Files::none(),
    )
}

/// The whole disk, small ones only.
pub(crate) fn read_all(source: &dyn BlockSource) -> Vec<u8> {
    let mut buf = vec![0; source.virtual_size() as usize];
    source.read_at(&mut buf, 0).unwrap();
    buf
}

/// Compares a disk with a model: as a whole, in random pieces, and by its extents.
pub(crate) fn assert_reads(source: &dyn BlockSource, model: &[u8], random: &mut Random) {
    assert_eq!(source.virtual_size(), model.len() as u64);
    let all = read_all(source);
    if let Some(at) = (0..model.len()).find(|&at| all[at] != model[at]) {
        panic!("byte {at:#x} is {:#x}, not {:#x}", all[at], model[at]);
    }
    for _ in 0..60 {
        if model.is_empty() {
            break;
        }
        let at = random.below(model.len() as u64) as usize;
        let limit = if random.below(2) == 0 { 9000 } else { 3 << 20 };
        let len = (random.below(limit) as usize).min(model.len() - at);
        let mut buf = vec![0xee; len];
        source.read_at(&mut buf, at as u64).unwrap();
        assert!(buf == model[at..at + len], "{len} bytes at {at:#x}");
    }
    let mut next = 0;
    for extent in extents(source, 0..source.virtual_size()) {
        let extent = extent.unwrap();
        assert_eq!(extent.offset, next);
        next += extent.len;
        let part = &model[extent.offset as usize..next as usize];
        assert!(
            !extent.kind.reads_zero() || image::is_zero(part),
            "{extent:?} is not zero"
        );
    }
    assert_eq!(next, model.len() as u64);
}

/// SHA-256 of the guest-visible bytes.
pub(crate) fn sha256(source: &dyn BlockSource, scratch: &Path) -> String {
    let raw = scratch.join("content.raw");
    to_raw(source, &raw);
    let said = run("sha256sum", &[raw.to_str().unwrap()]);
    said.split_whitespace().next().unwrap().to_owned()
}

/// Writes the data extents of a disk into a sparse raw file.
pub(crate) fn to_raw(source: &dyn BlockSource, path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(source.virtual_size()).unwrap();
    let mut buf = vec![0; 4 << 20];
    for extent in extents(source, 0..source.virtual_size()) {
        let extent = extent.unwrap();
        let mut at = extent.offset;
        while !extent.kind.reads_zero() && at < extent.offset + extent.len {
            let len = buf.len().min((extent.offset + extent.len - at) as usize);
            source.read_at(&mut buf[..len], at).unwrap();
            file.write_all_at(&buf[..len], at).unwrap();
            at += len as u64;
        }
    }
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
