//! One damaged image per rule.

use image::{BlockSource, ErrorKind, extents};
use types::CancelToken;

use crate::builder::{BAT, Disk, HEADERS, METADATA, MIB, TABLES, guid, put, reseal};
use crate::support::{open_bytes, read_all};

fn disk() -> Disk {
    let mut disk = Disk::new(MIB, 512, 3 * MIB as u64);
    disk.blocks.insert(0, (6, vec![1; MIB]));
    disk.blocks.insert(2, (6, vec![2; MIB]));
    disk
}

/// Changes both headers.
fn headers(image: &mut [u8], at: usize, value: &[u8]) {
    for header in HEADERS {
        put(image, header + at, value);
        reseal(image, header, 4096);
    }
}

/// Changes both region tables.
fn tables(image: &mut [u8], at: usize, value: &[u8]) {
    for table in TABLES {
        put(image, table + at, value);
        reseal(image, table, 64 << 10);
    }
}

fn third_region(image: &mut [u8], offset: u64, len: u32, required: u32) {
    let mut entry = guid(0xdead_beef).to_vec();
    entry.extend(offset.to_le_bytes());
    entry.extend(len.to_le_bytes());
    entry.extend(required.to_le_bytes());
    tables(image, 16 + 64, &entry);
    tables(image, 8, &3u32.to_le_bytes());
}

type Damage = fn(&mut Vec<u8>);
use ErrorKind::{Corrupt, Limit, Truncated, Unsupported};

const ON_OPEN: &[(&str, ErrorKind, &str, Damage)] = &[
    ("identifier", Corrupt, "vhdxfile", |i| i[0] = b'V'),
    ("short identifier", Truncated, "reading", |i| {
        i.truncate(300)
    }),
    (
        "short file",
        Corrupt,
        "expected a valid region table",
        |i| {
            i.truncate(70 << 10);
        },
    ),
    ("both headers", Corrupt, "expected a valid header", |i| {
        i[HEADERS[0] + 20] ^= 1;
        i[HEADERS[1] + 4000] ^= 1;
    }),
    (
        "equal sequence numbers",
        Corrupt,
        "one current header",
        |i| {
            headers(i, 8, &9u64.to_le_bytes());
            put(i, HEADERS[0] + 16, &[5]);
            reseal(i, HEADERS[0], 4096);
        },
    ),
    ("version", Unsupported, "version 1", |i| {
        headers(i, 66, &[2])
    }),
    ("log place", Corrupt, "whole MiB", |i| {
        headers(i, 72, &0x180000u64.to_le_bytes())
    }),
    ("log over the header", Corrupt, "whole MiB", |i| {
        headers(i, 72, &0u64.to_le_bytes())
    }),
    ("log over a region", Corrupt, "overlap", |i| {
        headers(i, 72, &(METADATA as u64).to_le_bytes())
    }),
    ("log wraps", Corrupt, "whole MiB", |i| {
        headers(i, 72, &0xffff_ffff_fff0_0000u64.to_le_bytes())
    }),
    (
        "both region tables",
        Corrupt,
        "expected a valid region table",
        |i| {
            i[TABLES[0]] ^= 1;
            i[TABLES[1] + 60000] ^= 1;
        },
    ),
    ("count of regions", Corrupt, "at most 2047", |i| {
        tables(i, 8, &2048u32.to_le_bytes())
    }),
    (
        "unknown region",
        Unsupported,
        "00000000-0000-0000-0000-0000deadbeef",
        |i| {
            third_region(i, 40 << 20, MIB as u32, 1);
        },
    ),
    ("regions overlap", Corrupt, "overlap", |i| {
        third_region(i, BAT as u64, MIB as u32, 0)
    }),
    ("region over header", Corrupt, "from 1 MiB", |i| {
        tables(i, 32, &0u64.to_le_bytes())
    }),
    ("region alignment", Corrupt, "whole MiB", |i| {
        tables(i, 32, &0x380000u64.to_le_bytes())
    }),
    (
        "region past the end",
        Corrupt,
        "before the end of the file",
        |i| {
            tables(i, 32, &(1u64 << 40).to_le_bytes());
        },
    ),
    ("region twice", Corrupt, "once", |i| {
        third_region(i, 3 << 20, MIB as u32, 0);
        let bat = i[TABLES[0] + 16..TABLES[0] + 32].to_vec();
        tables(i, 80, &bat);
        tables(i, 96, &(4u64 << 20).to_le_bytes());
    }),
    ("no BAT", Corrupt, "expected a BAT region", |i| {
        tables(i, 16, &guid(0xabcd));
        tables(i, 44, &[0]);
    }),
    ("metadata signature", Corrupt, "metadata", |i| {
        i[METADATA] ^= 1
    }),
    ("count of items", Corrupt, "at most 2047", |i| {
        put(i, METADATA + 10, &2048u16.to_le_bytes())
    }),
    ("unknown item", Unsupported, "required metadata item", |i| {
        put(i, METADATA + 10, &[6]);
        put(i, METADATA + 32 + 5 * 32, &guid(0x77));
        put(i, METADATA + 32 + 5 * 32 + 24, &[4]);
    }),
    ("item twice", Corrupt, "once", |i| {
        put(i, METADATA + 10, &[6]);
        let entry = i[METADATA + 32..METADATA + 64].to_vec();
        put(i, METADATA + 32 + 5 * 32, &entry);
    }),
    ("item in the table", Corrupt, "metadata item", |i| {
        put(i, METADATA + 48, &0xffffu32.to_le_bytes())
    }),
    ("item past the region", Corrupt, "metadata item", |i| {
        put(i, METADATA + 48, &(MIB as u32 - 4).to_le_bytes());
    }),
    ("item length", Corrupt, "expected 8 bytes", |i| {
        i[METADATA + 32 + 20] = 7
    }),
    (
        "no file parameters",
        Corrupt,
        "file parameters, found none",
        |i| {
            i[METADATA + 32] ^= 1;
            i[METADATA + 32 + 24] = 0;
        },
    ),
    (
        "no logical sector size",
        Corrupt,
        "logical sector size, found none",
        |i| {
            i[METADATA + 96] ^= 1;
            i[METADATA + 96 + 24] = 0;
        },
    ),
    ("block size", Corrupt, "from 1 to 256 MiB", |i| {
        put(i, METADATA + (64 << 10), &(3u32 << 20).to_le_bytes())
    }),
    ("block size too large", Corrupt, "from 1 to 256 MiB", |i| {
        put(i, METADATA + (64 << 10), &(512u32 << 20).to_le_bytes());
    }),
    ("flags", Unsupported, "flags 0x4", |i| {
        i[METADATA + (64 << 10) + 4] = 4
    }),
    ("no parent locator", Corrupt, "parent locator", |i| {
        i[METADATA + (64 << 10) + 4] = 2
    }),
    ("virtual size", Limit, "64 TiB", |i| {
        put(
            i,
            METADATA + (64 << 10) + 8,
            &((64u64 << 40) + 512).to_le_bytes(),
        );
    }),
    ("odd virtual size", Corrupt, "in sectors of 512", |i| {
        i[METADATA + (64 << 10) + 8] = 1
    }),
    ("sector size", Corrupt, "512 or 4096", |i| {
        put(i, METADATA + (64 << 10) + 16, &1024u32.to_le_bytes())
    }),
    ("short BAT", Corrupt, "expected a BAT of", |i| {
        put(i, METADATA + (64 << 10) + 8, &(1u64 << 40).to_le_bytes());
    }),
];

#[test]
fn damaged_metadata_are_refused_on_opening() {
    assert_eq!(read_all(&open_bytes(disk().build()).unwrap())[2 * MIB], 2);
    for (what, kind, text, damage) in ON_OPEN {
        let mut image = disk().build();
        damage(&mut image);
        let error = open_bytes(image).expect_err(what);
        assert_eq!(error.kind(), *kind, "{what}: {error}");
        let message = error.to_string();
        assert!(message.contains(text), "{what}: {message}");
        assert!(message.starts_with("test.vhdx: "), "{what}: {message}");
        assert!(error.offset().is_some(), "{what}: {message}");
    }
}

const ON_READ: &[(&str, &str, Damage)] = &[
    ("block state", "expected a block state", |i| {
        i[BAT] = i[BAT] & !7 | 5
    }),
    ("partially present", "without parent", |i| i[BAT] |= 7),
    ("alignment", "whole MiB", |i| i[BAT + 1] = 0x80),
    ("past the end", "to the end of the file", |i| {
        put(i, BAT, &(500u64 << 20 | 6).to_le_bytes())
    }),
    ("far past the end", "within the file", |i| {
        put(i, BAT, &(0xfff_ffff_ffffu64 << 20 | 6).to_le_bytes())
    }),
    ("over the header", "from 1 MiB", |i| {
        put(i, BAT, &6u64.to_le_bytes())
    }),
    ("over the log", "nothing else overlaps", |i| {
        put(i, BAT, &(1u64 << 20 | 6).to_le_bytes())
    }),
    ("over the BAT", "nothing else overlaps", |i| {
        put(i, BAT, &(3u64 << 20 | 6).to_le_bytes())
    }),
    ("over another block", "nothing else overlaps", |i| {
        let other = i[BAT + 16..BAT + 24].to_vec();
        put(i, BAT, &other);
    }),
    ("cut file", "to the end of the file", |i| {
        let first = i[BAT..BAT + 8].to_vec();
        let second = i[BAT + 16..BAT + 24].to_vec();
        put(i, BAT, &second);
        put(i, BAT + 16, &first);
        i.truncate(i.len() - 1);
    }),
];

#[test]
fn damaged_bat_entries_are_refused_on_reading() {
    for (what, text, damage) in ON_READ {
        let mut image = disk().build();
        damage(&mut image);
        let reader = open_bytes(image).unwrap();
        let mut buf = [0; 512];
        let error = reader.read_at(&mut buf, 4096).expect_err(what);
        let message = error.to_string();
        assert_eq!(error.kind(), Corrupt, "{what}: {message}");
        assert!(message.contains(text), "{what}: {message}");
        assert_eq!(error.offset(), Some(BAT as u64), "{what}: {message}");
        assert!(reader.extent_at(0, MIB as u64).is_err(), "{what}");
        assert!(extents(&reader, 0..3 << 20).any(|extent| extent.is_err()));
        // What is not damaged can be read.
        reader.read_at(&mut buf, MIB as u64).unwrap();
        let check = reader.check_metadata(&CancelToken::new()).unwrap().unwrap();
        assert!(check.corruptions >= 1, "{what}");
        assert!(
            check.findings[0].message.contains(text),
            "{what}: {:?}",
            check.findings
        );
    }
}

#[test]
fn a_partially_present_block_needs_its_bitmap() {
    let scratch = tempfile::tempdir().unwrap();
    let parent = disk();
    std::fs::write(scratch.path().join("p.vhdx"), parent.build()).unwrap();
    let mut child = Disk::new(MIB, 512, 3 * MIB as u64).child_of("p.vhdx", parent.identity);
    child.blocks.insert(0, (7, vec![3; MIB]));
    child.present.insert(0);
    let path = scratch.path().join("c.vhdx");
    for (state, text) in [
        (0u64, "expected a sector bitmap for"),
        (7, "sector bitmap state"),
        (3 << 20 | 6, "nothing else"),
    ] {
        let mut image = child.build();
        put(&mut image, child.bitmap_entry_at(0), &state.to_le_bytes());
        std::fs::write(&path, image).unwrap();
        let reader = crate::support::open_path(&path).unwrap();
        let error = reader.read_at(&mut [0; 512], 0).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.offset(), Some(child.bitmap_entry_at(0) as u64));
        let check = reader.check_metadata(&CancelToken::new()).unwrap().unwrap();
        assert!(!check.is_clean());
    }
}

#[test]
fn one_damaged_copy_is_survived() {
    let clean = read_all(&open_bytes(disk().build()).unwrap());
    let copies = [
        (HEADERS[0], 1),
        (HEADERS[1], 1),
        (TABLES[0], 1),
        (TABLES[1], 1),
    ];
    for (at, findings) in copies {
        let mut image = disk().build();
        image[at + 30] ^= 0xff;
        let reader = open_bytes(image).unwrap();
        assert_eq!(read_all(&reader), clean);
        let check = reader.check_metadata(&CancelToken::new()).unwrap().unwrap();
        assert_eq!(check.corruptions, findings, "{:?}", check.findings);
    }
    // Disk2vhd writes the same header twice.
    let mut image = disk().build();
    headers(&mut image, 8, &3u64.to_le_bytes());
    assert_eq!(read_all(&open_bytes(image).unwrap()), clean);
    // Unknown regions and items that need not be known, and stray bytes in unused bitmap entries.
    let mut image = disk().build();
    third_region(&mut image, 40 << 20, MIB as u32, 0);
    put(&mut image, METADATA + 10, &[6]);
    put(&mut image, METADATA + 32 + 5 * 32, &guid(0x77));
    put(&mut image, disk().bitmap_entry_at(0), &[0xff; 8]);
    assert_eq!(read_all(&open_bytes(image).unwrap()), clean);
}
