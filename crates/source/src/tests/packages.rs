//! Packages made here, with disks that are only bytes.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Builder, Header};
use types::CancelToken;

use super::descriptor::Ovf;
use crate::error::ErrorKind;
use crate::open::SourceOptions;
use crate::{Prepared, ova};

/// Files of a package by name, in order.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

fn files() -> Files {
    vec![
        ("vm.ovf".into(), Ovf::vmware().text().into_bytes()),
        ("disk0.vmdk".into(), vec![b'a'; 3000]),
        ("disk1.vmdk".into(), vec![b'b'; 600]),
    ]
}

pub(crate) fn digest(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// With a manifest of all files.
pub(crate) fn signed(mut files: Files) -> Files {
    let manifest: String = files
        .iter()
        .map(|(name, data)| format!("SHA256({name})= {}\n", digest(data)))
        .collect();
    files.push(("vm.mf".into(), manifest.into_bytes()));
    files
}

pub(crate) fn data<'a>(files: &'a mut Files, name: &str) -> &'a mut Vec<u8> {
    &mut files.iter_mut().find(|(other, _)| other == name).unwrap().1
}

pub(crate) fn write_ova(dir: &Path, files: &Files) -> PathBuf {
    let path = dir.join("guest.ova");
    let mut builder = Builder::new(std::fs::File::create(&path).unwrap());
    for (name, data) in files {
        let mut header = Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, data.as_slice())
            .unwrap();
    }
    builder.finish().unwrap();
    path
}

pub(crate) fn write_folder(dir: &Path, files: &Files) -> PathBuf {
    let path = dir.join("folder");
    std::fs::create_dir(&path).unwrap();
    for (name, data) in files {
        std::fs::write(path.join(name), data).unwrap();
    }
    path
}

/// Prepares the files as an archive.
fn prepare(files: &Files) -> (tempfile::TempDir, crate::Result<Prepared>) {
    let dir = tempfile::tempdir().unwrap();
    let path = write_ova(dir.path(), files);
    let prepared = ova::prepare(&path, &SourceOptions::default());
    (dir, prepared)
}

#[track_caller]
fn refused(files: &Files, kind: ErrorKind, parts: &[&str]) {
    let (_dir, result) = prepare(files);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(
            error.to_string().contains(part),
            "`{part}` is not in: {error}"
        );
    }
}

fn verify_all(prepared: Prepared) -> crate::Result<usize> {
    let count = prepared.verifications.len();
    for verification in prepared.verifications {
        verification.run(&CancelToken::new(), &|_| {})?;
    }
    Ok(count)
}

fn first_bytes(prepared: &Prepared) -> Vec<u8> {
    prepared
        .disks
        .iter()
        .map(|disk| disk.range.read_vec(0, 1).unwrap()[0])
        .collect()
}

#[test]
fn an_archive_a_folder_and_a_descriptor_give_the_same_machine() {
    let dir = tempfile::tempdir().unwrap();
    let files = signed(files());
    let archive = write_ova(dir.path(), &files);
    let folder = write_folder(dir.path(), &files);
    let descriptor = folder.join("vm.ovf");
    let mut machines = Vec::new();
    for path in [&archive, &folder, &descriptor] {
        let prepared = ova::prepare(path, &SourceOptions::default()).unwrap();
        assert!(prepared.warnings.is_empty(), "{:?}", prepared.warnings);
        assert_eq!(first_bytes(&prepared), b"ab");
        let mut machine = prepared.machine.clone();
        machine.disks.iter_mut().for_each(|disk| disk.label.clear());
        machines.push(machine);
        assert_eq!(verify_all(prepared).unwrap(), 2);
    }
    assert!(machines.windows(2).all(|pair| pair[0] == pair[1]));
    let labels: Vec<_> = ova::prepare(&archive, &SourceOptions::default())
        .unwrap()
        .machine
        .disks
        .into_iter()
        .map(|disk| disk.label)
        .collect();
    assert!(
        labels[0].ends_with("guest.ova:disk0.vmdk") && labels[1].ends_with("guest.ova:disk1.vmdk"),
        "{labels:?}"
    );
}

#[test]
fn the_descriptor_may_stand_anywhere_and_in_a_subfolder() {
    let mut last = files();
    last.rotate_left(1);
    assert_eq!(first_bytes(&prepare(&last).1.unwrap()), b"ab");
    let nested: Files = signed(files())
        .into_iter()
        .map(|(name, data)| (format!("./sub/dir/{name}"), data))
        .collect();
    let (_dir, prepared) = prepare(&nested);
    let prepared = prepared.unwrap();
    assert_eq!(first_bytes(&prepared), b"ab");
    assert_eq!(verify_all(prepared).unwrap(), 2);
}

#[test]
fn references_do_not_reach_beside_the_descriptor_s_folder() {
    let mut beside = files();
    beside[0].0 = "sub/vm.ovf".into();
    refused(
        &beside,
        ErrorKind::Missing,
        &["missing disk", "`disk0.vmdk`"],
    );
}

#[test]
fn macos_companions_of_the_descriptor_do_not_count() {
    let mut files = files();
    files.insert(0, ("._vm.ovf".into(), b"\0\x05\x16\x07".to_vec()));
    prepare(&files).1.unwrap();
}

#[test]
fn two_descriptors_are_refused_by_their_names() {
    let mut two = files();
    two.push(("other/second.OVF".into(), b"<e/>".to_vec()));
    refused(
        &two,
        ErrorKind::Corrupt,
        &["guest.ova", "`vm.ovf`", "`other/second.OVF`"],
    );
    let mut none = files();
    none.remove(0);
    refused(&none, ErrorKind::Missing, &["found none"]);
    let dir = tempfile::tempdir().unwrap();
    let mut files = files();
    files.push(("second.ovf".into(), b"<e/>".to_vec()));
    let folder = write_folder(dir.path(), &files);
    let error = ova::prepare(&folder, &SourceOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("`second.ovf`, `vm.ovf`"),
        "{error}"
    );
    ova::prepare(&folder.join("vm.ovf"), &SourceOptions::default())
        .expect("the user named one of them");
}

#[test]
fn a_truncated_archive_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_ova(dir.path(), &files());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1024 - 500]).unwrap();
    let error = ova::prepare(&path, &SourceOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
    assert!(error.to_string().contains("`disk1.vmdk`"), "{error}");
}

#[test]
fn a_missing_disk_is_refused() {
    let mut missing = signed(files());
    missing.retain(|(name, _)| name != "disk1.vmdk");
    refused(
        &missing,
        ErrorKind::Missing,
        &["missing disk", "`disk1.vmdk`"],
    );
}

#[test]
fn references_that_leave_the_package_are_refused() {
    for (href, kind) in [
        ("../disk0.vmdk", ErrorKind::Refused),
        ("/etc/passwd", ErrorKind::Refused),
        ("%2e%2e/disk0.vmdk", ErrorKind::Refused),
        ("http://host/disk0.vmdk", ErrorKind::Unsupported),
    ] {
        let mut hostile = files();
        let text = Ovf::vmware()
            .text()
            .replace("ovf:href=\"disk0.vmdk\"", &format!("ovf:href=\"{href}\""));
        *data(&mut hostile, "vm.ovf") = text.into_bytes();
        let shown = href.replace("%2e%2e", "..");
        refused(&hostile, kind, &["vm.ovf", &shown]);
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = write_folder(dir.path(), &files());
    std::fs::write(dir.path().join("secret"), "s").unwrap();
    std::fs::remove_file(folder.join("disk0.vmdk")).unwrap();
    symlink("../secret", folder.join("disk0.vmdk")).unwrap();
    for path in [folder.clone(), folder.join("vm.ovf")] {
        let error = ova::prepare(&path, &SourceOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
}

#[test]
fn names_may_be_written_percent_encoded() {
    let mut files = files();
    files[1].0 = "my disk.vmdk".into();
    let text = Ovf::vmware().text().replace("disk0.vmdk", "my%20disk.vmdk");
    *data(&mut files, "vm.ovf") = text.into_bytes();
    assert_eq!(first_bytes(&prepare(&files).1.unwrap()), b"ab");
}

#[test]
fn a_wrong_hash_of_a_disk_fails_its_verification() {
    let mut files = signed(files());
    data(&mut files, "disk1.vmdk")[5] ^= 1;
    let found = digest(data(&mut files, "disk1.vmdk"));
    let (_dir, prepared) = prepare(&files);
    let error = verify_all(prepared.unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    for part in ["guest.ova:disk1.vmdk", "SHA256", &found] {
        assert!(
            error.to_string().contains(part),
            "`{part}` is not in: {error}"
        );
    }
}

#[test]
fn a_wrong_hash_of_the_descriptor_is_refused_at_once() {
    let mut files = signed(files());
    data(&mut files, "vm.ovf").push(b'\n');
    refused(&files, ErrorKind::Mismatch, &["guest.ova:vm.ovf", "SHA256"]);
}

#[test]
fn other_faults_of_a_manifest_are_warnings() {
    let mut files = signed(files());
    files.push(("unlisted.txt".into(), b"x".to_vec()));
    let more = format!(
        "nonsense\nSHA256(gone.iso)= {0}\nSHA256(../../etc/passwd)= {0}\n",
        "0".repeat(64)
    );
    data(&mut files, "vm.mf").extend_from_slice(more.as_bytes());
    let (_dir, prepared) = prepare(&files);
    let prepared = prepared.unwrap();
    let warnings = prepared.warnings.join("\n");
    for part in ["`nonsense`", "`gone.iso`", "../../etc/passwd"] {
        assert!(warnings.contains(part), "`{part}` is not in: {warnings}");
    }
    assert_eq!(
        (prepared.warnings.len(), verify_all(prepared).unwrap()),
        (3, 2)
    );
}

#[test]
fn without_a_manifest_there_is_nothing_to_verify() {
    let (_dir, prepared) = prepare(&files());
    assert_eq!(verify_all(prepared.unwrap()).unwrap(), 0);
}

#[test]
fn a_manifest_of_another_name_counts_only_where_the_package_is_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = signed(files());
    files.last_mut().unwrap().0 = "other.mf".into();
    let folder = write_folder(dir.path(), &files);
    assert_eq!(
        verify_all(ova::prepare(&folder, &SourceOptions::default()).unwrap()).unwrap(),
        2
    );
    assert_eq!(
        verify_all(ova::prepare(&folder.join("vm.ovf"), &SourceOptions::default()).unwrap())
            .unwrap(),
        0
    );
}

#[test]
fn a_descriptor_that_is_too_large_is_not_read() {
    let mut large = files();
    *data(&mut large, "vm.ovf") = vec![b' '; (16 << 20) + 1];
    refused(&large, ErrorKind::Limit, &["at most 16777216 bytes"]);
}

#[test]
fn sizes_that_differ_from_the_descriptor_s_are_a_warning() {
    let mut files = files();
    let text = Ovf::vmware().text().replace(
        "ovf:href=\"disk0.vmdk\"",
        "ovf:href=\"disk0.vmdk\" ovf:size=\"2999\"",
    );
    *data(&mut files, "vm.ovf") = text.into_bytes();
    let (_dir, prepared) = prepare(&files);
    let warnings = prepared.unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("2999") && warnings[0].contains("3000"),
        "{warnings:?}"
    );
}

#[test]
fn utf16_descriptors_are_read() {
    let mut files = files();
    let text: String = Ovf::vmware()
        .text()
        .replace("encoding=\"UTF-8\"", "encoding=\"UTF-16\"");
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    *data(&mut files, "vm.ovf") = units.flat_map(u16::to_le_bytes).collect();
    assert_eq!(prepare(&files).1.unwrap().machine.name, "web server");
}

#[test]
fn what_is_no_package_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.ova");
    for (content, part) in [
        (&b"\x1f\x8b\x08\0"[..], "gzip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"PK\x03\x04", "zip directory"),
        (b"KDMV\x03\0\0\0", "-i disk"),
        (b"", "empty file"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = ova::prepare(&path, &SourceOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(part) && error.contains("x.ova"), "{error}");
    }
    assert_eq!(
        ova::prepare(&dir.path().join("absent"), &SourceOptions::default())
            .unwrap_err()
            .kind(),
        ErrorKind::Missing
    );
    assert_eq!(
        ova::prepare(Path::new("/dev/null"), &SourceOptions::default())
            .unwrap_err()
            .kind(),
        ErrorKind::Usage
    );
}
