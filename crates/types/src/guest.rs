//! The guest as inspection finds it.

use serde::{Deserialize, Serialize};

use crate::Concern;

/// One operating system found on the disks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuestInfo {
    /// Device of the root file system, as [`BlockDevice::name`](crate::BlockDevice::name) spells it.
    pub root: String,
    /// Linux, Windows, …
    pub os: OsType,
    /// Distribution: `ID` of os-release (`debian`, `ubuntu`, `rhel`, …) or `windows`.
    pub distro: String,
    /// `ID_LIKE` of os-release, split.
    pub distro_like: Vec<String>,
    /// `VERSION_ID` as written, empty when there is none (Debian sid).
    pub version: String,
    /// Name for people: `PRETTY_NAME` or Windows' ProductName.
    pub product_name: String,
    /// Host name, if set.
    pub hostname: Option<String>,
    /// Architecture of the installed system.
    pub arch: Arch,
    /// libosinfo id, e.g. `http://debian.org/debian/12`, if one exists.
    pub osinfo_id: Option<String>,
    /// File systems of this guest, root first, then in mount order.
    pub mountpoints: Vec<Mountpoint>,
    /// Installed kernels, best first.
    pub kernels: Vec<KernelInfo>,
    /// Boot loaders present.
    pub boot_loaders: Vec<BootLoader>,
    /// PID 1: `systemd`, `sysvinit`, `openrc`, …
    pub init: String,
    /// What builds the initramfs: `initramfs-tools`, `dracut`, …; empty when unknown.
    pub initramfs_generator: String,
    /// Package database: `dpkg`, `rpm`, …; empty when there is none.
    pub package_format: String,
    /// Names of installed packages that belong to a hypervisor (open-vm-tools, …).
    pub hypervisor_tools: Vec<String>,
    /// qemu-guest-agent is installed.
    pub has_guest_agent: bool,
    /// SELinux is set to enforcing or permissive.
    pub selinux: bool,
    /// How its network is configured.
    #[serde(default)]
    pub network: Vec<NetworkConfig>,
    /// What its administrator should know before a conversion, the worst first.
    #[serde(default)]
    pub concerns: Vec<Concern>,
}

/// Family of operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OsType {
    /// Linux.
    Linux,
    /// Microsoft Windows.
    Windows,
    /// Something else.
    #[default]
    Unknown,
}

/// Processor architecture of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I686,
    /// 64-bit ARM.
    Aarch64,
    /// Anything else.
    #[default]
    Other,
}

/// A mounted file system of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mountpoint {
    /// Device, as [`BlockDevice::name`](crate::BlockDevice::name) spells it.
    pub device: String,
    /// Path in the guest, e.g. `/boot`.
    pub path: String,
    /// `ext4`, `vfat`, …
    pub fs_type: String,
}

/// One installed kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelInfo {
    /// `uname -r` of it: the name of its directory in /lib/modules.
    pub version: String,
    /// Path of the kernel image in the guest, if found.
    pub vmlinuz: Option<String>,
    /// Path of its initramfs in the guest, if it has one.
    pub initrd: Option<String>,
    /// virtio_blk exists as module or built in.
    pub has_virtio_blk: bool,
    /// virtio_scsi exists as module or built in.
    #[serde(default)]
    pub has_virtio_scsi: bool,
    /// virtio_net exists as module or built in.
    pub has_virtio_net: bool,
    /// The initramfs already carries all that a virtio root needs (or it is built in).
    pub initrd_has_virtio: bool,
    /// The boot loader starts this one by default.
    pub is_default: bool,
}

/// Configuration of one network manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// `ifcfg`, `NetworkManager`, `netplan`, `systemd-networkd`, `ifupdown`, `wicked`, …
    pub kind: String,
    /// Its files in the guest.
    pub files: Vec<String>,
}

/// A boot loader found in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootLoader {
    /// `grub2-bios`, `grub2-efi`, `grub-legacy`, `grub-legacy-efi`, `systemd-boot`, `uki-efi`, `efistub-efi`, `extlinux`,
    /// `lilo`, `elilo`, `zipl`, `yaboot`, `windows-bios`, `windows-efi`.
    pub kind: String,
    /// Main configuration file in the guest.
    pub config: Option<String>,
}
