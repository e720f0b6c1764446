//! The test programs of the workspace: found in what cargo says while it builds them, run two at a time.
//!
//! `cargo test` runs one program after the other, and much of what they do is waiting: for a guest that boots, for a disk.
//! The scenarios come last and alone, for they use all processors and have limits of time.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lanes;

/// Programs that run at a time.
const LANES: usize = 2;
/// Begun first, because each takes half a minute or more and has but a few tests.
const LONGEST_FIRST: [&str; 6] = ["boot", "samples", "matrix", "guest", "source", "firstboot"];
/// End-to-end stories.
const SCENARIOS: &str = "scenarios";

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    /// Name of cargo's target.
    name: String,
    program: PathBuf,
    /// Where cargo would run it.
    folder: PathBuf,
}

impl Suite {
    /// The test program that this line of `cargo build --message-format=json` names, if it names one.
    pub(crate) fn of_message(line: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_test =
            message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
        if !is_test {
            return None;
        }
        let manifest = Path::new(message["manifest_path"].as_str()?);
        Some(Self {
            name: message["target"]["name"].as_str()?.to_owned(),
            program: message["executable"].as_str()?.into(),
            folder: manifest.parent()?.to_owned(),
        })
    }

    fn rank(&self) -> usize {
        match LONGEST_FIRST.iter().position(|name| *name == self.name) {
            Some(place) => place,
            None if self.name == SCENARIOS => LONGEST_FIRST.len() + 1,
            None => LONGEST_FIRST.len(),
        }
    }

    fn command(&self, args: &[&String], env: &[(&str, &Path)]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .envs(env.iter().copied());
        command
    }

    /// Where it is, for people.
    fn label(&self) -> String {
        let folder = self.folder.strip_prefix(testkit::repo());
        let folder = folder.unwrap_or(&self.folder).display();
        format!("{folder}: {}", self.name)
    }
}

/// Runs them all with `args`; an error names those that failed.
pub(crate) fn run(suites: Vec<Suite>, args: &[&String], env: &[(&str, &Path)]) -> Result<()> {
    let mut suites = suites;
    suites.sort_by_key(Suite::rank);
    let (alone, beside): (Vec<Suite>, Vec<Suite>) = suites
        .into_iter()
        .partition(|suite| suite.name == SCENARIOS);
    let failed = Mutex::new(Vec::new());
    let finish = |suite: &Suite, output: Option<&mut File>| -> Result<()> {
        let (status, seconds) = run_one(suite, suite.command(args, env), output.as_deref())?;
        let mut stderr = io::stderr().lock();
        let head = format!("     Ran {} in {seconds:.1} s: {status}", suite.label());
        writeln!(stderr, "{head}").context("writing to stderr")?;
        if let Some(output) = output {
            let copied = output.rewind().and_then(|()| io::copy(output, &mut stderr));
            copied.context("showing what a test program said")?;
        }
        if !status.success() {
            lock(&failed).push(suite.label());
        }
        Ok(())
    };
    lanes::each(LANES, beside, |suite| {
        let mut output = tempfile::tempfile().context("making a file for output")?;
        finish(&suite, Some(&mut output))
    })?;
    alone.iter().try_for_each(|suite| finish(suite, None))?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("tests failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs it to its end, its output in `output` if that is given: how it ended, and after how many seconds.
fn run_one(
    suite: &Suite,
    mut command: Command,
    output: Option<&File>,
) -> Result<(ExitStatus, f64)> {
    if let Some(output) = output {
        let twin = || output.try_clone().map(Stdio::from);
        command.stdin(Stdio::null()).stdout(twin()?).stderr(twin()?);
    }
    let begin = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("starting {}", suite.program.display()))?;
    Ok((status, begin.elapsed().as_secs_f64()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, is_test: bool) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": "/src/crates/image/Cargo.toml",
            "target": {"name": name, "kind": ["test"]},
            "profile": {"opt_level": "1", "test": is_test},
            "executable": format!("/target/debug/deps/{name}-0123"),
        })
        .to_string()
    }

    #[test]
    fn cargos_messages_name_test_programs() {
        let suite = Suite::of_message(&message("vmdk", true)).unwrap();
        assert_eq!(suite.folder, Path::new("/src/crates/image"));
        assert_eq!(suite.program, Path::new("/target/debug/deps/vmdk-0123"));
        assert_eq!(Suite::of_message(&message("v2v", false)), None);
        for line in ["", "{}", "   Compiling", r#"{"reason":"build-finished"}"#] {
            assert_eq!(Suite::of_message(line), None, "{line}");
        }
    }

    fn shell(name: &str, script: &str) -> (tempfile::TempDir, Suite) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(name);
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let folder = dir.path().to_owned();
        let suite = Suite {
            name: name.to_owned(),
            program,
            folder,
        };
        (dir, suite)
    }

    #[test]
    fn all_run_in_their_folders_and_failures_are_named() {
        let good = shell("good", "[ \"$KEY\" = /value ] && echo \"$1\" > seen");
        let bad = shell("bad", "exit 3");
        let last = shell(SCENARIOS, "touch seen");
        let suites = [&last, &good, &bad].map(|(_, suite)| suite.clone());
        let word = "word".to_owned();
        let env: [(&str, &Path); 1] = [("KEY", Path::new("/value"))];
        let error = run(suites.to_vec(), &[&word], &env).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("bad") && !text.contains("good"), "{text}");
        let seen = std::fs::read_to_string(good.0.path().join("seen")).unwrap();
        assert_eq!(seen, "word\n");
        assert!(last.0.path().join("seen").exists());
    }

    #[test]
    fn the_longest_come_first_and_the_scenarios_last() {
        let suite = |name: &str| Suite {
            name: name.to_owned(),
            program: PathBuf::new(),
            folder: PathBuf::new(),
        };
        let mut suites = ["vmdk", SCENARIOS, "guest", "boot"].map(suite);
        suites.sort_by_key(Suite::rank);
        assert_eq!(
            suites.map(|suite| suite.name),
            ["boot", "guest", "vmdk", SCENARIOS]
        );
    }
}
