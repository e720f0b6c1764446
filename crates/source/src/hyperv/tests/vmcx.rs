//! The reader of `.vmcx` beside the builder.

use super::builder::{Layout, vmcx};
use super::sample::{self, Item, Keys};
use crate::error::{ErrorKind, Result};
use crate::hyperv::machine::Configuration;
use crate::hyperv::parse;

fn read(bytes: &[u8]) -> Result<Configuration> {
    parse(bytes).map(Option::unwrap)
}

fn written(keys: &Keys, layout: &Layout) -> Vec<u8> {
    vmcx(keys, layout)
}

#[track_caller]
fn refused(bytes: &[u8], kind: ErrorKind, part: &str) {
    let error = read(bytes).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(
        error.to_string().contains(part),
        "`{part}` is not in: {error}"
    );
    assert!(error.to_string().contains("hint: "), "{error}");
}

#[test]
fn both_files_of_a_machine_say_the_same() {
    for keys in [sample::generation_1(), sample::generation_2()] {
        let binary = read(&written(&keys, &Layout::default())).unwrap();
        let utf16 = read(&sample::xml_utf16(&keys)).unwrap();
        let utf8 = read(sample::xml(&keys).as_bytes()).unwrap();
        assert_eq!(binary.machine, utf16.machine);
        assert_eq!(binary.machine, utf8.machine);
        assert_eq!(binary.warnings, utf16.warnings);
        assert_eq!(
            binary.id.as_deref(),
            Some("0aa394fa-7c4a-4070-ba32-773d43b28a68")
        );
        assert!(binary.is_machine);
    }
}

#[test]
fn the_layout_of_the_file_does_not_matter() {
    let keys = sample::generation_2();
    let want = read(&written(&keys, &Layout::default())).unwrap().machine;
    let plain = Layout::default();
    for layout in [
        Layout {
            keys_a_table: 1,
            ..plain.clone()
        },
        Layout {
            keys_a_table: 10_000,
            ..plain.clone()
        },
        Layout {
            big: 1,
            ..plain.clone()
        },
        Layout {
            big: 40,
            keys_a_table: 7,
            second_table: Some(4),
            ..plain.clone()
        },
        Layout {
            headers: [3, 4],
            ..plain.clone()
        },
        Layout {
            headers: [0xffff, 0],
            ..plain.clone()
        },
    ] {
        let found = read(&written(&keys, &layout)).unwrap();
        assert_eq!(found.machine, want, "{layout:?}");
        assert!(
            !found.warnings.iter().any(|w| w.contains("checksum")),
            "{:?}",
            found.warnings
        );
    }
}

#[test]
fn the_newer_of_the_whole_headers_counts() {
    let keys = sample::generation_1();
    for (headers, torn) in [([9, 8], 0), ([8, 9], 0x1000)] {
        let layout = Layout {
            headers,
            ..Layout::default()
        };
        let mut file = written(&keys, &layout);
        // The newer one names a log that is none, so it is wrong to believe it.
        file[torn + 0x1a] ^= 0x40;
        assert!(
            read(&file).is_ok(),
            "the torn header at {torn:#x} was taken"
        );
        let whole = 0x1000 - torn;
        file[whole] ^= 1;
        assert!(read(&file).is_err());
    }
}

#[test]
fn checksums_that_nothing_obeys_are_a_warning_and_a_single_wrong_one_an_error() {
    let keys = sample::generation_1();
    let rubbish = Layout {
        checksums: false,
        ..Layout::default()
    };
    let found = read(&written(&keys, &rubbish)).unwrap();
    assert!(
        found.warnings.iter().any(|w| w.contains("checksum")),
        "{:?}",
        found.warnings
    );
    let mut file = written(&keys, &Layout::default());
    file[0x2008 + 2 * 18 + 13] ^= 1; // the size of the third object
    refused(&file, ErrorKind::Corrupt, "checksum");
}

#[test]
fn what_is_not_known_is_refused_by_name_and_offset() {
    let keys = sample::generation_1();
    let plain = Layout::default();
    let changes = Layout {
        changes: 2,
        ..plain.clone()
    };
    refused(
        &written(&keys, &changes),
        ErrorKind::Unsupported,
        "0x5000: the replay log holds 2 changes",
    );
    let version = Layout {
        version: 0x500,
        ..plain.clone()
    };
    refused(&written(&keys, &version), ErrorKind::Unsupported, "0x500");

    // Without checksums a byte can be changed alone.
    let open = Layout {
        checksums: false,
        keys_a_table: 10_000,
        big: usize::MAX,
        ..plain
    };
    let file = written(&keys, &open);
    let table = 0x6000;
    let first = table + 10 + 25;
    let mut kind = file.clone();
    kind[first] = 12;
    refused(&kind, ErrorKind::Unsupported, "unknown type 12");
    let mut flags = file.clone();
    flags[first + 1] = 0x80;
    refused(&flags, ErrorKind::Unsupported, "unknown flags 0x80");
    let mut size = file.clone();
    size[first + 2] = 20;
    refused(&size, ErrorKind::Corrupt, "expected an entry of 21");
    let mut parent = file.clone();
    parent[first + 8] = 1;
    parent[first + 6] = 1;
    refused(&parent, ErrorKind::Corrupt, "parent");
    let mut object = file.clone();
    object[0x2008 + 2 * 18] = 9;
    refused(&object, ErrorKind::Unsupported, "found 9");
    let mut end = file.clone();
    end[0x2008 + 2 * 18 + 15] = 0x7f;
    refused(&end, ErrorKind::Corrupt, "ends after the file");
    refused(&file[..0x2004], ErrorKind::Corrupt, "end of the file");
}

#[test]
fn keys_in_a_circle_are_refused() {
    let keys: Keys = vec![("a/b/c".into(), Item::Integer(1))];
    let layout = Layout {
        checksums: false,
        ..Layout::default()
    };
    let mut file = written(&keys, &layout);
    let configuration = 0x6000 + 35;
    let a = configuration + 21 + 14 + 12;
    let b = a + 21 + 2 + 12;
    // `a` becomes the child of `b`.
    let offset = u32::try_from(b - 0x6000).unwrap().to_le_bytes();
    file[a + 8..a + 12].copy_from_slice(&offset);
    refused(&file, ErrorKind::Corrupt, "their own ancestors");
}

#[test]
fn objects_that_overlap_are_refused() {
    let keys = sample::generation_1();
    let layout = Layout {
        checksums: false,
        ..Layout::default()
    };
    let mut file = written(&keys, &layout);
    let third = 0x2008 + 2 * 18;
    let offset: [u8; 8] = file[third + 5..third + 13].try_into().unwrap();
    file[third + 18 + 5..third + 18 + 13].copy_from_slice(&offset);
    refused(&file, ErrorKind::Corrupt, "overlap");
}

#[test]
fn another_file_is_none_of_hyper_v_s() {
    assert!(parse(b"").unwrap().is_none());
    assert!(parse(&[0; 8192]).unwrap().is_none());
    assert!(parse(b"<domain/>").unwrap().is_none());
}
