//! The stream writer: read back by us and by qemu-img, the same bytes from any number of threads.

use std::path::{Path, PathBuf};

use image::copy::{CopyOptions, copy};
use image::formats::vmdk::{Options, Reader};
use image::formats::{self, OpenOptions, OutputFormat, WriteOptions};
use image::{BlockSource, ErrorKind, FileRange, Files};
use types::CancelToken;

use crate::compare::{assert_same, assert_same_as_qemu};
use crate::qemu::{Nature, raw_disk};
use crate::support::{has_qemu, run};

const MIB: u64 = 1 << 20;

fn options(pairs: &[(&str, &str)]) -> WriteOptions {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    WriteOptions::parse(OutputFormat::Vmdk, false, &pairs).unwrap()
}

fn convert(raw: &Path, vmdk: &Path, options: &WriteOptions, threads: usize, chunk_len: u64) {
    let source = formats::open(raw, &OpenOptions::with_format(Some(formats::Format::Raw))).unwrap();
    let sink = formats::create_with(vmdk, source.virtual_size(), options).unwrap();
    let how = CopyOptions { threads, chunk_len };
    copy(
        source.as_ref(),
        sink.as_ref(),
        &how,
        &CancelToken::new(),
        &|_| (),
    )
    .unwrap();
    let stats = sink.finish().unwrap();
    assert_eq!(stats.file_len, std::fs::metadata(vmdk).unwrap().len());
}

fn disk(folder: &Path) -> PathBuf {
    let patches = [
        (0, 5 * 1024 * 1024, Nature::Mixed),
        (9 * MIB + 512, 100_000, Nature::Text),
        (33 * MIB, 2 * 1024 * 1024 + 17, Nature::Random),
        (100 * MIB, 3 * 1024 * 1024, Nature::Mixed),
        (107 * MIB, 7 * 512, Nature::Random),
    ];
    raw_disk(folder, 107 * MIB + 7 * 512, &patches)
}

#[test]
fn a_written_stream_reads_the_same_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let raw = disk(folder.path());
    let vmdk = folder.path().join("stream.vmdk");
    convert(&raw, &vmdk, &options(&[]), 2, MIB);
    let reader = assert_same(&vmdk, &raw);
    let descriptor = reader.descriptor().unwrap();
    assert_eq!(descriptor.create_type.as_deref(), Some("streamOptimized"));
    assert_eq!(descriptor.adapter_type().as_deref(), Some("lsilogic"));
    let check = reader.check_metadata(&CancelToken::new()).unwrap().unwrap();
    assert!(check.is_clean(), "{check:?}");
    if has_qemu() {
        assert_same_as_qemu(&vmdk, folder.path());
        let (vmdk, raw) = (vmdk.to_str().unwrap(), raw.to_str().unwrap());
        run(
            "qemu-img",
            &["compare", "-f", "vmdk", "-F", "raw", vmdk, raw],
        );
        run("qemu-img", &["check", "-f", "vmdk", vmdk]);
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    let raw = disk(folder.path());
    let mut made = Vec::new();
    for (threads, chunk) in [(1, MIB), (2, MIB), (5, 64 << 10), (3, 8 * MIB)] {
        let vmdk = folder.path().join(format!("{threads}-{chunk}.vmdk"));
        convert(&raw, &vmdk, &options(&[]), threads, chunk);
        made.push(std::fs::read(vmdk).unwrap());
    }
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
}

/// What ESXi reads going forward only: every marker in its place, up to the end of the stream.
#[test]
fn a_written_stream_can_be_read_forward() {
    let folder = tempfile::tempdir().unwrap();
    let raw = disk(folder.path());
    let vmdk = folder.path().join("stream.vmdk");
    convert(&raw, &vmdk, &options(&[]), 2, MIB);
    let bytes = std::fs::read(&vmdk).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(&bytes[..4], b"KDMV");
    assert_eq!((u32_at(4), u32_at(8)), (3, 0x3_0001));
    assert_eq!(u64_at(56), u64::MAX, "the directory is at the end");
    let (mut at, mut last, mut kinds) = (65536, None, Vec::new());
    loop {
        let (val, size, kind) = (u64_at(at), u32_at(at + 8), u32_at(at + 12));
        if size > 0 {
            assert!(last < Some(val), "grains in order");
            last = Some(val);
            at += (12 + size as usize).next_multiple_of(512);
            continue;
        }
        kinds.push(kind);
        if kind == 3 {
            let footer = at + 512;
            assert_eq!(bytes[footer..footer + 56], bytes[..56]);
            let directory = usize::try_from(u64_at(footer + 56)).unwrap() * 512;
            assert_eq!(u32_at(directory - 512 + 12), 2, "behind its marker");
        }
        at += 512 + usize::try_from(val).unwrap() * 512;
        if kind == 0 {
            break;
        }
    }
    assert_eq!(kinds, [1, 1, 1, 2, 3, 0], "no table between 64 and 96 MiB");
    assert_eq!(at, bytes.len());
}

#[test]
fn options_are_in_the_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let raw = raw_disk(folder.path(), 3 * MIB, &[(0, 2_000_000, Nature::Mixed)]);
    let mut lens = Vec::new();
    for level in ["1", "12"] {
        let vmdk = folder.path().join(format!("{level}.vmdk"));
        let pairs = [
            ("adapter_type", "ide"),
            ("hwversion", "13"),
            ("compression_level", level),
        ];
        convert(&raw, &vmdk, &options(&pairs), 2, MIB);
        let reader = assert_same(&vmdk, &raw);
        let descriptor = reader.descriptor().unwrap();
        assert_eq!(descriptor.adapter_type().as_deref(), Some("ide"));
        assert_eq!(descriptor.hw_version(), Some("13"));
        assert_eq!(descriptor.ddb["geometry.heads"], "16");
        lens.push(std::fs::metadata(vmdk).unwrap().len());
    }
    assert!(lens[1] < lens[0], "{lens:?}");
}

#[test]
fn empty_and_tiny_disks_are_written() {
    let folder = tempfile::tempdir().unwrap();
    for (size, patches) in [
        (512, vec![]),
        (512, vec![(0, 512, Nature::Text)]),
        (5 << 30, vec![]),
        ((5 << 30) - 512, vec![((5 << 30) - 1024, 512, Nature::Text)]),
    ] {
        let raw = raw_disk(folder.path(), size, &patches);
        let vmdk = folder.path().join("tiny.vmdk");
        convert(&raw, &vmdk, &options(&[]), 2, MIB);
        assert_same(&vmdk, &raw);
        if has_qemu() {
            assert_same_as_qemu(&vmdk, folder.path());
        }
        std::fs::remove_file(vmdk).unwrap();
    }
}

#[test]
fn without_the_copy_engine_grains_wait_for_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let vmdk = folder.path().join("out-of-order.vmdk");
    let sink = formats::create_with(&vmdk, 300 * 65536, &WriteOptions::Vmdk(Options::default()));
    let sink = sink.unwrap();
    assert!(sink.is_ordered());
    for grain in [299_u64, 3, 0, 77] {
        sink.write_at(&vec![grain as u8 + 1; 65536], grain * 65536)
            .unwrap();
    }
    sink.passed(5 * 65536).unwrap();
    assert_eq!(
        sink.write_at(&[1; 65536], 4 * 65536).unwrap_err().kind(),
        ErrorKind::Usage
    );
    assert_eq!(sink.finish().unwrap_err().kind(), ErrorKind::Usage);
    assert!(Reader::open(FileRange::open(&vmdk).unwrap(), Files::none()).is_err());

    let vmdk = folder.path().join("again.vmdk");
    let sink = formats::create_with(&vmdk, 300 * 65536, &WriteOptions::Vmdk(Options::default()));
    let sink = sink.unwrap();
    for grain in [299_u64, 3, 0, 77] {
        sink.write_at(&vec![grain as u8 + 1; 65536], grain * 65536)
            .unwrap();
    }
    sink.finish().unwrap();
    let reader = Reader::open(FileRange::open(&vmdk).unwrap(), Files::none()).unwrap();
    let mut buf = vec![0; 65536];
    for grain in [0_u64, 3, 77, 299] {
        reader.read_at(&mut buf, grain * 65536).unwrap();
        assert!(buf.iter().all(|byte| *byte == grain as u8 + 1));
    }
}
