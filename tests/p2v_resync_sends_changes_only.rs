//! A machine that comes again sends what changed since, and the guest is that of the changed disk.

use std::fs;
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use testkit::agent::AgentSetup;
use testkit::cmd;
use testkit::guest::{Sample, sample};
use testkit::net::ChaosProxy;
use testkit::server::{ConverterServer, TokenWish};
use v2v_tests::p2v::{JOB, SOON, assert_proved, file_blocks, folder, image, note, progress};

/// Where the root file system of the BIOS sample begins.
const ROOT: u64 = 1 << 20;
/// A file that no conversion touches.
const FILE: &str = "/usr/share/common-licenses/GPL-3";
const NEW: &[u8] = b"CHANGED BETWEEN THE RUNS";

#[test]
fn the_second_run_sends_the_changed_blocks() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let dir = folder()?;
    let disk = dir.path().join("machine.raw");
    cmd::output(
        cmd::command("cp", ["--sparse=always", "--reflink=auto"])
            .arg(&guest.raw)
            .arg(&disk),
    )?;
    let mut server = ConverterServer::start(dir.path(), &["--auto-approve", "--resync"])?;
    let proxy = ChaosProxy::start(server.address())?;
    let address = proxy.address().to_string();
    let run = |name: &str, count: usize| -> Result<serde_json::Value> {
        let join = server.token(&TokenWish {
            server: Some(&address),
            ..TokenWish::default()
        })?;
        let mut agent = AgentSetup::new(&join, &disk)
            .name(name)
            .machine(9)
            .word("p2v.resync")
            .start()?;
        agent.wait_done(JOB)?;
        let id = server.wait_jobs(count, SOON)?;
        let done = server.wait_state(id, &["done"], SOON)?;
        assert_proved(&done)?;
        Ok(done)
    };
    let first = run("before", 1)?;
    let crossed_first = proxy.traffic().total();

    let blocks = file_blocks(&disk, ROOT, FILE)?;
    let file = fs::OpenOptions::new().write(true).open(&disk)?;
    file.write_all_at(NEW, blocks[0])?;
    drop(file);
    let second = run("after", 2)?;
    let crossed = proxy.traffic().total() - crossed_first;

    let (all, sent) = (
        progress(&first, "received_bytes")?,
        progress(&second, "received_bytes")?,
    );
    let same = progress(&second, "same_bytes")?;
    note(&format!(
        "{all} bytes received first, then {sent} and {same} the same; {crossed_first} and {crossed} crossed"
    ));
    // The block of 64 KiB around the change; swap and journal are as they were.
    ensure!(sent > 0 && sent <= 4 << 20, "{sent} bytes were sent again");
    ensure!(same > all / 2, "{same} bytes were found the same");
    // Hashes of what is the same travel: 32 bytes for each 64 KiB, there.
    ensure!(
        crossed < crossed_first / 20,
        "{crossed} bytes crossed in the second run"
    );

    let raw = dir.path().join("after.raw");
    cmd::output(
        cmd::command("qemu-img", ["convert", "-O", "raw"])
            .arg(image(&server, "after"))
            .arg(&raw),
    )?;
    let at = file_blocks(&raw, ROOT, FILE)?[0];
    let mut found = vec![0; NEW.len()];
    fs::File::open(&raw)?.read_exact_at(&mut found, at)?;
    ensure!(found == NEW, "{:?}", String::from_utf8_lossy(&found));
    server.stop()
}
