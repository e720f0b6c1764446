//! Every packing against the bytes that went in: whole, in random pieces, from several threads; and damaged files.

#![expect(
    clippy::cast_possible_truncation,
    reason = "tests run on 64 bits, and random bytes are cut to size"
)]

use std::io::Write;
use std::num::NonZeroU64;

use libdeflater::{CompressionLvl, Compressor};
use lzma_rust2::{CheckType, XzOptions, XzWriter};

use super::*;
use crate::ErrorKind;

/// A small generator of numbers (xorshift64*), for tests that must repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// A disk of `len` bytes: words, noise, and long zeroes.
fn disk(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        let run = random.below(300_000) as usize + 1;
        match random.below(4) {
            0 => out.extend((0..run).map(|_| random.next() as u8)),
            1 => out.extend(b"all work and no play ".iter().cycle().take(run)),
            _ => out.resize(out.len() + run * 3, 0),
        }
    }
    out.truncate(len);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(3).unwrap());
    let mut out = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let len = compressor.gzip_compress(bytes, &mut out).unwrap();
    out.truncate(len);
    out
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(3).unwrap());
    let mut out = vec![0; compressor.deflate_compress_bound(bytes.len())];
    let len = compressor.deflate_compress(bytes, &mut out).unwrap();
    out.truncate(len);
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = libdeflater::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn xz(bytes: &[u8], block: Option<u64>, check: CheckType) -> Vec<u8> {
    let mut options = XzOptions::with_preset(1);
    options.set_block_size(block.and_then(NonZeroU64::new));
    options.set_check_sum_type(check);
    let mut writer = XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn range(bytes: Vec<u8>) -> FileRange {
    FileRange::from_store(Arc::new(bytes), "packed")
}

fn open(packed: Vec<u8>) -> Result<FileRange> {
    let range = range(packed);
    let packing = range.packing()?.expect("packed bytes begin like it");
    range.unpacked(packing)
}

fn read_all(range: &FileRange) -> Result<Vec<u8>> {
    range.read_vec(0, usize::try_from(range.len()).unwrap())
}

/// Reads everything in every manner.
fn check(unpacked: &FileRange, want: &[u8]) {
    assert_eq!(unpacked.len(), want.len() as u64);
    assert!(read_all(unpacked).unwrap() == want, "as a whole");
    let mut random = Random(7);
    for _ in 0..200 {
        let start = random.below(want.len() as u64);
        let len = random.below(70_000).min(want.len() as u64 - start);
        let (start, len) = (start as usize, len as usize);
        let found = unpacked.read_vec(start as u64, len).unwrap();
        assert!(found == want[start..start + len], "{len} from {start}");
    }
    // Threads that take pieces in turn, as the copy engine's do.
    let next = std::sync::atomic::AtomicUsize::new(0);
    const PIECE: usize = 300_000;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let start = PIECE * next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if start >= want.len() {
                        break;
                    }
                    let len = PIECE.min(want.len() - start);
                    let found = unpacked.read_vec(start as u64, len).unwrap();
                    assert!(found == want[start..start + len], "{len} from {start}");
                }
            });
        }
    });
    let mut offset = 0;
    while offset < unpacked.len() {
        let (data, run) = unpacked.run_at(offset, unpacked.len() - offset);
        let bytes = &want[offset as usize..(offset + run) as usize];
        assert!(data || bytes.iter().all(|&byte| byte == 0), "{offset}");
        offset += run;
    }
}

#[test]
fn every_packing_reads_as_what_went_in() {
    let want = disk(9_000_001, 1);
    let packed = [
        gzip(&want),
        xz(&want, None, CheckType::Crc64),
        xz(&want, Some(1 << 20), CheckType::Sha256),
        xz(&want, Some(700_000), CheckType::Crc32),
        zstd(&want),
    ];
    for packed in packed {
        let unpacked = open(packed).unwrap();
        check(&unpacked, &want);
        assert!(unpacked.is_sparse());
    }
    let (crc32, len) = (crc32(&want), want.len() as u64);
    let bare = range(deflate(&want));
    check(
        &bare.unpacked(Packing::Deflate { crc32, len }).unwrap(),
        &want,
    );
    for (crc32, len) in [(crc32 ^ 1, len), (crc32, len - 1)] {
        let error = bare.unpacked(Packing::Deflate { crc32, len }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn members_frames_and_streams_follow_each_other() {
    let want = disk(5_000_000, 2);
    let pieces: Vec<&[u8]> = want.chunks(333_333).collect();
    let join = |pack: &dyn Fn(&[u8]) -> Vec<u8>, between: &[u8]| {
        let parts: Vec<Vec<u8>> = pieces.iter().map(|piece| pack(piece)).collect();
        parts.join(between)
    };
    check(&open(join(&gzip, b"")).unwrap(), &want);
    check(&open(join(&zstd, b"")).unwrap(), &want);
    check(
        &open(join(&zstd, b"\x53\x2a\x4d\x18\x03\0\0\0abc")).unwrap(),
        &want,
    );
    let one = |bytes: &[u8]| xz(bytes, Some(100_000), CheckType::Crc32);
    check(&open(join(&one, b"")).unwrap(), &want);
    check(&open(join(&one, &[0; 8])).unwrap(), &want);
    assert!(open(join(&one, &[0; 6])).is_err(), "padding is of fours");
    let mut tape = gzip(&want);
    tape.resize(tape.len() + 10_240, 0);
    check(&open(tape.clone()).unwrap(), &want);
    tape.push(7);
    let error = open(tape).unwrap_err();
    assert!(error.to_string().contains("gzip header"), "{error}");
}

#[test]
fn empty_and_tiny_files_are_read() {
    for len in [0, 1, 511, 131_072, 131_073] {
        let want = vec![9; len];
        let mut packed = vec![gzip(&want), zstd(&want)];
        if len > 0 {
            packed.push(xz(&want, None, CheckType::Crc32));
        }
        for packed in packed {
            let unpacked = open(packed).unwrap();
            assert_eq!(read_all(&unpacked).unwrap(), want);
        }
    }
    // A stream of no block, as `xz` makes it of nothing: header, index, footer.
    let none = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\0\0\0\0\x1c\xdfD!\x1f\xb6\xf3}\x01\0\0\0\0\x04YZ";
    assert_eq!(open(none.to_vec()).unwrap().len(), 0);
}

#[test]
fn every_field_of_a_gzip_header_is_passed_over() {
    let want = disk(10_000, 3);
    let plain = gzip(&want);
    let mut full = plain[..10].to_vec();
    full[3] = gzip_flags();
    full.extend_from_slice(&[3, 0, 1, 2, 3]);
    full.extend_from_slice(b"disk.raw\0a comment\0");
    full.extend_from_slice(&[0xab, 0xcd]);
    full.extend_from_slice(&plain[10..]);
    check(&open(full.clone()).unwrap(), &want);
    full[3] |= 0x40;
    assert_eq!(open(full).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// FHCRC, FEXTRA, FNAME, FCOMMENT.
fn gzip_flags() -> u8 {
    0b1_1110
}

#[test]
fn one_long_block_goes_to_scratch_and_many_do_not() {
    let want = disk(36 << 20, 4);
    let mut multi = Vec::new();
    want.chunks(8 << 20)
        .for_each(|piece| multi.extend(zstd(piece)));
    let cases = [
        (zstd(&want), true),
        (multi, false),
        (gzip(&want), false),
        (xz(&want, Some(8 << 20), CheckType::Crc32), false),
    ];
    for (packed, scratch) in cases {
        let range = range(packed);
        let packing = range.packing().unwrap().unwrap();
        let codec = Codec::new(&range, packing).unwrap();
        let index = index::Index::build(&codec, MAX_UNPACKED, &CancelToken::new()).unwrap();
        let want_scratch = if scratch { (36 << 20) - MAX_GAP } else { 0 };
        assert_eq!(index.scratch.filled_len(), want_scratch, "{packing:?}");
        let unpacked = range.unpacked(packing).unwrap();
        assert!(read_all(&unpacked).unwrap() == want);
        let near_end = unpacked.read_vec((36 << 20) - 5000, 5000).unwrap();
        assert!(near_end == want[want.len() - 5000..]);
    }
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let want = disk(400_000, 5);
    for packed in [
        gzip(&want),
        zstd(&want),
        xz(&want, Some(100_000), CheckType::Crc64),
    ] {
        let mut random = Random(11);
        let ends = (6..40)
            .chain((0..60).map(|_| 6 + random.below(packed.len() as u64 - 6) as usize))
            .chain(packed.len() - 40..packed.len());
        for end in ends {
            let error = match open(packed[..end].to_vec()) {
                Ok(_) => panic!("{end} of {} bytes were read", packed.len()),
                Err(error) => error,
            };
            assert!(error.to_string().starts_with("packed: at 0x"), "{error}");
        }
    }
}

#[test]
fn damage_is_found_or_does_not_matter() {
    let mut random = Random(6);
    let mut want: Vec<u8> = (0..4000).map(|_| random.next() as u8 & 0x3f).collect();
    want.extend(disk(56_000, 6));
    let mut random = Random(13);
    for packed in [
        gzip(&want),
        zstd(&want),
        xz(&want, None, CheckType::Crc64),
        xz(&want, Some(10_000), CheckType::Crc32),
        [gzip(&want[..30_000]), gzip(&want[30_000..])].concat(),
    ] {
        let mut refused = 0;
        for round in 0..400 {
            let mut damaged = packed.clone();
            for _ in 0..=round % 3 {
                // The front half of the rounds look at the container's own fields.
                let span = if round < 200 { 64 } else { damaged.len() };
                let at = random.below(span as u64) as usize;
                let at = if round % 2 == 0 {
                    at
                } else {
                    damaged.len() - 1 - at
                };
                damaged[at] ^= 1 << random.below(8);
            }
            let range = range(damaged);
            let Some(packing) = range.packing().unwrap() else {
                refused += 1;
                continue;
            };
            let how = Unpack {
                max_len: 1 << 20,
                ..Unpack::new(packing)
            };
            match range.unpacked_by(&how).and_then(|inner| read_all(&inner)) {
                Ok(found) => assert!(found == want, "wrong bytes were read silently"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 300, "only {refused} of 400 were noticed");
    }
}

#[test]
fn bombs_and_greedy_windows_meet_a_limit() {
    let zeroes = vec![0; 3 << 20];
    for packed in [
        gzip(&zeroes),
        zstd(&zeroes),
        xz(&zeroes, None, CheckType::None),
    ] {
        let range = range(packed);
        let how = Unpack {
            max_len: (3 << 20) - 1,
            ..Unpack::new(range.packing().unwrap().unwrap())
        };
        let error = range.unpacked_by(&how).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        let how = Unpack {
            max_len: 3 << 20,
            ..how
        };
        range.unpacked_by(&how).unwrap();
        how.cancel.cancel();
        let error = range.unpacked_by(&how).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    // A frame header that asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2: exponent 21).
    let greedy = [0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0];
    let error = open(greedy.to_vec()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    // The dictionary size is the properties of the only filter: 8 bytes into the block header.
    let mut greedy = xz(b"x", None, CheckType::Crc32);
    let properties = greedy
        .windows(2)
        .position(|pair| pair == [0x21, 1])
        .unwrap();
    greedy[properties + 2] = 39;
    let header = 12..12 + 4 * (usize::from(greedy[12]) + 1) - 4;
    let sum = crc32(&greedy[header.clone()]);
    greedy[header.end..header.end + 4].copy_from_slice(&sum.to_le_bytes());
    let error = open(greedy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn restart_points_and_runs_stay_few() {
    // 4 GiB of zeroes and ones by turns, described instead of decoded.
    let mut runs = index::Runs::default();
    for number in 0..2_000_000u64 {
        runs.push_for_test(number * 2 * CHUNK, (number * 2 + 1) * CHUNK);
    }
    assert!(runs.count() <= 1 << 19);
    assert!(runs.at(5 * CHUNK).0 || runs.at(5 * CHUNK).1 > 0);
    let want = vec![1; 48 << 20];
    let range = range(gzip(&want));
    let codec = Codec::new(&range, Packing::Gzip).unwrap();
    let index = index::Index::build(&codec, MAX_UNPACKED, &CancelToken::new()).unwrap();
    assert!(index.points.len() > 40 && index.points.len() < 768);
}
