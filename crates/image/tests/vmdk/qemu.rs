//! Images that qemu-img makes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use image::{BlockSource, ExtentKind};

use crate::compare::{assert_same, assert_same_as_qemu, bytes_of};
use crate::support::{Random, has_qemu, run};

const MIB: u64 = 1 << 20;

/// A raw disk with patches of each nature at these offsets.
pub(crate) fn raw_disk(folder: &Path, size: u64, patches: &[(u64, usize, Nature)]) -> PathBuf {
    let path = folder.join("source.raw");
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    let mut random = Random(size | 1);
    for (offset, len, nature) in patches {
        let mut bytes = vec![0; *len];
        match nature {
            Nature::Random => random.fill(&mut bytes),
            Nature::Text => bytes
                .iter_mut()
                .enumerate()
                .for_each(|(i, byte)| *byte = b"GNU is not Unix. "[i * i % 17]),
            Nature::Mixed => {
                random.fill(&mut bytes);
                bytes
                    .chunks_mut(700)
                    .step_by(2)
                    .for_each(|part| part.fill(b'x'));
            }
        }
        file.write_all_at(&bytes, *offset).unwrap();
    }
    path
}

#[derive(Clone, Copy)]
pub(crate) enum Nature {
    Random,
    Text,
    Mixed,
}

/// All that qemu-img writes.
const SUBFORMATS: [&str; 5] = [
    "monolithicSparse",
    "streamOptimized",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
];

/// Converts the disk to every subformat and compares.
fn all_subformats(size: u64, patches: &[(u64, usize, Nature)]) {
    if !has_qemu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let raw = raw_disk(folder.path(), size, patches);
    for subformat in SUBFORMATS {
        let sparse = !subformat.ends_with("Flat");
        let vmdk = folder.path().join("an image.vmdk");
        let option = format!("subformat={subformat}");
        let paths = [raw.to_str().unwrap(), vmdk.to_str().unwrap()];
        run(
            "qemu-img",
            &[
                "convert", "-f", "raw", "-O", "vmdk", "-o", &option, paths[0], paths[1],
            ],
        );
        let reader = assert_same(&vmdk, &raw);
        assert_eq!(
            reader.descriptor().unwrap().create_type.as_deref(),
            Some(subformat)
        );
        assert_eq!(reader.format(), "vmdk");
        let data = bytes_of(&reader, ExtentKind::Data);
        let written: u64 = patches
            .iter()
            .map(|(_, len, _)| *len as u64 + 2 * reader.read_granularity())
            .sum();
        if sparse {
            assert!(
                data <= written,
                "{data} bytes are said to be data of {written} written"
            );
        }
        if !patches.is_empty() {
            assert!(data > 0);
        }
    }
}

#[test]
fn mixed_content_of_an_odd_size_reads_the_same() {
    let patches = [
        (0, 3 * 1024 * 1024, Nature::Mixed),
        (5 * MIB + 512, 100_000, Nature::Text),
        (20 * MIB, 2 * 1024 * 1024 + 17, Nature::Random),
        (33 * MIB, 40_000, Nature::Mixed),
        (47 * MIB, 7 * 512, Nature::Random),
    ];
    all_subformats(47 * MIB + 7 * 512, &patches);
}

#[test]
fn incompressible_content_reads_the_same() {
    all_subformats(6 * MIB, &[(0, 6 * 1024 * 1024, Nature::Random)]);
}

#[test]
fn an_empty_disk_reads_as_zeroes() {
    all_subformats(MIB + 512, &[]);
}

#[test]
fn a_disk_of_one_sector_reads_the_same() {
    all_subformats(512, &[(0, 512, Nature::Text)]);
}

#[test]
fn a_sparse_disk_beyond_four_gib_reads_the_same() {
    let patches = [
        (0, 70_000, Nature::Text),
        (4096 * MIB - 1000, 400_000, Nature::Mixed),
        (5120 * MIB - 4096, 4096, Nature::Random),
    ];
    all_subformats(5120 * MIB, &patches);
}

#[test]
fn zeroed_grains_are_zero_extents() {
    if !has_qemu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let vmdk = folder.path().join("zeroed.vmdk");
    let path = vmdk.to_str().unwrap();
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "vmdk",
            "-o",
            "zeroed_grain=on",
            path,
            "64M",
        ],
    );
    run(
        "qemu-io",
        &[
            "-f",
            "vmdk",
            "-c",
            "write -P 5 0 1M",
            "-c",
            "write -z 256k 128k",
            path,
        ],
    );
    let reader = assert_same_as_qemu(&vmdk, folder.path());
    assert_eq!(bytes_of(&reader, ExtentKind::Zero), 128 << 10);
    assert_eq!(bytes_of(&reader, ExtentKind::Data), (1 << 20) - (128 << 10));
    assert_eq!(reader.extent_at(256 << 10, 1 << 30).unwrap().len, 128 << 10);
}
