//! The only place where programs of the host are run: argv is traced, messages are asked for in English, and a
//! failure carries the end of what the program wrote to stderr.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, Stdio};

use crate::{Error, ErrorKind, Result};

/// Lines of stderr that an error carries.
const STDERR_LINES: usize = 8;
/// Bytes of stderr that an error carries at most.
const STDERR_BYTES: usize = 2000;

/// One run of a program.
#[derive(Debug)]
pub(crate) struct HostCmd {
    program: OsString,
    package: &'static str,
    args: Vec<OsString>,
}

impl HostCmd {
    /// `program` is in the Debian package `package`.
    pub(crate) fn new(program: impl Into<OsString>, package: &'static str) -> Self {
        Self {
            program: program.into(),
            package,
            args: Vec::new(),
        }
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs it to its end and gives its stdout; a status other than 0 is an error.
    pub(crate) fn output(self) -> Result<String> {
        tracing::debug!(argv = ?self.argv(), "running");
        let output = self
            .command()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.cannot_start(error))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        tracing::debug!(status = %output.status, stderr = %stderr.trim_end(), "ended");
        if !output.status.success() {
            let what = self
                .args
                .iter()
                .find(|arg| !arg.to_string_lossy().starts_with('-'));
            let what = what
                .map(|arg| format!(" {}", arg.to_string_lossy()))
                .unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Command,
                format!(
                    "{}{what} ended with {}: {}",
                    self.program.to_string_lossy(),
                    output.status,
                    tail(&stderr)
                ),
            ));
        }
        String::from_utf8(output.stdout).map_err(|_| {
            Error::new(
                ErrorKind::Command,
                format!(
                    "expected UTF-8 from {}, found other bytes",
                    self.program.to_string_lossy()
                ),
            )
        })
    }

    /// Runs it on the user's terminal to its end; true when it ended with status 0.
    pub(crate) fn interactive(self) -> Result<bool> {
        tracing::debug!(argv = ?self.argv(), "running on the terminal");
        let status = self
            .command()
            .status()
            .map_err(|error| self.cannot_start(error))?;
        tracing::debug!(%status, "ended");
        Ok(status.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env("LC_ALL", "C");
        command
    }

    fn argv(&self) -> Vec<&OsStr> {
        std::iter::once(&self.program)
            .chain(&self.args)
            .map(OsString::as_os_str)
            .collect()
    }

    fn cannot_start(&self, error: io::Error) -> Error {
        let program = self.program.to_string_lossy();
        if error.kind() == io::ErrorKind::NotFound {
            return Error::new(
                ErrorKind::Command,
                format!("the program {program} is not installed"),
            )
            .with_hint(format!(
                "install the package {} (Debian's name of it)",
                self.package
            ));
        }
        Error::io(format!("starting {program}"), error)
    }
}

/// The end of what a program wrote, on one line.
fn tail(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut text = lines[lines.len().saturating_sub(STDERR_LINES)..].join("; ");
    if text.len() > STDERR_BYTES {
        let cut = (text.len() - STDERR_BYTES..text.len()).find(|&at| text.is_char_boundary(at));
        text = format!("…{}", &text[cut.unwrap_or(text.len())..]);
    }
    if text.is_empty() {
        "it wrote nothing to stderr".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_end_of_stderr_and_the_command() {
        let script = "i=0; while [ $i -lt 50 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let error = HostCmd::new("sh", "dash")
            .args(["-c", script])
            .output()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command);
        let text = error.to_string();
        assert!(
            text.contains("line 49") && text.contains("line 42") && !text.contains("line 41"),
            "{text}"
        );
        assert!(text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn an_absent_program_is_named_with_its_package() {
        let error = HostCmd::new("virsh-that-is-absent", "libvirt-clients")
            .output()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the program virsh-that-is-absent is not installed"
        );
        assert!(error.hint().unwrap().contains("libvirt-clients"));
    }

    #[test]
    fn messages_are_asked_for_in_english() {
        assert_eq!(
            HostCmd::new("sh", "dash")
                .args(["-c", "echo $LC_ALL"])
                .output()
                .unwrap(),
            "C\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = tail(&"ü".repeat(STDERR_BYTES));
        assert!(text.starts_with('…') && text.len() <= STDERR_BYTES + 4);
    }
}
