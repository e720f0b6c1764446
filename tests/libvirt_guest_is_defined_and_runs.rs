//! `-o libvirt` against a real libvirtd: the guest is defined, starts and reaches its login; a taken name, an absent
//! pool or network is refused before the copy.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::Libvirtd;
use testkit::guest::{Sample, sample};
use v2v_tests::{arg, assert_image_clean, listing, ok, refused_at_once};

#[test]
fn defined_started_and_logged_in() -> Result<()> {
    let Some(libvirt) = Libvirtd::start()? else {
        return Ok(());
    };
    let guest = sample(Sample::Bios)?;
    let pool = tempfile::tempdir_in(testkit::target_dir())?;
    libvirt.virsh(&[
        "pool-define-as",
        "images",
        "dir",
        "--target",
        &arg(pool.path()),
    ])?;
    libvirt.virsh(&["pool-start", "images"])?;
    libvirt.start_default_network()?;
    let convert = |name: &str, os: &str, network: &str| {
        [
            "-i",
            "ova",
            &arg(&guest.ova),
            "-o",
            "libvirt",
            "-oc",
            libvirt.uri(),
            "-os",
            os,
            "-on",
            name,
            "-n",
            network,
        ]
        .map(str::to_owned)
    };

    ok(convert("moved", "images", "default"))?;
    ensure!(
        listing(pool.path())? == ["moved-sda"],
        "{:?}",
        listing(pool.path())?
    );
    assert_image_clean(&pool.path().join("moved-sda"))?;
    let xml = libvirt.virsh(&["dumpxml", "moved"])?;
    ensure!(
        xml.contains("bus='virtio'") && xml.contains("network='default'"),
        "{xml}"
    );
    libvirt.virsh(&["start", "moved"])?;
    libvirt.wait_on_console("moved", "login:", Duration::from_secs(400))?;

    for (args, word) in [
        (convert("moved", "images", "default"), "moved"),
        (convert("other", "nopool", "default"), "nopool"),
        (convert("other", "images", "nonet"), "nonet"),
    ] {
        let line = refused_at_once(&args)?;
        ensure!(line.contains(word), "expected {word} in: {line}");
    }
    ensure!(
        listing(pool.path())? == ["moved-sda"],
        "{:?}",
        listing(pool.path())?
    );
    Ok(())
}
