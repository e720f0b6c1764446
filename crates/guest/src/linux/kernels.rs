//! Installed kernels, their initramfs, and whether they can drive virtio.

use std::cmp::Ordering;

use types::KernelInfo;

use crate::Root;
use crate::linux::boot::{self, MenuEntry};
use crate::linux::initrd::{self, Contents};
use crate::linux::modules::Modules;
use crate::root::{Kind, join};

/// What a root on virtio-blk needs.
pub(crate) const REQUIRED: [&str; 2] = ["virtio_pci", "virtio_blk"];
/// What a root on virtio-scsi needs.
pub(crate) const REQUIRED_SCSI: [&str; 3] = ["virtio_pci", "virtio_scsi", "sd_mod"];
/// Where modules of a kernel are; the second for a guest with both and not one a link to the other.
const MODULE_DIRS: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// Installed kernels, the default one first, then by falling version.
pub(crate) fn kernels(root: &Root) -> Vec<KernelInfo> {
    let menu = boot::entries(root);
    let default = boot::default_of(&menu);
    let mut names: Vec<String> = MODULE_DIRS
        .iter()
        .flat_map(|dir| root.list(dir).unwrap_or_default())
        .filter(|entry| matches!(entry.kind, Kind::Dir | Kind::Symlink))
        .map(|entry| entry.name)
        .collect();
    names.sort();
    names.dedup();
    let mut kernels: Vec<KernelInfo> = names
        .iter()
        .filter_map(|name| kernel(root, name, default.as_deref(), &menu))
        .collect();
    kernels.sort_by(|a, b| {
        b.is_default
            .cmp(&a.is_default)
            .then_with(|| compare_versions(&b.version, &a.version))
    });
    // Where every kernel's file is called `linux`, the name does not tell: one is the default, the newest.
    let mut defaults = kernels.iter_mut().filter(|kernel| kernel.is_default);
    let found = defaults.next().is_some();
    defaults.for_each(|kernel| kernel.is_default = false);
    if let Some(first) = kernels.first_mut()
        && !found
        && default.is_none()
    {
        // No boot loader's menu was understood: distributions start the newest.
        first.is_default = true;
    }
    kernels
}

fn kernel(
    root: &Root,
    kver: &str,
    default: Option<&str>,
    menu: &[MenuEntry],
) -> Option<KernelInfo> {
    let mut vmlinuz = vmlinuz(root, kver);
    let mut initrd = initrd(root, kver);
    if initrd.is_none()
        && let Some((kernel, with)) = of_menu(root, kver, menu)
    {
        (vmlinuz, initrd) = (Some(kernel), with);
    }
    let has_modules = MODULE_DIRS.iter().any(|dir| {
        let dir = join(dir, kver);
        root.is_file(&join(&dir, "modules.dep")) || root.is_dir(&join(&dir, "kernel"))
    });
    if vmlinuz.is_none() || !has_modules {
        // What a removed kernel leaves behind.
        return None;
    }
    let modules = Modules::read(root, kver);
    let initrd_has_virtio = match &initrd {
        None => REQUIRED.iter().all(|name| modules.is_builtin(name)),
        Some(path) => match initrd::contents(root, path) {
            Ok(contents) => {
                has_all(&modules, &REQUIRED)
                    && missing(root, &modules, &contents, kver, &REQUIRED).is_empty()
            }
            Err(error) => {
                tracing::warn!("{}", error.chain());
                false
            }
        },
    };
    let base = |path: &Option<String>| {
        path.as_deref()
            .and_then(|path| path.rsplit('/').next())
            .map(str::to_owned)
    };
    Some(KernelInfo {
        version: kver.to_owned(),
        has_virtio_blk: REQUIRED.iter().all(|name| modules.has(name)),
        has_virtio_scsi: has_all(&modules, &REQUIRED_SCSI),
        has_virtio_net: modules.has("virtio_net") && modules.has("virtio_pci"),
        initrd_has_virtio,
        is_default: default.is_some() && base(&vmlinuz).as_deref() == default,
        vmlinuz,
        initrd,
    })
}

/// Kernel and initramfs where only the boot menu says where they are: image-based systems have them in directories named
/// by a checksum (ostree's `/boot/ostree/NAME-SUM/vmlinuz-KVER`), or add one (sdbootutil's `…/KVER/linux-SUM`).
fn of_menu(root: &Root, kver: &str, menu: &[MenuEntry]) -> Option<(String, Option<String>)> {
    let of_it = |path: &str| {
        let mut parts = path.split('/');
        parts.any(|part| {
            part == kver
                || part
                    .strip_suffix(kver)
                    .is_some_and(|rest| rest.ends_with('-'))
        })
    };
    let entry = menu.iter().find(|entry| {
        let kernel = entry.kernel.as_deref();
        kernel.is_some_and(|path| of_it(path) && root.is_file(path))
    })?;
    let mut initrds = entry.initrds.iter();
    let initrd = initrds.find(|path| !path.contains("ucode") && root.is_file(path));
    Some((entry.kernel.clone()?, initrd.cloned()))
}

/// True when the kernel has all of these, as modules or built in.
pub(crate) fn has_all(modules: &Modules, names: &[&str]) -> bool {
    names.iter().all(|name| modules.has(name))
}

/// Modules, with those that they need, which the initramfs lacks.
pub(crate) fn missing(
    root: &Root,
    modules: &Modules,
    contents: &Contents,
    kver: &str,
    names: &[&str],
) -> Vec<String> {
    let have = contents.modules_of(kver);
    let needed = modules.closure(root, names);
    let lacks = |name: &String| !have.contains(name);
    needed.into_iter().filter(lacks).collect()
}

/// The kernel image, wherever distributions have it.
pub(crate) fn vmlinuz(root: &Root, kver: &str) -> Option<String> {
    let names = ["vmlinuz", "kernel", "vmlinux", "Image", "bzImage"]
        .map(|name| format!("/boot/{name}-{kver}"));
    let mut candidates = names.to_vec();
    for (dir, name) in MODULE_DIRS
        .iter()
        .flat_map(|dir| [(dir, "vmlinuz"), (dir, "Image")])
    {
        candidates.push(format!("{dir}/{kver}/{name}"));
    }
    // genkernel: kernel-x86_64-6.6.21-gentoo; an old one: kernel-genkernel-x86_64-4.19.97-gentoo.
    candidates.extend(versioned(root, kver, &["kernel-", "vmlinuz-"]));
    if let Some(base) = pkgbase(root, kver) {
        candidates.insert(0, format!("/boot/vmlinuz-{base}"));
    }
    if let Some(dir) = bls_dir(root, kver) {
        candidates.insert(0, join(&dir, "linux"));
    }
    candidates.into_iter().find(|path| root.is_file(path))
}

/// The initramfs, wherever distributions have it.
fn initrd(root: &Root, kver: &str) -> Option<String> {
    let mut candidates = vec![
        format!("/boot/initrd.img-{kver}"),
        format!("/boot/initramfs-{kver}.img"),
        format!("/boot/initrd-{kver}"),
        format!("/boot/initrd-{kver}.img"),
        format!("/boot/initramfs-{kver}"),
        format!("/boot/booster-{kver}.img"),
    ];
    if let Some(base) = pkgbase(root, kver) {
        candidates.push(format!("/boot/initramfs-{base}.img"));
        candidates.push(format!("/boot/initramfs-{base}"));
        candidates.push(format!("/boot/booster-{base}.img"));
    }
    if let Some(dir) = bls_dir(root, kver) {
        candidates.push(join(&dir, "initrd"));
        let mut names = root.names(&dir);
        names.retain(|name| name.starts_with("init"));
        candidates.extend(names.iter().map(|name| join(&dir, name)));
    }
    candidates.extend(versioned(root, kver, &["initramfs-", "initrd-"]));
    candidates.into_iter().find(|path| root.is_file(path))
}

/// Files in /boot that begin so and end in the version, perhaps with `.img`, whatever is between.
fn versioned(root: &Root, kver: &str, prefixes: &[&str]) -> Vec<String> {
    let fits = |name: &&String| {
        let bare = name.strip_suffix(".img").unwrap_or(name);
        let above = bare.strip_suffix(kver).filter(|rest| rest.ends_with('-'));
        above.is_some_and(|rest| prefixes.iter().any(|prefix| rest.starts_with(prefix)))
    };
    let names = root.names("/boot");
    let fitting = names.iter().filter(fits);
    fitting.map(|name| format!("/boot/{name}")).collect()
}

/// Name without version: Arch writes it into the module directory, Alpine ends its version with it (`6.6.8-0-lts`).
fn pkgbase(root: &Root, kver: &str) -> Option<String> {
    let written = root
        .text(&format!("/lib/modules/{kver}/pkgbase"))
        .map(|text| text.trim().to_owned());
    let flavour = || {
        let flavour = kver.rsplit('-').next()?.to_owned();
        root.is_file(&format!("/boot/initramfs-{flavour}"))
            .then_some(flavour)
    };
    written
        .filter(|base| !base.is_empty() && !base.contains('/'))
        .or_else(flavour)
}

/// kernel-install's directory: /boot/MACHINE-ID/KVER.
fn bls_dir(root: &Root, kver: &str) -> Option<String> {
    let id = root.text("/etc/machine-id")?.trim().to_owned();
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    ["/boot", "/boot/efi", "/efi"]
        .iter()
        .filter(|_| plain)
        .map(|top| format!("{top}/{id}/{kver}"))
        .find(|dir| root.is_dir(dir))
}

/// Compares versions piece by piece: numbers as numbers, the rest as text.
pub(crate) fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (number_a, rest_a) = leading_number(a);
        let (number_b, rest_b) = leading_number(b);
        let (text_a, next_a) = leading_text(rest_a);
        let (text_b, next_b) = leading_text(rest_b);
        let order = number_a.cmp(&number_b).then_with(|| text_a.cmp(text_b));
        if order.is_ne() || (next_a.is_empty() && next_b.is_empty()) {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
}

fn leading_number(text: &str) -> (u64, &str) {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(rest).unwrap_or_default();
    (digits.parse().unwrap_or(0), rest)
}

fn leading_text(text: &str) -> (&str, &str) {
    let at = text
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(at)
}

/// First two numbers of a kernel version.
pub(crate) fn major_minor(kver: &str) -> (u64, u64) {
    let (major, rest) = leading_number(kver);
    let (minor, _) = leading_number(rest.trim_start_matches('.'));
    (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(
            compare_versions("6.1.0-9-amd64", "6.1.0-18-amd64"),
            Ordering::Less
        );
        assert_eq!(
            compare_versions("5.10.0-28-amd64", "5.4.0-28-amd64"),
            Ordering::Greater
        );
        assert_eq!(compare_versions("6.1", "6.1"), Ordering::Equal);
        assert_eq!(major_minor("2.6.32-754.el6"), (2, 6));
    }
}
