//! A target that is too small: refused before the copy where that can be known, and tidied up where it cannot.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use testkit::guest::{Sample, sample};
use testkit::{SmallFs, require_root};
use v2v_tests::{arg, assert_nothing_left, refused, refused_at_once, v2v};

#[test]
fn a_full_target_is_refused_before_the_copy() -> Result<()> {
    if !require_root() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let small = SmallFs::new(200)?;
    let line = refused([
        "-i",
        "ova",
        &arg(&guest.ova),
        "-o",
        "local",
        "-os",
        &arg(small.path()),
    ])?;
    ensure!(line.contains("space") || line.contains("room"), "{line}");
    assert_nothing_left(small.path(), &["lost+found"])?;
    Ok(())
}

#[test]
fn preallocation_that_does_not_fit_is_refused_before_any_work() -> Result<()> {
    if !require_root() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let small = SmallFs::new(200)?;
    let line = refused_at_once([
        "-i",
        "ova",
        &arg(&guest.ova),
        "-o",
        "local",
        "-os",
        &arg(small.path()),
        "-oa",
        "preallocated",
    ])?;
    ensure!(line.contains("space") || line.contains("room"), "{line}");
    Ok(())
}

/// The room is there when it is asked for and gone a moment later: somebody else filled the disk.
#[test]
fn a_target_that_fills_up_during_the_copy_is_left_clean() -> Result<()> {
    if !require_root() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let small = SmallFs::new(1200)?;
    let ballast = File::create(small.path().join("ballast"))?;
    let mut child = v2v([
        "-i",
        "ova",
        &arg(&guest.ova),
        "-o",
        "local",
        "-os",
        &arg(small.path()),
    ])?
    .stderr(Stdio::piped())
    .spawn()?;
    // The disk is created right before the copy, which takes half a second at least.
    let begun = Instant::now();
    while !scratch_holds_a_disk(small.path())? {
        ensure!(
            begun.elapsed() < Duration::from_secs(300) && child.try_wait()?.is_none(),
            "the copy never began"
        );
        thread::sleep(Duration::from_millis(1));
    }
    fill(&ballast)?;
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1),
        "{}: {stderr}",
        output.status
    );
    let last = stderr.lines().last().unwrap_or_default();
    ensure!(
        last.starts_with("v2v: error: ") && last.contains("No space left"),
        "{stderr}"
    );
    assert_nothing_left(small.path(), &["lost+found", "ballast"])?;
    Ok(())
}

fn scratch_holds_a_disk(dir: &Path) -> Result<bool> {
    let find = Command::new("find")
        .arg(dir)
        .args(["-name", "*-sda"])
        .output()?;
    Ok(!find.stdout.is_empty())
}

/// Takes all that is free, large steps first.
fn fill(ballast: &File) -> Result<()> {
    let mut len = 0;
    for shift in (12..=28).rev() {
        while fallocate(ballast, FallocateFlags::empty(), len, 1 << shift).is_ok() {
            len += 1 << shift;
        }
    }
    ensure!(len > 0, "nothing could be allocated");
    Ok(())
}
