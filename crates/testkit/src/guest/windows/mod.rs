//! Windows machines without Windows: the registry of real ones (../shared/fixtures/hives) on NTFS volumes that mkntfs makes
//! and ntfs-3g fills, with the boot files that inspection and conversion look at. They do not boot.
//!
//! | guest | disk | firmware |
//! |---|---|---|
//! | [`Windows::Seven`] | MBR: C:, "System Reserved" behind it; E: on a second disk; VMX and VMDKs | BIOS |
//! | [`Windows::EightOne`] | GPT: ESP, MSR, C:, recovery; VHDX | UEFI |
//!
//! Building needs root (mount through FUSE). What lies in free clusters, in pagefile.sys and in a hiberfil.sys that is not in
//! use is noise, so that a conversion which copies it is seen by the size of its result.

mod boot;
mod disk;
mod tree;
mod volume;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use disk::{DATA, Span, cut, put_back};
pub use volume::{Volume, noise};

use super::{hex, short_hash};
use crate::places::{cache_dir, fixture, fresh_dir, lock};
use crate::skips::is_root;

/// Goes up when what is built changes.
const WINDOWS_VERSION: &str = "windows 2";

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// Windows 7 SP1 Ultimate, x86, of VMware.
    Seven,
    /// Windows 8.1 Enterprise, amd64, of VirtualBox.
    EightOne,
}

impl Windows {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Seven, Self::EightOne];

    /// Name of the machine.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seven => "win7",
            Self::EightOne => "win81",
        }
    }

    /// Folder of its hives in the fixtures.
    pub fn hives(self) -> &'static str {
        match self {
            Self::Seven => "win7-x86-vmware",
            Self::EightOne => "win81-x64-virtualbox",
        }
    }

    /// Where its C: is on the disk.
    pub fn system(self) -> Span {
        disk::Layout::of(self).system
    }

    /// Where its ESP or "System Reserved" is.
    pub fn boot(self) -> Span {
        disk::Layout::of(self).boot
    }
}

/// A built machine. The files are shared by all tests: open them read-only.
#[derive(Clone, Debug)]
pub struct WindowsGuest {
    /// Which.
    pub which: Windows,
    /// The disk as a sparse raw file.
    pub raw: PathBuf,
    /// The data disk, if it has one.
    pub data: Option<PathBuf>,
    /// What a user has: `win7.vmx` with its VMDKs beside it, or `win81.vhdx`.
    pub source: PathBuf,
    /// Bytes of noise in clusters that nobody uses.
    pub noise: u64,
}

/// Skips (false) where these machines cannot be built or looked into.
#[must_use]
pub fn require_ntfs() -> bool {
    let tools = [
        "mkntfs",
        "ntfs-3g",
        "ntfsfix",
        "umount",
        "sfdisk",
        "qemu-img",
        "mkfs.vfat",
        "mcopy",
    ];
    if fixture("hives").ok().flatten().is_none() {
        crate::skip("fixtures are absent: set V2V_FIXTURES");
        return false;
    }
    tools.into_iter().all(crate::require_tool) && crate::require_root()
}

/// The machine from the cache, built now if it is not there. Other processes wait meanwhile.
pub fn windows(which: Windows) -> Result<WindowsGuest> {
    let layout = disk::Layout::of(which);
    let cache = cache_dir();
    let id = short_hash(&[WINDOWS_VERSION, &layout.sfdisk_script(), which.hives()]);
    let dir = cache.join(format!("{}-{id}", which.name()));
    let _lock = lock(&cache, which.name())?;
    if !dir.is_dir() {
        ensure!(is_root(), "building {} needs root (FUSE)", which.name());
        let partial = cache.join(format!("{}.partial", which.name()));
        fresh_dir(&partial)?;
        let hives = fixture("hives")?.context("the fixtures have no hives")?;
        let hives = find_folder(&hives, which.hives())
            .with_context(|| format!("no folder {} in the fixtures", which.hives()))?;
        disk::build(which, &layout, &hives, &partial)
            .with_context(|| format!("building {}", which.name()))?;
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &dir).with_context(|| format!("renaming {}", partial.display()))?;
    }
    Ok(WindowsGuest {
        which,
        raw: dir.join("disk.raw"),
        data: (which == Windows::Seven).then(|| dir.join("data.raw")),
        source: dir.join(match which {
            Windows::Seven => "win7.vmx",
            Windows::EightOne => "win81.vhdx",
        }),
        noise: tree::NOISE,
    })
}

/// The driver tree of the fixtures: real .inf files, every other file empty. Made below `dir`.
pub fn virtio_win(dir: &Path) -> Result<Option<PathBuf>> {
    let Some(pack) = fixture("virtio-win-inf")? else {
        return Ok(None);
    };
    let list = find_file(&pack, "files.txt").context("no files.txt in the fixtures")?;
    let real = list.parent().context("files.txt has no folder")?;
    let tree = dir.join("virtio-win");
    for name in fs::read_to_string(&list)?.lines().map(str::trim) {
        if name.is_empty() || name.split('/').any(|part| part == "..") {
            continue;
        }
        let to = tree.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let from = real.join(name);
        if from.is_file() {
            fs::copy(&from, &to)?;
        } else {
            File::create(&to)?;
        }
    }
    Ok(Some(tree))
}

fn find_folder(below: &Path, name: &str) -> Option<PathBuf> {
    let direct = below.join(name);
    if direct.is_dir() {
        return Some(direct);
    }
    let entries = fs::read_dir(below).ok()?;
    let folders = entries.flatten().map(|entry| entry.path());
    folders
        .filter(|path| path.is_dir())
        .find_map(|path| find_folder(&path, name))
}

fn find_file(below: &Path, name: &str) -> Option<PathBuf> {
    let direct = below.join(name);
    if direct.is_file() {
        return Some(direct);
    }
    let entries = fs::read_dir(below).ok()?;
    let folders = entries.flatten().map(|entry| entry.path());
    folders
        .filter(|path| path.is_dir())
        .find_map(|path| find_file(&path, name))
}

/// SHA-256 of bytes, hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(bytes))
}
