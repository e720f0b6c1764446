//! `v2v inspect` says what a conversion would do and meet, and leaves source and everything else alone.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::guest::{Sample, sample};
use v2v_tests::{arg, assert_nothing_left, run, sha256};

fn inspect(disk: &Path, options: &[&str]) -> Result<Output> {
    let mut args = vec![
        "inspect".to_owned(),
        "-i".into(),
        "disk".into(),
        "-if".into(),
        "raw".into(),
    ];
    args.extend(options.iter().map(|option| (*option).to_owned()));
    args.push(arg(disk));
    run(args)
}

fn json(output: &Output) -> Result<Value> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no JSON on stdout; stderr: {stderr}"))
}

#[test]
fn a_convertible_guest_is_told_step_by_step() -> Result<()> {
    let guest = sample(Sample::Uefi)?;
    let before = sha256(&guest.raw)?;
    let output = inspect(&guest.raw, &["--json"])?;
    let plan = json(&output)?;
    ensure!(output.status.code() == Some(0), "{}: {plan}", output.status);
    ensure!(sha256(&guest.raw)? == before, "the source was changed");

    ensure!(
        plan["schema"] == 1 && plan["convertible"] == true && plan["conversion"] == "converted"
    );
    ensure!(plan["guest"]["distro"] == "debian", "{}", plan["guest"]);
    ensure!(
        plan["caps"]["block_bus"] == "virtio-blk",
        "{}",
        plan["caps"]
    );
    ensure!(plan["caps"]["firmware"] == "uefi", "{}", plan["caps"]);
    let list = |name: &str| plan[name].as_array().cloned().unwrap_or_default();
    let outcome = |step: &str| {
        let steps = list("steps");
        let found = steps.iter().find(|report| report["name"] == step);
        found
            .map(|report| report["outcome"].clone())
            .unwrap_or_default()
    };
    ensure!(outcome("initramfs") == "applied", "{}", plan["steps"]);
    ensure!(
        list("changes")
            .iter()
            .any(|change| change["step"] == "initramfs"
                && change["path"]
                    .as_str()
                    .is_some_and(|path| path.starts_with("/boot/initrd"))),
        "the plan has no initramfs: {}",
        plan["changes"]
    );
    let root = list("space").into_iter().find(|space| space["path"] == "/");
    ensure!(
        root.is_some_and(|space| space["found"].as_u64() > Some(0)),
        "{}",
        plan["space"]
    );
    ensure!(plan["disks"][0]["data_bytes"].as_u64() < plan["disks"][0]["virtual_size"].as_u64());
    ensure!(
        list("concerns")
            .iter()
            .all(|concern| concern["severity"] != "blocker"),
        "{}",
        plan["concerns"]
    );
    ensure!(
        plan["storage"]["devices"]
            .as_array()
            .is_some_and(|devices| devices.len() > 1)
    );

    let output = inspect(&guest.raw, &[])?;
    let text = String::from_utf8(output.stdout)?;
    for word in [
        "verdict       can be converted",
        "virtio-blk disks",
        "to copy",
        "room",
        "kernels",
        "boot loaders",
        "storage",
        "plan",
    ] {
        ensure!(text.contains(word), "expected `{word}` in:\n{text}");
    }
    Ok(())
}

#[test]
fn a_sleeping_guest_is_a_blocker_and_no_error() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let disk = dir.path().join("asleep.raw");
    fs::File::create(&disk)?.set_len(64 << 20)?;
    ensure!(
        Command::new("mkswap").arg(&disk).output()?.status.success(),
        "mkswap failed"
    );
    // S1SUSPEND replaces SWAPSPACE2 at the end of the first page (kernel/power/swap.c).
    fs::File::options()
        .write(true)
        .open(&disk)?
        .write_all_at(b"S1SUSPEND\0", 4096 - 10)?;
    let output = inspect(&disk, &["--json"])?;
    let plan = json(&output)?;
    ensure!(output.status.code() == Some(2), "{}: {plan}", output.status);
    ensure!(plan["convertible"] == false && plan["caps"].is_null());
    let first = &plan["concerns"][0];
    ensure!(
        first["severity"] == "blocker"
            && first["what"]
                .as_str()
                .is_some_and(|what| what.contains("hibernat")),
        "{first}"
    );
    ensure!(
        first["fix"]
            .as_str()
            .is_some_and(|fix| fix.contains("--compat")),
        "{first}"
    );
    let output = inspect(&disk, &[])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.code() == Some(2)
            && text.contains("CANNOT BE CONVERTED")
            && text.contains("BLOCKER"),
        "{text}"
    );
    assert_nothing_left(dir.path(), &["asleep.raw"])
}

#[test]
fn a_source_that_is_not_there_is_an_error() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let output = inspect(&dir.path().join("none.raw"), &[])?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty());
    Ok(())
}
