//! Who is not invited is refused and logged, who lies is caught, and neither harms the server or anybody's job.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::agent::AgentSetup;
use testkit::guest::{Sample, sample};
use testkit::liar::{self, Lie};
use testkit::server::{ConverterServer, TokenWish};
use v2v_tests::assert_image_clean;
use v2v_tests::p2v::{JOB, SOON, assert_proved, folder, image, note};

/// Until an agent that is not let in gives up.
const REFUSAL: Duration = Duration::from_secs(60);
/// How long a lie may go on: the server notices at the first answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Liars at the same time: with the honest machine as many as there are places.
const LIARS: usize = 3;

fn small_disk(dir: &tempfile::TempDir) -> Result<std::path::PathBuf> {
    let disk = dir.path().join("small.raw");
    fs::write(&disk, vec![3; 4 << 20])?;
    Ok(disk)
}

/// An agent with this join string, which must fail; returns what it said.
fn refused(join: &str, dir: &tempfile::TempDir, machine: u8) -> Result<String> {
    let mut agent = AgentSetup::new(join, small_disk(dir)?)
        .machine(machine)
        .name("stranger")
        .start()?;
    agent.wait_failed(REFUSAL)
}

#[test]
fn a_token_is_good_for_one_machine_for_its_time_at_its_server() -> Result<()> {
    let dir = folder()?;
    let mut server = ConverterServer::start(dir.path(), &[])?;

    // Another server's certificate at the address: nothing is sent to it.
    let other_dir = folder()?;
    let other = ConverterServer::start(other_dir.path(), &[])?;
    let astray = other.token(&TokenWish {
        server: Some(&server.address().to_string()),
        ..TokenWish::default()
    })?;
    let said = refused(&astray, &dir, 1)?;
    ensure!(
        said.contains(server.fingerprint()) && said.contains(other.fingerprint()),
        "{said}"
    );
    drop(other);

    let short = server.token(&TokenWish {
        ttl: Some("1s"),
        ..TokenWish::default()
    })?;
    thread::sleep(Duration::from_millis(1500));
    let said = refused(&short, &dir, 2)?;
    ensure!(said.contains("expired"), "{said}");

    let used = server.token(&TokenWish::default())?;
    liar::enrol(&used, 3)?;
    // The machine itself may come again, another may not.
    liar::enrol(&used, 3)?;
    let said = refused(&used, &dir, 4)?;
    ensure!(said.contains("used"), "{said}");

    let listed = server.admin("token", &["list", "--json"])?;
    ensure!(!listed.contains(&used), "a secret is kept: {listed}");
    let withdrawn = server.token(&TokenWish::default())?;
    let last = serde_json::Deserializer::from_str(&server.admin("token", &["list", "--json"])?)
        .into_iter::<serde_json::Value>()
        .collect::<Result<Vec<_>, _>>()?;
    let tokens = match last.as_slice() {
        [serde_json::Value::Array(list)] => list.clone(),
        lines => lines.to_vec(),
    };
    let id = tokens.last().and_then(|token| token["id"].as_u64());
    let id = id.context("no token is listed")?;
    server.admin("token", &["revoke", &id.to_string()])?;
    let said = refused(&withdrawn, &dir, 5)?;
    ensure!(
        said.contains("withdrawn") || said.contains("revoked"),
        "{said}"
    );

    ensure!(server.jobs()?.is_empty(), "{:?}", server.jobs()?);
    let log = server.said();
    for word in ["expired", "used"] {
        ensure!(log.contains(word), "the server did not log {word}: {log}");
    }
    server.stop()
}

#[test]
fn liars_are_caught_while_another_job_runs() -> Result<()> {
    let guest = sample(Sample::Bios)?;
    let dir = folder()?;
    let mut server = ConverterServer::start(dir.path(), &["--jobs", "4"])?;
    let join = server.join_by(&server.address().to_string())?;
    let mut honest = AgentSetup::new(&join, &guest.raw)
        .name("honest")
        .machine(200)
        .start()?;
    let honest_id = server.wait_jobs(1, SOON)?;

    let back = liar::plain_text(server.address())?;
    ensure!(
        !back.starts_with(b"HTTP/"),
        "plain text was answered: {}",
        String::from_utf8_lossy(&back)
    );
    let status = liar::session_without_certificate(&join)?;
    let code = format!("{:?}", status.code());
    ensure!(
        ["Unauthenticated", "PermissionDenied"].contains(&code.as_str()),
        "{status:?}"
    );
    liar::oversized_enrolment(&join)?;

    let many = server.token(&TokenWish {
        uses: Some(u32::try_from(Lie::ALL.len())?),
        auto_approve: true,
        ..TokenWish::default()
    })?;
    let next = AtomicUsize::new(0);
    let errors: Vec<anyhow::Error> = thread::scope(|scope| {
        let liars: Vec<_> = (0..LIARS)
            .map(|_| scope.spawn(|| lies(&server, &many, &next)))
            .collect();
        let ends = liars.into_iter().map(|liar| liar.join());
        ends.filter_map(|end| end.ok()?.err()).collect()
    });
    ensure!(server.is_alive()?, "the server ended: {}", server.said());
    if let Some(error) = errors.into_iter().next() {
        return Err(error);
    }
    ensure!(
        next.load(Ordering::Relaxed) >= Lie::ALL.len(),
        "not all lied"
    );

    honest.wait_done(JOB)?;
    let done = server.wait_state(honest_id, &["done"], SOON)?;
    assert_proved(&done)?;
    assert_image_clean(&image(&server, "honest"))?;
    let left = v2v_tests::listing(server.out())?;
    ensure!(left == ["honest-sda", "honest.xml"], "{left:?}");
    let peak = server.rss_peak()?;
    ensure!(peak < 256 << 20, "{peak} bytes of memory were used");
    server.stop()
}

/// Tells one lie after the other until all are told.
fn lies(server: &ConverterServer, join: &str, next: &AtomicUsize) -> Result<()> {
    while let Some(lie) = Lie::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
        is_caught(server, join, *lie).with_context(|| format!("{lie:?}"))?;
    }
    Ok(())
}

fn is_caught(server: &ConverterServer, join: &str, lie: Lie) -> Result<()> {
    // One that is silent, or merely noisy, is cut off by somebody's patience, not by the first answer.
    let patience = match lie {
        Lie::Silent | Lie::LogFlood => Duration::from_secs(8),
        _ => PATIENCE,
    };
    let outcome = liar::lie(join, lie as u8 + 1, lie, patience)?;
    let status = outcome.status.as_ref();
    note(&format!(
        "{lie:?}: job {:?}, {:?}, {:?}",
        outcome.job,
        outcome.refusal(),
        status.map(|status| (status.state, &status.error))
    ));
    let Some(id) = outcome.job else {
        ensure!(
            outcome.refused.is_some(),
            "no job, and not refused: {outcome:?}"
        );
        return Ok(());
    };
    let detail = server.job(id)?;
    let state = detail["job"]["state"].as_str().unwrap_or_default();
    ensure!(!state.starts_with("done"), "it became a guest: {detail}");
    let log = server.logs(id)?;
    ensure!(!log.trim().is_empty(), "nothing was logged");
    ensure!(!log.contains('\u{1b}'), "an escape is in the log: {log:?}");
    if !["failed", "cancelled"].contains(&state) {
        // It waits for an agent that may come back honest; its place is needed.
        server.cancel(id)?;
        server.wait_state(id, &["cancelled"], SOON)?;
    }
    Ok(())
}
