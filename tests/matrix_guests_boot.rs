//! The promise: every Linux guest. The third of `cargo xtask matrix` that has every initramfs generator, file system, storage
//! stack, firmware and network configuration, and every loader but extlinux: each guest boots converted, at its old address. CI has
//! the time for one bus each; `cargo xtask test --all` boots it on virtio-blk and on virtio-scsi, and before that unconverted
//! on VMware's hardware, and in vain on virtio.

use anyhow::{Context, Result, ensure};
use testkit::boot::Bus;
use testkit::guest::matrix::{self, BUSES};

/// Issue 5: the whole conversion under TCG, and of that the appliance's work; doubled, since other tests run meanwhile.
const CONVERSION_S: f64 = 120.0;
const APPLIANCE_S: f64 = 60.0;

/// `short` is the bus that CI has the time for; the long version boots on both, and the guest as it is on the old hardware
/// and on virtio before.
fn proved(name: &str, short: Bus) -> Result<()> {
    let guest = matrix::by_name(name).context("no such guest")?;
    let built = matrix::build(guest)?;
    let mut line = name.to_owned();
    let buses = if testkit::tells_all() {
        let old = matrix::unconverted(&built)?;
        line += &format!(", old hardware {:.1} s", old.old_login.as_secs_f64());
        BUSES.to_vec()
    } else {
        vec![short]
    };
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let (figures, booted) = matrix::prove(&built, out.path(), &buses)?;
    let (conversion, appliance) = (
        figures.conversion.as_secs_f64(),
        figures.appliance.as_secs_f64(),
    );
    line += &format!(", appliance {appliance:.1} s, conversion {conversion:.1} s");
    for (bus, login) in buses.iter().zip(booted) {
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
    proved("legacy-lvm", Bus::VirtioScsi)
}

#[test]
fn systemd_boot_on_btrfs_with_netplan() -> Result<()> {
    proved("sdboot-btrfs", Bus::Virtio)
}

#[test]
fn grub_on_a_mirror_with_networkd() -> Result<()> {
    proved("grub-md", Bus::VirtioScsi)
}

#[test]
fn bls_entries_on_lvm_in_luks_with_network_manager() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    proved("bls-lvm-luks", Bus::Virtio)
}

#[test]
fn dracut_on_luks_with_network_manager() -> Result<()> {
    proved("grub-luks", Bus::Virtio)
}
