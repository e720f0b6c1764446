//! A program of PyPI, in a Python environment of its own under target/.

use std::fs;
use std::path::PathBuf;

use testkit::cmd;

/// The environment's folder of programs; `release` is `NAME==VERSION`. `None` where it cannot be made, and in CI, for whose
/// time other checks are enough.
pub(crate) fn programs(release: &str) -> Option<PathBuf> {
    if !testkit::tells_all() {
        return None;
    }
    let name = release.split("==").next().unwrap();
    let dir = testkit::target_dir().join(name);
    let (bin, ready) = (dir.join("bin"), dir.join("ready"));
    if fs::read_to_string(&ready).is_ok_and(|there| there == release) {
        return Some(bin);
    }
    if !testkit::require_tool("python3") {
        return None;
    }
    let python = bin.join("python");
    let mut venv = cmd::command("python3", ["-m", "venv", "--clear"]);
    let mut pip = cmd::command(
        python.to_str().unwrap(),
        ["-m", "pip", "install", "--quiet"],
    );
    let made = cmd::output(venv.arg(&dir)).and_then(|_| cmd::output(pip.arg(release)));
    if let Err(error) = made {
        testkit::skip(&format!("{name} cannot be installed: {error:#}"));
        return None;
    }
    fs::write(ready, release).unwrap();
    Some(bin)
}
