//! Sources and sinks in memory, of any size, for the tests of overlay, NBD server and copy engine.
#![allow(dead_code, reason = "every test binary uses another part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are tests"
)]
#![allow(unreachable_pub, reason = "shared by test binaries")]

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::{
    BlockSink, BlockSource, Error, ErrorKind, Extent, ExtentKind, FileRange, Result, SinkStats,
};

/// A disk whose data bytes are a function of their offset.
#[derive(Debug)]
pub struct PatternSource {
    pub size: u64,
    /// Start and kind of each extent, sorted; what comes before the first is unallocated.
    pub extents: Vec<(u64, ExtentKind)>,
    /// A read that touches these bytes fails.
    pub bad: Option<Range<u64>>,
    pub granularity: u64,
    pub reads: AtomicUsize,
}

impl PatternSource {
    pub fn new(size: u64, extents: Vec<(u64, ExtentKind)>) -> Self {
        Self {
            size,
            extents,
            bad: None,
            granularity: 64 * 1024,
            reads: AtomicUsize::new(0),
        }
    }

    /// A disk full of data.
    pub fn full(size: u64) -> Self {
        Self::new(size, vec![(0, ExtentKind::Data)])
    }

    pub fn read_count(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// The whole content.
    pub fn content(&self) -> Vec<u8> {
        let mut buf = vec![0; usize::try_from(self.size).unwrap()];
        self.read_at(&mut buf, 0).unwrap();
        buf
    }
}

/// The data byte at this offset of every [`PatternSource`].
pub fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 1
}

impl BlockSource for PatternSource {
    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let end = offset + buf.len() as u64;
        assert!(end <= self.size, "read past the end");
        if let Some(bad) = &self.bad
            && bad.start < end
            && offset < bad.end
        {
            return Err(Error::corrupt("grain inflates short")
                .in_file("base.vmdk")
                .at(bad.start));
        }
        let mut next = offset;
        while next < end {
            let extent = self.extent_at(next, end - next)?;
            let part = &mut buf[(next - offset) as usize..][..extent.len as usize];
            if extent.kind == ExtentKind::Data {
                for (i, byte) in part.iter_mut().enumerate() {
                    *byte = pattern(next + i as u64);
                }
            } else {
                part.fill(0);
            }
            next += extent.len;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        assert!(offset < self.size && max_len > 0);
        let after = self.extents.partition_point(|&(start, _)| start <= offset);
        let kind = after
            .checked_sub(1)
            .map_or(ExtentKind::Unallocated, |i| self.extents[i].1);
        let end = self
            .extents
            .get(after)
            .map_or(self.size, |&(start, _)| start)
            .min(self.size);
        Ok(Extent {
            offset,
            len: max_len.min(end - offset),
            kind,
        })
    }

    fn read_granularity(&self) -> u64 {
        self.granularity
    }
}

/// A raw file as a source: one data extent.
#[derive(Debug)]
pub struct FileSource(pub FileRange);

impl BlockSource for FileSource {
    fn virtual_size(&self) -> u64 {
        self.0.len()
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        Ok(Extent {
            offset,
            len: max_len.min(self.0.len() - offset),
            kind: ExtentKind::Data,
        })
    }
}

/// A sink that keeps what is written and checks the rules of its trait.
#[derive(Debug)]
pub struct MemSink {
    pub size: u64,
    pub granule: u64,
    /// A write that touches these bytes fails.
    pub full: Option<Range<u64>>,
    pub writes: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl MemSink {
    pub fn new(size: u64, granule: u64) -> Self {
        Self {
            size,
            granule,
            full: None,
            writes: Mutex::default(),
        }
    }

    /// The whole content; panics where a byte was written twice.
    pub fn content(&self) -> Vec<u8> {
        let mut writes = self.writes.lock().unwrap();
        writes.sort_by_key(|(offset, _)| *offset);
        let mut content = Vec::new();
        for (offset, data) in writes.iter() {
            let offset = usize::try_from(*offset).unwrap();
            assert!(
                content.len() <= offset,
                "bytes at {offset:#x} are written twice"
            );
            content.resize(offset, 0);
            content.extend(data);
        }
        content.resize(usize::try_from(self.size).unwrap(), 0);
        content
    }
}

impl BlockSink for MemSink {
    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn granularity(&self) -> u64 {
        self.granule
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let end = offset + buf.len() as u64;
        assert!(!buf.is_empty() && end <= self.size);
        assert!(offset.is_multiple_of(self.granule), "write at {offset:#x}");
        assert!(
            end.is_multiple_of(self.granule) || end == self.size,
            "write up to {end:#x}"
        );
        if let Some(full) = &self.full
            && full.start < end
            && offset < full.end
        {
            return Err(Error::new(ErrorKind::NoSpace, "target is full").at(full.start));
        }
        self.writes.lock().unwrap().push((offset, buf.to_vec()));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SinkStats> {
        Ok(SinkStats::default())
    }
}

/// Splits a disk into extents of the given lengths and kinds (0 data, 1 zero, 2 unallocated).
pub fn extent_list(pieces: &[(u64, u8)]) -> Vec<(u64, ExtentKind)> {
    let mut start = 0;
    let mut list = Vec::new();
    for &(len, kind) in pieces {
        let kind = match kind {
            0 => ExtentKind::Data,
            1 => ExtentKind::Zero,
            _ => ExtentKind::Unallocated,
        };
        list.push((start, kind));
        start += len;
    }
    list
}

/// A small generator of numbers, for tests with threads.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// True if the program can be run; else the test is skipped, loudly, and fails under CI.
pub fn have(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is not installed"
        );
        eprintln!("SKIP: {program} is not installed");
    }
    found
}

/// Runs a program; its success, stdout and stderr together.
pub fn run(program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// How qemu's tools name an export.
pub fn uri(socket: &Path, export: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", socket.display())
}
