//! Runs a host program to its end and returns its output, or an error that shows the command and the tail of what it said.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Lines of a program's output that an error repeats.
const TAIL_LINES: usize = 15;

/// A command with its arguments, standard input empty.
pub fn command<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut cmd = Command::new(program);
    cmd.args(args).stdin(Stdio::null());
    cmd
}

/// Runs `cmd` and returns what it wrote on stdout.
pub fn output(cmd: &mut Command) -> Result<String> {
    finish(cmd, None)
}

/// Runs `cmd` with `input` on its stdin and returns what it wrote on stdout. The input must fit a pipe (64 KiB).
pub fn output_with_input(cmd: &mut Command, input: &str) -> Result<String> {
    finish(cmd, Some(input))
}

fn finish(cmd: &mut Command, input: Option<&str>) -> Result<String> {
    let shown = format!("{cmd:?}");
    if input.is_some() {
        cmd.stdin(Stdio::piped());
    }
    let mut child = cmd
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin
            .write_all(input.as_bytes())
            .with_context(|| format!("feeding {shown}"))?;
    }
    let out = child
        .wait_with_output()
        .with_context(|| format!("waiting for {shown}"))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(stdout);
    }
    let said = format!("{stdout}{}", String::from_utf8_lossy(&out.stderr));
    bail!(
        "{shown} ended with {}:\n{}",
        out.status,
        tail(&said, TAIL_LINES)
    )
}

/// The last `lines` lines of `text`.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_reported_with_its_last_words() {
        let err = output(&mut command(
            "sh",
            ["-c", "echo first; echo last >&2; exit 3"],
        ))
        .unwrap_err();
        let text = err.to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("last"),
            "{text}"
        );
        assert_eq!(
            output_with_input(&mut command("cat", [] as [&str; 0]), "abc").unwrap(),
            "abc"
        );
        assert_eq!(tail("1\n2\n3", 2), "2\n3");
    }
}
