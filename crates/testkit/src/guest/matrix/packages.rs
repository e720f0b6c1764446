//! Which Debian packages a guest has over its release's shared tree.

use super::{Fs, Generator, Loader, MatrixGuest, Network, Release, Stack};

/// The shared tree, and why.
pub(super) const SHARED: &[(&str, &str)] = &[
    (
        "linux-image-amd64",
        "the distribution's kernel: all drivers are modules",
    ),
    ("systemd-sysv", "init"),
    ("udev", "loads modules by modalias, names the NIC"),
    ("dbus", "logins without delays"),
    ("openssh-server", "answers at the static address"),
    ("iproute2", "to look at the network"),
    (
        "initramfs-tools",
        "most guests' generator; dracut replaces it",
    ),
    ("zstd", "compresses the initramfs"),
    ("kmod", "modprobe"),
    ("procps", "sysctl at boot"),
    ("e2fsprogs", "makes and checks the guest's own file systems"),
    ("xfsprogs", "the same"),
    ("btrfs-progs", "the same"),
];

/// Files of packages that only a newer Debian has: the first GRUB of Debian with `blscfg` is 2.14 (module `blsuki`).
pub(super) const NEWER_GRUB: &[&str] = &["grub2-common", "grub-pc-bin", "grub-efi-amd64-bin"];
/// The suite that has it.
pub(super) const NEWER_SUITE: &str = "forky";

/// Packages of this guest, over the shared tree.
pub(super) fn of(guest: &MatrixGuest) -> Vec<&'static str> {
    let mut names = vec![];
    names.extend(match guest.network {
        Network::Ifupdown => Some("ifupdown"),
        Network::NetworkManager => Some("network-manager"),
        Network::Netplan => Some("netplan.io"),
        Network::Networkd => None,
    });
    names.extend(stack(guest.stack, guest.generator, guest.release));
    if guest.fs == Fs::F2fs {
        names.push("f2fs-tools");
    }
    if guest.generator == Generator::Dracut {
        names.push("dracut");
    }
    names.extend(loader(guest.loader, guest.uefi));
    names
}

fn stack(stack: Stack, generator: Generator, release: Release) -> Vec<&'static str> {
    let mut names = vec![];
    if stack.has_lvm() {
        names.push("lvm2");
    }
    if stack == Stack::Md {
        names.push("mdadm");
    }
    if stack.is_encrypted() {
        names.push("cryptsetup");
        match (generator, release) {
            (Generator::InitramfsTools, _) => names.push("cryptsetup-initramfs"),
            // Split off from systemd in Debian 13; dracut's module needs it.
            (Generator::Dracut, Release::Trixie) => names.push("systemd-cryptsetup"),
            (Generator::Dracut, _) => {}
        }
    }
    names
}

fn loader(loader: Loader, uefi: bool) -> Vec<&'static str> {
    match loader {
        Loader::GrubCfg | Loader::Bls if uefi => vec!["grub2-common", "grub-efi-amd64-bin"],
        Loader::GrubCfg | Loader::Bls => vec!["grub2-common", "grub-pc-bin"],
        Loader::SystemdBoot => vec!["systemd-boot"],
        Loader::Extlinux => vec!["extlinux", "syslinux-common"],
        Loader::GrubLegacy => vec!["grub-legacy"],
    }
}
