//! `v2v serve` as a process, and the administrator who talks to it by `v2v token` and `v2v jobs`.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cmd;
use crate::measure::high_water_mark;
use crate::places::v2v;
use crate::process::Background;

/// From the start to `listening on`.
const START: Duration = Duration::from_secs(60);
/// An orderly end may wait for a job to reach a place where it can stop.
const STOP: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(150);
/// Log lines that an error repeats.
const TAIL_LINES: usize = 25;

/// A converter server; killed when dropped.
#[derive(Debug)]
pub struct ConverterServer {
    state: PathBuf,
    out: PathBuf,
    args: Vec<String>,
    process: Background,
    address: SocketAddr,
    fingerprint: String,
    web: Option<String>,
    rss_peak_before: u64,
}

/// What a token is to be.
#[derive(Clone, Debug, Default)]
pub struct TokenWish<'a> {
    /// Address in the join string; the server's own if not said.
    pub server: Option<&'a str>,
    /// How long it is good, in v2v's words: `1h`, `2s`.
    pub ttl: Option<&'a str>,
    /// Machines that may use it; one if not said.
    pub uses: Option<u32>,
    /// Its jobs need no approval.
    pub auto_approve: bool,
}

impl ConverterServer {
    /// Starts a server with its state in `dir/state`, which puts guests in `dir/out` as qcow2; `args` go before the
    /// output options.
    pub fn start(dir: &Path, args: &[&str]) -> Result<Self> {
        Self::start_with(dir, args, &["-of", "qcow2"])
    }

    /// The same with other output options behind `-o local -os DIR`.
    pub fn start_with(dir: &Path, args: &[&str], output: &[&str]) -> Result<Self> {
        let (state, out) = (dir.join("state"), dir.join("out"));
        fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
        let mut words: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
        let folder = out.display().to_string();
        let output = ["-o", "local", "-os", &folder]
            .into_iter()
            .chain(output.iter().copied());
        words.extend(output.map(str::to_owned));
        let mut process = spawn(&state, "127.0.0.1:0", "127.0.0.1:0", &words)?;
        let said = Said::wait(&mut process)?;
        Ok(Self {
            state,
            out,
            args: words,
            process,
            address: said.address,
            fingerprint: said.fingerprint,
            web: said.web,
            rss_peak_before: 0,
        })
    }

    /// Where agents connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SHA-256 of its certificate, hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Address of its web page.
    pub fn web(&self) -> Result<&str> {
        self.web.as_deref().context("the server named no web page")
    }

    /// Folder of the guests.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// What it said so far, since its last start.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// A join string.
    pub fn token(&self, wish: &TokenWish<'_>) -> Result<String> {
        let mut args = vec!["create".to_owned()];
        let uses = wish.uses.map(|uses| uses.to_string());
        let pairs = [
            ("--server", wish.server),
            ("--ttl", wish.ttl),
            ("--uses", uses.as_deref()),
        ];
        for (option, value) in pairs {
            if let Some(value) = value {
                args.extend([option.to_owned(), value.to_owned()]);
            }
        }
        if wish.auto_approve {
            args.push("--auto-approve".to_owned());
        }
        let printed = self.admin("token", &args)?;
        let mut lines = printed.lines();
        match (lines.next(), lines.next()) {
            (Some(join), None) if join.starts_with("v2v1.") => Ok(join.to_owned()),
            _ => bail!("expected one join string, v2v token create printed {printed:?}"),
        }
    }

    /// A join string through a proxy or another address, whose jobs need no approval.
    pub fn join_by(&self, address: &str) -> Result<String> {
        self.token(&TokenWish {
            server: Some(address),
            auto_approve: true,
            ..TokenWish::default()
        })
    }

    /// Runs `v2v token …` or `v2v jobs …`, which must succeed.
    pub fn admin<S: AsRef<OsStr>>(&self, what: &str, args: &[S]) -> Result<String> {
        let mut command = Command::new(v2v()?);
        command.arg(what).args(args.iter().take(1));
        command.arg("--state").arg(&self.state);
        command.args(args.iter().skip(1)).stdin(Stdio::null());
        cmd::output(&mut command)
    }

    /// Every job as `server::JobView`.
    pub fn jobs(&self) -> Result<Vec<Value>> {
        let text = self.admin("jobs", &["list", "--json"])?;
        let mut jobs = Vec::new();
        for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
            match value.with_context(|| format!("v2v jobs list printed {text:?}"))? {
                Value::Array(list) => jobs.extend(list),
                one => jobs.push(one),
            }
        }
        Ok(jobs)
    }

    /// One job as `server::JobDetail`.
    pub fn job(&self, id: u64) -> Result<Value> {
        let text = self.admin("jobs", &["show", &id.to_string(), "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("v2v jobs show printed {text:?}"))
    }

    /// The job's log as text.
    pub fn logs(&self, id: u64) -> Result<String> {
        self.admin("jobs", &["logs", &id.to_string()])
    }

    /// Says yes, with options over the server's.
    pub fn approve(&self, id: u64, options: &[&str]) -> Result<()> {
        let id = id.to_string();
        let mut args = vec!["approve", &id];
        if !options.is_empty() {
            args.push("--");
            args.extend(options);
        }
        self.admin("jobs", &args).map(drop)
    }

    /// Gives a job up.
    pub fn cancel(&self, id: u64) -> Result<()> {
        self.admin("jobs", &["cancel", &id.to_string()]).map(drop)
    }

    /// Starts an ended job again.
    pub fn retry(&self, id: u64) -> Result<()> {
        self.admin("jobs", &["retry", &id.to_string()]).map(drop)
    }

    /// Waits until there are `count` jobs; returns the newest one's number.
    pub fn wait_jobs(&self, count: usize, timeout: Duration) -> Result<u64> {
        let deadline = Instant::now() + timeout;
        loop {
            let jobs = self.jobs()?;
            if let Some(job) = jobs.last().filter(|_| jobs.len() >= count) {
                return job["id"].as_u64().context("a job without a number");
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} jobs after {timeout:?}, expected {count}; the server says:\n{}",
                    jobs.len(),
                    self.process.tail()
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until the job is in one of these states; returns it as [`ConverterServer::job`] does. Another end is an error.
    pub fn wait_state(&self, id: u64, states: &[&str], timeout: Duration) -> Result<Value> {
        self.wait_until(id, timeout, states, |job| {
            states.contains(&job["state"].as_str().unwrap_or_default())
        })
    }

    /// Waits until so many bytes of disk data are here.
    pub fn wait_received(&self, id: u64, bytes: u64, timeout: Duration) -> Result<Value> {
        let what = format!("{bytes} bytes received");
        self.wait_until(id, timeout, &[&what], |job| {
            job["progress"]["received_bytes"].as_u64() >= Some(bytes)
        })
    }

    fn wait_until(
        &self,
        id: u64,
        timeout: Duration,
        wanted: &[&str],
        is_there: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + timeout;
        loop {
            let detail = self.job(id)?;
            let job = &detail["job"];
            if is_there(job) {
                return Ok(detail);
            }
            let state = job["state"].as_str().unwrap_or_default();
            let ended = ["done", "done-with-errors", "failed", "cancelled"].contains(&state);
            if ended || Instant::now() >= deadline {
                let logs = self.logs(id).unwrap_or_default();
                bail!(
                    "job {id} is {state} ({}), expected {wanted:?} within {timeout:?}; its log:\n{}",
                    job["text"],
                    cmd::tail(&logs, TAIL_LINES)
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Most memory that it used, restarts included, in bytes.
    pub fn rss_peak(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let peak = high_water_mark(&status).with_context(|| format!("{path} has no VmHWM"))?;
        Ok(peak.max(self.rss_peak_before))
    }

    /// Whether it is running.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    /// Power failure.
    pub fn kill9(&mut self) {
        self.rss_peak_before = self.rss_peak().unwrap_or(self.rss_peak_before);
        self.process.kill9();
    }

    /// SIGTERM; the end must be orderly.
    pub fn stop(&mut self) -> Result<()> {
        self.rss_peak_before = self.rss_peak()?;
        self.process.terminate()?;
        let status = self.process.wait(STOP)?;
        ensure!(
            status.success(),
            "v2v serve ended with {status} after SIGTERM:\n{}",
            self.process.tail()
        );
        Ok(())
    }

    /// Starts it again, on the same port and state; `more` arguments go before all others and stay.
    pub fn restart(&mut self, more: &[&str]) -> Result<()> {
        let more = more.iter().map(|word| (*word).to_owned());
        self.args.splice(0..0, more);
        let listen = self.address.to_string();
        self.process = spawn(&self.state, &listen, "127.0.0.1:0", &self.args)?;
        let said = Said::wait(&mut self.process)?;
        ensure!(
            said.address == self.address && said.fingerprint == self.fingerprint,
            "the server came back as {} with the fingerprint {}",
            said.address,
            said.fingerprint
        );
        self.web = said.web;
        Ok(())
    }
}

fn spawn(state: &Path, listen: &str, web: &str, args: &[String]) -> Result<Background> {
    let mut command = Command::new(v2v()?);
    command.arg("serve").arg("--state").arg(state);
    command.args(["--listen", listen, "--web", web]).args(args);
    Background::start(command)
}

/// What it says at its start.
struct Said {
    address: SocketAddr,
    fingerprint: String,
    web: Option<String>,
}

impl Said {
    fn wait(process: &mut Background) -> Result<Self> {
        let address = process.wait_line("listening on ", START)?;
        let fingerprint = process.wait_line("fingerprint ", START)?;
        let web = process.wait_line("web page ", START).ok();
        Ok(Self {
            address: address
                .parse()
                .with_context(|| format!("the server listens on {address:?}"))?,
            fingerprint,
            web,
        })
    }
}
