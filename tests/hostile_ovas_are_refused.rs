//! Damaged and hostile OVAs: one clear line, exit status 1, nothing in the target, the source untouched.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use v2v_tests::{TinyOva, arg, assert_nothing_left, refused, sha256};

/// Converts `ova`, which must be refused with every one of `words` in the message.
fn refuse(ova: &Path, words: &[&str]) -> Result<()> {
    let out = tempfile::tempdir()?;
    let before = sha256(ova)?;
    let line = refused([
        "-i",
        "ova",
        &arg(ova),
        "-o",
        "local",
        "-os",
        &arg(out.path()),
    ])?;
    for word in words {
        ensure!(line.contains(word), "expected `{word}` in: {line}");
    }
    assert_nothing_left(out.path(), &[])?;
    ensure!(sha256(ova)? == before, "the source was changed");
    Ok(())
}

#[test]
fn a_truncated_ova_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ova = TinyOva::new(dir.path(), 8)?.write(dir.path())?;
    let content = fs::read(&ova)?;
    fs::write(&ova, &content[..content.len() - 20 * 1024])?;
    refuse(&ova, &["tiny.ova", "tiny-disk1.vmdk"])
}

#[test]
fn a_wrong_hash_in_the_manifest_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut ova = TinyOva::new(dir.path(), 8)?;
    let mf = ova.member("tiny.mf")?;
    let text = String::from_utf8(mf.clone())?;
    let (first, rest) = text.split_once('\n').unwrap_or_default();
    *mf = format!("{first}\nSHA256(tiny-disk1.vmdk)= {}\n", "0".repeat(64)).into_bytes();
    ensure!(!rest.is_empty());
    refuse(&ova.write(dir.path())?, &["SHA256", "tiny-disk1.vmdk"])
}

#[test]
fn an_href_that_leaves_the_archive_is_refused() -> Result<()> {
    for href in ["../../etc/passwd", "/etc/passwd"] {
        let dir = tempfile::tempdir()?;
        let mut ova = TinyOva::new(dir.path(), 8)?;
        ova.edit_ovf(
            r#"ovf:href="tiny-disk1.vmdk""#,
            &format!(r#"ovf:href="{href}""#),
        )?;
        ova.sign(dir.path())?;
        refuse(&ova.write(dir.path())?, &["etc/passwd"])?;
    }
    Ok(())
}

#[test]
fn an_href_that_leaves_the_folder_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut ova = TinyOva::new(dir.path(), 8)?;
    ova.edit_ovf(
        r#"ovf:href="tiny-disk1.vmdk""#,
        r#"ovf:href="../tiny-disk1.vmdk""#,
    )?;
    let folder = dir.path().join("folder");
    fs::create_dir(&folder)?;
    fs::write(folder.join("tiny.ovf"), ova.member("tiny.ovf")?)?;
    let out = tempfile::tempdir()?;
    let line = refused([
        "-i",
        "ova",
        &arg(&folder),
        "-o",
        "local",
        "-os",
        &arg(out.path()),
    ])?;
    ensure!(line.contains("../tiny-disk1.vmdk"), "{line}");
    Ok(())
}

#[test]
fn a_missing_disk_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut ova = TinyOva::new(dir.path(), 8)?;
    ova.members.retain(|(name, _)| !name.ends_with(".vmdk"));
    refuse(&ova.write(dir.path())?, &["tiny-disk1.vmdk"])
}

#[test]
fn two_descriptors_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut ova = TinyOva::new(dir.path(), 8)?;
    let second = ova.member("tiny.ovf")?.clone();
    ova.members.push(("other.ovf".into(), second));
    refuse(&ova.write(dir.path())?, &["tiny.ovf", "other.ovf"])
}

#[test]
fn an_xml_bomb_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut ova = TinyOva::new(dir.path(), 8)?;
    ova.edit_ovf(
        "<Envelope ",
        "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]>\n<Envelope ",
    )?;
    ova.sign(dir.path())?;
    refuse(&ova.write(dir.path())?, &["tiny.ovf", "DTD"])
}

#[test]
fn a_vmdk_of_impossible_size_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut ova = TinyOva::new(dir.path(), 8)?;
    let disk = ova.member("tiny-disk1.vmdk")?;
    // capacity, VMware Virtual Disk Format 5.0, SparseExtentHeader: byte 12, in sectors.
    disk[12..20].copy_from_slice(&u64::MAX.to_le_bytes());
    ova.sign(dir.path())?;
    refuse(&ova.write(dir.path())?, &["tiny-disk1.vmdk", "0x"])
}

#[test]
fn a_grain_that_does_not_inflate_is_refused_with_its_place() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut ova = TinyOva::new(dir.path(), 8)?;
    let disk = ova.member("tiny-disk1.vmdk")?;
    // The text lies in the grain of sector 128; its marker is that number, then the length of the deflated bytes.
    let marker = disk
        .chunks_exact(512)
        .position(|sector| sector[..8] == 128u64.to_le_bytes() && sector[9..12] == [0, 0, 0])
        .context("no grain marker for sector 128")?;
    disk[marker * 512 + 14..marker * 512 + 40].fill(0xff);
    ova.sign(dir.path())?;
    refuse(&ova.write(dir.path())?, &["tiny-disk1.vmdk", "0x"])
}

#[test]
fn a_disk_whose_extent_is_missing_is_named_with_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut ova = TinyOva::new(dir.path(), 8)?;
    let content = b"# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\nRW 16384 VMFS \"x-flat.vmdk\"\n";
    *ova.member("tiny-disk1.vmdk")? = content.to_vec();
    ova.sign(dir.path())?;
    refuse(
        &ova.write(dir.path())?,
        &["tiny-disk1.vmdk", "x-flat.vmdk", "found none"],
    )
}
