//! Archives made here byte by byte and by the `zip` program, and damaged ones.

use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::archive::{Archive, list};

type Bytes = Vec<u8>;

/// A member and how it is written.
#[derive(Clone)]
struct File {
    name: &'static [u8],
    data: Bytes,
    method: u16,
    flags: u16,
    zip64: bool,
}

fn file(name: &'static str, data: &[u8]) -> File {
    File {
        name: name.as_bytes(),
        data: data.to_vec(),
        method: 0,
        flags: 0,
        zip64: false,
    }
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = libdeflater::Crc::new();
    crc.update(data);
    crc.sum()
}

fn packed(file: &File) -> Bytes {
    if file.method != 8 {
        return file.data.clone();
    }
    let level = libdeflater::CompressionLvl::new(6).unwrap();
    let mut compressor = libdeflater::Compressor::new(level);
    let mut out = vec![0; compressor.deflate_compress_bound(file.data.len())];
    let len = compressor.deflate_compress(&file.data, &mut out).unwrap();
    out.truncate(len);
    out
}

/// Little-endian fields in one run.
fn fields(out: &mut Bytes, values: &[(u64, usize)]) {
    for (value, len) in values {
        out.extend_from_slice(&value.to_le_bytes()[..*len]);
    }
}

/// An archive; zip64 throughout where a member wants it.
fn zip(files: &[File]) -> Bytes {
    let mut out = Vec::new();
    let mut central = Vec::new();
    for file in files {
        let data = packed(file);
        let offset = out.len() as u64;
        let (crc, packed_len, len) = (
            u64::from(crc(&file.data)),
            data.len() as u64,
            file.data.len() as u64,
        );
        let later = file.flags & HAS_DESCRIPTOR != 0;
        let ones = u64::from(u32::MAX);
        let sizes = if file.zip64 {
            (ones, ones)
        } else {
            (packed_len, len)
        };
        let extra = |with_offset: bool| {
            let mut extra = Vec::new();
            if file.zip64 {
                let size = if with_offset { 24 } else { 16 };
                fields(&mut extra, &[(1, 2), (size, 2), (len, 8), (packed_len, 8)]);
                if with_offset {
                    fields(&mut extra, &[(offset, 8)]);
                }
            }
            extra
        };
        let common = |sizes: (u64, u64), crc: u64, extra_len: usize| {
            [
                (20, 2),
                (file.flags.into(), 2),
                (file.method.into(), 2),
                (0, 4),
                (crc, 4),
                (sizes.0, 4),
                (sizes.1, 4),
                (file.name.len() as u64, 2),
                (extra_len as u64, 2),
            ]
        };
        out.extend_from_slice(LOCAL);
        let local_extra = extra(false);
        let local = if later { ((0, 0), 0) } else { (sizes, crc) };
        fields(&mut out, &common(local.0, local.1, local_extra.len()));
        out.extend_from_slice(file.name);
        out.extend_from_slice(&local_extra);
        out.extend_from_slice(&data);
        if later {
            out.extend_from_slice(b"PK\x07\x08");
            fields(&mut out, &[(crc, 4), (packed_len, 4), (len, 4)]);
        }
        let central_extra = extra(true);
        central.extend_from_slice(CENTRAL);
        fields(&mut central, &[(20, 2)]);
        fields(&mut central, &common(sizes, crc, central_extra.len()));
        let offset = if file.zip64 { ones } else { offset };
        fields(&mut central, &[(0, 2), (0, 2), (0, 2), (0, 4), (offset, 4)]);
        central.extend_from_slice(file.name);
        central.extend_from_slice(&central_extra);
    }
    let (start, len, count) = (out.len() as u64, central.len() as u64, files.len() as u64);
    out.extend_from_slice(&central);
    if files.iter().any(|file| file.zip64) {
        let end = out.len() as u64;
        out.extend_from_slice(END64);
        let values = [
            (44, 8),
            (45, 2),
            (45, 2),
            (0, 4),
            (0, 4),
            (count, 8),
            (count, 8),
            (len, 8),
            (start, 8),
        ];
        fields(&mut out, &values);
        out.extend_from_slice(LOCATOR);
        fields(&mut out, &[(0, 4), (end, 8), (1, 4)]);
        out.extend_from_slice(END);
        fields(&mut out, &[(u64::MAX, 8), (u64::MAX, 8), (0, 2)]);
    } else {
        out.extend_from_slice(END);
        fields(
            &mut out,
            &[
                (0, 2),
                (0, 2),
                (count, 2),
                (count, 2),
                (len, 4),
                (start, 4),
                (0, 2),
            ],
        );
    }
    out
}

fn open(bytes: &[u8]) -> Result<Archive> {
    Archive::read(FileRange::from_store(Arc::new(bytes.to_vec()), "x.zip"))
}

fn content(archive: &Archive, name: &str) -> Bytes {
    let range = archive.get(name).unwrap().unwrap();
    range
        .read_vec(0, usize::try_from(range.len()).unwrap())
        .unwrap()
}

#[track_caller]
fn refused(bytes: &[u8], kind: ErrorKind, part: &str) {
    let error = open(bytes).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(text.contains(part), "`{part}` is not in: {text}");
}

fn disk() -> Bytes {
    (0..50_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
}

fn files() -> Vec<File> {
    let mut files = vec![
        file("dir/", b""),
        file("dir/vm.ovf", b"<e/>"),
        file("dir/plain.vmdk", &disk()),
        file("dir/packed.vmdk", &disk()),
    ];
    files[3].method = 8;
    files
}

#[test]
fn stored_and_deflated_members_are_read() {
    for (flags, zip64) in [
        (0, false),
        (0, true),
        (HAS_DESCRIPTOR, false),
        (1 << 11, true),
    ] {
        let mut files = files();
        for file in &mut files {
            (file.flags, file.zip64) = (flags, zip64);
        }
        let archive = open(&zip(&files)).unwrap();
        let names: Vec<_> = archive.names().collect();
        assert_eq!(names, ["dir/packed.vmdk", "dir/plain.vmdk", "dir/vm.ovf"]);
        assert_eq!(content(&archive, "dir/vm.ovf"), b"<e/>");
        assert!(content(&archive, "dir/plain.vmdk") == disk());
        assert!(content(&archive, "dir/packed.vmdk") == disk());
        assert!(archive.get("absent").unwrap().is_none());
        let later: Vec<_> = archive
            .unverified()
            .iter()
            .map(|one| one.label().to_owned())
            .collect();
        assert_eq!(later, ["x.zip:dir/plain.vmdk", "x.zip:dir/vm.ovf"]);
    }
}

#[test]
fn damage_of_a_stored_member_is_found_by_its_verification() {
    let mut bytes = zip(&files());
    let at = bytes.windows(4).position(|four| four == b"<e/>").unwrap();
    bytes[at + 1] = b'f';
    let archive = open(&bytes).unwrap();
    archive.get("dir/vm.ovf").unwrap();
    let verification = archive.unverified().pop().unwrap();
    let error = verification
        .run(&types::CancelToken::new(), &|_| {})
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains("CRC-32"), "{error}");
}

#[test]
fn archives_of_the_zip_program_are_read() {
    if !testkit::require_tool("zip") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::fs::write(dir.path().join("d/disk.vmdk"), disk()).unwrap();
    std::fs::write(dir.path().join("d/vm.ovf"), "<e/>").unwrap();
    std::os::unix::fs::symlink("disk.vmdk", dir.path().join("d/link")).unwrap();
    for arguments in [&["-r"][..], &["-r0"], &["-ry"], &["-r", "-fz"]] {
        let path = dir.path().join("x.zip");
        let _ = std::fs::remove_file(&path);
        let status = Command::new("zip")
            .current_dir(dir.path())
            .arg("-q")
            .args(arguments)
            .args(["x.zip", "d"])
            .status()
            .unwrap();
        assert!(status.success());
        let archive = Archive::open(&path).unwrap();
        assert!(content(&archive, "d/disk.vmdk") == disk(), "{arguments:?}");
        let has_link = archive.names().any(|name| name == "d/link");
        assert_eq!(
            has_link,
            !arguments.contains(&"-ry"),
            "links are no members"
        );
    }
    let output = Command::new("zip")
        .current_dir(dir.path())
        .args(["-q", "-", "d/vm.ovf"])
        .output()
        .unwrap();
    let archive = open(&output.stdout).unwrap();
    assert_eq!(content(&archive, "d/vm.ovf"), b"<e/>", "a streamed archive");
}

#[test]
fn contradictions_between_the_headers_are_refused() {
    let good = zip(&files());
    open(&good).unwrap();
    let find = |what: &[u8], from: usize| {
        from + good[from..]
            .windows(what.len())
            .position(|window| window == what)
            .unwrap()
    };
    let local = find(LOCAL, 1);
    let edit = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    refused(
        &edit(local + 30, b'e'),
        ErrorKind::Corrupt,
        "its name in the local header",
    );
    refused(&edit(local + 8, 8), ErrorKind::Corrupt, "the same method");
    refused(
        &edit(local + 14, 1),
        ErrorKind::Corrupt,
        "CRC-32 and lengths",
    );
    refused(
        &edit(local + 18, 5),
        ErrorKind::Corrupt,
        "CRC-32 and lengths",
    );
    refused(&edit(local, b'X'), ErrorKind::Corrupt, "a local header");
    let central = find(CENTRAL, 0);
    refused(&edit(central + 2, 9), ErrorKind::Corrupt, "PK 01 02");
    refused(
        &good[..good.len() - 1],
        ErrorKind::Truncated,
        "end of a zip directory",
    );
    let mut prefixed = good.clone();
    prefixed.splice(4..4, [0; 4]);
    refused(
        &prefixed,
        ErrorKind::Corrupt,
        "expected the zip directory to end",
    );
    let mut twice = good.clone();
    twice.extend_from_slice(&[0; 22]);
    let end = good.len() - 22;
    twice.copy_within(end..end + 22, good.len());
    refused(&twice, ErrorKind::Corrupt, "");
    let mut two_ends = good.clone();
    let comment = good[end..].to_vec();
    two_ends[end + 20] = 22;
    two_ends.extend_from_slice(&comment);
    refused(&two_ends, ErrorKind::Corrupt, "two ends");
}

#[test]
fn members_that_overlap_are_refused() {
    // Two entries of the directory that name the same local header.
    let one = zip(&[file("a", b"aaaa")]);
    let central = one.windows(4).position(|four| four == CENTRAL).unwrap();
    let mut entry = one[central..one.len() - 22].to_vec();
    let mut bytes = one[..one.len() - 22].to_vec();
    bytes.append(&mut entry.clone());
    bytes.extend_from_slice(END);
    let len = 2 * entry.len() as u64;
    fields(
        &mut bytes,
        &[
            (0, 2),
            (0, 2),
            (2, 2),
            (2, 2),
            (len, 4),
            (central as u64, 4),
            (0, 2),
        ],
    );
    entry.clear();
    refused(&bytes, ErrorKind::Corrupt, "two members");
}

#[test]
fn what_cannot_be_read_is_refused_when_it_is_wanted() {
    for (flags, method, part) in [
        (ENCRYPTED, 0, "encrypted"),
        (MASKED, 0, "encrypted"),
        (PATCHED, 0, "patch"),
        (0, 9, "Deflate64"),
        (0, 12, "bzip2"),
        (0, 14, "LZMA"),
        (0, 99, "not supported"),
    ] {
        let mut files = files();
        (files[2].flags, files[2].method) = (flags, method);
        let archive = open(&zip(&files)).unwrap();
        assert_eq!(content(&archive, "dir/vm.ovf"), b"<e/>");
        let error = archive.get("dir/plain.vmdk").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn names_do_not_leave_the_archive() {
    let archive = open(&zip(&[
        file("../up", b"1"),
        file("/etc/passwd", b"2"),
        file("a/../../b", b"3"),
        file("d\\x", b"4"),
    ]))
    .unwrap();
    assert_eq!(archive.names().collect::<Vec<_>>(), ["d/x"]);
    assert_eq!(archive.ignored.len(), 3);
    refused(
        &zip(&[file("a", b"1"), file("./a", b"2")]),
        ErrorKind::Corrupt,
        "two members are named `a`",
    );
}

#[test]
fn packed_members_of_zip_are_compared() {
    let mut files = files();
    let mut bytes = zip(&files);
    let data = packed(&files[3]);
    let at = bytes
        .windows(data.len())
        .position(|window| window == data)
        .unwrap();
    bytes[at + data.len() / 2] ^= 4;
    let error = open(&bytes).unwrap().get("dir/packed.vmdk").unwrap_err();
    assert!(error.to_string().contains("packed.vmdk: at 0x"), "{error}");
    // A bomb: the directory claims less than the data unpack to.
    files[3].data = vec![0; 1 << 20];
    let good = zip(&files);
    let claim = (1u32 << 20).to_le_bytes();
    let lie = 1000u32.to_le_bytes();
    let mut bomb = good.clone();
    let places: Vec<usize> = good
        .windows(4)
        .enumerate()
        .filter(|(_, four)| *four == claim)
        .map(|(at, _)| at)
        .collect();
    for at in places {
        bomb[at..at + 4].copy_from_slice(&lie);
    }
    let error = open(&bomb).unwrap().get("dir/packed.vmdk").unwrap_err();
    assert!(error.to_string().contains("at most 1000"), "{error}");
}

#[test]
fn damaged_archives_never_panic() {
    let mut plain = files();
    plain.iter_mut().for_each(|file| file.data.truncate(3000));
    let mut wide = plain.clone();
    wide.iter_mut().for_each(|file| file.zip64 = true);
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % end as u64).unwrap()
    };
    let mut refused = 0;
    for original in [zip(&plain), zip(&wide)] {
        for round in 0..3000 {
            let mut bytes = original.clone();
            if round % 5 == 0 {
                bytes.truncate(random(bytes.len()));
            }
            for _ in 0..1 + random(3) {
                if bytes.is_empty() {
                    break;
                }
                let span = if round % 2 == 0 {
                    bytes.len().min(400)
                } else {
                    bytes.len()
                };
                let at = bytes.len() - 1 - random(span);
                bytes[at] = [0, 0xff, 1, 0x7f][random(4)] ^ u8::try_from(random(3)).unwrap();
            }
            refused += usize::from(list(&bytes).is_err());
        }
    }
    assert!(refused > 2000, "{refused}");
}
