//! Packages that are packed as a whole, and disks that are packed, cut, blank or deltas.

use std::path::{Path, PathBuf};
use std::process::Command;

use image::Reference;
use image::formats::Format;
use libdeflater::{CompressionLvl, Compressor};

use super::descriptor::Ovf;
use super::packages::{Files, data, digest, signed, write_folder, write_ova};
use crate::error::ErrorKind;
use crate::open::SourceOptions;
use crate::{Opened, Prepared, SourceKind, open, ova};

/// Capacity of the disks in [`Ovf::vmware`]'s descriptor.
const SIZE: usize = 4 << 20;

/// A raw disk with some data and some zeroes.
fn disk(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    for (index, byte) in bytes.iter_mut().enumerate() {
        if (index >> 16) % 3 != 1 {
            *byte = u8::try_from(index % 251).unwrap() ^ seed;
        }
    }
    bytes
}

fn files() -> Files {
    vec![
        ("vm.ovf".into(), Ovf::vmware().text().into_bytes()),
        ("disk0.vmdk".into(), disk(1)),
        ("disk1.vmdk".into(), disk(2)),
    ]
}

/// With the attributes of `file0` changed.
fn with_file0(files: &mut Files, attributes: &str) {
    let text = String::from_utf8(data(files, "vm.ovf").clone()).unwrap();
    let text = text.replace(
        "<File ovf:id=\"file0\"",
        &format!("<File ovf:id=\"file0\" {attributes}"),
    );
    *data(files, "vm.ovf") = text.into_bytes();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(1).unwrap());
    let mut out = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let len = compressor.gzip_compress(bytes, &mut out).unwrap();
    out.truncate(len);
    out
}

fn open_ova(path: &Path) -> crate::Result<Opened> {
    open(&SourceKind::Ova(path.to_owned()), &SourceOptions::default())
}

fn prepare(files: &Files) -> crate::Result<Prepared> {
    let dir = tempfile::tempdir().unwrap();
    let path = write_ova(dir.path(), files);
    ova::prepare(&path, &SourceOptions::default())
}

/// Opens the package and compares both disks; returns the number of verifications, which all passed.
#[track_caller]
fn check(path: &Path) -> usize {
    let opened = open_ova(path).unwrap();
    for (source, seed) in opened.disks.iter().zip([1, 2]) {
        let mut bytes = vec![0; SIZE];
        assert_eq!(source.virtual_size(), SIZE as u64);
        source.read_at(&mut bytes, 0).unwrap();
        assert!(bytes == disk(seed), "{}: disk {seed}", path.display());
    }
    let count = opened.verifications.len();
    for verification in opened.verifications {
        verification
            .run(&types::CancelToken::new(), &|_| {})
            .unwrap();
    }
    count
}

#[track_caller]
fn refused(files: &Files, kind: ErrorKind, part: &str) {
    let error = prepare(files).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(
        error.to_string().contains(part),
        "`{part}` is not in: {error}"
    );
}

#[test]
fn an_archive_packed_as_a_whole_is_read_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let plain = write_ova(dir.path(), &signed(files()));
    assert_eq!(check(&plain), 2);
    let packed = dir.path().join("guest.tar.gz");
    std::fs::write(&packed, gzip(&std::fs::read(&plain).unwrap())).unwrap();
    assert_eq!(check(&packed), 2);
    let label = open_ova(&packed).unwrap().machine.disks[0].label.clone();
    assert!(label.ends_with("guest.tar.gz:disk0.vmdk"), "{label}");
    for (tool, arguments) in [
        ("xz", &["-k", "-1", "-T2", "--block-size=1MiB"][..]),
        ("zstd", &["-q", "-k"]),
    ] {
        if testkit::require_tool(tool) {
            let packed = dir.path().join(format!("guest.ova.{}", &tool[..2]));
            let status = Command::new(tool).args(arguments).arg(&plain).status();
            assert!(status.unwrap().success());
            let made = match tool {
                "zstd" => dir.path().join("guest.ova.zst"),
                _ => packed,
            };
            assert_eq!(check(&made), 2);
            let mut bytes = std::fs::read(&made).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            std::fs::write(&made, bytes).unwrap();
            let error = open_ova(&made).unwrap_err().to_string();
            assert!(
                error.contains("guest.ova.") && error.contains("at 0x"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_zip_is_a_package_too() {
    if !testkit::require_tool("zip") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = write_folder(dir.path(), &signed(files()));
    for (level, verified) in [("-0", 2 + 4), ("-6", 2)] {
        let path = dir.path().join(format!("guest{level}.zip"));
        let status = Command::new("zip")
            .current_dir(&folder)
            .args(["-q", "-r", level])
            .arg(&path)
            .arg(".")
            .status();
        assert!(status.unwrap().success());
        // Two lines of the manifest, and the CRC-32 of each member that is stored: zip stores what does not shrink.
        let found = check(&path);
        assert!((2..=verified).contains(&found), "{level}: {found}");
    }
}

#[test]
fn compressed_disks_are_read_in_place() {
    for stated in [true, false] {
        let mut files = files();
        if stated {
            with_file0(&mut files, "ovf:compression=\"gzip\"");
        }
        let disk0 = data(&mut files, "disk0.vmdk");
        *disk0 = gzip(disk0);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(&write_ova(dir.path(), &signed(files.clone()))), 2);
        data(&mut files, "disk0.vmdk").truncate(9000);
        let error = open_ova(&write_ova(dir.path(), &files)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
        assert!(
            error.to_string().contains("guest.ova:disk0.vmdk: at 0x"),
            "{error}"
        );
    }
    let mut files = files();
    with_file0(&mut files, "ovf:compression=\"gzip\"");
    refused(&files, ErrorKind::Corrupt, "expected gzip data");
}

/// `disk0.vmdk` in pieces of `len` bytes.
fn cut(files: &mut Files, len: usize) {
    let disk0 = std::mem::take(data(files, "disk0.vmdk"));
    files.retain(|(name, _)| name != "disk0.vmdk");
    for (number, piece) in disk0.chunks(len).enumerate() {
        files.push((format!("disk0.vmdk.{number:09}"), piece.to_vec()));
    }
}

#[test]
fn chunked_disks_are_put_together() {
    for (chunk, packed) in [
        (1_000_000, false),
        (SIZE / 4, false),
        (SIZE * 2, false),
        (7000, true),
    ] {
        let mut files = files();
        let mut attributes = format!("ovf:chunkSize=\"{chunk}\"");
        if packed {
            attributes += " ovf:compression=\"gzip\"";
            let disk0 = data(&mut files, "disk0.vmdk");
            *disk0 = gzip(disk0);
        }
        let len = data(&mut files, "disk0.vmdk").len();
        with_file0(&mut files, &format!("{attributes} ovf:size=\"{len}\""));
        cut(&mut files, chunk);
        let pieces = files.len() - 2;
        let dir = tempfile::tempdir().unwrap();
        let files = signed(files);
        assert_eq!(check(&write_ova(dir.path(), &files)), 1 + pieces);
        assert_eq!(check(&write_folder(dir.path(), &files)), 1 + pieces);
    }
}

#[test]
fn a_manifest_may_state_the_hash_of_the_whole() {
    let mut files = files();
    with_file0(&mut files, "ovf:chunkSize=\"1000000\"");
    let manifest = format!(
        "SHA256(disk0.vmdk)= {}\n",
        digest(data(&mut files, "disk0.vmdk"))
    );
    cut(&mut files, 1_000_000);
    files.push(("vm.mf".into(), manifest.into_bytes()));
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(check(&write_ova(dir.path(), &files)), 1);
}

#[test]
fn holes_and_wrong_sizes_of_chunks_are_refused() {
    let chunked = |attributes: &str| {
        let mut files = files();
        with_file0(
            &mut files,
            &format!("ovf:chunkSize=\"1000000\" {attributes}"),
        );
        cut(&mut files, 1_000_000);
        files
    };
    for missing in [0, 2] {
        let mut files = chunked("");
        let name = format!("disk0.vmdk.{missing:09}");
        files.retain(|(other, _)| *other != name);
        refused(
            &files,
            ErrorKind::Missing,
            &format!("expected the file `{name}`"),
        );
    }
    let mut short = chunked("");
    data(&mut short, "disk0.vmdk.000000001").pop();
    refused(
        &short,
        ErrorKind::Truncated,
        "expected a chunk of 1000000 bytes, found 999999",
    );
    let mut long = chunked("");
    data(&mut long, "disk0.vmdk.000000004").resize(1_000_001, 0);
    refused(&long, ErrorKind::Truncated, "at most 1000000 bytes");
    let mut cut_off = chunked(&format!("ovf:size=\"{SIZE}\""));
    cut_off.retain(|(name, _)| name != "disk0.vmdk.000000004");
    refused(&cut_off, ErrorKind::Missing, "found 4000000 in 4 chunks");
    let mut absent = chunked("");
    absent.retain(|(name, _)| !name.starts_with("disk0"));
    refused(&absent, ErrorKind::Missing, "missing disk");
}

#[test]
fn numbers_without_a_chunk_size_are_snapshots_when_each_is_an_image() {
    let image = |fill: u8| [b"KDMV\x01\0\0\0".to_vec(), vec![fill; 2000]].concat();
    let numbered = |pieces: &[(&str, Vec<u8>)]| {
        let mut files = files();
        files.retain(|(name, _)| name != "disk0.vmdk");
        for (suffix, bytes) in pieces {
            files.push((format!("disk0.vmdk.{suffix}"), bytes.clone()));
        }
        files
    };
    let last_byte = |files: &Files| {
        let prepared = prepare(files).unwrap();
        let range = &prepared.disks[0].range;
        (range.read_vec(range.len() - 1, 1).unwrap()[0], range.len())
    };
    assert_eq!(
        last_byte(&numbered(&[("000000000", disk(9))])).1,
        SIZE as u64
    );
    let three = numbered(&[
        ("000000002", image(2)),
        ("000000010", image(10)),
        ("000000000", image(0)),
    ]);
    assert_eq!(last_byte(&three).0, 10, "by number, not by name");
    // Only the first is an image, and all are even: chunks of an exporter that forgot to say so.
    let mut first = image(1);
    first.resize(3000, 1);
    let even = numbered(&[
        ("000000000", first.clone()),
        ("000000001", vec![2; 3000]),
        ("000000002", vec![3; 500]),
    ]);
    assert_eq!(last_byte(&even), (3, 6500));
    let odd = numbered(&[("000000000", vec![1; 300]), ("000000001", vec![2; 3000])]);
    refused(&odd, ErrorKind::Missing, "neither its chunks");
    // The size of the whole file decides.
    let mut sized = odd;
    with_file0(&mut sized, "ovf:size=\"3300\"");
    refused(&sized, ErrorKind::Truncated, "at most 300 bytes");
}

#[test]
fn a_blank_disk_is_empty_and_of_its_size() {
    let mut files = files();
    let text = String::from_utf8(data(&mut files, "vm.ovf").clone()).unwrap();
    *data(&mut files, "vm.ovf") = text.replace(" ovf:fileRef=\"file0\"", "").into_bytes();
    let dir = tempfile::tempdir().unwrap();
    let opened = open_ova(&write_ova(dir.path(), &files)).unwrap();
    assert_eq!(opened.disks[0].virtual_size(), SIZE as u64);
    let extent = opened.disks[0].extent_at(0, u64::MAX).unwrap();
    assert!(extent.kind.reads_zero() && extent.len == SIZE as u64);
}

#[test]
fn a_delta_disk_is_read_over_its_parent() {
    if !testkit::require_tool("qemu-img") || !testkit::require_tool("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let delta = dir.path().join("delta");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(&delta).output();
        assert!(output.unwrap().status.success());
    };
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", "size=4M"],
    );
    let writes = ["write -P 7 1M 100k", "write -z 2M 64k"];
    // qemu-img create takes the size after the name; -o size= before it.
    for write in writes {
        run("qemu-io", &["-f", "qcow2", "-c", write]);
    }
    let mut files = files();
    *data(&mut files, "disk0.vmdk") = std::fs::read(&delta).unwrap();
    let text = String::from_utf8(data(&mut files, "vm.ovf").clone()).unwrap();
    let text = text.replace(
        "ovf:fileRef=\"file0\"",
        "ovf:fileRef=\"file0\" ovf:parentRef=\"disk1\"",
    );
    *data(&mut files, "vm.ovf") = text.into_bytes();
    let opened = open_ova(&write_ova(dir.path(), &files)).unwrap();
    let mut found = vec![1; SIZE];
    opened.disks[0].read_at(&mut found, 0).unwrap();
    let mut want = disk(2);
    want[1 << 20..][..100 << 10].fill(7);
    // The end of the cluster that was written to first.
    want[(1 << 20) + (100 << 10)..(1 << 20) + (128 << 10)].fill(0);
    want[2 << 20..][..64 << 10].fill(0);
    assert!(found == want);
    let extent = opened.disks[0].extent_at(2 << 20, 64 << 10).unwrap();
    assert!(extent.kind.reads_zero());
}

#[test]
fn images_find_the_files_that_they_name_in_the_package() {
    let mut files: Files = files()
        .into_iter()
        .map(|(name, data)| (format!("sub/{name}"), data))
        .collect();
    files.push(("sub/deep/extent".into(), b"e".to_vec()));
    files.push(("above".into(), b"a".to_vec()));
    let dir = tempfile::tempdir().unwrap();
    let archive = write_ova(dir.path(), &files);
    let unpacked: PathBuf = dir.path().join("unpacked");
    for (name, bytes) in &files {
        let path = unpacked.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    for path in [archive, unpacked.join("sub"), unpacked.join("sub/vm.ovf")] {
        let prepared = ova::prepare(&path, &SourceOptions::default()).unwrap();
        let disk = &prepared.disks[0];
        let find = |name: &'static str| {
            disk.files
                .find(disk.range.label(), Reference::Foreign(name))
        };
        assert_eq!(find("disk1.vmdk").unwrap().len(), SIZE as u64);
        assert_eq!(
            find("/vmfs/volumes/x/disk1.vmdk").unwrap().len(),
            SIZE as u64
        );
        assert_eq!(find("deep/extent").unwrap().len(), 1);
        assert!(find("above").is_err() && find("../above").is_err());
        // From a file in a subfolder, names are relative to that.
        let deep = find("deep/extent").unwrap();
        let beside = disk.files.find(deep.label(), Reference::Foreign("extent"));
        assert_eq!(beside.unwrap().len(), 1);
    }
}

#[test]
fn ovirt_s_raw_disks_are_not_probed() {
    let mut files = files();
    let text = String::from_utf8(data(&mut files, "vm.ovf").clone()).unwrap();
    let text = text.replace(
        "ovf:fileRef=\"file0\"",
        "ovf:fileRef=\"file0\" ovf:volume-format=\"RAW\" ovf:disk-interface=\"VirtIO_SCSI\"",
    );
    *data(&mut files, "vm.ovf") = text.into_bytes();
    // A guest that wrote a qcow2 header, or gzip's, to its first sector.
    for magic in [&b"QFI\xfb\0\0\0\x03"[..], b"\x1f\x8b\x08"] {
        data(&mut files, "disk0.vmdk")[..magic.len()].copy_from_slice(magic);
        let prepared = prepare(&files).unwrap();
        assert_eq!(prepared.disks[0].format, Some(Format::Raw));
        assert_eq!(prepared.disks[0].range.len(), SIZE as u64);
    }
}

#[test]
fn a_signature_is_not_verified_and_that_is_said() {
    let mut files = signed(files());
    files.push(("vm.cert".into(), b"SHA256(vm.mf)= 00".to_vec()));
    let warnings = prepare(&files).unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("vm.cert"),
        "{warnings:?}"
    );
}

/// Whatever happens to the pieces of a disk, it is read whole or refused.
#[test]
fn damaged_pieces_never_give_a_wrong_disk() {
    let want = disk(1)[..200_000].to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % end as u64).unwrap()
    };
    let (mut whole, mut refused) = (0, 0);
    let dir = tempfile::tempdir().unwrap();
    let descriptor = Ovf::vmware().text().into_bytes();
    for round in 0..600 {
        let chunk = 7000 + random(60_000);
        let mut files: Files = vec![
            ("vm.ovf".into(), descriptor.clone()),
            ("disk0.vmdk".into(), want.clone()),
            ("disk1.vmdk".into(), vec![0; 512]),
        ];
        with_file0(
            &mut files,
            &format!("ovf:chunkSize=\"{chunk}\" ovf:size=\"{}\"", want.len()),
        );
        cut(&mut files, chunk);
        for _ in 0..round % 3 {
            let victim = 2 + random(files.len() - 2);
            match random(4) {
                0 => drop(files.remove(victim)),
                1 => files[victim].0 = format!("disk0.vmdk.{:09}", random(12)),
                2 => files[victim].0 = format!("disk0.vmdk.{}", random(12)),
                _ => {
                    let len = random(chunk + 100);
                    files[victim].1.resize(len, 0);
                }
            }
        }
        let path = write_ova(dir.path(), &files);
        match ova::prepare(&path, &SourceOptions::default()) {
            Ok(prepared) => {
                let range = &prepared.disks[0].range;
                let len = usize::try_from(range.len()).unwrap();
                let same = range.read_vec(0, len).unwrap() == want;
                // Pieces that changed places are equal in length: only the manifest can tell.
                assert!(same || len == want.len() || !prepared.warnings.is_empty());
                whole += usize::from(same);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(
        whole >= 200 && refused > 150,
        "{whole} whole, {refused} refused"
    );
}
