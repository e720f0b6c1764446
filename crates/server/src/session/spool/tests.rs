//! The spool's files: what is refused, what heals itself.

use std::fs;
use std::os::unix::fs::FileExt;

use wire::chunk::block_hash;

use super::*;

const LEN: usize = wire::BLOCK_LEN as usize;

fn disk(virtual_size: u64) -> DiskIdentity {
    DiskIdentity {
        name: "sda".to_owned(),
        serial: "S1".to_owned(),
        wwid: String::new(),
        virtual_size,
    }
}

fn open(dir: &Path, size: u64) -> Result<Spool> {
    Spool::open(dir, vec![disk(size)], 0, false)
}

/// Stores data blocks whose bytes are all their number.
fn store(spool: &Spool, first: u64, count: u8, last_len: usize) {
    let mut plain = vec![];
    let mut pieces = vec![];
    for n in 0..count {
        let len = if n + 1 == count { last_len } else { LEN };
        let block = vec![n + 1; len];
        pieces.push(Piece::Data(
            block_hash(&block),
            plain.len()..plain.len() + len,
        ));
        plain.extend(block);
    }
    spool.store(0, first, &plain, &pieces).unwrap();
}

#[test]
fn blocks_come_back_and_claims_are_checked_once() {
    let dir = tempfile::tempdir().unwrap();
    let size = 40 * BLOCK + 512;
    let spool = open(dir.path(), size).unwrap();
    store(&spool, 38, 3, 512);
    let copied = vec![9; LEN];
    let pieces = [Piece::Zero, Piece::Copied(block_hash(&copied), copied)];
    spool.store(0, 5, &[], &pieces).unwrap();
    let mut buf = vec![7; 2 * LEN];
    spool.disks[0].read(&mut buf, 5 * BLOCK).unwrap();
    assert!(buf[..LEN].iter().all(|&b| b == 0) && buf[LEN..].iter().all(|&b| b == 9));
    let mut end = vec![0; 600];
    spool.disks[0].read(&mut end, size - 600).unwrap();
    assert!(end[..88].iter().all(|&b| b == 2) && end[88..].iter().all(|&b| b == 3));
    assert!(spool.disks[0].read(&mut end, 0).is_err(), "absent");
    spool.sync().unwrap();
    drop(spool);

    let spool = open(dir.path(), size).unwrap();
    let states = |block| spool.disks[0].states().get(block);
    assert_eq!(states(5), BlockState::Zero);
    assert_eq!(states(6), BlockState::Claimed);
    assert_eq!(states(7), BlockState::Absent);
    assert!(spool.disks[0].read(&mut buf, 5 * BLOCK).is_err());
    assert!(spool.disks[0].check_claim(6).unwrap());
    assert_eq!(states(6), BlockState::Trusted);
    let data = dir.path().join("disk0.data");
    let file = fs::OpenOptions::new().write(true).open(data).unwrap();
    file.write_all_at(b"x", 40 * BLOCK).unwrap();
    assert!(!spool.disks[0].check_claim(40).unwrap());
    assert_eq!(states(40), BlockState::Absent);
}

#[test]
fn other_disks_and_damaged_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 4 * BLOCK).unwrap());
    let refused = |size, expected: &str| {
        let error = open(dir.path(), size).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(
        5 * BLOCK,
        "disk sda has 327680 bytes, and the spool is of one with 262144",
    );
    let two = Spool::open(dir.path(), vec![disk(BLOCK), disk(BLOCK)], 0, false);
    assert!(two.is_err());
    let mut other = disk(4 * BLOCK);
    other.serial = "S2".to_owned();
    let other = Spool::open(dir.path(), vec![other], 0, false).unwrap_err();
    assert!(other.to_string().contains("S1"), "{other}");
    let map = dir.path().join("disk0.map");
    fs::write(&map, [1; 33]).unwrap();
    refused(4 * BLOCK, "disk0.map");
    fs::remove_file(&map).unwrap();
    let header = dir.path().join("spool.json");
    for damage in ["", "{", "{\"version\":1}"] {
        fs::write(&header, damage).unwrap();
        refused(4 * BLOCK, "spool.json");
    }
    fs::write(&header, vec![b' '; 2 << 20]).unwrap();
    refused(4 * BLOCK, "expected at most");
    fs::write(&header, r#"{"version":2,"block_len":65536,"disks":[]}"#).unwrap();
    refused(4 * BLOCK, "version 2");
}

#[test]
fn a_map_of_garbage_and_lost_data_heal() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 4 * BLOCK).unwrap());
    fs::write(dir.path().join("disk0.map"), [0x5a; 128]).unwrap();
    fs::remove_file(dir.path().join("disk0.data")).unwrap();
    let spool = open(dir.path(), 4 * BLOCK).unwrap();
    for block in 0..4 {
        assert!(!spool.disks[0].check_claim(block).unwrap());
    }
    store(&spool, 0, 4, LEN);
    drop(spool);
    let spool = open(dir.path(), 4 * BLOCK).unwrap();
    assert!((0..4).all(|block| spool.disks[0].check_claim(block).unwrap()));
}

#[test]
fn disks_that_cannot_be_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for size in [0, 513, u64::MAX - 511, 1 << 62] {
        assert!(open(&dir.path().join("x"), size).is_err());
    }
    assert!(!dir.path().join("x").exists());
    let many = vec![disk(BLOCK); 300];
    assert!(Spool::open(&dir.path().join("x"), many, 0, false).is_err());
    // The bitmap of a large disk costs no memory before it is used.
    let large = open(&dir.path().join("large"), 8 << 40).unwrap();
    store(&large, (8 << 24) / 16 * 16 - 3, 2, LEN);
}
