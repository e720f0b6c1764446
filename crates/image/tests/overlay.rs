//! The overlay against a plain array, alone and from many threads.
#![expect(
    clippy::cast_possible_truncation,
    reason = "tests run on 64 bits, with small numbers"
)]

mod overlay_support;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use image::{BlockSource, ErrorKind, ExtentKind, Overlay, OverlayStats, extents};
use overlay_support::{PatternSource, Rng, extent_list};
use proptest::prelude::*;

const SIZE: u64 = 96 * 1024;

#[derive(Clone, Debug)]
enum Op {
    Write(u64, u64, u8),
    Zero(u64, u64),
    Read(u64, u64),
}

/// Ranges near sectors and pages, and any others.
fn range() -> impl Strategy<Value = (u64, u64)> {
    let place = prop_oneof![
        0..SIZE,
        (0..SIZE / 512).prop_map(|s| s * 512),
        (0..SIZE / 4096).prop_map(|p| p * 4096)
    ];
    let len = prop_oneof![0..64u64, Just(512), Just(4096), 0..20_000u64, Just(SIZE)];
    (place, len).prop_map(|(start, len)| (start, len.min(SIZE - start)))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (range(), any::<u8>()).prop_map(|((o, l), b)| Op::Write(o, l, b)),
        range().prop_map(|(o, l)| Op::Zero(o, l)),
        range().prop_map(|(o, l)| Op::Read(o, l)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn overlay_is_an_array(
        pieces in prop::collection::vec((1u64..16_000, 0u8..3), 1..20),
        granule in prop_oneof![Just(512u64), Just(4096), Just(65536)],
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut base = PatternSource::new(SIZE, extent_list(&pieces));
        base.granularity = granule;
        let mut model = base.content();
        let untouched = model.clone();
        let base = Arc::new(base);
        let dir = tempfile::tempdir().unwrap();
        let overlay = Overlay::new(base.clone(), dir.path()).unwrap();
        let mut states = vec![0u8; model.len()];
        for op in ops {
            match op {
                Op::Write(offset, len, byte) => {
                    let at = offset as usize..(offset + len) as usize;
                    let data: Vec<u8> = (0..len).map(|i| byte.wrapping_add(i as u8)).collect();
                    overlay.write_at(&data, offset).unwrap();
                    model[at.clone()].copy_from_slice(&data);
                    states[at].fill(1);
                }
                Op::Zero(offset, len) => {
                    let at = offset as usize..(offset + len) as usize;
                    overlay.zero(offset, len).unwrap();
                    model[at.clone()].fill(0);
                    states[at].fill(2);
                }
                Op::Read(offset, len) => {
                    let mut buf = vec![0xee; len as usize];
                    overlay.read_at(&mut buf, offset).unwrap();
                    prop_assert!(buf == model[offset as usize..][..len as usize]);
                }
            }
        }
        let mut all = vec![0xee; model.len()];
        overlay.read_at(&mut all, 0).unwrap();
        prop_assert!(all == model);
        prop_assert!(base.content() == untouched);
        let count = |state| states.iter().filter(|&&s| s == state).count() as u64;
        prop_assert_eq!(overlay.stats(), OverlayStats { written_bytes: count(1), zeroed_bytes: count(2) });
        let mut next = 0;
        for extent in extents(&overlay, 0..SIZE) {
            let extent = extent.unwrap();
            prop_assert_eq!(extent.offset, next);
            next += extent.len;
            let at = extent.offset as usize..next as usize;
            match extent.kind {
                ExtentKind::Data => prop_assert!(states[at].iter().all(|&s| s != 2)),
                ExtentKind::Zero | ExtentKind::Unallocated => prop_assert!(model[at].iter().all(|&b| b == 0)),
            }
        }
        prop_assert_eq!(next, SIZE);
    }
}

/// Each thread owns every fourth unit of 1536 bytes, so that neighbours in the run map and in the scratch file's
/// pages belong to others.
#[test]
fn threads_do_not_disturb_their_neighbours() {
    const UNIT: u64 = 1536;
    const THREADS: u64 = 4;
    let size = UNIT * THREADS * 64;
    let dir = tempfile::tempdir().unwrap();
    let overlay = Overlay::new(Arc::new(PatternSource::full(size)), dir.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let overlay = &overlay;
            scope.spawn(move || {
                let mut rng = Rng(0x1234_5678 + thread);
                let mut model: Vec<Option<u8>> = vec![None; 64];
                for _ in 0..3000 {
                    let unit = rng.below(64);
                    let offset = (unit * THREADS + thread) * UNIT;
                    let slot = &mut model[unit as usize];
                    match rng.below(3) {
                        0 => {
                            let byte = rng.below(255) as u8 + 1;
                            overlay.write_at(&[byte; UNIT as usize], offset).unwrap();
                            *slot = Some(byte);
                        }
                        1 => {
                            overlay.zero(offset, UNIT).unwrap();
                            *slot = Some(0);
                        }
                        _ => {
                            let mut buf = [0; UNIT as usize];
                            overlay.read_at(&mut buf, offset).unwrap();
                            for (i, byte) in buf.iter().enumerate() {
                                let want =
                                    slot.unwrap_or(overlay_support::pattern(offset + i as u64));
                                assert_eq!(*byte, want, "thread {thread} unit {unit} byte {i}");
                            }
                        }
                    }
                }
            });
        }
    });
}

/// One writer a block counts versions up: even ones are written, odd ones are zeroed. A reader must see, in every
/// word, a version that was current at some time between the start and the end of its read.
#[test]
fn readers_see_only_versions_that_were_current() {
    const BLOCK: usize = 8192;
    const BLOCKS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let base = PatternSource::new((BLOCK * BLOCKS) as u64, vec![]);
    let overlay = Overlay::new(Arc::new(base), dir.path()).unwrap();
    let begun: [AtomicU64; BLOCKS] = Default::default();
    let done: [AtomicU64; BLOCKS] = Default::default();
    let stop = AtomicBool::new(false);
    let checked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (overlay, begun, done, stop) = (&overlay, &begun, &done, &stop);
            scope.spawn(move || {
                let mut rng = Rng(77 + half as u64);
                while !stop.load(Ordering::SeqCst) {
                    let block = rng.below(BLOCKS as u64 / 2) as usize * 2 + half;
                    let version = done[block].load(Ordering::SeqCst) + 1;
                    begun[block].store(version, Ordering::SeqCst);
                    let offset = (block * BLOCK) as u64;
                    if version % 2 == 0 {
                        let data: Vec<u8> = version.to_le_bytes().repeat(BLOCK / 8);
                        overlay.write_at(&data, offset).unwrap();
                    } else {
                        overlay.zero(offset, BLOCK as u64).unwrap();
                    }
                    done[block].store(version, Ordering::SeqCst);
                }
            });
        }
        for reader in 0..2 {
            let (overlay, begun, done, stop, checked) = (&overlay, &begun, &done, &stop, &checked);
            scope.spawn(move || {
                let mut rng = Rng(99 + reader);
                let mut buf = vec![0; BLOCK];
                while !stop.load(Ordering::SeqCst) {
                    let block = rng.below(BLOCKS as u64) as usize;
                    let oldest = done[block].load(Ordering::SeqCst);
                    overlay.read_at(&mut buf, (block * BLOCK) as u64).unwrap();
                    let newest = begun[block].load(Ordering::SeqCst);
                    for word in buf.as_chunks::<8>().0 {
                        let seen = u64::from_le_bytes(*word);
                        let zero_was_current = oldest == 0 || (oldest..=newest).any(|v| v % 2 == 1);
                        let current =
                            (oldest..=newest).contains(&seen) || (seen == 0 && zero_was_current);
                        assert!(current, "saw {seen}, current were {oldest}..={newest}");
                    }
                    checked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(700));
        stop.store(true, Ordering::SeqCst);
    });
    assert!(checked.load(Ordering::SeqCst) > 10);
}

#[test]
fn two_tebibytes_are_discarded_at_once() {
    const SIZE: u64 = 2 << 40;
    let dir = tempfile::tempdir().unwrap();
    let base = Arc::new(PatternSource::full(SIZE));
    let overlay = Overlay::new(base.clone(), dir.path()).unwrap();
    let started = Instant::now();
    overlay.write_at(&[7; 4096], SIZE / 2).unwrap();
    overlay.zero(0, SIZE).unwrap();
    overlay.write_at(&[8; 512], SIZE - 512).unwrap();
    let found: Vec<_> = extents(&overlay, 0..SIZE)
        .map(|e| e.map(|e| (e.len, e.kind)).unwrap())
        .collect();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        found,
        [(SIZE - 512, ExtentKind::Zero), (512, ExtentKind::Data)]
    );
    assert_eq!(
        overlay.stats(),
        OverlayStats {
            written_bytes: 512,
            zeroed_bytes: SIZE - 512
        }
    );
    assert_eq!(base.read_count(), 0);
}

#[test]
fn zeroing_gives_scratch_space_back() {
    let file = tempfile::tempfile().unwrap();
    let seen = file.try_clone().unwrap();
    let overlay = Overlay::with_scratch(Arc::new(PatternSource::full(64 << 20)), file);
    overlay.write_at(&vec![1; 8 << 20], 16 << 20).unwrap();
    seen.sync_all().unwrap();
    let before = seen.metadata().unwrap().blocks();
    assert!(before * 512 >= 8 << 20, "{before} blocks");
    overlay.zero(0, 32 << 20).unwrap();
    assert!(seen.metadata().unwrap().blocks() < before / 8);
}

#[test]
fn base_granules_are_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let base = Arc::new(PatternSource::full(1 << 20));
    let overlay = Overlay::new(base.clone(), dir.path()).unwrap();
    for i in 0..8 {
        overlay.write_at(&[0; 512], i * 8192 + 4096).unwrap();
    }
    let mut buf = vec![0; 64 * 1024];
    overlay.read_at(&mut buf, 0).unwrap();
    assert_eq!(base.read_count(), 1);
    // What is wholly written needs no base at all.
    overlay.write_at(&[1; 65536], 65536).unwrap();
    overlay.read_at(&mut buf, 65536).unwrap();
    assert_eq!(base.read_count(), 1);
    // Gaps in different granules are read apart.
    overlay.zero(200_000, 500_000).unwrap();
    let mut buf = vec![0; 1 << 20];
    overlay.read_at(&mut buf, 0).unwrap();
    assert_eq!(base.read_count(), 4);
}

#[test]
fn a_full_scratch_file_is_no_space() {
    let full = File::options()
        .read(true)
        .write(true)
        .open("/dev/full")
        .unwrap();
    let overlay = Overlay::with_scratch(Arc::new(PatternSource::full(1 << 20)), full);
    assert_eq!(
        overlay.write_at(&[1; 512], 0).unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    assert_eq!(overlay.stats(), OverlayStats::default());
    let mut buf = [0; 512];
    overlay.read_at(&mut buf, 0).unwrap();
    assert_eq!(buf[1], overlay_support::pattern(1));
    overlay.zero(0, 1 << 20).unwrap();
    overlay.flush().unwrap();
}

#[test]
fn ranges_past_the_end_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = Overlay::new(Arc::new(PatternSource::full(4096)), dir.path()).unwrap();
    let mut buf = [0; 2];
    for offset in [4095, u64::MAX] {
        assert_eq!(
            overlay.write_at(&[1, 1], offset).unwrap_err().kind(),
            ErrorKind::Usage
        );
        assert_eq!(
            overlay.read_at(&mut buf, offset).unwrap_err().kind(),
            ErrorKind::Usage
        );
        assert_eq!(
            overlay.zero(offset, 2).unwrap_err().kind(),
            ErrorKind::Usage
        );
    }
    assert_eq!(
        overlay.zero(1, u64::MAX).unwrap_err().kind(),
        ErrorKind::Usage
    );
    overlay.write_at(&[], 4096).unwrap();
    overlay.zero(4096, 0).unwrap();
    assert_eq!(overlay.stats(), OverlayStats::default());
}

#[test]
fn errors_of_the_base_pass_through_and_what_hides_them_is_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut base = PatternSource::full(1 << 20);
    base.bad = Some(65536..131_072);
    let overlay = Overlay::new(Arc::new(base), dir.path()).unwrap();
    let mut buf = vec![0; 1 << 20];
    let error = overlay.read_at(&mut buf, 0).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (ErrorKind::Corrupt, Some(65536))
    );
    overlay.zero(65536, 65536).unwrap();
    overlay.read_at(&mut buf, 0).unwrap();
}
