//! The tools of the image, run by absolute path, with arguments as a list (never a shell), a clean environment, and
//! a time limit.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::MemfdFlags;
use rustix::process::WaitOptions;

/// For everything but checks of whole file systems.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Of the output of a tool, this much is read.
const MAX_OUTPUT: u64 = 16 << 20;

/// One tool at a time: so every other child that has ended is an orphan that PID 1 must reap.
static RUNNING: Mutex<()> = Mutex::new(());

/// A tool about to run.
pub(crate) struct Tool {
    program: &'static str,
    args: Vec<OsString>,
    stdin: Vec<u8>,
    timeout: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    program: &'static str,
    status: ExitStatus,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Tool {
    /// The tool at this path.
    pub(crate) fn new(program: &'static str) -> Self {
        Tool {
            program,
            args: Vec::new(),
            stdin: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// What it reads from its standard input.
    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_owned();
        self
    }

    /// How long it may take.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end; an exit status of whatever value is no error here.
    pub(crate) fn run(self) -> Result<Outcome> {
        let _one = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let (mut stdout, mut stderr) = (memory_file()?, memory_file()?);
        let mut stdin = memory_file()?;
        stdin
            .write_all(&self.stdin)
            .and_then(|()| stdin.rewind())
            .context("writing the input of a tool")?;
        let mut child = Command::new(self.program)
            .args(&self.args)
            .env_clear()
            .envs([
                ("PATH", "/usr/sbin:/usr/bin"),
                ("LC_ALL", "C"),
                ("HOME", "/root"),
            ])
            // There is no udev here; waiting for it would take for ever.
            .envs([
                ("DM_DISABLE_UDEV", "1"),
                ("MDADM_NO_UDEV", "1"),
                ("LVM_SUPPRESS_FD_WARNINGS", "1"),
            ])
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout.try_clone()?))
            .stderr(Stdio::from(stderr.try_clone()?))
            .spawn()
            .with_context(|| format!("running {}", self.program))?;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = child
                .try_wait()
                .with_context(|| format!("waiting for {}", self.program))?
            {
                break status;
            }
            if began.elapsed() > self.timeout {
                child
                    .kill()
                    .and_then(|()| child.wait())
                    .with_context(|| format!("killing {}", self.program))?;
                bail!(
                    "{} took longer than {} s",
                    self.program,
                    self.timeout.as_secs()
                );
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        reap_orphans();
        let outcome = Outcome {
            program: self.program,
            status,
            stdout: text(&mut stdout)?,
            stderr: text(&mut stderr)?,
        };
        tracing::debug!(
            "{} {}: {status}, {} ms",
            self.program,
            self.args.join(OsStr::new(" ")).to_string_lossy(),
            began.elapsed().as_millis()
        );
        for line in outcome
            .stderr
            .lines()
            .filter(|line| !line.trim().is_empty())
        {
            tracing::debug!("{}: {}", self.program, line.trim());
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// Exit code; `None` when a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output, if the exit code is 0.
    pub(crate) fn success(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!("{}", self.complaint())
    }

    /// Program, exit status and the last thing it said, on stderr if it said anything there.
    pub(crate) fn complaint(&self) -> String {
        let said = self
            .stdout
            .lines()
            .chain(self.stderr.lines())
            .map(str::trim)
            .rfind(|line| !line.is_empty());
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or(0)),
        };
        format!(
            "{} failed ({how}): {}",
            self.program,
            said.unwrap_or("it said nothing")
        )
    }
}

/// A file without a name, in memory.
pub(crate) fn memory_file() -> Result<File> {
    let fd = rustix::fs::memfd_create("tool", MemfdFlags::CLOEXEC)
        .context("creating a file in memory")?;
    Ok(File::from(fd))
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(MAX_OUTPUT)
        .read_to_end(&mut bytes)
        .context("reading what a tool wrote")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for every child that has ended and that nobody else waits for.
fn reap_orphans() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_input_and_exit_code_come_through() {
        let outcome = Tool::new("/bin/sh")
            .args(["-c", "cat; echo no >&2; exit 3"])
            .stdin(b"key\0")
            .run()
            .unwrap();
        assert_eq!(
            (outcome.code(), outcome.stdout.as_str()),
            (Some(3), "key\0")
        );
        let error = outcome.success().unwrap_err().to_string();
        assert!(
            error.contains("exit status 3") && error.contains("no"),
            "{error}"
        );
    }

    #[test]
    fn a_tool_that_hangs_is_ended() {
        let began = Instant::now();
        let error = Tool::new("/bin/sleep")
            .arg("60")
            .timeout(Duration::from_millis(50))
            .run()
            .unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
