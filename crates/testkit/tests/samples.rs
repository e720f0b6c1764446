//! The samples are what they claim: the original boots on controllers that VMware has and answers at its static address, an
//! unconverted copy on virtio does not come up.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{Boot, Bus, Running, Sample, SampleGuest};

/// A loaded two-core host under emulation needs most of this.
const BOOT: Duration = Duration::from_secs(420);
const ANSWER: Duration = Duration::from_secs(90);

fn built(which: Sample) -> Result<Option<SampleGuest>> {
    if !testkit::require_tool("qemu-system-x86_64")
        || !testkit::require_tool("qemu-img")
        || !testkit::require_root()
    {
        return Ok(None);
    }
    testkit::sample(which).map(Some)
}

/// Types the path of the vendor's loader at the UEFI shell: the variables are fresh and there is no fallback loader.
fn start_vendor_loader(run: &mut Running) -> Result<()> {
    run.wait_for("Shell>", BOOT)?;
    run.send("FS0:\\EFI\\debian\\grubx64.efi\r")
}

#[expect(
    clippy::print_stderr,
    reason = "boot times, for whoever runs this by hand"
)]
fn original_boots(which: Sample, bus: Bus) -> Result<()> {
    let Some(guest) = built(which)? else {
        return Ok(());
    };
    let mut run = Boot::new(&guest.raw, "raw")
        .bus(bus)
        .net_of(&guest)
        .vmware_nic()
        .start()?;
    if guest.uefi {
        start_vendor_loader(&mut run)?;
    }
    let login = run.wait_login(BOOT)?;
    let banner = run.ssh_banner(ANSWER)?;
    eprintln!(
        "{} original on {bus:?}: login after {:.1} s, {banner}",
        guest.name,
        login.as_secs_f64()
    );
    ensure!(banner.starts_with("SSH-2.0-OpenSSH"), "{banner}");
    run.login(guest.root_password, ANSWER)?;
    let facts =
        "cat /etc/hostname; uname -r; swapon --show=NAME --noheadings; ip -br addr show ens192";
    let facts = run.shell(facts, ANSWER)?;
    ensure!(
        facts.starts_with(&format!("{}\n{}\n/dev/", guest.name, guest.kernel)),
        "{facts}"
    );
    ensure!(facts.contains("10.11.12.13/24"), "{facts}");
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "boot times, for whoever runs this by hand"
)]
fn unconverted_does_not_come_up_on_virtio(which: Sample) -> Result<()> {
    let Some(guest) = built(which)? else {
        return Ok(());
    };
    let mut run = Boot::new(&guest.raw, "raw")
        .bus(Bus::Virtio)
        .net_of(&guest)
        .start()?;
    if guest.uefi {
        start_vendor_loader(&mut run)?;
    }
    let seen = run.wait_for_any(&["(initramfs)", " login: "], BOOT)?;
    ensure!(
        seen == 0,
        "the unconverted guest reached its login:\n{}",
        run.transcript()
    );
    eprintln!(
        "{} unconverted on virtio: initramfs shell after {:.1} s",
        guest.name,
        run.elapsed().as_secs_f64()
    );
    Ok(())
}

#[test]
fn the_bios_original_boots_on_sata() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    original_boots(Sample::Bios, Bus::Sata)
}

#[test]
fn the_uefi_original_boots_on_sata() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    original_boots(Sample::Uefi, Bus::Sata)
}

#[test]
fn the_lvm_original_boots_on_lsi_sas() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    original_boots(Sample::Lvm, Bus::LsiSas)
}

#[test]
fn the_unconverted_bios_guest_drops_to_the_initramfs_shell_on_virtio() -> Result<()> {
    unconverted_does_not_come_up_on_virtio(Sample::Bios)
}

#[test]
fn the_unconverted_uefi_guest_drops_to_the_initramfs_shell_on_virtio() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    unconverted_does_not_come_up_on_virtio(Sample::Uefi)
}

#[test]
fn the_unconverted_lvm_guest_drops_to_the_initramfs_shell_on_virtio() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    unconverted_does_not_come_up_on_virtio(Sample::Lvm)
}
