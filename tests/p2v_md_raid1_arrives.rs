//! A machine whose root is an md mirror of two disks: both travel, the guest assembles them again and boots.

use std::fs;

use anyhow::{Context, Result, ensure};
use testkit::boot::Boot;
use testkit::guest::{Sample, sample};
use testkit::physical::{MAC, Medium, PhysicalMachine, Storage};
use v2v_tests::p2v::{IsoRig, SOON, assert_proved, domain, image, looks_well};
use v2v_tests::{assert_image_clean, mac_of};

#[test]
fn both_halves_arrive_and_boot_as_one() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let guest = sample(Sample::Md)?;
    let mirror = guest.mirror.as_ref().context("no mirror")?;
    let kargs = "p2v.name=mirrored p2v.post=poweroff";
    let mut rig = IsoRig::new(&["--auto-approve"], Some(kargs))?;
    let mut machine = PhysicalMachine::new(&guest.raw, Storage::Ahci)
        .disk(mirror, "raw")
        .medium(Medium::Cd(rig.iso.clone()))
        .start()?;
    let (id, _) = rig.wait_job(&mut machine)?;
    let done = rig.wait_state(&mut machine, id, &["done"])?;
    machine.console.wait_off(SOON)?;
    assert_proved(&done)?;
    let disks = done["disks"].as_array().context("no disks")?;
    ensure!(disks.len() == 2, "{disks:?}");
    rig.server.stop()?;
    drop(machine);

    let (first, second) = (
        image(&rig.server, "mirrored"),
        rig.server.out().join("mirrored-sdb"),
    );
    assert_image_clean(&first)?;
    assert_image_clean(&second)?;
    let xml = domain(&rig.server, "mirrored");
    ensure!(mac_of(&xml)? == MAC, "{}", fs::read_to_string(&xml)?);
    let mut boot = Boot::new(&first, "qcow2")
        .disk(&second, "qcow2")
        .net(guest.static_ip, guest.gateway, Some(MAC))
        .start()?;
    let seen = looks_well(&mut boot, &guest, "cat /proc/mdstat; findmnt -no SOURCE /")?;
    for fact in ["active raid1", "vda1", "vdb1", "[UU]", "/dev/md0"] {
        ensure!(seen.contains(fact), "no {fact}: {seen}");
    }
    Ok(())
}
