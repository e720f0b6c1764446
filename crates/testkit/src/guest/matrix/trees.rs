//! The tree that the guests of one release share: mmdebstrap from the archive that this host itself uses. The packages in
//! which guests differ are downloaded into its apt cache, so that building a guest needs no network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::packages::{self, NEWER_GRUB, NEWER_SUITE, SHARED};
use super::{Loader, MATRIX, Release, config};
use crate::apt::{self, Archive};
use crate::cmd;
use crate::guest::root::WITHOUT_MANUALS;
use crate::places::{fresh_dir, lock};

/// Runs after mmdebstrap as `sh -e -c SCRIPT sh TREE`: fills apt's cache, one line of $SETS at a time.
const DOWNLOAD: &str = r#"
tree=$1
echo "root:$ROOT_PASSWORD" | chroot "$tree" chpasswd
printf '%s\n' "$SETS" | while read -r set; do
    [ -n "$set" ] || continue
    chroot "$tree" apt-get -q install -y --no-install-recommends --download-only $set
done
"#;

/// Runs after that: a newer GRUB's files beside the tree's own packages.
const DOWNLOAD_NEWER: &str = r#"
dir=$1/var/cache/newer-grub
mkdir -p "$dir/apt/lists/partial" "$dir/debs"
printf '%s\n' "$NEWER_SOURCE" > "$dir/apt/sources.list"
# A suite that is still moving goes out of date where a mirror is behind.
options="-o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root -o Dir::Etc::SourceParts=/dev/null"
options="$options -o Dir::Etc::SourceList=/var/cache/newer-grub/apt/sources.list -o Dir::State::Lists=/var/cache/newer-grub/apt/lists"
chroot "$1" apt-get -q $options update
chroot "$1" sh -e -c "cd /var/cache/newer-grub/debs && apt-get -q $options download $NEWER_PACKAGES"
for deb in "$dir"/debs/*.deb; do dpkg-deb -x "$deb" "$dir"; done
rm -rf "$dir/apt" "$dir/debs"
"#;

/// A shared tree and what was found in it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) dir: PathBuf,
    /// `uname -r` of its only kernel.
    pub(super) kernel: String,
}

/// Sets of packages that guests of this release have.
fn sets(release: Release) -> BTreeSet<String> {
    let guests = MATRIX.iter().filter(|guest| guest.release == release);
    guests.map(|guest| packages::of(guest).join(" ")).collect()
}

fn wants_newer_grub(release: Release) -> bool {
    MATRIX
        .iter()
        .any(|guest| guest.release == release && guest.loader == Loader::Bls)
}

fn shared() -> String {
    let names: Vec<&str> = SHARED.iter().map(|(name, _)| *name).collect();
    names.join(",")
}

/// Everything that decides what the tree contains, apart from the archive's state.
pub(super) fn recipe(release: Release) -> String {
    let newer = match wants_newer_grub(release) {
        true => format!("{NEWER_SUITE} {} {DOWNLOAD_NEWER}", NEWER_GRUB.join(" ")),
        false => String::new(),
    };
    let sets = sets(release);
    format!(
        "{} minbase {} {}\n{DOWNLOAD}\n{sets:?}\n{newer}",
        release.codename(),
        WITHOUT_MANUALS.join(" "),
        shared(),
    )
}

/// The tree in the cache, made if absent.
pub(super) fn tree(cache: &Path, release: Release, id: &str) -> Result<Tree> {
    let name = format!("matrix-{}", release.codename());
    let _lock = lock(cache, &name)?;
    let dir = cache.join(format!("{name}-{id}"));
    if !dir.is_dir() {
        let partial = cache.join(format!("{name}.partial"));
        fresh_dir(&partial)?;
        mmdebstrap(release, &partial)
            .with_context(|| format!("making the tree of {}", release.codename()))?;
        fs::rename(&partial, &dir).with_context(|| format!("renaming {}", partial.display()))?;
    }
    Ok(Tree {
        kernel: kernel(&dir)?,
        dir,
    })
}

fn mmdebstrap(release: Release, dir: &Path) -> Result<()> {
    // Debian keeps all its releases in one archive, so the host's is the guests' too.
    let archive = Archive::of_host(&apt::host_codename()?)?;
    let sets: Vec<String> = sets(release).into_iter().collect();
    let newer = match wants_newer_grub(release) {
        true => archive.one_line(NEWER_SUITE),
        false => String::new(),
    };
    // In a mount namespace of its own: a killed mmdebstrap leaves its mounts behind otherwise.
    let mut cmd = cmd::command(
        "unshare",
        [
            "--mount",
            "--propagation",
            "private",
            "mmdebstrap",
            "--variant=minbase",
            "--aptopt=APT::Install-Recommends \"0\"",
            "--skip=cleanup/apt/lists,cleanup/apt/cache",
        ],
    );
    cmd.args(WITHOUT_MANUALS)
        .arg(format!("--include={}", shared()))
        .arg("--customize-hook=sh -e -c \"$DOWNLOAD\" sh \"$1\"")
        .arg("--customize-hook=[ -z \"$NEWER_SOURCE\" ] || sh -e -c \"$DOWNLOAD_NEWER\" sh \"$1\"")
        .arg(release.codename())
        .arg(dir)
        .arg("-")
        // The guests make their own initramfs (/etc/kernel/postinst.d obeys this).
        .env("INITRD", "No")
        .env("DOWNLOAD", DOWNLOAD)
        .env("DOWNLOAD_NEWER", DOWNLOAD_NEWER)
        .env("ROOT_PASSWORD", config::ROOT_PASSWORD)
        .env("SETS", sets.join("\n"))
        .env("NEWER_SOURCE", newer.trim())
        .env("NEWER_PACKAGES", NEWER_GRUB.join(" "));
    cmd::output_with_input(&mut cmd, &archive.one_line(release.codename()))?;
    Ok(())
}

fn kernel(dir: &Path) -> Result<String> {
    for entry in fs::read_dir(dir.join("boot")).context("listing the tree's /boot")? {
        let name = entry?.file_name();
        if let Some(version) = name.to_str().and_then(|name| name.strip_prefix("vmlinuz-")) {
            return Ok(version.to_owned());
        }
    }
    bail!("the tree {} has no kernel", dir.display())
}
