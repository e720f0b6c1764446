//! Whatever breaks on the way, the guest is the one that an undisturbed run makes, and what was verified before is not
//! sent again.
//!
//! Two conversions of one disk differ in what the mounted file system writes of the time, see [`Content`]; that every byte
//! that came is the machine's is what each run's proof says.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::agent::{Agent, AgentSetup};
use testkit::guest::{Sample, sample};
use testkit::net::ChaosProxy;
use testkit::server::ConverterServer;
use v2v_tests::p2v::{Content, JOB, SOON, assert_proved, folder, image, note, progress};

/// Where the root file system of the BIOS sample begins.
const ROOT: u64 = 1 << 20;
const NAME: &str = "faulty";
/// Enough to be in the midst of the copy.
const SOME: u64 = 120 << 20;

/// An undisturbed run, made once for all tests here.
struct Undisturbed {
    content: Content,
    received: u64,
    wire: u64,
}

fn undisturbed() -> Result<&'static Undisturbed> {
    static MADE: OnceLock<std::result::Result<Undisturbed, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| Undisturbed::make().map_err(|error| format!("{error:#}")));
    made.as_ref()
        .map_err(|error| anyhow::anyhow!("the undisturbed run: {error}"))
}

impl Undisturbed {
    fn make() -> Result<Self> {
        let mut run = Run::start(&[])?;
        run.agent.wait_done(JOB)?;
        let done = run.server.wait_state(run.id, &["done"], SOON)?;
        assert_proved(&done)?;
        run.server.stop()?;
        Ok(Self {
            content: Content::of(&image(&run.server, NAME), ROOT)?,
            received: progress(&done, "received_bytes")?,
            wire: run.proxy.traffic().total(),
        })
    }
}

/// A server, a proxy before it, an agent behind that.
struct Run {
    _dir: TempDir,
    server: ConverterServer,
    proxy: ChaosProxy,
    setup: AgentSetup,
    agent: Agent,
    id: u64,
}

impl Run {
    fn start(args: &[&str]) -> Result<Self> {
        Self::start_by(args, |_| {})
    }

    /// `prepare` sets the proxy up before the agent comes.
    fn start_by(args: &[&str], prepare: impl Fn(&ChaosProxy)) -> Result<Self> {
        let guest = sample(Sample::Bios)?;
        let dir = folder()?;
        let server = ConverterServer::start(dir.path(), args)?;
        let proxy = ChaosProxy::start(server.address())?;
        prepare(&proxy);
        let join = server.join_by(&proxy.address().to_string())?;
        let setup = AgentSetup::new(&join, &guest.raw).name(NAME).machine(7);
        let agent = setup.start()?;
        let id = server.wait_jobs(1, SOON)?;
        Ok(Self {
            _dir: dir,
            server,
            proxy,
            setup,
            agent,
            id,
        })
    }

    /// Waits for the end, which must be the guest of the undisturbed run.
    /// `lost` bytes may have crossed for nothing.
    fn ends_the_same(mut self, lost: u64) -> Result<()> {
        self.agent.wait_done(JOB)?;
        let done = self.server.wait_state(self.id, &["done"], SOON)?;
        assert_proved(&done)?;
        ensure!(self.server.jobs()?.len() == 1, "{:?}", self.server.jobs()?);
        let expected = undisturbed()?;
        let wire = self.proxy.traffic().total();
        let received = progress(&done, "received_bytes")?;
        note(&format!(
            "{wire} bytes crossed against {} undisturbed, {received} received against {}",
            expected.wire, expected.received
        ));
        ensure!(
            wire < expected.wire / 10 * 11 + lost,
            "{wire} bytes crossed, {} in the undisturbed run",
            expected.wire
        );
        let content = Content::of(&image(&self.server, NAME), ROOT)?;
        expected.content.assert_same(&content)?;
        self.server.stop()
    }
}

#[test]
fn the_connection_is_cut_ten_times() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let whole = undisturbed()?.wire;
    let run = Run::start_by(&[], |proxy| {
        // A line that breaks is slow: the agent compresses, and about half as much crosses.
        let marks = proxy.cut_at_random(4, 10, whole / 10 * 4);
        note(&format!("cuts after {marks:?} bytes"));
    })?;
    let begun = Instant::now();
    while run.proxy.cuts() < 10 && begun.elapsed() < JOB {
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(run.proxy.cuts() == 10, "{} cuts", run.proxy.cuts());
    // A part of a chunk of 1 MiB on each of four streams, each time.
    run.ends_the_same(10 * (4 << 20))
}

#[test]
fn the_server_is_killed_and_restarted() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let mut run = Run::start(&[])?;
    run.server.wait_received(run.id, SOME, JOB)?;
    run.server.kill9();
    run.server.restart(&[])?;
    let back = run.server.job(run.id)?;
    ensure!(
        progress(&back, "done_bytes")? > 0 || progress(&back, "received_bytes")? > 0,
        "the restarted server forgot what it had: {}",
        back["job"]
    );
    run.ends_the_same(0)
}

#[test]
fn the_machine_is_reset() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let mut run = Run::start(&[])?;
    run.server.wait_received(run.id, SOME, JOB)?;
    run.agent.kill9();
    run.server
        .wait_state(run.id, &["waiting-for-agent"], SOON)
        .context("the agent was killed")?;
    // The same join string: its certificate was in memory only.
    run.agent = run.setup.start()?;
    run.ends_the_same(0)
}

#[test]
fn the_line_is_slow_and_long_and_once_dead() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let run = Run::start_by(&[], |proxy| {
        proxy.set_rate(Some(16 << 20));
        proxy.set_delay(Duration::from_millis(80));
    })?;
    run.server.wait_received(run.id, SOME, JOB)?;
    // Out of the wall for longer than three signs of life; nobody is told.
    run.proxy.set_frozen(true);
    run.server
        .wait_state(run.id, &["waiting-for-agent"], SOON)
        .context("the line is dead")?;
    run.proxy.set_frozen(false);
    run.ends_the_same(0)
}
