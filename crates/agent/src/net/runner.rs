//! Running `ip`, `udhcpc` and `modprobe`; a trait so that tests see the exact words.

use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

use super::Error;

pub(super) trait Runner: Sync {
    /// Runs a program to its end; gives what it printed.
    fn run(&self, argv: &[&str]) -> Result<String, Error>;
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
        let output = output(argv).map_err(|error| failed(error.to_string()))?;
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
fn output(argv: &[&str]) -> std::io::Result<Output> {
    let (program, arguments) = argv.split_first().ok_or(ErrorKind::InvalidInput)?;
    let run = |program: &str, first: &[&str]| {
        Command::new(program)
            .args(first)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
    };
    match run(program, &[]) {
        Err(error) if error.kind() == ErrorKind::NotFound => run("busybox", &[program]),
        result => result,
    }
}
