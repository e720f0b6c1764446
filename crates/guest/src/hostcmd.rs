//! Programs of our own side that conversion runs. Nothing of the guest is ever executed.

use std::process::Command;

use crate::{Error, Result};

/// Where administrators' programs are when the caller's PATH leaves them out.
const SBIN: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// This much of a failed program's stderr goes into the error.
const STDERR_TAIL: usize = 600;

/// Runs a program from our PATH (or an sbin directory) and fails unless it exits with 0.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .filter(|dir| dir.starts_with('/'))
        .chain(SBIN)
        .map(|dir| format!("{dir}/{program}"))
        .find(|candidate| std::path::Path::new(candidate).is_file())
        .ok_or_else(|| {
            Error::unsupported(format!(
                "`{program}` is not installed here (looked in {path})"
            ))
        })?;
    tracing::debug!("running {found} {}", args.join(" "));
    let output = Command::new(&found)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| Error::io(format!("running {found}"), error))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let tail: String = stderr
            .chars()
            .rev()
            .take(STDERR_TAIL)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        return Err(Error::corrupt(format!(
            "{program} failed ({}): {}",
            output.status,
            tail.trim()
        )));
    }
    if !stderr.trim().is_empty() {
        tracing::debug!("{program}: {}", stderr.trim());
    }
    Ok(())
}
