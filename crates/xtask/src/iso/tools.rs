//! Runs programs out of unpacked packages, by the packages' own loader and libraries: no matter what the host has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::debian::cpio::Node;
use crate::debian::tree::Picker;

/// The loader's name in Debian's amd64.
const LOADER: &str = "ld-linux-x86-64.so.2";

/// A folder with programs, their libraries and the loader.
#[derive(Debug)]
pub(super) struct Tools {
    dir: PathBuf,
}

impl Tools {
    /// Copies `programs` and what they need from `unpacked` packages to `dir`.
    pub(super) fn gather(unpacked: &Path, programs: &[&str], dir: &Path) -> Result<Self> {
        let mut picker = Picker::new(unpacked);
        for program in programs {
            picker.program(program)?;
        }
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        for (path, node) in &picker.tree {
            let Node::File { data, .. } = node else {
                continue;
            };
            let name = path.rsplit('/').next().unwrap_or(path);
            let to = dir.join(name);
            std::fs::write(&to, data).with_context(|| format!("writing {}", to.display()))?;
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Those that were gathered in `dir` before.
    pub(super) fn open(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// A command that runs `program`, with a clock that stands at `epoch` (seconds) and no locale.
    pub(super) fn command(&self, program: &str, epoch: u64) -> Command {
        let mut command = Command::new(self.dir.join(LOADER));
        command
            .arg("--library-path")
            .arg(&self.dir)
            .arg("--argv0")
            .arg(program)
            .arg(self.dir.join(program))
            .env_clear()
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SOURCE_DATE_EPOCH", epoch.to_string());
        command
    }
}
