//! A target that is too small: refused before the copy where that can be known, and tidied up where it cannot.

use anyhow::{Result, ensure};
use testkit::guest::{Sample, sample};
use testkit::{SmallFs, require_root};
use v2v_tests::{arg, listing, refused};

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
    let left: Vec<_> = listing(small.path())?
        .into_iter()
        .filter(|name| name != "lost+found")
        .collect();
    ensure!(left.is_empty(), "left in the target: {left:?}");
    Ok(())
}

#[test]
fn preallocation_that_does_not_fit_is_refused_before_any_work() -> Result<()> {
    if !require_root() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let small = SmallFs::new(200)?;
    let begun = std::time::Instant::now();
    let line = refused([
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
    ensure!(
        begun.elapsed().as_secs() < 3,
        "took {:?}: the appliance was started first",
        begun.elapsed()
    );
    Ok(())
}
