//! The transfer from an agent: the session beside a bare tonic stream of 1 MiB messages, both over mutual TLS on
//! loopback and on the same cores; and the memory of a server with four jobs at once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::agent::{Agent, AgentSetup};
use testkit::cmd;
use testkit::server::{ConverterServer, TokenWish};

use super::{Bench, MIB, mib};
use crate::run::{self as build, Profile};

/// MiB of each transfer, and how often both are measured.
const TRANSFER: [&str; 2] = ["2048", "5"];
/// Part of the bare stream's rate that a session must reach.
const LEAST_PERCENT: f64 = 70.0;
const JOBS: u8 = 4;
const MAX_SERVER: u64 = 256 * MIB;
const PATIENCE: Duration = Duration::from_secs(600);

impl Bench {
    /// Rates and memory.
    pub(super) fn p2v(&mut self) -> Result<Value> {
        let percent = self.transfer()?;
        let peak = self.four_jobs()?;
        Ok(json!({"session_percent_of_bare_stream": percent, "server_peak_bytes": peak}))
    }

    fn transfer(&mut self) -> Result<f64> {
        let example = [
            "--release",
            "--locked",
            "--package",
            "server",
            "--example",
            "transfer_bench",
        ];
        build::run(build::cargo(&["build"]).args(example))?;
        let program = testkit::target_dir().join("release/examples/transfer_bench");
        let mut measuring = cmd::command(&program.display().to_string(), TRANSFER);
        let said = cmd::output(&mut measuring)?;
        let best = said
            .lines()
            .find_map(|line| line.strip_prefix("best: "))
            .with_context(|| format!("transfer_bench printed no best line: {said}"))?;
        let (raw, rest) = best.split_once("; ").unwrap_or((best, ""));
        let (session, percent) = rest.rsplit_once(": ").unwrap_or((rest, ""));
        let percent: f64 = percent
            .trim_end_matches([' ', '%'])
            .parse()
            .with_context(|| format!("expected a percentage at the end of {best:?}"))?;
        let rate = |text: &str| {
            text.split(" MiB/s")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let number = |text: &str| {
            let rate = rate(text);
            let digits = rate.rsplit(' ').next().unwrap_or_default();
            format!("{digits} MiB/s")
        };
        self.line(
            "bare tonic stream of 1 MiB messages, mTLS, loopback",
            number(raw),
            None,
        );
        self.line("agent to server, into the spool", number(session), None);
        let good = percent >= LEAST_PERCENT;
        self.line(
            "of the bare stream's rate",
            format!("{percent:.0} %"),
            Some(good),
        );
        Ok(percent)
    }

    fn four_jobs(&mut self) -> Result<u64> {
        let dir = self.fresh("p2v")?;
        build::build("agent", "p2v-agent", Profile::Dev)?;
        build::build("v2v", "v2v", Profile::Dev)?;
        let args = ["--auto-approve", "--jobs", "4"];
        let mut server = ConverterServer::start_with(&dir, &args, &["-o", "null"])?;
        let join = server.token(&TokenWish {
            uses: Some(u32::from(JOBS)),
            ..TokenWish::default()
        })?;
        let mut agents: Vec<Agent> = (1..=JOBS)
            .map(|number| {
                let setup = AgentSetup::new(&join, &self.guest.raw);
                setup
                    .name(&format!("bench-{number}"))
                    .machine(number)
                    .start()
            })
            .collect::<Result<_>>()?;
        for agent in &mut agents {
            agent.wait_done(PATIENCE)?;
        }
        let peak = server.rss_peak()?;
        ensure!(peak > 0, "the server's memory was not measured");
        server.stop()?;
        self.line(
            "peak memory of a server with 4 jobs at once",
            mib(peak),
            Some(peak < MAX_SERVER),
        );
        Ok(peak)
    }
}
