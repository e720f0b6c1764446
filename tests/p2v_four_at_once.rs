//! Four machines come together: no more run than may, each is as fast as it may be, the server stays small, all arrive.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::agent::{Agent, AgentSetup};
use testkit::guest::{Sample, sample};
use testkit::server::{ConverterServer, TokenWish};
use v2v_tests::assert_image_clean;
use v2v_tests::p2v::{JOB, assert_proved, folder, image, note, progress};

const MACHINES: u8 = 4;
/// Jobs that may run at the same time.
const LIMIT: usize = 2;
/// Bytes a second of one job.
const RATE: u64 = 48 << 20;
const MEMORY: u64 = 256 << 20;

#[test]
fn four_machines_arrive_within_the_limits() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let dir = folder()?;
    let args = [
        "--auto-approve",
        "--jobs",
        "2",
        "--bandwidth-per-job",
        "48M",
    ];
    let mut server = ConverterServer::start(dir.path(), &args)?;
    let join = server.token(&TokenWish {
        uses: Some(u32::from(MACHINES)),
        ..TokenWish::default()
    })?;
    let mut agents: Vec<Agent> = (1..=MACHINES)
        .map(|number| {
            let name = format!("four-{number}");
            let setup = AgentSetup::new(&join, &guest.raw).name(&name);
            setup.machine(number).start()
        })
        .collect::<Result<_>>()?;
    let begun = Instant::now();
    let mut most = 0;
    let mut first_seen: BTreeMap<u64, (Instant, u64)> = BTreeMap::new();
    let mut rates: BTreeMap<u64, f64> = BTreeMap::new();
    let jobs = loop {
        let jobs = server.jobs()?;
        let running = jobs.iter().filter(|job| {
            let state = job["state"].as_str().unwrap_or_default();
            ["inspecting", "converting", "copying"].contains(&state)
        });
        most = most.max(running.count());
        for job in &jobs {
            let (Some(id), Some(received)) = (
                job["id"].as_u64(),
                job["progress"]["received_bytes"].as_u64(),
            ) else {
                continue;
            };
            let begin = first_seen.entry(id).or_insert((Instant::now(), received));
            let seconds = begin.0.elapsed().as_secs_f64();
            if seconds > 4.0 {
                #[expect(clippy::cast_precision_loss, reason = "a rate")]
                let rate = received.saturating_sub(begin.1) as f64 / seconds;
                let best = rates.entry(id).or_default();
                *best = best.max(rate);
            }
        }
        let done = jobs.iter().filter(|job| job["state"] == "done").count();
        if done == usize::from(MACHINES) {
            break jobs;
        }
        let failed = jobs.iter().find(|job| job["state"] == "failed");
        ensure!(failed.is_none(), "{failed:?}");
        ensure!(begun.elapsed() < 2 * JOB, "not done: {jobs:?}");
        thread::sleep(Duration::from_millis(200));
    };
    let peak = server.rss_peak()?;
    note(&format!(
        "four jobs in {:.0} s, at most {most} at once, {} MiB of memory, rates {rates:?}",
        begun.elapsed().as_secs_f64(),
        peak >> 20
    ));
    ensure!(most == LIMIT, "{most} jobs ran at once, expected {LIMIT}");
    ensure!(peak < MEMORY, "{peak} bytes of memory were used");
    for (id, rate) in rates {
        // A bucket may be full at the start.
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let limit = RATE as f64 * 1.25;
        ensure!(rate < limit, "job {id} ran at {rate:.0} bytes/s");
    }
    for agent in &mut agents {
        agent.wait_done(JOB)?;
    }
    for job in &jobs {
        let detail = server.job(job["id"].as_u64().unwrap_or(0))?;
        assert_proved(&detail)?;
        ensure!(progress(&detail, "received_bytes")? > 0, "{job}");
    }
    for number in 1..=MACHINES {
        assert_image_clean(&image(&server, &format!("four-{number}")))?;
    }
    server.stop()
}
