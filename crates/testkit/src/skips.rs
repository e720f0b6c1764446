//! The only way for a test not to run: it says so on stderr, leaves a line in `target/testkit/skips.log`, and under `CI`
//! fails unless `tests/expected-skips` lists the reason. So a green run on a bare machine cannot be taken for a pass.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use crate::places::{cache_dir, repo};

/// Says loudly that the calling test does not run. The caller returns right after.
///
/// # Panics
/// Where `CI` is set and `tests/expected-skips` (one reason a line, `#` comments) does not list `reason`.
pub fn skip(reason: &str) {
    // A failed write to stderr must not hide the reason of the skip below.
    let _ = writeln!(std::io::stderr(), "SKIP: {reason}");
    let log = skip_log();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?").to_owned();
    let dir = log.parent().unwrap_or(&log);
    let written = fs::create_dir_all(dir)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(&log))
        .and_then(|mut file| writeln!(file, "{test}\t{reason}"));
    assert!(
        written.is_ok(),
        "SKIP: {reason}: cannot be recorded in {}: {written:?}",
        log.display()
    );
    let expected = fs::read_to_string(repo().join("tests/expected-skips")).unwrap_or_default();
    assert!(
        env::var_os("CI").is_none() || is_listed(&expected, reason),
        "SKIP: {reason}: not in tests/expected-skips, and CI is set"
    );
}

/// Where skips are recorded, a line `TEST<tab>REASON` each.
pub fn skip_log() -> PathBuf {
    cache_dir().join("skips.log")
}

fn is_listed(expected: &str, reason: &str) -> bool {
    expected
        .lines()
        .map(str::trim)
        .any(|line| !line.starts_with('#') && !line.is_empty() && line == reason)
}

/// Whether `name` is a program in `$PATH` or in the administrator's directories, which are not in everybody's `$PATH`.
pub fn has_tool(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    dirs.map(|dir| dir.join(name)).any(|file| file.is_file())
}

/// Skips (false) where the program `name` is absent: `if !require_tool("virsh") { return; }`.
#[must_use]
pub fn require_tool(name: &str) -> bool {
    let found = has_tool(name);
    if !found {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Why a long story is not told; listed in `tests/expected-skips`.
pub const LONG: &str = "long: cargo xtask test --all";

/// Skips (false) a story whose like is told by a shorter one, so that CI stays within its time; `cargo xtask test --all`
/// sets `V2V_TEST_ALL` and tells it.
#[must_use]
pub fn long_story() -> bool {
    let all = tells_all();
    if !all {
        skip(LONG);
    }
    all
}

/// `cargo xtask test --all`: stories tell their long version.
#[must_use]
pub fn tells_all() -> bool {
    env::var_os("V2V_TEST_ALL").is_some()
}

/// Our effective user id.
pub fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether we are root.
pub fn is_root() -> bool {
    uid() == 0
}

/// Skips (false) where we are not root.
#[must_use]
pub fn require_root() -> bool {
    if !is_root() {
        skip("not root");
    }
    is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_reason_is_expected() {
        let list = "# why\nvirsh is not installed\n\n";
        assert!(is_listed(list, "virsh is not installed"));
        assert!(!is_listed(list, "virsh"));
        assert!(!is_listed(list, ""));
        assert!(!is_listed(list, "# why"));
    }

    #[test]
    fn tools_are_found_by_name() {
        assert!(has_tool("sh"));
        assert!(!has_tool("no-such-program-anywhere"));
    }
}
