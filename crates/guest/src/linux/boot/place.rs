//! Where a path of a boot menu is in the guest.
//!
//! A menu names files from the root of the file system that its loader sees: `/vmlinuz-6.1` where /boot is separate,
//! `/@/boot/vmlinuz-6.1` where the root is a btrfs subvolume, `(hd0,1)/boot/…` with the device in front, `\EFI\…` on
//! an ESP. The first place where the file is wins.

use crate::Root;
use crate::linux::fstab;
use crate::root::join;

use super::find_ci;

/// Leading components that a subvolume may add (`/@/.snapshots/1/snapshot/boot/…`).
const ABOVE_MAX: usize = 6;

/// Directories where a boot loader's file system may be mounted.
#[derive(Debug)]
pub(crate) struct Places {
    /// Those that may hold kernels or menus, /boot first.
    pub(crate) tops: Vec<String>,
    /// Those of `tops` that have an EFI directory.
    pub(crate) esps: Vec<String>,
}

impl Places {
    /// The usual mount points, and FAT file systems of fstab.
    pub(crate) fn of(root: &Root) -> Self {
        let mut tops: Vec<String> = ["/boot", "/boot/efi", "/efi", "/boot/EFI", "/esp"]
            .map(str::to_owned)
            .to_vec();
        let text = root.text("/etc/fstab").unwrap_or_default();
        for entry in fstab::parse(&text) {
            let target = format!("/{}", entry.target.trim_matches('/'));
            let fat = matches!(entry.fs_type.as_str(), "vfat" | "msdos");
            if fat && !tops.contains(&target) && tops.len() < 16 {
                tops.push(target);
            }
        }
        tops.retain(|top| root.is_dir(top));
        // /boot/EFI is a mount point of some, and on an ESP mounted at /boot the directory itself.
        let has_efi =
            |top: &&String| find_ci(root, top, "EFI").is_some_and(|dir| root.is_dir(&dir));
        let mut esps: Vec<String> = tops.iter().filter(has_efi).cloned().collect();
        // Where the ESP is mounted below /boot, /boot/efi is no `EFI` directory of an ESP at /boot.
        let inner: Vec<String> = esps.clone();
        esps.retain(|top| {
            let efi = find_ci(root, top, "EFI").unwrap_or_default();
            !inner.contains(&efi)
        });
        Self { tops, esps }
    }

    /// The file that a menu means, links followed; a path that leads nowhere comes back as written.
    pub(crate) fn find(&self, root: &Root, written: &str) -> Option<String> {
        let path = bare(written)?;
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        for above in 0..parts.len().min(ABOVE_MAX) {
            let below = parts.get(above..).unwrap_or_default().join("/");
            let first = join("/", &below);
            let others = self.tops.iter().map(|top| join(top, &below));
            for candidate in std::iter::once(first).chain(others) {
                if root.is_file(&candidate) {
                    return Some(root.resolve_last(&candidate).unwrap_or(candidate));
                }
            }
        }
        Some(join("/", &path))
    }

    /// Like [`find`](Self::find), for a loader that reads its own partition, mounted at `top`.
    pub(crate) fn find_on(&self, root: &Root, top: &str, written: &str) -> Option<String> {
        let path = bare(written)?;
        match find_ci(root, top, &path) {
            Some(there) if root.is_file(&there) => Some(there),
            _ => self.find(root, written),
        }
    }
}

/// Without the device in front and with `/`; `None` for a path made of variables.
fn bare(written: &str) -> Option<String> {
    let path = match written.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?.1,
        None => written,
    };
    let path = path.replace('\\', "/");
    let usable =
        !path.is_empty() && !path.contains('$') && !path.split('/').any(|part| part == "..");
    usable.then_some(path)
}
