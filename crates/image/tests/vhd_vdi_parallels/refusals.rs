//! What is wrong is refused with file, place and reason, or read by what is left.

use image::ErrorKind;
use types::CancelToken;

use crate::builder::{Layer, Vdi, Vhd, checksum, parallels};
use crate::support::{Rng, assert_holds, opened, refusal};

fn layer(rng: &mut Rng, size: usize) -> Layer {
    Layer {
        disk: rng.disk(size, 100),
        own: vec![true; size / 512],
    }
}

/// Writes the file, changed, and checks the refusal.
fn refused(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>), kind: ErrorKind, text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&path);
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    assert!(message.contains(text), "{message} lacks {text}");
    assert!(message.contains("/image: "), "{message} names no file");
}

#[test]
fn a_damaged_footer_is_replaced_by_its_copy() {
    let layer = layer(&mut Rng::new(8), 1 << 20);
    let good = Vhd::dynamic(64 << 10, 1).build(&layer);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    for damage in [
        |b: &mut Vec<u8>| b.truncate(b.len() - 512),
        |b: &mut Vec<u8>| {
            let at = b.len() - 300;
            b[at] ^= 1;
        },
        |b: &mut Vec<u8>| b[300] ^= 1,
    ] {
        let mut bytes = good.clone();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let source = opened(&path);
        assert_holds(&*source, &layer.disk);
        let check = source.check_metadata(&CancelToken::new()).unwrap().unwrap();
        assert_eq!(check.corruptions, 1, "{check:?}");
    }
    // The footer of old Virtual PC is a byte shorter.
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert_holds(&*opened(&path), &layer.disk);
    refused(
        &good,
        |b| {
            b[300] ^= 1;
            let at = b.len() - 300;
            b[at] ^= 1;
        },
        ErrorKind::Corrupt,
        "checksum",
    );
}

#[test]
fn bad_vhds_are_refused() {
    let layer = layer(&mut Rng::new(9), 1 << 20);
    let good = Vhd::dynamic(64 << 10, 1).build(&layer);
    let table = 512 + 1024 + 8 * 512;
    refused(
        &good,
        |b| b.copy_within(table..table + 4, table + 8),
        ErrorKind::Corrupt,
        "overlapping",
    );
    refused(
        &good,
        |b| b[table..table + 4].fill(0),
        ErrorKind::Corrupt,
        "clear of the metadata",
    );
    refused(
        &good,
        |b| b[table..table + 4].fill(0x70),
        ErrorKind::Truncated,
        "block 0",
    );
    refused(
        &good,
        |b| b.truncate(b.len() - 4096),
        ErrorKind::Truncated,
        "the file ends at",
    );
    refused(&good, |b| b.truncate(900), ErrorKind::Truncated, "header");
    refused(
        &good,
        |b| {
            b[512 + 31] = 3;
            b[512 + 36..512 + 40].fill(0);
            let sum = checksum(&b[512..1536]);
            b[512 + 36..512 + 40].copy_from_slice(&sum);
        },
        ErrorKind::Corrupt,
        "BAT of 16 entries",
    );
    let fixed = Vhd {
        disk_type: 2,
        ..Vhd::dynamic(512, 1)
    };
    let mut bytes = layer.disk.clone();
    bytes.extend(fixed.footer(1 << 20));
    refused(
        &bytes,
        |b| drop(b.drain(..512)),
        ErrorKind::Truncated,
        "before the footer",
    );
}

#[test]
fn bad_vdis_are_refused() {
    let layer = layer(&mut Rng::new(10), 1 << 20);
    let vdi = Vdi {
        block_size: 64 << 10,
        block_extra: 0,
        image_type: 1,
        id: 1,
        parent_id: 0,
    };
    let good = vdi.build(&layer, &[]);
    for (at, bytes, kind, text) in [
        (
            0x44,
            &[0, 0, 0, 0][..],
            ErrorKind::Unsupported,
            "version 0.0",
        ),
        (0x44, &[2, 0], ErrorKind::Unsupported, "version 1.2"),
        (0x4c, &[3], ErrorKind::Unsupported, "undo"),
        (0x4c, &[9], ErrorKind::Unsupported, "type 9"),
        (0x170, &[1], ErrorKind::Corrupt, "whole sectors"),
        (0x178, &[0; 4], ErrorKind::Corrupt, "block size"),
        (0x17c, &[0xff; 4], ErrorKind::Limit, "extra"),
        (0x180, &[15], ErrorKind::Corrupt, "16 blocks"),
        (512, &[1, 0, 0, 0], ErrorKind::Corrupt, "overlapping"),
        (512, &[16, 0, 0, 0], ErrorKind::Truncated, "block 0"),
        (
            512,
            &[0xfd, 0xff, 0xff, 0xff],
            ErrorKind::Truncated,
            "block 0",
        ),
        (0x158, &[0; 4], ErrorKind::Corrupt, "clear of the metadata"),
    ] {
        refused(
            &good,
            |b| b[at..at + bytes.len()].copy_from_slice(bytes),
            kind,
            text,
        );
    }
    refused(
        &good,
        |b| b.truncate(b.len() - 1),
        ErrorKind::Truncated,
        "the file ends at",
    );
    refused(&good, |b| b.truncate(300), ErrorKind::Truncated, "header");
    refused(&good, |b| b.truncate(540), ErrorKind::Truncated, "table");
}

#[test]
fn bad_parallels_images_are_refused() {
    let disk = Rng::new(11).disk(1 << 20, 100);
    let good = parallels(&disk, 128, true);
    for (at, bytes, kind, text) in [
        (64, &[2, 0][..], ErrorKind::Corrupt, "overlapping"),
        (64, &[0xff, 0xff], ErrorKind::Truncated, "block 0"),
        (52, &[1], ErrorKind::Corrupt, "empty"),
        (48, &[0, 1], ErrorKind::Corrupt, "clear of the metadata"),
        (56, &[128, 1], ErrorKind::Corrupt, "clear of the metadata"),
    ] {
        refused(
            &good,
            |b| b[at..at + bytes.len()].copy_from_slice(bytes),
            kind,
            text,
        );
    }
    refused(
        &good,
        |b| b.truncate(b.len() - 512),
        ErrorKind::Truncated,
        "the file ends at",
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("open.hdd");
    let mut bytes = good;
    bytes[44..48].copy_from_slice(&0x746f_6e59_u32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let source = opened(&path);
    assert_holds(&*source, &disk);
    let check = source.check_metadata(&CancelToken::new()).unwrap().unwrap();
    assert_eq!(check.corruptions, 1);
}
