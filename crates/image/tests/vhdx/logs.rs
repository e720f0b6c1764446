//! Logs that were never applied: hand-built, and left by a QEMU whose write of the BAT failed.

use image::{BlockSource, ErrorKind, Fact};
use types::CancelToken;

use crate::builder::{
    BAT, Change, Disk, Entry, HEADERS, LOG, MIB, put, put_in_log, reseal, set_dirty,
};
use crate::support::{Random, assert_reads, has_qemu, open_bytes, open_path, read_all, run};

fn disk() -> Disk {
    let mut disk = Disk::new(MIB, 512, 5 * MIB as u64 + 512);
    for block in [0, 2, 3] {
        disk.blocks.insert(block, (6, vec![block as u8 + 1; MIB]));
    }
    disk
}

/// Applies changes to a file as a replay does.
fn apply(image: &mut Vec<u8>, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Zero { offset, len } => {
                let (start, end) = (*offset as usize, (*offset + *len) as usize);
                image.resize(image.len().max(end), 0);
                image[start..end].fill(0);
            }
            Change::Page { offset, bytes } => {
                let start = *offset as usize;
                image.resize(image.len().max(start + 4096), 0);
                put(image, start, bytes);
            }
        }
    }
}

/// Changes in the BAT (block 1 gets a place, block 3 is given up) and in blocks.
fn changes(image: &[u8], random: &mut Random) -> Vec<Vec<Change>> {
    let disk = disk();
    let mut bat = image[BAT..BAT + 4096].to_vec();
    let place = image.len() as u64 | 6;
    put(&mut bat, disk.entry_at(1) - BAT, &place.to_le_bytes());
    put(&mut bat, disk.entry_at(3) - BAT, &3u64.to_le_bytes());
    let mut page = || {
        let mut bytes = vec![0; 4096];
        random.fill(&mut bytes);
        bytes
    };
    let block0 = BAT as u64 + MIB as u64;
    let new = image.len() as u64;
    vec![
        vec![
            Change::Page {
                offset: block0,
                bytes: page(),
            },
            Change::Zero {
                offset: block0 + 0x8000,
                len: 0x9000,
            },
            Change::Page {
                offset: block0 + 0x3000,
                bytes: page(),
            },
        ],
        vec![Change::Page {
            offset: BAT as u64,
            bytes: bat,
        }],
        // Over what the first wrote, and where the file is not yet so long.
        vec![
            Change::Page {
                offset: block0 + 0x9000,
                bytes: page(),
            },
            Change::Page {
                offset: block0 + 0x3000,
                bytes: page(),
            },
            Change::Page {
                offset: new + 0x5000,
                bytes: page(),
            },
            Change::Zero {
                offset: block0,
                len: 0x1000,
            },
        ],
    ]
}

/// The file with a log that starts at `at`, and what it must read as.
fn dirty(at: usize, first: u64, keep: usize) -> (Vec<u8>, Vec<u8>) {
    let mut image = disk().build();
    let mut after = image.clone();
    let mut random = Random(99);
    let steps = changes(&image, &mut random);
    let last = (image.len() + MIB) as u64;
    let flushed = image.len() as u64;
    let mut place = at;
    for (index, changes) in steps.into_iter().enumerate() {
        if index < keep {
            apply(&mut after, &changes);
        }
        let entry = Entry {
            number: first + index as u64,
            tail: at,
            flushed,
            last,
            changes,
        };
        let bytes = entry.build();
        put_in_log(&mut image, place, &bytes);
        place = (place + bytes.len()) % MIB;
    }
    if after.len() as u64 != last && keep > 0 {
        after.resize(last as usize, 0);
    }
    set_dirty(&mut image);
    (image, after)
}

/// Bytes of the three entries of [`dirty`].
const LENS: [usize; 3] = [3 * 4096, 2 * 4096, 4 * 4096];

fn assert_same(dirty: Vec<u8>, after: Vec<u8>) {
    let expected = read_all(&open_bytes(after).unwrap());
    let reader = open_bytes(dirty).unwrap();
    assert_reads(&reader, &expected, &mut Random(5));
}

#[test]
fn a_log_is_replayed_in_memory() {
    for (at, first) in [
        (0, 1),
        (0x10000, 0xffff_fffe),
        (MIB - 4096, 7),
        (MIB - LENS[0] - 4096, 1 << 40),
    ] {
        let (image, after) = dirty(at, first, 3);
        let reader = open_bytes(image.clone()).unwrap();
        let info = reader.info();
        let log = info.facts.iter().find(|(name, _)| *name == "log").unwrap();
        assert!(matches!(&log.1, Fact::Text(text) if text.starts_with("dirty: 3 entries")));
        let check = reader.check_metadata(&CancelToken::new()).unwrap().unwrap();
        assert_eq!(check.corruptions, 1, "{:?}", check.findings);
        assert_same(image, after);
    }
}

#[test]
fn a_torn_entry_ends_the_sequence() {
    // The second entry's data sector was never written: the first alone counts.
    let (mut image, after) = dirty(0, 5, 1);
    image[LOG + LENS[0] + 4096 + 17] ^= 1;
    assert_same(image, after);
    // The third is torn.
    let (mut image, after) = dirty(0, 5, 2);
    image[LOG + LENS[0] + LENS[1]..LOG + LENS[0] + LENS[1] + 4].fill(0);
    assert_same(image, after);
}

#[test]
fn older_sequences_and_strangers_are_passed_over() {
    let (mut image, after) = dirty(0x20000, 50, 3);
    let stale = |number, tail| Entry {
        number,
        tail,
        flushed: 0,
        last: 0,
        changes: vec![Change::Page {
            offset: (BAT + MIB) as u64,
            bytes: vec![0xcc; 4096],
        }],
    };
    put_in_log(&mut image, 0, &stale(10, 0).build());
    put_in_log(&mut image, 0x80000, &stale(49, 0x80000).build());
    // Newer, but its tail is gone.
    put_in_log(&mut image, 0x90000, &stale(90, 0x70000).build());
    // Newer, of another log.
    let mut other = stale(99, 0xa0000).build();
    put(&mut other, 32, &[1; 16]);
    crate::builder::seal(&mut other);
    put_in_log(&mut image, 0xa0000, &other);
    // Newer, with a wrong checksum, with a wrong number in its data sector, with an odd offset.
    let mut broken = stale(99, 0xb0000).build();
    broken[4] ^= 1;
    put_in_log(&mut image, 0xb0000, &broken);
    let mut broken = stale(99, 0xc0000).build();
    broken[4096 + 4092] ^= 1;
    crate::builder::seal(&mut broken);
    put_in_log(&mut image, 0xc0000, &broken);
    let mut broken = stale(99, 0xd0000).build();
    broken[64 + 17] ^= 1;
    crate::builder::seal(&mut broken);
    put_in_log(&mut image, 0xd0000, &broken);
    assert_same(image, after);
}

#[test]
fn an_entry_of_many_descriptors_spans_pages() {
    let mut image = disk().build();
    let mut after = image.clone();
    let mut random = Random(7);
    let changes: Vec<Change> = (0..200)
        .map(|index| {
            let mut bytes = vec![0; 4096];
            random.fill(&mut bytes);
            Change::Page {
                offset: (BAT + MIB) as u64 + index * 4096,
                bytes,
            }
        })
        .collect();
    apply(&mut after, &changes);
    let len = image.len() as u64;
    let entry = Entry {
        number: 3,
        tail: MIB - 0x40000,
        flushed: len,
        last: len,
        changes,
    };
    put_in_log(&mut image, MIB - 0x40000, &entry.build());
    set_dirty(&mut image);
    assert_same(image, after);
}

#[test]
fn a_log_that_cannot_be_replayed_is_refused() {
    let refused = |image: Vec<u8>, kind: ErrorKind, text: &str| {
        let error = open_bytes(image).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error} lacks {text}");
    };
    let mut empty = disk().build();
    set_dirty(&mut empty);
    refused(empty, ErrorKind::Corrupt, "cannot be replayed");
    let (mut torn, _) = dirty(0, 5, 0);
    torn[LOG + 100] ^= 1;
    refused(torn, ErrorKind::Corrupt, "cannot be replayed");
    let one = |entry: Entry| {
        let mut image = disk().build();
        put_in_log(&mut image, 0, &entry.build());
        set_dirty(&mut image);
        image
    };
    let entry = |changes| Entry {
        number: 1,
        tail: 0,
        flushed: 0,
        last: 0,
        changes,
    };
    let zero = |offset, len| vec![Change::Zero { offset, len }];
    refused(
        one(entry(zero(0x10000, 0x1000))),
        ErrorKind::Corrupt,
        "headers",
    );
    refused(
        one(entry(zero(0x1ff000, 0x2000))),
        ErrorKind::Corrupt,
        "itself",
    );
    refused(
        one(entry(zero(1 << 50, 0x1000))),
        ErrorKind::Corrupt,
        "at most",
    );
    refused(
        one(entry(zero(u64::MAX - 0xfff, 0x1000))),
        ErrorKind::Corrupt,
        "cannot be replayed",
    );
    let cut = Entry {
        flushed: 1 << 30,
        ..entry(Vec::new())
    };
    refused(one(cut), ErrorKind::Truncated, "cut after it was written");
    let vast = Entry {
        last: 1 << 60,
        ..entry(Vec::new())
    };
    refused(one(vast), ErrorKind::Limit, "at most");
    let (mut image, _) = dirty(0, 5, 3);
    for at in HEADERS {
        image[at + 64] = 1;
        reseal(&mut image, at, 4096);
    }
    refused(image, ErrorKind::Unsupported, "version 0 of the VHDX log");
    // Without a log identifier nothing of this matters.
    for at in HEADERS {
        image_clean(at);
    }
}

fn image_clean(header: usize) {
    let mut image = disk().build();
    let (log, _) = dirty(0, 5, 0);
    image[LOG..LOG + MIB].copy_from_slice(&log[LOG..LOG + MIB]);
    image[header + 64] = 1;
    reseal(&mut image, header, 4096);
    let expected = read_all(&open_bytes(disk().build()).unwrap());
    assert_reads(&open_bytes(image).unwrap(), &expected, &mut Random(5));
}

#[test]
fn a_log_that_qemu_left_is_replayed_as_qemu_does() {
    if !has_qemu() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    for block in ["1M", "8M"] {
        let path = scratch.path().join(format!("{block}.vhdx"));
        let name = path.to_str().unwrap();
        let options = format!("block_size={block}");
        run(
            "qemu-img",
            &["create", "-q", "-f", "vhdx", "-o", &options, name, "5G"],
        );
        run(
            "qemu-io",
            &[
                "-f",
                "vhdx",
                "-c",
                "write -P 3 4300M 3M",
                "-c",
                "write -P 4 7M 64k",
                name,
            ],
        );
        // The BAT, which QEMU puts at 2 MiB, cannot be written: the log has been, and stays.
        let file = format!(
            "json:{{\"driver\":\"vhdx\",\"file\":{{\"driver\":\"blkdebug\",\"image\":{{\"driver\":\"file\",\
             \"filename\":\"{name}\"}},\"inject-error\":[{{\"event\":\"none\",\"iotype\":\"write\",\"sector\":4096}}]}}}}"
        );
        let out = std::process::Command::new("qemu-io")
            .args(["-c", "write -P 7 33M 100k", &file])
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&out.stderr).contains("error")
                || String::from_utf8_lossy(&out.stdout).contains("error")
        );
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        let disk = open_path(&path).unwrap();
        let info = disk.info();
        assert!(info.facts.iter().any(|(name, fact)| *name == "log"
            && matches!(fact, Fact::Text(text) if text.starts_with("dirty"))));
        let mut bytes = [0; 3];
        disk.read_at(&mut bytes[..1], 4302 << 20).unwrap();
        disk.read_at(&mut bytes[1..2], (7 << 20) + 5).unwrap();
        disk.read_at(&mut bytes[2..], 34 << 20).unwrap();
        assert_eq!(bytes, [3, 4, 0]);
        // The block has its place in the log only: the file by itself says that nothing is there.
        disk.read_at(&mut bytes[..1], 33 << 20).unwrap();
        assert_eq!(bytes[0], 7);
        let mut closed = std::fs::read(&path).unwrap();
        for at in HEADERS {
            put(&mut closed, at + 48, &[0; 16]);
            reseal(&mut closed, at, 4096);
        }
        let stale = open_bytes(closed).unwrap();
        assert!(stale.extent_at(33 << 20, 4096).unwrap().kind.reads_zero());
        assert_eq!(
            std::fs::metadata(&path).unwrap().modified().unwrap(),
            before
        );
        // QEMU replays into a copy.
        let copy = scratch.path().join("copy.vhdx");
        std::fs::copy(&path, &copy).unwrap();
        run(
            "qemu-img",
            &["check", "-q", "-r", "all", copy.to_str().unwrap()],
        );
        run(
            "qemu-io",
            &[
                "-r",
                "-f",
                "vhdx",
                "-c",
                "read -P 7 33M 100k",
                "-c",
                "read -P 3 4300M 3M",
                "-c",
                "read -P 0 34M 1M",
                copy.to_str().unwrap(),
            ],
        );
        let replayed = open_path(&copy).unwrap();
        for at in [7u64 << 20, 32 << 20, 33 << 20, 4299 << 20, 4302 << 20] {
            let [mut before, mut after] = [vec![0; 1 << 20], vec![1; 1 << 20]];
            disk.read_at(&mut before, at).unwrap();
            replayed.read_at(&mut after, at).unwrap();
            assert!(before == after, "{at:#x}");
        }
        assert!(
            replayed
                .check_metadata(&CancelToken::new())
                .unwrap()
                .unwrap()
                .is_clean()
        );
    }
}
