//! KVM or TCG. `/dev/kvm` being there does not mean that KVM works: on some hosts (nested, paravirtualised) a guest
//! started with it spins in its first instructions for ever. So it is tried once a boot of the host, and the verdict
//! is remembered.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::{Error, Result};

/// What runs the appliance's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

impl Accel {
    /// `kvm` or `tcg`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg]
            .into_iter()
            .find(|accel| accel.word() == word)
    }
}

/// What to start with, and whether a failure to answer is to be forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Told, or known from earlier.
    Settled(Accel),
    /// KVM looks usable; nobody has seen it work.
    TryKvm,
}

/// `$V2V_ACCEL`, else the remembered verdict, else what /dev/kvm looks like.
pub(crate) fn choose() -> Result<Choice> {
    if let Some(word) = std::env::var_os("V2V_ACCEL") {
        let word = word.to_string_lossy();
        return Accel::from_word(&word)
            .map(Choice::Settled)
            .ok_or_else(|| Error::UnknownAccel(word.into_owned()));
    }
    if fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(Choice::Settled(Accel::Tcg));
    }
    Ok(remembered().map_or(Choice::TryKvm, Choice::Settled))
}

/// Keeps the verdict until the host boots again. A failure to write it only costs the next run a few seconds.
pub(crate) fn remember(accel: Accel) {
    let Some((folder, boot)) = place() else {
        return;
    };
    let written = fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&folder)
        .and_then(|()| {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(folder.join("accel"))?;
            writeln!(file, "{boot} {}", accel.word())
        });
    if let Err(error) = written {
        tracing::debug!("remembering that {} works: {error}", accel.word());
    }
}

fn remembered() -> Option<Accel> {
    let (folder, boot) = place()?;
    // Only our own note counts: the folder may be in a place where others can write.
    let file = folder.join("accel");
    if fs::symlink_metadata(&file).ok()?.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    verdict(&fs::read_to_string(file).ok()?, &boot)
}

fn verdict(note: &str, boot: &str) -> Option<Accel> {
    let (noted_boot, word) = note.trim_end().split_once(' ')?;
    (noted_boot == boot)
        .then(|| Accel::from_word(word))
        .flatten()
}

/// Folder of the note, and the id of this boot of the host.
pub(crate) fn place() -> Option<(PathBuf, String)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()?
        .trim()
        .to_owned();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("v2v"),
        None if rustix::process::geteuid().is_root() => PathBuf::from("/run/v2v"),
        None => std::env::temp_dir().join(format!("v2v-{}", rustix::process::geteuid().as_raw())),
    };
    Some((folder, boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_counts_for_its_own_boot_only() {
        assert_eq!(verdict("abc tcg\n", "abc"), Some(Accel::Tcg));
        assert_eq!(verdict("abc kvm\n", "abc"), Some(Accel::Kvm));
        assert_eq!(verdict("abc tcg\n", "def"), None);
        assert_eq!(verdict("abc hvf\n", "abc"), None);
        assert_eq!(verdict("", "abc"), None);
    }
}
