//! Running cargo and other programs, with the command line printed first.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::suites::Suite;

/// Which of cargo's profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests: quick to build.
    Dev,
    /// For people and figures.
    Release,
}

impl Profile {
    /// Folder under target/.
    pub(crate) fn dir(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Runs it to its end; a failure names the command.
#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("starting {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// `cargo` in the repository. CI builds once and never again: what makes the next build quicker is not kept there.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(testkit::repo());
    if std::env::var_os("CI").is_some() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// Builds every program and every test of the workspace. In one call, because cargo chooses the features of each
/// dependency for what it is asked for: package after package, most dependencies would be built three times.
#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
pub(crate) fn build_tests() -> Result<Vec<Suite>> {
    let mut command = cargo(&[
        "build",
        "--locked",
        "--workspace",
        "--bins",
        "--tests",
        "--message-format=json-render-diagnostics",
    ]);
    let line = line(&command);
    eprintln!("$ {line}");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {line}"))?;
    if !output.status.success() {
        bail!("{line}: {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(Suite::of_message).collect())
}

/// A program that [`build_tests`] has built.
pub(crate) fn built(bin: &str) -> Result<PathBuf> {
    exists(&testkit::target_dir().join(Profile::Dev.dir()).join(bin))
}

/// Builds the binary `bin` of `package` and returns its path.
pub(crate) fn build(package: &str, bin: &str, profile: Profile) -> Result<PathBuf> {
    let mut command = cargo(&["build", "--locked", "--package", package, "--bin", bin]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    run(&mut command)?;
    let path = testkit::target_dir().join(profile.dir()).join(bin);
    exists(&path)
}

fn exists(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        bail!("{} was not built", path.display());
    }
    Ok(path.to_owned())
}

fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}
