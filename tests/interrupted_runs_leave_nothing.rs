//! kill -9 and Ctrl-C at any moment: no result under its final name, no QEMU, nothing outside one scratch folder; and
//! the next run clears that folder away.

use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::guest::{Sample, sample};
use v2v_tests::{arg, assert_nothing_left, interrupt, listing, ok, qemus_using, v2v};

/// Moments at which the program is killed: those of `cargo xtask test --all`, and those that CI has the time for.
const KILLS: u32 = 20;
const FEW_KILLS: u32 = 4;
/// After Ctrl-C; a second or two where nothing else reads the disk.
const GONE: Duration = Duration::from_secs(30);

fn start(ova: &Path, out: &Path, temp: &Path) -> Result<Child> {
    v2v([
        "-i",
        "ova",
        &arg(ova),
        "-o",
        "local",
        "-os",
        &arg(out),
        "-of",
        "qcow2",
    ])?
    .env("TMPDIR", temp)
    .stdout(Stdio::null())
    .stderr(Stdio::piped())
    .spawn()
    .context("starting v2v")
}

/// QEMU is killed by the kernel when its parent dies; that takes a moment, not seconds.
fn no_qemu_is_left(out: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = qemus_using(out)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("QEMU is still running: {left:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn only_scratch_is_left(out: &Path, temp: &Path, name: &str) -> Result<()> {
    let scratch = format!(".{name}.v2v-");
    let foreign: Vec<_> = listing(out)?
        .into_iter()
        .filter(|file| !file.starts_with(&scratch))
        .collect();
    ensure!(
        foreign.is_empty(),
        "left outside the scratch folder: {foreign:?}"
    );
    assert_nothing_left(temp, &[])?;
    Ok(())
}

#[test]
fn kill_9_at_moments_of_the_whole_run() -> Result<()> {
    let kills = if testkit::tells_all() {
        KILLS
    } else {
        FEW_KILLS
    };
    let guest = sample(Sample::Bios)?;
    let (out, temp) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let begun = Instant::now();
    ok(["-i", "ova", &arg(&guest.ova), "-o", "null"])?;
    let whole = begun.elapsed();
    // Spread over the whole run, each at another point of its stretch (a fixed multiplicative sequence).
    for turn in 0..kills {
        let jitter = f64::from((turn * 7919) % 1000) / 1000.0;
        let after = whole.mul_f64((f64::from(turn) + jitter) / f64::from(kills));
        let mut child = start(&guest.ova, out.path(), temp.path())?;
        thread::sleep(after);
        child.kill().context("killing v2v")?;
        let status = child.wait()?;
        if status.success() {
            // It was done before the signal came: then the whole result is there, and goes away for the next turn.
            for file in listing(out.path())? {
                std::fs::remove_file(out.path().join(file))?;
            }
            continue;
        }
        no_qemu_is_left(out.path()).with_context(|| format!("killed after {after:?}"))?;
        only_scratch_is_left(out.path(), temp.path(), guest.name)
            .with_context(|| format!("killed after {after:?}"))?;
        ensure!(
            listing(out.path())?.len() <= 1,
            "scratch folders pile up: {:?}",
            listing(out.path())?
        );
    }
    ok([
        "-i",
        "ova",
        &arg(&guest.ova),
        "-o",
        "local",
        "-os",
        &arg(out.path()),
    ])?;
    let left = listing(out.path())?;
    ensure!(
        left == [format!("{}-sda", guest.name), format!("{}.xml", guest.name)],
        "{left:?}"
    );
    Ok(())
}

#[test]
fn ctrl_c_tidies_up() -> Result<()> {
    let guest = sample(Sample::Bios)?;
    let (out, temp) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for after_ms in [300, 2500, 6000] {
        let mut child = start(&guest.ova, out.path(), temp.path())?;
        thread::sleep(Duration::from_millis(after_ms));
        interrupt(&child)?;
        let stopped = Instant::now();
        let output = loop {
            if child.try_wait()?.is_some() {
                break child.wait_with_output()?;
            }
            ensure!(
                stopped.elapsed() < GONE,
                "v2v goes on {:?} after Ctrl-C",
                stopped.elapsed()
            );
            thread::sleep(Duration::from_millis(20));
        };
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1),
            "{}: {stderr}",
            output.status
        );
        ensure!(stderr.contains("v2v: error: cancelled"), "{stderr}");
        no_qemu_is_left(out.path())?;
        assert_nothing_left(out.path(), &[])?;
        assert_nothing_left(temp.path(), &[])?;
    }
    Ok(())
}
