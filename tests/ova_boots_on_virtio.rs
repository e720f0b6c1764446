//! The promise: an OVA of VMware goes in, a guest that boots on virtio and keeps its address comes out.
//! That the same guests do not boot unconverted is shown in crates/testkit/tests/samples.rs.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::boot::{Boot, Bus};
use testkit::guest::{Sample, sample};
use v2v_tests::{arg, assert_image_clean, listing, mac_of, ok, sha256};

/// TCG on two cores that other tests use too.
const LOGIN: Duration = Duration::from_secs(400);

fn boots_converted(which: Sample) -> Result<()> {
    let guest = sample(which)?;
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let source_before = sha256(&guest.ova)?;
    let report = out.path().join("report.json");
    ok([
        "-i",
        "ova",
        &arg(&guest.ova),
        "-o",
        "local",
        "-os",
        &arg(out.path()),
        "-of",
        "qcow2",
        "--report",
        &arg(&report),
    ])?;
    ensure!(
        sha256(&guest.ova)? == source_before,
        "the source was changed"
    );
    let (disk, xml) = (
        out.path().join(format!("{}-sda", guest.name)),
        out.path().join(format!("{}.xml", guest.name)),
    );
    let want = [
        "report.json".to_owned(),
        format!("{}-sda", guest.name),
        format!("{}.xml", guest.name),
    ];
    ensure!(
        listing(out.path())? == want,
        "found {:?}",
        listing(out.path())?
    );
    assert_image_clean(&disk)?;
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&report)?)?;
    let changes = report["changes"].as_array().cloned().unwrap_or_default();
    for step in ["initramfs", "fstab"] {
        ensure!(
            changes.iter().any(|change| change["step"]
                .as_str()
                .is_some_and(|name| name.contains(step))
                || change["path"]
                    .as_str()
                    .is_some_and(|path| path.contains(step))),
            "the report has nothing of {step}: {changes:?}"
        );
    }

    let mac = mac_of(&xml)?;
    if let Some(stated) = guest.mac {
        ensure!(mac == stated, "the OVF has {stated}, the domain {mac}");
    }
    let mut boot = Boot::new(&disk, "qcow2")
        .bus(Bus::Virtio)
        .firmware(guest.uefi)
        .net(guest.static_ip, guest.gateway, Some(&mac))
        .start()?;
    boot.wait_login(LOGIN)?;
    let banner = boot.ssh_banner(Duration::from_secs(120))?;
    ensure!(banner.starts_with("SSH-2.0-"), "{banner}");
    Ok(())
}

#[test]
fn bios_guest_boots_and_keeps_its_address() -> Result<()> {
    boots_converted(Sample::Bios)
}

#[test]
fn uefi_guest_without_fallback_loader_boots_and_keeps_its_address() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    boots_converted(Sample::Uefi)
}

#[test]
fn lvm_guest_boots_and_keeps_its_address() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    boots_converted(Sample::Lvm)
}
