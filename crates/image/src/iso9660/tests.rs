//! Images that this file writes, and those of xorriso where it is installed.

use std::io::Write;
use std::process::Command;

use super::*;

fn record(block: u32, len: u32, flags: u8, name: &[u8], system_use: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0u8; 33];
    bytes[2..6].copy_from_slice(&block.to_le_bytes());
    bytes[6..10].copy_from_slice(&block.to_be_bytes());
    bytes[10..14].copy_from_slice(&len.to_le_bytes());
    bytes[14..18].copy_from_slice(&len.to_be_bytes());
    bytes[25] = flags;
    bytes[32] = u8::try_from(name.len()).unwrap();
    bytes.extend_from_slice(name);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes.extend_from_slice(system_use);
    bytes[0] = u8::try_from(bytes.len()).unwrap();
    bytes
}

fn ucs2(name: &str) -> Vec<u8> {
    name.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Blocks: 16 primary, 17 Joliet, 18 terminator, 20 the plain root, 21 its folder, 22 Joliet's root, 30 … data.
fn image(rock_ridge: bool, joliet: bool) -> Vec<u8> {
    let mut bytes = vec![0u8; 40 * BLOCK_BYTES];
    let mut descriptor = |block: usize, kind: u8, root: u32| {
        let at = block * BLOCK_BYTES;
        bytes[at] = kind;
        bytes[at + 1..at + 6].copy_from_slice(IDENTIFIER);
        bytes[at + 128..at + 130].copy_from_slice(&2048u16.to_le_bytes());
        bytes[at + 156..at + 190].copy_from_slice(&record(root, 2048, 2, &[0], &[]));
        if kind == SUPPLEMENTARY {
            bytes[at + 88..at + 91].copy_from_slice(b"%/E");
        }
    };
    descriptor(16, PRIMARY, 20);
    descriptor(17, if joliet { SUPPLEMENTARY } else { 3 }, 22);
    descriptor(18, TERMINATOR, 20);
    let nm = |name: &str| {
        let mut field = vec![b'N', b'M', u8::try_from(name.len() + 5).unwrap(), 1, 0];
        field.extend_from_slice(name.as_bytes());
        if rock_ridge { field } else { Vec::new() }
    };
    let sp: &[u8] = if rock_ridge {
        &[b'S', b'P', 7, 1, 0xbe, 0xef, 0]
    } else {
        &[]
    };
    let mut folder = |block: usize, records: &[Vec<u8>]| {
        let at = block * BLOCK_BYTES;
        let all = records.concat();
        bytes[at..at + all.len()].copy_from_slice(&all);
    };
    folder(
        20,
        &[
            record(20, 2048, 2, &[0], sp),
            record(20, 2048, 2, &[1], &[]),
            record(21, 2048, 2, b"VIOSTOR", &nm("viostor")),
            record(30, 5, 0, b"README.TXT;1", &nm("ReadMe with blanks.txt")),
            record(31, 2048, 0x80, b"BIG.BIN;1", &nm("big.bin")),
            record(33, 7, 0, b"BIG.BIN;1", &nm("big.bin")),
        ],
    );
    folder(
        21,
        &[
            record(21, 2048, 2, &[0], &[]),
            record(20, 2048, 2, &[1], &[]),
            record(34, 9, 0, b"VIOSTOR.INF;1", &nm("viostor.inf")),
        ],
    );
    folder(
        22,
        &[
            record(22, 2048, 2, &[0], &[]),
            record(22, 2048, 2, &[1], &[]),
            record(30, 5, 0, &ucs2("Größe.txt;1"), &[]),
        ],
    );
    bytes
}

fn list_bytes(bytes: &[u8]) -> Result<Vec<IsoFile>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    list(&file)
}

fn names(files: &[IsoFile]) -> Vec<&str> {
    let mut names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn rock_ridge_wins_over_joliet_and_joliet_over_plain_names() {
    for joliet in [false, true] {
        let files = list_bytes(&image(true, joliet)).unwrap();
        let expected = ["ReadMe with blanks.txt", "big.bin", "viostor/viostor.inf"];
        assert_eq!(names(&files), expected);
        let big = files.iter().find(|file| file.path == "big.bin").unwrap();
        assert_eq!(big.extents, [(31 * 2048, 2048), (33 * 2048, 7)]);
        assert_eq!(big.len(), 2055);
    }
    assert_eq!(
        names(&list_bytes(&image(false, true)).unwrap()),
        ["Größe.txt"]
    );
    let expected = ["BIG.BIN", "README.TXT", "VIOSTOR/VIOSTOR.INF"];
    assert_eq!(names(&list_bytes(&image(false, false)).unwrap()), expected);
}

#[test]
fn udf_alone_is_refused_by_its_name() {
    let mut bytes = vec![0u8; 40 * BLOCK_BYTES];
    for (block, identifier) in [(16, b"BEA01"), (17, b"NSR02"), (18, b"TEA01")] {
        bytes[block * BLOCK_BYTES + 1..block * BLOCK_BYTES + 6].copy_from_slice(identifier);
    }
    let error = list_bytes(&bytes).unwrap_err();
    assert!(error.to_string().contains("UDF"), "{error}");
    assert!(list_bytes(&bytes[..100]).is_err());
}

#[test]
fn circles_and_what_lies_outside_are_refused() {
    let good = image(false, false);
    let find = |name: &[u8]| {
        let at = good.windows(name.len()).position(|bytes| bytes == name);
        at.unwrap() - 33
    };
    let (folder, file) = (find(b"VIOSTOR"), find(b"README.TXT;1"));
    let cases: &[(usize, &[u8], &str)] = &[
        (folder + 2, &[20, 0, 0, 0, 0, 0, 0, 20], "circle"),
        (folder + 10, &[0, 0, 0, 9, 9, 0, 0, 0], "bytes"),
        (file + 2, &[0xff; 8], "cut off"),
        (file + 10, &[0xff; 8], "cut off"),
        (file + 2, &[9], "contradicts"),
        (file + 26, &[1], "interleaved"),
        (file + 32, &[255], "cut off"),
        (16 * 2048 + 128, &[0, 2], "blocks of 512"),
    ];
    for (at, with, expected) in cases {
        let mut bad = good.clone();
        bad[*at..at + with.len()].copy_from_slice(with);
        let error = list_bytes(&bad).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn no_flipped_byte_panics_or_hangs() {
    for (rock_ridge, joliet) in [(true, false), (false, true)] {
        let good = image(rock_ridge, joliet);
        for at in 16 * BLOCK_BYTES..23 * BLOCK_BYTES {
            if good[at] == 0 && at % 64 != 0 {
                continue;
            }
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                let _ = list_bytes(&bad);
            }
        }
    }
}

#[test]
fn an_iso_of_xorriso_is_read_whatever_its_names() {
    if !testkit::require_tool("xorriso") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let long = format!("{}.sys", "long-name-".repeat(20));
    std::fs::create_dir_all(tree.join("NetKVM/w10/amd64")).unwrap();
    std::fs::write(tree.join("NetKVM/w10/amd64/netkvm.inf"), "[Version]").unwrap();
    std::fs::write(tree.join("NetKVM").join(&long), vec![7u8; 5000]).unwrap();
    for (options, expects_long) in [(&["-r"][..], true), (&["-J", "-joliet-long"], false)] {
        let iso = dir.path().join("out.iso");
        let made = Command::new("xorriso")
            .args(["-as", "mkisofs", "-quiet"])
            .args(options)
            .args(["-iso-level", "3", "-o"])
            .arg(&iso)
            .arg(&tree)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let image = File::open(&iso).unwrap();
        let files = list(&image).unwrap();
        let inf = files.iter().find(|file| file.path.ends_with(".inf"));
        let inf = inf.unwrap_or_else(|| panic!("{files:?}"));
        assert_eq!(inf.path, "NetKVM/w10/amd64/netkvm.inf");
        let mut bytes = vec![0; 9];
        image.read_exact_at(&mut bytes, inf.extents[0].0).unwrap();
        assert_eq!(bytes, b"[Version]");
        if expects_long {
            assert!(names(&files).contains(&format!("NetKVM/{long}").as_str()));
        }
    }
}
