//! Every initramfs that a guest can start from: beside those of the installed kernels also rescue, fallback and previous
//! ones, and those that kernel-install puts on the ESP. Those of kdump are not started by a boot loader.

use std::collections::BTreeSet;

use types::KernelInfo;

use crate::Root;
use crate::root::{Kind, join};

/// Where boot loaders find their files.
const TOPS: [&str; 4] = ["/boot", "/efi", "/boot/efi", "/esp"];
/// Directories of boot loaders themselves.
const NOT_INTO: [&str; 8] = [
    "grub",
    "grub2",
    "loader",
    "lost+found",
    "extlinux",
    "syslinux",
    "dtbs",
    "fw",
];
/// `EFI/VENDOR/KVER` and `MACHINE-ID/KVER` are two and three levels below.
const DEPTH_MAX: usize = 3;
/// Directories that are looked into.
const DIRS_MAX: usize = 256;
/// More than any menu lists.
const IMAGES_MAX: usize = 64;
/// Files that only look like it.
const NOT_ENDINGS: [&str; 18] = [
    ".pre-v2v",
    ".v2v-new",
    "~",
    ".md5",
    ".sha1",
    ".sha256",
    ".sha512",
    ".sig",
    ".hmac",
    ".txt",
    ".conf",
    ".rpmnew",
    ".dpkg-new",
    ".dpkg-tmp",
    ".tmp",
    ".log",
    ".efi",
    ".cred",
];
/// Copies that are started only if a boot loader's menu says so.
const COPY_ENDINGS: [&str; 6] = [
    ".bak",
    ".old",
    ".orig",
    ".old-dkms",
    ".dpkg-bak",
    ".rpmsave",
];
/// Files with menus.
const MENUS: [&str; 8] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/extlinux/extlinux.conf",
    "/boot/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
    "/etc/lilo.conf",
];

/// One initramfs of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// Path in the guest, links of the last component followed.
    pub(crate) path: String,
    /// The kernel that it is for, when its name says so.
    pub(crate) kver: Option<String>,
    /// The one with which that kernel starts usually.
    pub(crate) primary: bool,
}

/// All of them: those of the kernels first, in their order; each file once.
pub(crate) fn images(root: &Root, kernels: &[KernelInfo]) -> Vec<Image> {
    let mut images = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |path: &str, kver: Option<String>, primary: bool| {
        let Ok(path) = root.resolve_last(path) else {
            return;
        };
        let is_file = root
            .meta(&path)
            .is_ok_and(|meta| meta.kind == Kind::File && meta.len > 0);
        // A hard link is a file of its own as soon as one of its names is replaced.
        if is_file && images.len() < IMAGES_MAX && seen.insert(path.clone()) {
            images.push(Image {
                path,
                kver,
                primary,
            });
        }
    };
    for kernel in kernels {
        if let Some(initrd) = &kernel.initrd {
            add(initrd, Some(kernel.version.clone()), true);
        }
    }
    let menus = menus(root);
    for path in candidates(root) {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_copy = COPY_ENDINGS.iter().any(|ending| name.ends_with(ending));
        if !is_copy || menus.iter().any(|menu| menu.contains(name)) {
            add(&path, version_of(kernels, &path), false);
        }
    }
    images
}

/// Files that look like an initramfs by their names.
fn candidates(root: &Root) -> Vec<String> {
    let mut found: Vec<String> = root
        .names("/")
        .iter()
        .filter(|name| is_initrd(name))
        .map(|name| format!("/{name}"))
        .collect();
    let mut todo: Vec<(String, usize)> = TOPS.iter().map(|top| ((*top).to_owned(), 0)).collect();
    let mut done = BTreeSet::new();
    while let Some((dir, depth)) = todo.pop() {
        let new = root
            .meta(&dir)
            .is_ok_and(|meta| done.insert((meta.dev, meta.ino)));
        if !new || done.len() > DIRS_MAX {
            continue;
        }
        for entry in root.list(&dir).unwrap_or_default() {
            let path = join(&dir, &entry.name);
            match entry.kind {
                Kind::Dir if depth < DEPTH_MAX && !is_loader(&entry.name) => {
                    todo.push((path, depth + 1));
                }
                Kind::File | Kind::Symlink if is_initrd(&entry.name) => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn is_loader(name: &str) -> bool {
    NOT_INTO.iter().any(|dir| name.eq_ignore_ascii_case(dir))
}

/// `initrd.img-6.1.0-18-amd64`, `initramfs-linux-fallback.img`, NixOS' `HASH-initrd-linux-6.6.8-initrd`.
fn is_initrd(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let begins = ["initrd", "initramfs", "booster-"]
        .iter()
        .any(|prefix| lower.starts_with(prefix));
    (begins || lower.ends_with("-initrd"))
        && !lower.contains("kdump")
        && !NOT_ENDINGS.iter().any(|ending| lower.ends_with(ending))
}

/// The longest version of a kernel in the path: `6.1.0-18-amd64` and not `6.1.0-1`.
fn version_of(kernels: &[KernelInfo], path: &str) -> Option<String> {
    let versions = kernels.iter().map(|kernel| &kernel.version);
    let named = versions.filter(|version| path.contains(version.as_str()));
    named.max_by_key(|version| version.len()).cloned()
}

fn menus(root: &Root) -> Vec<String> {
    let mut paths: Vec<String> = MENUS.iter().map(|path| (*path).to_owned()).collect();
    for top in TOPS {
        let dir = join(top, "loader/entries");
        paths.extend(root.names(&dir).iter().map(|name| join(&dir, name)));
    }
    paths.truncate(DIRS_MAX);
    let there = paths.iter().filter(|path| root.is_file(path));
    there.filter_map(|path| root.text(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_bootable_image_is_found_once_and_kdump_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for path in [
            "boot/initramfs-5.14.0-427.el9.x86_64.img",
            "boot/initramfs-5.14.0-427.el9.x86_64kdump.img",
            "boot/initramfs-0-rescue-0123456789abcdef0123456789abcdef.img",
            "boot/initramfs-linux-fallback.img",
            "boot/initramfs-linux.img.bak",
            "boot/initramfs-linux.img.old",
            "boot/initrd.img-6.1.0-18-amd64.pre-v2v",
            "boot/efi/EFI/Pop_OS-1234/initrd.img-previous",
            "efi/0123456789abcdef0123456789abcdef/6.6.9-arch1-1/initrd",
            "boot/initrd.conf",
        ] {
            put(path, "x");
        }
        put(
            "boot/grub/grub.cfg",
            "initrd /initramfs-linux.img.old\ninitrd /initramfs-linux-fallback.img\n",
        );
        std::os::unix::fs::symlink(
            "boot/initramfs-5.14.0-427.el9.x86_64.img",
            dir.path().join("initrd.img"),
        )
        .unwrap();
        let kernel = |version: &str, initrd: Option<&str>| KernelInfo {
            version: version.into(),
            initrd: initrd.map(str::to_owned),
            ..KernelInfo::default()
        };
        let kernels = [
            kernel(
                "5.14.0-427.el9.x86_64",
                Some("/boot/initramfs-5.14.0-427.el9.x86_64.img"),
            ),
            kernel("6.6.9-arch1-1", None),
            kernel("5.14.0-4", None),
        ];
        let root = Root::open(dir.path()).unwrap();
        let found: Vec<_> = images(&root, &kernels)
            .into_iter()
            .map(|image| (image.path, image.kver.unwrap_or_default(), image.primary))
            .collect();
        let want = [
            (
                "/boot/initramfs-5.14.0-427.el9.x86_64.img",
                "5.14.0-427.el9.x86_64",
                true,
            ),
            ("/boot/efi/EFI/Pop_OS-1234/initrd.img-previous", "", false),
            (
                "/boot/initramfs-0-rescue-0123456789abcdef0123456789abcdef.img",
                "",
                false,
            ),
            ("/boot/initramfs-linux-fallback.img", "", false),
            ("/boot/initramfs-linux.img.old", "", false),
            (
                "/efi/0123456789abcdef0123456789abcdef/6.6.9-arch1-1/initrd",
                "6.6.9-arch1-1",
                false,
            ),
        ];
        let want: Vec<_> = want
            .iter()
            .map(|(path, kver, primary)| ((*path).to_owned(), (*kver).to_owned(), *primary))
            .collect();
        assert_eq!(found, want);
    }
}
