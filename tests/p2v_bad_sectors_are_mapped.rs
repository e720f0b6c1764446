//! A disk with unreadable sectors: the job fails and says which; where somebody allows it, it goes on over what it has,
//! puts zeroes in their place, and keeps the map.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use testkit::cmd;
use testkit::guest::{Sample, sample};
use testkit::physical::{Medium, PhysicalMachine, Storage};
use v2v_tests::assert_image_clean;
use v2v_tests::p2v::{IsoRig, JOB, SOON, assert_proved, file_blocks, image, progress};

/// Where the root file system of the BIOS sample begins.
const ROOT: u64 = 1 << 20;
/// A file that neither inspection nor conversion reads.
const FILE: &str = "/usr/share/common-licenses/GPL-3";
const SECTOR: u64 = 512;

#[test]
fn the_map_names_every_unreadable_sector() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let blocks = file_blocks(&guest.raw, ROOT, FILE)?;
    // Two sectors in one block, one in another; one in free space, which nobody reads.
    let bad = [blocks[1] + SECTOR, blocks[1] + 3 * SECTOR, blocks[3]];
    let sectors = bad.iter().map(|offset| offset / SECTOR);
    let mut rig = IsoRig::new(&["--auto-approve"], Some("p2v.name=worn"))?;
    let mut machine = PhysicalMachine::new(&guest.raw, Storage::Ahci)
        .bad_sectors(sectors)
        .medium(Medium::Cd(rig.iso.clone()))
        .start()?;
    let (id, _) = rig.wait_job(&mut machine)?;
    let failed = rig.wait_state(&mut machine, id, &["failed"])?;
    let text = failed["job"]["text"].as_str().unwrap_or_default();
    ensure!(
        text.contains("allow-bad-sectors"),
        "the user is not told what he can do: {text}"
    );
    let left = v2v_tests::listing(rig.server.out())?;
    ensure!(left.is_empty(), "a failed job left {left:?}");

    rig.server.stop()?;
    rig.server.restart(&["--allow-bad-sectors"])?;
    rig.server.retry(id)?;
    let done = rig.server.wait_state(id, &["done-with-errors"], JOB);
    let done = done.with_context(|| machine.console.transcript())?;
    let map: Vec<(u64, u64)> = done["disks"][0]["bad"]
        .as_array()
        .context("no map")?
        .iter()
        .filter_map(|range| Some((range["start"].as_u64()?, range["end"].as_u64()?)))
        .collect();
    let named = |offset: u64| {
        map.iter()
            .any(|&(start, end)| (start..end).contains(&offset))
    };
    for offset in bad {
        ensure!(named(offset), "{offset:#x} is not in {map:x?}");
    }
    let total: u64 = map.iter().map(|(start, end)| end - start).sum();
    ensure!(
        total == SECTOR * bad.len() as u64,
        "{total} bytes are in the map {map:x?}"
    );
    ensure!(progress(&done, "bad_bytes")? == total, "{}", done["job"]);
    assert_proved(&done)?;

    let image = image(&rig.server, "worn");
    assert_image_clean(&image)?;
    let raw = rig.dir.path().join("worn.raw");
    cmd::output(
        cmd::command("qemu-img", ["convert", "-O", "raw"])
            .arg(&image)
            .arg(&raw),
    )?;
    // What could be read around them is there, and they are zero.
    let (ours, theirs) = (File::open(&raw)?, File::open(&guest.raw)?);
    for block in &blocks {
        let (mut found, mut expected) = (vec![0; 4096], vec![0; 4096]);
        ours.read_exact_at(&mut found, *block)?;
        theirs.read_exact_at(&mut expected, *block)?;
        for offset in bad
            .iter()
            .filter(|offset| (*block..block + 4096).contains(*offset))
        {
            let at = usize::try_from(offset - block)?;
            expected[at..at + 512].fill(0);
        }
        ensure!(found == expected, "the block at {block:#x} differs");
    }
    // Unattended, and through: it is off by itself.
    machine.console.wait_off(SOON).map(drop)?;
    rig.server.stop()
}
