//! Disks on which there is nothing to convert: no operating system, several of them, a hibernated one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use v2v_tests::{arg, assert_nothing_left, ok, refused};

/// A raw disk without a partition table whose ext4 holds the given tree.
fn ext4_disk(dir: &Path, name: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let tree = dir.join(format!("{name}.tree"));
    fs::create_dir_all(&tree)?;
    for (path, content) in files {
        let file = tree.join(path);
        fs::create_dir_all(file.parent().unwrap_or(&tree))?;
        fs::write(file, content)?;
    }
    let disk = dir.join(format!("{name}.raw"));
    let status = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .arg(&tree)
        .arg(&disk)
        .arg("64M")
        .status()?;
    ensure!(status.success(), "mke2fs failed");
    Ok(disk)
}

/// The least that is an operating system: what inspection goes by.
fn minimal_system(name: &str) -> Vec<(&'static str, String)> {
    vec![
        (
            "etc/os-release",
            format!("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"{name}\"\n"),
        ),
        ("etc/fstab", "# nothing\n".into()),
        ("bin/sh", "\u{7f}ELF".into()),
        ("usr/bin/env", String::new()),
        ("var/lib/dpkg/status", String::new()),
        ("boot/grub/grub.cfg", String::new()),
        ("lib/modules/readme", String::new()),
        ("sbin/init", String::new()),
    ]
}

fn system_disk(dir: &Path, name: &str) -> Result<PathBuf> {
    let files = minimal_system(name);
    let files: Vec<_> = files
        .iter()
        .map(|(path, content)| (*path, content.as_str()))
        .collect();
    ext4_disk(dir, name, &files)
}

fn refuse(disks: &[PathBuf], options: &[&str], words: &[&str]) -> Result<()> {
    let out = tempfile::tempdir()?;
    let mut args = vec!["-i".to_owned(), "disk".into(), "-if".into(), "raw".into()];
    args.extend(disks.iter().map(arg));
    args.extend(options.iter().map(|option| (*option).to_owned()));
    args.extend(["-o".into(), "local".into(), "-os".into(), arg(out.path())]);
    let line = refused(&args)?;
    for word in words {
        ensure!(line.contains(word), "expected `{word}` in: {line}");
    }
    assert_nothing_left(out.path(), &[])?;
    Ok(())
}

#[test]
fn a_blank_disk_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = dir.path().join("blank.raw");
    fs::File::create(&disk)?.set_len(64 << 20)?;
    refuse(&[disk], &[], &["no operating system"])
}

#[test]
fn a_data_disk_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = ext4_disk(dir.path(), "data", &[("readme", "only data")])?;
    refuse(&[disk], &[], &["no operating system"])
}

#[test]
fn several_roots_without_a_terminal_are_refused_and_so_is_a_wrong_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disks = [
        system_disk(dir.path(), "one")?,
        system_disk(dir.path(), "two")?,
    ];
    refuse(&disks, &[], &["--root", "/dev/sda", "/dev/sdb"])?;
    refuse(&disks, &["--root", "single"], &["/dev/sda", "/dev/sdb"])?;
    refuse(&disks, &["--root", "/dev/sdc"], &["/dev/sdc", "/dev/sdb"])
}

#[test]
fn a_hibernated_guest_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system_disk(dir.path(), "asleep")?;
    let swap = dir.path().join("swap.raw");
    fs::File::create(&swap)?.set_len(16 << 20)?;
    let status = Command::new("mkswap").arg("-q").arg(&swap).status()?;
    ensure!(status.success(), "mkswap failed");
    // The kernel puts this in place of SWAPSPACE2 in the last 10 bytes of the first page while it sleeps.
    let file = fs::OpenOptions::new().write(true).open(&swap)?;
    std::os::unix::fs::FileExt::write_all_at(&file, b"S1SUSPEND\0", 4086)?;
    refuse(&[system, swap], &[], &["hibernat"])
}

#[test]
fn print_source_of_a_bare_disk_says_what_was_guessed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = dir.path().join("blank.raw");
    fs::File::create(&disk)?.set_len(64 << 20)?;
    let text = ok([
        "-i",
        "disk",
        "-if",
        "raw",
        &arg(&disk),
        "-o",
        "null",
        "--print-source",
    ])?;
    ensure!(
        text.contains("blank") && text.contains("2147483648"),
        "{text}"
    );
    Ok(())
}
