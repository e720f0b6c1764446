//! `-i disk`: a VMDK without any description becomes a raw disk under another name, holes and all.

use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use testkit::guest::{Sample, sample};
use v2v_tests::{arg, listing, ok};

#[test]
fn a_vmdk_becomes_a_sparse_raw_disk() -> Result<()> {
    let guest = sample(Sample::Uefi)?;
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let dir = arg(out.path());
    let unpacked = tempfile::tempdir_in(testkit::target_dir())?;
    let (from, options) = (
        arg(&guest.unpack_vmdk(unpacked.path())?),
        ["-o", "local", "-of", "raw", "-on", "moved", "-os", &dir],
    );
    ok(["-i", "disk", &from].into_iter().chain(options))?;
    ensure!(
        listing(out.path())? == ["moved-sda", "moved.xml"],
        "{:?}",
        listing(out.path())?
    );
    let raw = std::fs::metadata(out.path().join("moved-sda"))?;
    ensure!(raw.len() == guest.virtual_size, "{} bytes", raw.len());
    // Free space and swap were discarded, so most of the disk is a hole.
    ensure!(
        raw.blocks() * 512 < guest.virtual_size / 4,
        "{} bytes are allocated",
        raw.blocks() * 512
    );
    let xml = std::fs::read_to_string(out.path().join("moved.xml"))?;
    ensure!(
        xml.contains("<name>moved</name>") && xml.contains("type=\"raw\""),
        "{xml}"
    );
    Ok(())
}
