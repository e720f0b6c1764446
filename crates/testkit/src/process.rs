//! A program that runs in the background, with what it says collected line by line.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cmd::tail;

const POLL: Duration = Duration::from_millis(20);
const TAIL_LINES: usize = 30;

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Background {
    name: String,
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Background {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let said = Arc::default();
        collect(child.stdout.take(), &said);
        collect(child.stderr.take(), &said);
        Ok(Self { name, child, said })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard output and error, line by line as they came.
    pub(crate) fn said(&self) -> String {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What stands behind `key` in the first line that begins with it.
    pub(crate) fn wait_line(&mut self, key: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let ended = self.ended()?;
            let said = self.said();
            if let Some(value) = said.lines().find_map(|line| line.strip_prefix(key)) {
                return Ok(value.trim().to_owned());
            }
            if let Some(status) = ended {
                bail!(
                    "{} ended with {status} before it said {key:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} did not say {key:?} within {timeout:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            thread::sleep(POLL);
        }
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let ended = self.child.try_wait();
        let ended = ended.with_context(|| format!("looking at {}", self.name))?;
        if ended.is_some() {
            // Its last words are still on their way through the pipes.
            thread::sleep(POLL);
        }
        Ok(ended)
    }

    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} has not ended after {timeout:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            thread::sleep(POLL);
        }
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .with_context(|| format!("ending {}", self.name))
    }

    /// SIGKILL.
    pub(crate) fn kill9(&mut self) {
        // It may have ended by itself; nothing to be done about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn tail(&self) -> String {
        tail(&self.said(), TAIL_LINES)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn collect(from: Option<impl Read + Send + 'static>, into: &Arc<Mutex<String>>) {
    let Some(from) = from else { return };
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = from.read_until(b'\n', &mut line) {
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_heard_and_ended() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo listening on 1.2.3.4:5; trap 'exit 3' TERM; while :; do sleep 0.05; done",
        ]);
        let mut run = Background::start(command).unwrap();
        let limit = Duration::from_secs(10);
        assert_eq!(run.wait_line("listening on ", limit).unwrap(), "1.2.3.4:5");
        assert!(run.wait(Duration::from_millis(50)).is_err());
        run.terminate().unwrap();
        assert_eq!(run.wait(limit).unwrap().code(), Some(3));
        let error = run.wait_line("never ", limit).unwrap_err();
        assert!(error.to_string().contains("listening on"), "{error}");
    }
}
