//! The guests of the matrix: every value at least twice, in pairings that real machines have.

use super::Fs::{Btrfs, Ext4, F2fs, Xfs};
use super::Generator::{Dracut, InitramfsTools};
use super::Loader::{Bls, Extlinux, GrubCfg, GrubLegacy, SystemdBoot};
use super::Names::{Kernel, Label, Uuid};
use super::Network::{Ifupdown, Netplan, NetworkManager, Networkd};
use super::Release::{Bookworm, Bullseye, Trixie};
use super::Stack::{Luks, Lvm, LvmOnLuks, Md, Plain};
use super::{Fs, Generator, Loader, MatrixGuest, Names, Network, Release, Stack};

#[expect(clippy::too_many_arguments, reason = "a row of the table below")]
const fn row(
    name: &'static str,
    release: Release,
    generator: Generator,
    fs: Fs,
    stack: Stack,
    uefi: bool,
    loader: Loader,
    network: Network,
    names: Names,
) -> MatrixGuest {
    MatrixGuest {
        name,
        release,
        generator,
        fs,
        stack,
        uefi,
        loader,
        network,
        names,
    }
}

const BIOS: bool = false;
const UEFI: bool = true;

/// Every guest.
#[rustfmt::skip]
pub const MATRIX: [MatrixGuest; 15] = [
    row("legacy-plain",     Bullseye, InitramfsTools, Ext4,  Plain,     BIOS, GrubLegacy,  Ifupdown,       Kernel),
    row("legacy-lvm",       Bookworm, InitramfsTools, Xfs,   Lvm,       BIOS, GrubLegacy,  Ifupdown,       Label),
    row("extlinux-lvm",     Bullseye, Dracut,         Xfs,   Lvm,       BIOS, Extlinux,    Networkd,       Uuid),
    row("sdboot-btrfs",     Bookworm, InitramfsTools, Btrfs, Plain,     UEFI, SystemdBoot, Netplan,        Kernel),
    row("grub-luks",        Bookworm, Dracut,         Ext4,  Luks,      BIOS, GrubCfg,     NetworkManager, Uuid),
    row("grub-md",          Bookworm, InitramfsTools, Xfs,   Md,        BIOS, GrubCfg,     Networkd,       Kernel),
    row("bls-lvm-luks",     Trixie,   Dracut,         Xfs,   LvmOnLuks, UEFI, Bls,         NetworkManager, Uuid),
    row("bls-btrfs",        Trixie,   Dracut,         Btrfs, Plain,     BIOS, Bls,         Netplan,        Label),
    row("extlinux-lvm-luks", Trixie,  InitramfsTools, Ext4,  LvmOnLuks, BIOS, Extlinux,    Networkd,       Kernel),
    row("sdboot-lvm",       Trixie,   Dracut,         Ext4,  Lvm,       UEFI, SystemdBoot, NetworkManager, Uuid),
    row("grub-uefi-luks",   Trixie,   InitramfsTools, Xfs,   Luks,      UEFI, GrubCfg,     Ifupdown,       Kernel),
    row("grub-uefi-md",     Bookworm, Dracut,         Btrfs, Md,        UEFI, GrubCfg,     Netplan,        Uuid),
    row("grub-f2fs",        Trixie,   InitramfsTools, F2fs,  Plain,     BIOS, GrubCfg,     Networkd,       Kernel),
    row("sdboot-f2fs",      Trixie,   Dracut,         F2fs,  Plain,     UEFI, SystemdBoot, Ifupdown,       Label),
    row("grub-uefi-plain",  Bullseye, InitramfsTools, Btrfs, Plain,     UEFI, GrubCfg,     NetworkManager, Label),
];

/// The third that CI proves: every generator, stack, firmware and network is in it, all file systems but f2fs, and all loaders
/// but extlinux.
pub const SAMPLE: &[&str] = &[
    "legacy-lvm",
    "sdboot-btrfs",
    "grub-md",
    "bls-lvm-luks",
    "grub-luks",
];

/// Those of [`SAMPLE`] that CI has the time for: all of one release, so that one tree is built.
pub const SHORT_SAMPLE: &[&str] = &["legacy-lvm", "sdboot-btrfs", "grub-md", "grub-luks"];

/// The guest of this name.
pub fn by_name(name: &str) -> Option<&'static MatrixGuest> {
    MATRIX.iter().find(|guest| guest.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_value_is_there_at_least_twice() {
        let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for guest in &MATRIX {
            for value in guest.values() {
                *seen.entry(value).or_default() += 1;
            }
        }
        let rare: Vec<_> = seen.iter().filter(|(_, count)| **count < 2).collect();
        assert!(rare.is_empty(), "{rare:?}");
        // 3 releases, 2 generators, 4 file systems, 5 stacks, 2 firmwares, 5 loaders, 4 networks, 3 ways of naming.
        assert_eq!(seen.len(), 28, "{seen:?}");
    }

    #[test]
    fn names_are_unique_and_the_sample_is_of_them() {
        let mut seen = BTreeSet::new();
        for name in SAMPLE {
            seen.extend(by_name(name).unwrap().values());
        }
        // All but Debian 11, f2fs, extlinux, and devices named by label and kernel name, of which one may be missing.
        assert!(seen.len() >= 24, "{seen:?}");
        for (number, guest) in MATRIX.iter().enumerate() {
            assert!(
                !MATRIX[..number]
                    .iter()
                    .any(|other| other.name == guest.name)
            );
            let bios_only = matches!(guest.loader, Extlinux | GrubLegacy);
            assert!(!(bios_only && guest.uefi), "{}", guest.name);
            assert!(guest.uefi || guest.loader != SystemdBoot, "{}", guest.name);
        }
    }
}
