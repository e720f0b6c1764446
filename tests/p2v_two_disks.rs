//! A machine with two disks becomes a guest with two disks, in the machine's order and with its sizes.

use std::fs;
use std::os::unix::fs::FileExt;

use anyhow::{Result, ensure};
use testkit::agent::AgentSetup;
use testkit::cmd;
use testkit::guest::{Sample, sample};
use testkit::server::ConverterServer;
use v2v_tests::assert_image_clean;
use v2v_tests::p2v::{JOB, SOON, assert_proved, domain, folder, image};

#[test]
fn both_disks_arrive() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let guest = sample(Sample::Lvm)?;
    let dir = folder()?;
    // No multiple of a block, and no file system: all of it is needed.
    let data = dir.path().join("data.raw");
    let file = fs::File::create(&data)?;
    file.set_len((40 << 20) + 512)?;
    file.write_all_at(&b"tape archive ".repeat(10_000), 5 << 20)?;
    file.write_all_at(b"the end", (40 << 20) + 500)?;
    let mut server = ConverterServer::start(dir.path(), &["--auto-approve"])?;
    let join = server.token(&testkit::server::TokenWish::default())?;
    let mut agent = AgentSetup::new(&join, &guest.raw)
        .disk(&data)
        .name("pair")
        .machine(2)
        .start()?;
    let id = server.wait_jobs(1, SOON)?;
    agent.wait_done(JOB)?;
    let done = server.wait_state(id, &["done"], SOON)?;
    assert_proved(&done)?;
    ensure!(
        done["disks"]
            .as_array()
            .is_some_and(|disks| disks.len() == 2),
        "{}",
        done["disks"]
    );
    let second = server.out().join("pair-sdb");
    assert_image_clean(&image(&server, "pair"))?;
    assert_image_clean(&second)?;
    let args = ["compare", "-f", "raw", "-F", "qcow2"];
    cmd::output(cmd::command("qemu-img", args).arg(&data).arg(&second))?;
    let xml = fs::read_to_string(domain(&server, "pair"))?;
    ensure!(
        xml.find("pair-sda") < xml.find("pair-sdb") && xml.contains("pair-sda"),
        "{xml}"
    );
    server.stop()
}
