//! The promise: a Windows whose volumes are in its memory, or in a journal that only it can finish, is refused with the
//! commands that help, and nothing is left; who insists gets it converted.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use testkit::guest::windows::{Volume, Windows, cut, put_back, require_ntfs, windows};
use v2v_tests::{arg, assert_nothing_left, ok, refused};

/// A copy of the machine's disk, its C: changed by `change`.
fn changed(
    dir: &Path,
    which: Windows,
    change: impl FnOnce(&Volume) -> Result<()>,
) -> Result<std::path::PathBuf> {
    let guest = windows(which)?;
    let whole = testkit::guest::windows::Span {
        start: 0,
        len: fs::metadata(&guest.raw)?.len(),
    };
    let disk = cut(&guest.raw, whole, &dir.join("disk.raw"))?;
    let part = cut(&guest.raw, which.system(), &dir.join("c"))?;
    change(&Volume::at(&part))?;
    put_back(&part, &disk, which.system())?;
    fs::remove_file(&part)?;
    Ok(disk)
}

fn arguments(disk: &Path, out: &Path) -> Vec<String> {
    let mut args: Vec<String> = ["-i", "disk", "-if", "raw"].map(str::to_owned).to_vec();
    args.push(arg(disk));
    args.extend(["-o", "local", "-of", "qcow2", "-on", "asleep", "-os"].map(str::to_owned));
    args.push(arg(out));
    args
}

fn story(which: Windows, words: &[&str], change: impl FnOnce(&Volume) -> Result<()>) -> Result<()> {
    if !require_ntfs() || !testkit::require_tool("qemu-system-x86_64") {
        return Ok(());
    }
    let dir = tempfile::tempdir_in(testkit::target_dir())?;
    let out = dir.path().join("out");
    fs::create_dir(&out)?;
    let disk = changed(dir.path(), which, change)?;
    let error = refused(arguments(&disk, &out))?;
    for word in words {
        ensure!(error.contains(word), "no `{word}` in {error}");
    }
    assert_nothing_left(&out, &[])?;
    let mut forced = arguments(&disk, &out);
    forced.push("--force-hibernated".into());
    ok(&forced)?;
    ensure!(out.join("asleep.xml").is_file(), "no domain");
    Ok(())
}

#[test]
fn fast_startup() -> Result<()> {
    story(
        Windows::EightOne,
        &["powercfg /h off", "shutdown /s /t 0"],
        |volume| {
            volume.mounted("rw", |root| {
                let file = fs::File::options()
                    .write(true)
                    .open(root.join("hiberfil.sys"))
                    .context("opening hiberfil.sys")?;
                file.write_all_at(b"HIBR", 0)?;
                Ok(())
            })
        },
    )
}

#[test]
fn a_journal_that_was_not_closed() -> Result<()> {
    story(
        Windows::Seven,
        &["chkdsk", "shutdown /s /t 0"],
        Volume::leave_open,
    )
}
