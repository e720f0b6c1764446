//! Running `ip`, `udhcpc` and `modprobe`; a trait so that tests see the exact words.

use std::io::{ErrorKind, Result as IoResult};
use std::process::{Command, Stdio};

use super::Error;

pub(super) trait Runner: Sync {
    /// Runs a program to its end; gives what it printed.
    fn run(&self, argv: &[&str]) -> Result<String, Error>;
    /// Runs a program that goes to the background and leaves its output open there: nothing of it is read.
    fn background(&self, argv: &[&str]) -> Result<(), Error>;
    /// Ends the process with this id if it is still a DHCP client.
    fn end_dhcp(&self, pid: i32);
}

/// The real one.
pub(super) struct Host;

impl Runner for Host {
    fn run(&self, argv: &[&str]) -> Result<String, Error> {
        let failed = |problem: String| Error::Command {
            command: argv.join(" "),
            problem,
        };
        tracing::debug!("{}", argv.join(" "));
        let output =
            with_busybox(argv, Command::output).map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        Err(failed(last.map_or_else(
            || output.status.to_string(),
            |line| line.trim().to_owned(),
        )))
    }

    fn background(&self, argv: &[&str]) -> Result<(), Error> {
        let failed = |problem: String| Error::Command {
            command: argv.join(" "),
            problem,
        };
        tracing::debug!("{}", argv.join(" "));
        let status = with_busybox(argv, |command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).status()
        })
        .map_err(|error| failed(error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        Err(failed(status.to_string()))
    }

    fn end_dhcp(&self, pid: i32) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let Some(pid) = rustix::process::Pid::from_raw(pid) else {
            return;
        };
        if matches!(name.trim(), "udhcpc" | "busybox") {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// Runs it; a program that is not there may be an applet of busybox.
fn with_busybox<T>(argv: &[&str], run: impl Fn(&mut Command) -> IoResult<T>) -> IoResult<T> {
    let (program, arguments) = argv.split_first().ok_or(ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    match run(command.args(arguments).stdin(Stdio::null())) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut command = Command::new("busybox");
            run(command.args(argv).stdin(Stdio::null()))
        }
        result => result,
    }
}
