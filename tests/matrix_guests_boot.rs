//! The promise: every Linux guest. The third of `cargo xtask matrix` that has every initramfs generator, file system, storage
//! stack, firmware and network configuration, and every loader but extlinux: each guest boots on VMware's hardware and not on
//! virtio as it is, and converted on virtio-blk and on virtio-scsi, at its old address.

use anyhow::{Context, Result, ensure};
use testkit::guest::matrix::{self, BUSES};

/// Issue 5: the whole conversion under TCG, and of that the appliance's work; doubled, since other tests run meanwhile.
const CONVERSION_S: f64 = 120.0;
const APPLIANCE_S: f64 = 60.0;

fn proved(name: &str) -> Result<()> {
    let guest = matrix::by_name(name).context("no such guest")?;
    let built = matrix::build(guest)?;
    let old = matrix::unconverted(&built)?;
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let (figures, booted) = matrix::prove(&built, out.path())?;
    let (conversion, appliance) = (
        figures.conversion.as_secs_f64(),
        figures.appliance.as_secs_f64(),
    );
    let mut line = format!(
        "{name}: old hardware {:.1} s, appliance {appliance:.1} s, conversion {conversion:.1} s",
        old.old_login.as_secs_f64()
    );
    for (bus, login) in BUSES.iter().zip(booted) {
        line += &format!(", {bus:?} {:.1} s", login.as_secs_f64());
    }
    ensure!(
        conversion <= CONVERSION_S && appliance <= APPLIANCE_S,
        "too slow: {line}"
    );
    Ok(())
}

#[test]
fn grub_legacy_on_lvm_with_ifupdown() -> Result<()> {
    proved("legacy-lvm")
}

#[test]
fn systemd_boot_on_btrfs_with_netplan() -> Result<()> {
    proved("sdboot-btrfs")
}

#[test]
fn grub_on_a_mirror_with_networkd() -> Result<()> {
    proved("grub-md")
}

#[test]
fn bls_entries_on_lvm_in_luks_with_network_manager() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    proved("bls-lvm-luks")
}

#[test]
fn dracut_on_luks_with_network_manager() -> Result<()> {
    proved("grub-luks")
}
