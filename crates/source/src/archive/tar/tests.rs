//! Archives made by the `tar` crate's writer and by GNU tar, and damaged ones.

use std::path::PathBuf;
use std::process::Command;

use ::tar::{Builder, EntryType, Header};

use super::*;
use crate::archive::Archive;
use crate::href;

type Bytes = Vec<u8>;

fn header(name: &str, len: u64, kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(len);
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header.set_cksum();
    header
}

fn member(builder: &mut Builder<Bytes>, name: &str, data: &[u8]) {
    builder
        .append(&header(name, data.len() as u64, EntryType::Regular), data)
        .unwrap();
}

/// A header followed by its data, padded; for what the writer would refuse to write.
fn raw(header: &Header, data: &[u8]) -> Bytes {
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn save(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ova");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn open(bytes: &[u8]) -> Result<Archive> {
    let (_dir, path) = save(bytes);
    Archive::open(&path)
}

fn content(archive: &Archive, name: &str) -> Bytes {
    let range = archive.get(name).unwrap().unwrap();
    range
        .read_vec(0, usize::try_from(range.len()).unwrap())
        .unwrap()
}

fn refused(bytes: &[u8], kind: ErrorKind, part: &str) {
    let error = open(bytes).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(
        error.to_string().contains(part),
        "`{part}` is not in: {error}"
    );
}

fn two_members() -> Bytes {
    let mut builder = Builder::new(Vec::new());
    member(&mut builder, "x.ovf", b"<e/>");
    member(&mut builder, "disk.vmdk", &[7; 1000]);
    builder.into_inner().unwrap()
}

#[test]
fn members_are_read_where_they_lie() {
    let archive = open(&two_members()).unwrap();
    assert_eq!(archive.names().collect::<Vec<_>>(), ["disk.vmdk", "x.ovf"]);
    assert_eq!(content(&archive, "x.ovf"), b"<e/>");
    let disk = archive.get("disk.vmdk").unwrap().unwrap();
    assert_eq!(
        (disk.id().map(|(_, start)| start), disk.len()),
        (Some(3 * 512), 1000)
    );
    assert!(
        disk.label().ends_with("x.ova:disk.vmdk"),
        "{}",
        disk.label()
    );
    assert!(archive.get("absent").unwrap().is_none());
}

#[test]
fn a_member_that_reaches_past_the_end_is_refused() {
    let whole = two_members();
    for len in [1536 + 999, 1536 + 1, 1536] {
        refused(&whole[..len], ErrorKind::Truncated, "`disk.vmdk`");
    }
    refused(
        &whole[..1024 + 100],
        ErrorKind::Truncated,
        "header at 0x400",
    );
    assert!(
        open(&whole[..1536 + 1000]).is_ok(),
        "only the padding is missing"
    );
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let long = format!("{}/disk.vmdk", "sub-folder/".repeat(30));
    let mut builder = Builder::new(Vec::new());
    let mut gnu = Header::new_gnu();
    gnu.set_size(3);
    gnu.set_mode(0o644);
    builder.append_data(&mut gnu, &long, &b"gnu"[..]).unwrap();
    let pax_name = format!("{}x.vmdk", "p".repeat(300));
    builder
        .append_pax_extensions([("mtime", &b"1.5"[..]), ("path", pax_name.as_bytes())])
        .unwrap();
    member(&mut builder, "short", b"pax");
    member(&mut builder, "after", b"plain");
    let archive = open(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(content(&archive, &href::tidy(&long).unwrap()), b"gnu");
    assert_eq!(content(&archive, &pax_name), b"pax");
    assert_eq!(content(&archive, "after"), b"plain");
}

#[test]
fn pax_values_may_hold_newlines() {
    let mut builder = Builder::new(Vec::new());
    builder
        .append_pax_extensions([("SCHILY.xattr.user.note", &b"a\nb=c\n"[..])])
        .unwrap();
    member(&mut builder, "x", b"data");
    let archive = open(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(content(&archive, "x"), b"data");
}

/// Sizes past 8 GiB in base-256 (GNU) and by pax record; the file is sparse, so this costs no space.
#[test]
fn sizes_past_eight_gib_are_read() {
    const LEN: u64 = 9 << 30;
    let mut gnu = Header::new_gnu();
    gnu.set_path("big").unwrap();
    gnu.set_size(LEN);
    gnu.set_entry_type(EntryType::Regular);
    gnu.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder
        .append_pax_extensions([("size", LEN.to_string().as_bytes())])
        .unwrap();
    let mut pax = builder.get_ref().clone();
    pax.extend_from_slice(header("big", 0, EntryType::Regular).as_bytes());

    for front in [gnu.as_bytes().to_vec(), pax] {
        let (_dir, path) = save(&front);
        let tail = raw(&header("x.ovf", 4, EntryType::Regular), b"<e/>");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &tail, front.len() as u64 + LEN).unwrap();
        let archive = Archive::open(&path).unwrap();
        assert_eq!(archive.get("big").unwrap().unwrap().len(), LEN);
        assert_eq!(content(&archive, "x.ovf"), b"<e/>");
    }
}

#[test]
fn sizes_past_64_bits_are_refused() {
    let mut header = header("big", 0, EntryType::Regular);
    header.as_mut_bytes()[SIZE_FIELD..SIZE_FIELD + 12]
        .copy_from_slice(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    header.set_cksum();
    refused(&raw(&header, b""), ErrorKind::Corrupt, "no valid size");
    header.as_mut_bytes()[SIZE_FIELD..SIZE_FIELD + 12]
        .copy_from_slice(&[0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    header.set_cksum();
    refused(&raw(&header, b""), ErrorKind::Truncated, "`big`");
}

#[test]
fn sparse_members_are_refused_by_name() {
    let header = header("disk.raw", 4, EntryType::GNUSparse);
    refused(
        &raw(&header, b"data"),
        ErrorKind::Unsupported,
        "`disk.raw` is a GNU sparse file",
    );
    let mut builder = Builder::new(Vec::new());
    builder
        .append_pax_extensions([("GNU.sparse.major", &b"1"[..])])
        .unwrap();
    member(&mut builder, "disk.raw", b"data");
    refused(
        &builder.into_inner().unwrap(),
        ErrorKind::Unsupported,
        "sparse",
    );
}

#[test]
fn duplicates_are_refused_even_when_spelled_differently() {
    let mut bytes = raw(&header("x.ovf", 1, EntryType::Regular), b"a");
    bytes.extend(raw(&header("./x.ovf", 1, EntryType::Regular), b"b"));
    refused(&bytes, ErrorKind::Corrupt, "two members are named `x.ovf`");
}

#[test]
fn absolute_and_climbing_names_cannot_be_reached() {
    let mut bytes = Vec::new();
    for name in ["/etc/passwd", "../up", "a/../../up"] {
        let mut header = header("x", 1, EntryType::Regular);
        let field = &mut header.as_mut_bytes()[..100];
        field.fill(0);
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        bytes.extend(raw(&header, b"a"));
    }
    bytes.extend(raw(&header("good", 1, EntryType::Regular), b"a"));
    let archive = open(&bytes).unwrap();
    assert_eq!(archive.names().collect::<Vec<_>>(), ["good"]);
    assert_eq!(archive.ignored.len(), 3);
}

#[test]
fn links_and_folders_are_no_members() {
    let mut bytes = raw(&header("folder/", 0, EntryType::Directory), b"");
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Fifo,
        EntryType::Char,
    ] {
        bytes.extend(raw(&header("link", 0, kind), b""));
    }
    bytes.extend(raw(&header("folder/x", 1, EntryType::Regular), b"a"));
    let archive = open(&bytes).unwrap();
    assert_eq!(archive.names().collect::<Vec<_>>(), ["folder/x"]);
}

#[test]
fn long_headers_are_capped_before_they_are_read() {
    let name = raw(&header("l", 5000, EntryType::GNULongName), &[b'n'; 5000]);
    refused(
        &name,
        ErrorKind::Limit,
        "long name of at most 4096 bytes, found 5000",
    );
    let pax = raw(
        &header("p", (1 << 20) + 1, EntryType::XHeader),
        &[b'n'; (1 << 20) + 1],
    );
    refused(&pax, ErrorKind::Limit, "pax header");
}

#[test]
fn malformed_pax_headers_are_refused() {
    for records in [
        "x",
        "9 a=b\n",
        "0 a=b\n",
        "99999999999999999999 a=b\n",
        "6 a=bX",
        "5 ab\n",
        "12 size=-12\n",
    ] {
        let mut bytes = raw(
            &header("p", records.len() as u64, EntryType::XHeader),
            records.as_bytes(),
        );
        bytes.extend(raw(&header("x", 1, EntryType::Regular), b"a"));
        refused(&bytes, ErrorKind::Corrupt, "pax header");
    }
}

#[test]
fn what_is_no_archive_is_named() {
    refused(b"\x1f\x8b\x08\0\0\0", ErrorKind::Truncated, "gzip");
    refused(
        &[&b"PK\x03\x04"[..], &[1; 600]].concat(),
        ErrorKind::Truncated,
        "zip",
    );
    refused(b"", ErrorKind::Corrupt, "empty file");
    refused(&[0; 2048], ErrorKind::Corrupt, "zeroes");
    let mut damaged = two_members();
    damaged[1024 + 3] ^= 1;
    refused(&damaged, ErrorKind::Corrupt, "header at 0x400");
}

#[test]
fn archives_of_gnu_tar_in_each_format_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}.vmdk", "n".repeat(180));
    for (name, data) in [("x.ovf", "<e/>"), (long.as_str(), "disk")] {
        std::fs::write(dir.path().join(name), data).unwrap();
    }
    for format in ["gnu", "oldgnu", "posix"] {
        let path = dir.path().join(format!("{format}.ova"));
        let made = Command::new("tar")
            .arg(format!("--format={format}"))
            .arg("-cf")
            .arg(&path)
            .arg("-C")
            .arg(dir.path())
            .args(["./x.ovf", long.as_str()])
            .status();
        assert!(made.expect("tar is part of every Debian").success());
        let archive = Archive::open(&path).unwrap();
        assert_eq!(content(&archive, "x.ovf"), b"<e/>", "{format}");
        assert_eq!(content(&archive, &long), b"disk", "{format}");
    }
}

/// Whatever one flipped byte does to the headers, the answer is a value, and every member lies within the file.
#[test]
fn no_flipped_byte_makes_it_panic() {
    let whole = two_members();
    for at in (0..512).chain(1024..1536) {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            if let Ok(archive) = open(&damaged) {
                for name in archive.names() {
                    archive.get(name).unwrap().unwrap();
                }
            }
        }
    }
}
