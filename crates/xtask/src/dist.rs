//! `cargo xtask dist`: v2v and its appliance in one folder that can be put anywhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{self, Profile};
use crate::{appliance_image, packages};

pub(crate) fn run() -> Result<()> {
    packages::ensure(packages::Group::Demo)?;
    let dir = build()?;
    eprint_line(&format!("made {}", dir.display()));
    Ok(())
}

/// Makes target/dist and returns it.
pub(crate) fn build() -> Result<PathBuf> {
    let image = appliance(Profile::Release)?;
    let v2v = run::build("v2v", "v2v", Profile::Release)?;
    let dir = testkit::target_dir().join("dist");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    let appliance = dir.join("appliance");
    fs::create_dir_all(&appliance).with_context(|| format!("creating {}", appliance.display()))?;
    copy(&v2v, &dir.join("v2v"))?;
    for entry in fs::read_dir(&image).with_context(|| format!("reading {}", image.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy(&entry.path(), &appliance.join(entry.file_name()))?;
        }
    }
    Ok(dir)
}

/// Builds the appliance image around an applianced of this profile; returns its folder.
pub(crate) fn appliance(profile: Profile) -> Result<PathBuf> {
    appliance_around(run::build("appliance", "applianced", profile)?)
}

/// Builds the appliance image around this applianced; returns its folder.
pub(crate) fn appliance_around(applianced: PathBuf) -> Result<PathBuf> {
    let mut options = appliance_image::BuildOptions::new(&testkit::repo());
    options.target_dir = testkit::target_dir();
    options.applianced = Some(applianced);
    appliance_image::build(&options)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
fn eprint_line(text: &str) {
    eprintln!("{text}");
}
