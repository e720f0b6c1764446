//! Where the repository, its build products, the fixtures and the cache of sample guests are.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cmd;

/// Root of the repository that this crate was built from.
pub fn repo() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Cargo's target directory: `$CARGO_TARGET_DIR`, else `target` in the repository.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => repo().join(dir),
        None => repo().join("target"),
    }
}

/// What testkit builds once and keeps: `$V2V_TESTKIT_CACHE`, else `target/testkit` in the repository.
pub fn cache_dir() -> PathBuf {
    match env::var_os("V2V_TESTKIT_CACHE") {
        Some(dir) => repo().join(dir),
        None => repo().join("target/testkit"),
    }
}

/// The `v2v` program: `$V2V_BIN`, else the one built beside the running test or xtask.
pub fn v2v() -> Result<PathBuf> {
    program("v2v", "V2V_BIN", "v2v")
}

/// The `p2v-agent` program: `$P2V_AGENT_BIN`, else the one built beside the running test or xtask.
pub fn p2v_agent() -> Result<PathBuf> {
    program("p2v-agent", "P2V_AGENT_BIN", "agent")
}

/// The ISO that machines boot: `$P2V_ISO`, else `iso/p2v.iso` in the target directory.
pub fn p2v_iso() -> Result<PathBuf> {
    let path = match env::var_os("P2V_ISO") {
        Some(path) => PathBuf::from(path),
        None => target_dir().join("iso/p2v.iso"),
    };
    if !path.is_file() {
        bail!(
            "no {}: run `cargo xtask iso` first, or set P2V_ISO",
            path.display()
        );
    }
    Ok(path)
}

fn program(name: &str, variable: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Ok(PathBuf::from(path));
    }
    let exe = env::current_exe().context("finding the running program")?;
    // A test runs from PROFILE/deps, a program from PROFILE.
    let found = exe
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no {name} beside {}: run `cargo build -p {package}` first, or set {variable}",
            exe.display()
        )
    })
}

/// The directory of real inputs: `$V2V_FIXTURES`, else `../shared/fixtures` beside the repository.
pub fn fixtures() -> Option<PathBuf> {
    let dir = match env::var_os("V2V_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => repo().parent()?.join("shared/fixtures"),
    };
    dir.is_dir().then_some(dir)
}

/// The pack `NAME.tar.xz` of the fixtures, unpacked once into the cache; `None` where the fixtures are absent.
pub fn fixture(name: &str) -> Result<Option<PathBuf>> {
    let Some(pack) = fixtures().map(|dir| dir.join(format!("{name}.tar.xz"))) else {
        return Ok(None);
    };
    if !pack.is_file() {
        return Ok(None);
    }
    let parent = cache_dir().join("fixtures");
    let unpacked = parent.join(name);
    let _lock = lock(&parent, name)?;
    if !unpacked.is_dir() {
        let partial = parent.join(format!("{name}.partial"));
        fresh_dir(&partial)?;
        cmd::output(
            cmd::command("tar", ["-xJf"])
                .arg(&pack)
                .arg("-C")
                .arg(&partial),
        )?;
        fs::rename(&partial, &unpacked)
            .with_context(|| format!("renaming {}", partial.display()))?;
    }
    Ok(Some(unpacked))
}

/// Waits for the lock `NAME.lock` in `dir`, which is made if absent. Held until the file is dropped.
pub(crate) fn lock(dir: &Path, name: &str) -> Result<File> {
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let path = dir.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.lock()
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

/// Makes `dir` an empty directory, whatever was there.
pub(crate) fn fresh_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))
}

/// Path as text; every path of ours is UTF-8, other people's need not be.
pub(crate) fn text(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if !text.contains([',', '\n']) => Ok(text),
        _ => bail!(
            "{} has a character that QEMU's options cannot carry",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_the_one_with_the_workspace() {
        assert!(repo().join("crates/testkit/Cargo.toml").is_file());
    }

    #[test]
    fn a_fixture_pack_is_unpacked_once_and_an_unknown_one_is_none() {
        if fixtures().is_none() {
            crate::skip("fixtures are absent: set V2V_FIXTURES");
            return;
        }
        let dir = fixture("os-release").unwrap().unwrap();
        assert!(fs::read_dir(&dir).unwrap().next().is_some());
        assert_eq!(fixture("os-release").unwrap().unwrap(), dir);
        assert!(fixture("no-such-pack").unwrap().is_none());
    }
}
