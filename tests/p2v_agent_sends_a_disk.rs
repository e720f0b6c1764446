//! The promise of P2V in its shortest form: an agent sends its disk, an administrator says yes, a guest is there; and only
//! what file systems use has crossed the network.

use std::fs;

use anyhow::{Result, ensure};
use testkit::agent::AgentSetup;
use testkit::guest::{Sample, sample};
use testkit::net::ChaosProxy;
use testkit::server::{ConverterServer, TokenWish};
use v2v_tests::assert_image_clean;
use v2v_tests::p2v::{JOB, SOON, assert_proved, domain, folder, image, note, progress, used_bytes};

#[test]
fn an_approved_machine_becomes_a_guest_and_free_space_does_not_travel() -> Result<()> {
    let guest = sample(Sample::Bios)?;
    let dir = folder()?;
    let mut server = ConverterServer::start(dir.path(), &[])?;
    let proxy = ChaosProxy::start(server.address())?;
    let address = proxy.address().to_string();
    let join = server.token(&TokenWish {
        server: Some(&address),
        ..TokenWish::default()
    })?;
    let mut agent = AgentSetup::new(&join, &guest.raw)
        .name("sent")
        .machine(1)
        .start()?;
    let id = server.wait_jobs(1, SOON)?;
    let waiting = server.wait_state(id, &["waiting-for-approval"], SOON)?;
    ensure!(waiting["job"]["name"] == "sent", "{}", waiting["job"]);
    ensure!(
        waiting["disks"][0]["virtual_size"] == guest.virtual_size,
        "{}",
        waiting["disks"]
    );
    ensure!(
        progress(&waiting, "received_bytes")? == 0,
        "data were taken before the approval: {waiting}"
    );
    server.approve(id, &["-on", "renamed"])?;
    agent.wait_done(JOB)?;
    let done = server.wait_state(id, &["done"], SOON)?;

    assert_image_clean(&image(&server, "renamed"))?;
    let xml = fs::read_to_string(domain(&server, "renamed"))?;
    ensure!(xml.contains("<name>renamed</name>"), "{xml}");
    assert_proved(&done)?;
    for field in ["changes", "placed", "inventory"] {
        let list = done[field].as_array();
        ensure!(
            list.is_some_and(|list| !list.is_empty()),
            "no {field}: {done}"
        );
    }
    ensure!(!done["guest"].is_null(), "nothing was found: {done}");

    let used = used_bytes(&guest.raw)?;
    let wire = proxy.traffic();
    note(&format!(
        "disk {} MiB, used {} MiB, to the server {} MiB, back {} KiB, {} received, first byte after {} ms",
        guest.virtual_size >> 20,
        used >> 20,
        wire.to_server >> 20,
        wire.to_agent >> 10,
        progress(&done, "received_bytes")?,
        progress(&done, "first_byte_ms")?
    ));
    ensure!(
        wire.total() < used / 10 * 11,
        "{} bytes crossed the network, {used} are used",
        wire.total()
    );
    // What the server says it cost is what it did cost, but for TLS and HTTP/2.
    let told = progress(&done, "wire_bytes")?;
    ensure!(
        told <= wire.total() && wire.total() - told < wire.total() / 20,
        "the job says {told} bytes crossed, {} did",
        wire.total()
    );
    let log = server.logs(id)?;
    ensure!(!log.trim().is_empty(), "the log is empty");
    server.stop()
}
