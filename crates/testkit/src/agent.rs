//! `p2v-agent` as a process: a "machine" whose disks are files.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::places::p2v_agent;
use crate::process::Background;

/// What an agent is told; kept, so that the same machine can be switched on again.
#[derive(Clone, Debug)]
pub struct AgentSetup {
    join: String,
    disks: Vec<PathBuf>,
    name: Option<String>,
    machine_id: Option<String>,
    words: Vec<String>,
}

impl AgentSetup {
    /// A machine with one disk.
    pub fn new(join: &str, disk: impl Into<PathBuf>) -> Self {
        Self {
            join: join.to_owned(),
            disks: vec![disk.into()],
            name: None,
            machine_id: None,
            words: Vec::new(),
        }
    }

    /// One more disk.
    #[must_use]
    pub fn disk(mut self, disk: impl Into<PathBuf>) -> Self {
        self.disks.push(disk.into());
        self
    }

    /// Name of the guest.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Which machine this is: a number, of which the 32 bytes of the identity are made.
    #[must_use]
    pub fn machine(mut self, number: u8) -> Self {
        self.machine_id = Some(format!("{number:02x}").repeat(32));
        self
    }

    /// A word as on the kernel command line.
    #[must_use]
    pub fn word(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }

    /// Runs the agent.
    pub fn start(&self) -> Result<Agent> {
        let mut command = Command::new(p2v_agent()?);
        command.args(["run", "--join", &self.join]);
        for disk in &self.disks {
            command.arg("--disk").arg(disk);
        }
        for (option, value) in [("--name", &self.name), ("--machine-id", &self.machine_id)] {
            if let Some(value) = value {
                command.args([option, value]);
            }
        }
        for word in &self.words {
            command.args(["--word", word]);
        }
        Ok(Agent {
            process: Background::start(command)?,
        })
    }
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    process: Background,
}

impl Agent {
    /// Waits for its end.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.process.wait(timeout)
    }

    /// Waits for its end, which must be a success.
    pub fn wait_done(&mut self, timeout: Duration) -> Result<()> {
        let status = self.wait(timeout)?;
        ensure!(
            status.success(),
            "the agent ended with {status}:\n{}",
            self.process.tail()
        );
        Ok(())
    }

    /// Waits for its end, which must be a failure; returns what it said.
    pub fn wait_failed(&mut self, timeout: Duration) -> Result<String> {
        let status = self.wait(timeout)?;
        ensure!(
            status.code() == Some(1),
            "expected exit status 1 of the agent, found {status}:\n{}",
            self.process.tail()
        );
        Ok(self.said())
    }

    /// The machine loses its power.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        self.process.said()
    }
}
