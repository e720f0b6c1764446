//! The copy engine between a source and a sink in memory.
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "tests run on 64 bits with small numbers; unwrap is how a test fails"
)]

mod overlay_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use image::copy::{CopyOptions, CopyProgress, CopyStats, copy};
use image::{BlockSink, BlockSource, ErrorKind, Extent, ExtentKind, Overlay, Result};
use overlay_support::{MemSink, PatternSource, extent_list};
use proptest::prelude::*;
use types::CancelToken;

const MIB: u64 = 1 << 20;

fn plain(source: &dyn BlockSource, sink: &MemSink) -> Result<CopyStats> {
    copy(
        source,
        sink,
        &CopyOptions::default(),
        &CancelToken::new(),
        &|_| (),
    )
}

fn data_bytes(source: &dyn BlockSource) -> u64 {
    image::extents(source, 0..source.virtual_size())
        .map(Result::unwrap)
        .filter(|e| e.kind == ExtentKind::Data)
        .map(|e| e.len)
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_copied_is_equal(
        pieces in prop::collection::vec((prop_oneof![1u64..3000, 1u64..200_000], 0u8..3), 1..40),
        sectors in 1u64..2000,
        granule in prop_oneof![Just(1u64), Just(512), Just(65536), Just(2 * MIB)],
        block in prop_oneof![Just(512u64), Just(65536), Just(4 * MIB)],
        padded in any::<bool>(),
        chunk_len in prop_oneof![Just(1u64), Just(65536), Just(100_000), Just(MIB)],
        threads in 0usize..5,
    ) {
        let mut source = PatternSource::new(sectors * 512, extent_list(&pieces));
        source.granularity = block;
        let sink_size = if padded { source.size.next_multiple_of(granule) } else { source.size };
        let sink = MemSink::new(sink_size, granule);
        let seen = Mutex::new(Vec::new());
        let options = CopyOptions { threads, chunk_len };
        let stats = copy(&source, &sink, &options, &CancelToken::new(), &|p| seen.lock().unwrap().push(p)).unwrap();
        let mut want = source.content();
        want.resize(usize::try_from(sink_size).unwrap(), 0);
        prop_assert!(sink.content() == want);
        let data = data_bytes(&source);
        prop_assert_eq!(stats.data_bytes, data);
        let seen = seen.into_inner().unwrap();
        prop_assert!(seen.windows(2).all(|w| w[0].copied_bytes <= w[1].copied_bytes));
        prop_assert!(seen.iter().all(|p| p.total_bytes == data));
        prop_assert_eq!(seen[0].copied_bytes, 0);
        prop_assert_eq!(seen.last(), Some(&CopyProgress { copied_bytes: data, total_bytes: data }));
    }
}

#[test]
fn an_overlay_is_copied_without_what_was_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let base = Arc::new(PatternSource::full(16 * MIB));
    let overlay = Overlay::new(base.clone(), dir.path()).unwrap();
    overlay.zero(2 * MIB, 12 * MIB).unwrap();
    overlay.write_at(&[9; 5000], 5 * MIB + 17).unwrap();
    let sink = MemSink::new(16 * MIB, 65536);
    let stats = plain(&overlay, &sink).unwrap();
    assert_eq!(stats.data_bytes, 4 * MIB + 5000);
    let mut want = vec![0; 16 << 20];
    overlay.read_at(&mut want, 0).unwrap();
    assert!(sink.content() == want);
    let written: usize = sink
        .writes
        .lock()
        .unwrap()
        .iter()
        .map(|(_, data)| data.len())
        .sum();
    assert_eq!(
        written as u64,
        4 * MIB + 65536,
        "one granule for the write, none for zeroes"
    );
}

#[test]
fn a_sparse_disk_of_two_tebibytes_takes_no_time() {
    let size = 2 << 40;
    let source = PatternSource::new(
        size,
        vec![
            (size / 2, ExtentKind::Data),
            (size / 2 + 4096, ExtentKind::Zero),
        ],
    );
    let sink = MemSink::new(size, 65536);
    let started = Instant::now();
    let stats = plain(&source, &sink).unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(stats.data_bytes, 4096);
    assert_eq!(source.read_count(), 1);
    assert_eq!(sink.writes.lock().unwrap().len(), 1);
}

#[test]
fn a_failing_source_stops_the_copy() {
    let mut source = PatternSource::full(64 * MIB);
    source.bad = Some(8 * MIB..8 * MIB + 1);
    let sink = MemSink::new(64 * MIB, 65536);
    let error = plain(&source, &sink).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (ErrorKind::Corrupt, Some(8 * MIB))
    );
    assert!(source.read_count() < 60, "{} reads", source.read_count());
}

#[test]
fn a_failing_sink_stops_the_copy() {
    let source = PatternSource::full(64 * MIB);
    let mut sink = MemSink::new(64 * MIB, 65536);
    sink.full = Some(4 * MIB..64 * MIB);
    let error = plain(&source, &sink).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(source.read_count() < 60, "{} reads", source.read_count());
}

#[test]
fn cancelling_stops_the_copy() {
    let source = PatternSource::full(64 * MIB);
    let sink = MemSink::new(64 * MIB, 65536);
    let cancel = CancelToken::new();
    let progress = |p: CopyProgress| {
        if p.copied_bytes >= 3 * MIB {
            cancel.cancel();
        }
    };
    let error = copy(&source, &sink, &CopyOptions::default(), &cancel, &progress).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(source.read_count() < 60, "{} reads", source.read_count());
    // Before it starts, it reads nothing.
    let before = source.read_count();
    let error = copy(&source, &sink, &CopyOptions::default(), &cancel, &|_| ()).unwrap_err();
    assert_eq!(
        (error.kind(), source.read_count()),
        (ErrorKind::Cancelled, before)
    );
}

#[test]
fn impossible_requests_are_refused() {
    let source = PatternSource::full(MIB);
    assert_eq!(
        plain(&source, &MemSink::new(MIB - 512, 512))
            .unwrap_err()
            .kind(),
        ErrorKind::Usage
    );
    assert_eq!(
        plain(&source, &MemSink::new(MIB, 3 * 512))
            .unwrap_err()
            .kind(),
        ErrorKind::Usage
    );
    assert_eq!(
        plain(&source, &MemSink::new(1 << 40, 1 << 40))
            .unwrap_err()
            .kind(),
        ErrorKind::Usage
    );
    assert_eq!(source.read_count(), 0);
}

/// A source that lies about its extents, or waits until two readers are in it.
#[derive(Debug, Default)]
struct Odd {
    extent_len: u64,
    inside: Mutex<usize>,
    both: Condvar,
    met: AtomicUsize,
}

impl BlockSource for Odd {
    fn virtual_size(&self) -> u64 {
        4 * MIB
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn read_at(&self, buf: &mut [u8], _offset: u64) -> Result<()> {
        buf.fill(1);
        let mut inside = self.inside.lock().unwrap();
        *inside += 1;
        self.both.notify_all();
        let (mut inside, wait) = self
            .both
            .wait_timeout_while(inside, Duration::from_secs(20), |n| *n < 2)
            .unwrap();
        if !wait.timed_out() {
            self.met.fetch_add(1, Ordering::SeqCst);
        }
        // The first two meet; the others pass.
        *inside = 2;
        Ok(())
    }

    fn extent_at(&self, offset: u64, max_len: u64) -> Result<Extent> {
        Ok(Extent {
            offset,
            len: self.extent_len.min(max_len),
            kind: ExtentKind::Data,
        })
    }
}

#[test]
fn at_least_two_threads_read() {
    let source = Odd {
        extent_len: u64::MAX,
        ..Odd::default()
    };
    plain(&source, &MemSink::new(4 * MIB, 512)).unwrap();
    assert_eq!(source.met.load(Ordering::SeqCst), 4);
}

#[test]
fn an_empty_extent_is_an_error_and_no_endless_loop() {
    let source = Odd::default();
    assert_eq!(
        plain(&source, &MemSink::new(4 * MIB, 512))
            .unwrap_err()
            .kind(),
        ErrorKind::Corrupt
    );
}

/// A sink that stores in order: counts what it must keep, and checks what it is told.
#[derive(Debug)]
struct Ordered {
    inner: MemSink,
    state: Mutex<OrderedState>,
    /// How long the first write takes: the others run ahead.
    slow_first: Duration,
    fail_at: u64,
}

#[derive(Debug, Default)]
struct OrderedState {
    passed: u64,
    telling: bool,
    kept: std::collections::BTreeMap<u64, u64>,
    most: u64,
}

impl Ordered {
    fn new(size: u64) -> Self {
        Self {
            inner: MemSink::new(size, 65536),
            state: Mutex::default(),
            slow_first: Duration::ZERO,
            fail_at: u64::MAX,
        }
    }
}

impl BlockSink for Ordered {
    fn virtual_size(&self) -> u64 {
        self.inner.virtual_size()
    }

    fn granularity(&self) -> u64 {
        self.inner.granularity()
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        if offset == 0 {
            std::thread::sleep(self.slow_first);
        }
        let mut state = self.state.lock().unwrap();
        assert!(offset >= state.passed, "written behind the mark");
        state.kept.insert(offset, buf.len() as u64);
        let kept: u64 = state.kept.values().sum();
        state.most = state.most.max(kept);
        drop(state);
        self.inner.write_at(buf, offset)
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn passed(&self, offset: u64) -> Result<()> {
        if offset > self.fail_at {
            return Err(image::Error::new(ErrorKind::NoSpace, "full"));
        }
        let mut state = self.state.lock().unwrap();
        assert!(
            !state.telling && offset >= state.passed,
            "one after the other"
        );
        state.telling = true;
        drop(state);
        std::thread::yield_now();
        let mut state = self.state.lock().unwrap();
        state.telling = false;
        state.passed = offset;
        state.kept = state.kept.split_off(&offset);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<image::SinkStats> {
        Ok(image::SinkStats::default())
    }
}

fn to_ordered(source: &dyn BlockSource, sink: &Ordered, threads: usize) -> Result<CopyStats> {
    let options = CopyOptions {
        threads,
        chunk_len: MIB,
    };
    copy(source, sink, &options, &CancelToken::new(), &|_| ())
}

#[test]
fn an_ordered_sink_hears_the_mark_and_keeps_little() {
    for threads in [1, 2, 7] {
        let mut source = PatternSource::full(64 * MIB);
        source.extents = vec![
            (0, ExtentKind::Data),
            (5 * MIB + 512, ExtentKind::Zero),
            (9 * MIB, ExtentKind::Data),
        ];
        let mut sink = Ordered::new(64 * MIB);
        sink.slow_first = Duration::from_millis(200);
        to_ordered(&source, &sink, threads).unwrap();
        assert!(sink.inner.content() == source.content());
        let state = sink.state.lock().unwrap();
        assert_eq!(state.passed, 64 * MIB);
        assert!(state.kept.is_empty());
        let bound = (threads as u64 * 5 + 1) * MIB;
        assert!(
            state.most <= bound,
            "{} bytes kept, {threads} threads",
            state.most
        );
    }
}

#[test]
fn data_far_apart_are_copied_in_parallel_to_an_ordered_sink() {
    let mut source = PatternSource::new(1 << 40, Vec::new());
    for i in 0..64 {
        source.extents.push((i << 33, ExtentKind::Data));
        source
            .extents
            .push(((i << 33) + 512, ExtentKind::Unallocated));
    }
    let sink = Ordered::new(1 << 40);
    let stats = to_ordered(&source, &sink, 3).unwrap();
    assert_eq!(stats.data_bytes, 64 * 512);
    assert_eq!(sink.state.lock().unwrap().passed, 1 << 40);
}

#[test]
fn whoever_fails_nobody_waits_for_ever() {
    let mut source = PatternSource::full(64 * MIB);
    let mut sink = Ordered::new(64 * MIB);
    sink.fail_at = 20 * MIB;
    assert_eq!(
        to_ordered(&source, &sink, 4).unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    source.bad = Some(0..1);
    let mut sink = Ordered::new(64 * MIB);
    sink.slow_first = Duration::from_millis(50);
    assert_eq!(
        to_ordered(&source, &sink, 4).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}
