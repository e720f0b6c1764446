//! `cargo xtask iso`: the medium that a physical machine boots, from Debian packages, without root and without mounting.
//! The recipe is in iso/, the result in target/iso:
//!
//! - `p2v.iso`: CD and USB stick (plain dd), BIOS and UEFI, Secure Boot by Debian's signed shim, GRUB and kernel;
//! - `vmlinuz`, `initrd.img`, `pxe/`: the same for booting from the network;
//! - `MANIFEST`: package, version and licences of all that is inside; `SHA256SUMS`.
//!
//! Everything that does not depend on the agent is made once for each recipe and suite (`base-…`); after that only a
//! changed agent is packed again, without network. Remove target/iso to have newer packages. The programs that write
//! images come out of packages of the same suite (`tools`), and no clock is read: the same packages and the same agent
//! give the same bytes on every host.

mod base;
mod boot;
mod firmware;
mod initrd;
mod medium;
mod recipe;
mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::debian::{self, mib, say};
use crate::run::Profile;
use crate::{packages, run};

/// The agent is linked statically: the initrd's libraries are Debian's, the agent's C library is the builder's.
const AGENT_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Largest medium that we want to hand out, in bytes.
const MAX_ISO: usize = 150 << 20;

/// Builds the ISO; `args` as in the usage text of xtask.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let agent = match args {
        [] => None,
        [option, path] if option == "--agent" => Some(PathBuf::from(path)),
        _ => bail!("usage: cargo xtask iso [--agent PATH]"),
    };
    packages::ensure(packages::Group::Iso)?;
    let agent = match agent {
        Some(path) => path,
        None => build_agent(Profile::Release)?,
    };
    medium_of(&agent)
}

/// The ISO of the tests: around a development build of the agent.
pub(crate) fn for_tests() -> Result<()> {
    packages::ensure(packages::Group::Iso)?;
    let agent = build_agent(Profile::Dev)?;
    medium_of(&agent)?;
    twice(&agent)
}

fn medium_of(agent: &Path) -> Result<()> {
    build(
        &testkit::target_dir().join("iso"),
        agent,
        suite().as_deref(),
    )
    .map(drop)
}

/// Debian's suite, if it is not the recipe's.
fn suite() -> Option<String> {
    std::env::var("V2V_ISO_SUITE").ok()
}

/// Two media from nothing, in folders of different names and one after the other, must be the same byte for byte.
fn twice(agent: &Path) -> Result<()> {
    let dir = tempfile::tempdir_in(testkit::target_dir()).context("making a folder")?;
    let mut media = Vec::new();
    for name in ["once", "and-again"] {
        let work = dir.path().join(name);
        std::fs::create_dir(&work).with_context(|| format!("creating {}", work.display()))?;
        let iso = build(&work, agent, suite().as_deref())?;
        media.push(std::fs::read(&iso).with_context(|| format!("reading {}", iso.display()))?);
    }
    let place = media.first().zip(media.last()).and_then(|(once, again)| {
        let differs = once.iter().zip(again).position(|(a, b)| a != b);
        differs.or_else(|| (once.len() != again.len()).then_some(once.len().min(again.len())))
    });
    match place {
        None => {
            say("built twice more: the same bytes");
            Ok(())
        }
        Some(place) => bail!("two ISOs of the same packages and agent differ at byte {place:#x}"),
    }
}

/// Builds the ISO around `agent` in `work`; gives the path of the ISO.
pub(crate) fn build(work: &Path, agent: &Path, suite: Option<&str>) -> Result<PathBuf> {
    let recipe = recipe::Recipe::read(&testkit::repo().join("iso"))?;
    let base = base::build(work, &recipe, suite).context("making the base of the ISO")?;
    let program = program(agent, work)?;
    let initrd = initrd::with_init(&base, &program).context("making the initrd")?;
    let iso = medium::write(work, &base, &recipe, &initrd).context("making the ISO")?;
    let size = usize::try_from(iso.metadata()?.len())?;
    say(&format!(
        "{} ({:.1} MiB; initrd {:.1} MiB, agent {:.1} MiB)",
        iso.display(),
        mib(size),
        mib(initrd.len()),
        mib(program.len())
    ));
    if size > MAX_ISO {
        bail!(
            "the ISO has {:.1} MiB, expected at most {:.1}",
            mib(size),
            mib(MAX_ISO)
        );
    }
    Ok(iso)
}

/// A script stays as it is; a program loses its symbols.
fn program(agent: &Path, work: &Path) -> Result<Vec<u8>> {
    let data = std::fs::read(agent).with_context(|| format!("reading {}", agent.display()))?;
    if data.starts_with(b"#!") {
        return Ok(data);
    }
    debian::stripped(agent, &work.join("p2v-agent.stripped"))
}

/// p2v-agent, static. For a named target the flags are not those of build scripts and procedural macros, which are there
/// already.
fn build_agent(profile: Profile) -> Result<PathBuf> {
    let target_dir = testkit::target_dir();
    let mut command = run::cargo(&["build", "--locked", "-p", "agent", "--bin", "p2v-agent"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    command
        .args(["--target", AGENT_TARGET])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &target_dir);
    run::run(&mut command)?;
    let path = target_dir
        .join(AGENT_TARGET)
        .join(profile.dir())
        .join("p2v-agent");
    anyhow::ensure!(path.is_file(), "{} was not built", path.display());
    Ok(path)
}
