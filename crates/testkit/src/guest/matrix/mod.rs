//! The matrix: guests of Debian 11, 12 and 13 that differ in what decides how Linux boots. Each looks as if VMware had made it:
//! a static address on ens192, and an initramfs with VMware's and SATA's drivers but without any virtio module.
//!
//! ```text
//! mmdebstrap ──> matrix-RELEASE-HASH/       once for each release; packages of the variants are only downloaded
//!                   │ overlay: apt-get install, the guest's files, its initramfs, its boot loader (build.sh)
//!                   v
//!                work/{root,boot,esp}.img   made and mounted by the guest's own tools and the host's kernel (loop)
//!                   │ LVM metadata, md superblocks, LUKS (qemu-img writes it: no device mapper needed)
//!                   v
//!                NAME-HASH/disk.raw [mirror.raw]
//! ```
//! Building needs root, and of the host's kernel loop devices, overlay, xfs and btrfs; neither f2fs (sload.f2fs fills it), device
//! mapper, md nor KVM.

mod disk;
mod files;
mod list;
mod loader;
mod luks;
mod packages;
mod plan;
mod prove;
mod trees;

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{config, short_hash};
use crate::places::{cache_dir, fresh_dir, lock};
use crate::skips::is_root;

pub use list::{MATRIX, SAMPLE, SHORT_SAMPLE, by_name};
pub use prove::{
    BUSES, Figures, Proof, boot, convert, lost_on_virtio, on_old_hardware, prove, reach_login,
    unconverted,
};

/// Which Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian 11: Linux 5.10, dracut 051, GRUB 2.06.
    Bullseye,
    /// Debian 12: Linux 6.1, dracut 059, GRUB 2.06.
    Bookworm,
    /// Debian 13: Linux 6.12, dracut 106, GRUB 2.12.
    Trixie,
}

impl Release {
    pub(super) const ALL: [Self; 3] = [Self::Bullseye, Self::Bookworm, Self::Trixie];

    /// Name of the suite.
    pub fn codename(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// What makes the initramfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// With `MODULES=list`.
    InitramfsTools,
    /// Host-only.
    Dracut,
}

/// File system of `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs with the subvolumes `@` and `@home`.
    Btrfs,
    /// f2fs.
    F2fs,
}

impl Fs {
    /// As fstab(5) has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::F2fs => "f2fs",
        }
    }
}

/// What the root's file system lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// A partition.
    Plain,
    /// `vg0/root`, with `vg0/swap`.
    Lvm,
    /// A mirror of two disks.
    Md,
    /// LUKS 2.
    Luks,
    /// `vg0/root` on LUKS 1.
    LvmOnLuks,
}

impl Stack {
    /// Something asks for a passphrase at boot.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Luks | Self::LvmOnLuks)
    }

    /// There is a volume group.
    pub fn has_lvm(self) -> bool {
        matches!(self, Self::Lvm | Self::LvmOnLuks)
    }
}

/// What starts the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// GRUB 2 with menu entries in grub.cfg.
    GrubCfg,
    /// GRUB 2 with `blscfg` and entries in `/boot/loader/entries`.
    Bls,
    /// systemd-boot with entries on the ESP.
    SystemdBoot,
    /// extlinux with `/boot/extlinux/extlinux.conf`.
    Extlinux,
    /// GRUB 0.97 with menu.lst.
    GrubLegacy,
}

/// What configures the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// `/etc/network/interfaces`.
    Ifupdown,
    /// A keyfile of NetworkManager.
    NetworkManager,
    /// netplan, which writes for systemd-networkd.
    Netplan,
    /// systemd-networkd's own files.
    Networkd,
}

/// How fstab, crypttab and the kernel's arguments name a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `UUID=`.
    Uuid,
    /// `LABEL=`.
    Label,
    /// `/dev/sda2`.
    Kernel,
}

/// One guest of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixGuest {
    /// What the machine is called.
    pub name: &'static str,
    /// Which Debian.
    pub release: Release,
    /// What makes its initramfs.
    pub generator: Generator,
    /// File system of `/`.
    pub fs: Fs,
    /// What that lies on.
    pub stack: Stack,
    /// UEFI without a fallback loader, or BIOS.
    pub uefi: bool,
    /// What starts its kernel.
    pub loader: Loader,
    /// What configures its address.
    pub network: Network,
    /// How partitions are named.
    pub names: Names,
}

impl MatrixGuest {
    /// The passphrase of its encrypted volume.
    pub fn passphrase(&self) -> Option<&'static str> {
        self.stack.is_encrypted().then_some(luks::PASSPHRASE)
    }

    /// The values, in the order of the fields.
    pub fn values(&self) -> [(&'static str, String); 8] {
        [
            ("release", self.release.codename().to_owned()),
            ("initramfs", format!("{:?}", self.generator)),
            ("root", self.fs.name().to_owned()),
            ("on", format!("{:?}", self.stack)),
            (
                "firmware",
                if self.uefi { "UEFI" } else { "BIOS" }.to_owned(),
            ),
            ("loader", format!("{:?}", self.loader)),
            ("network", format!("{:?}", self.network)),
            ("names", format!("{:?}", self.names)),
        ]
    }
}

/// A built guest. The files are shared by all tests: open them read-only.
#[derive(Clone, Debug)]
pub struct BuiltGuest {
    /// What it is.
    pub guest: MatrixGuest,
    /// Its disks, raw and sparse: one, or the two halves of a mirror.
    pub disks: Vec<PathBuf>,
    /// The guest's address on ens192; it listens on port 22 there.
    pub static_ip: Ipv4Addr,
    /// Its default gateway; the network is a /24.
    pub gateway: Ipv4Addr,
    /// Root's password on the console.
    pub root_password: &'static str,
}

/// The guest from the cache, built now if it is not there (about a minute; the first of a release some minutes).
pub fn build(guest: &MatrixGuest) -> Result<BuiltGuest> {
    let cache = cache_dir();
    let tree_id = short_hash(&[&trees::recipe(guest.release)]);
    let plan = plan::Plan::of(guest);
    let id = short_hash(&[
        &tree_id,
        &files::text(guest, &plan),
        &plan.sfdisk_script(),
        &disk::recipe(guest),
    ]);
    let dir = cache.join(format!("matrix-{}-{id}", guest.name));
    let _lock = lock(&cache, &format!("matrix-{}", guest.name))?;
    if !dir.is_dir() {
        ensure!(
            is_root(),
            "building the guest {} needs root (mmdebstrap, chroot, mounts): run as root once, then it is cached",
            guest.name
        );
        let tree = trees::tree(&cache, guest.release, &tree_id)?;
        let partial = cache.join(format!("matrix-{}.partial", guest.name));
        fresh_dir(&partial)?;
        disk::build(guest, &plan, &tree, &partial)
            .with_context(|| format!("building the guest {}", guest.name))?;
        fs::remove_dir_all(partial.join("work")).context("removing the work directory")?;
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &dir).with_context(|| format!("renaming {}", partial.display()))?;
    }
    let mut disks = vec![dir.join("disk.raw")];
    if guest.stack == Stack::Md {
        disks.push(dir.join(super::disk::MIRROR_NAME));
    }
    Ok(BuiltGuest {
        guest: *guest,
        disks,
        static_ip: config::STATIC_IP,
        gateway: config::GATEWAY,
        root_password: config::ROOT_PASSWORD,
    })
}
