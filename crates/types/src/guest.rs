//! The guest as inspection finds it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Concern, MacAddr};

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
    /// What only Windows has.
    #[serde(default)]
    pub windows: Option<WindowsInfo>,
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

/// What inspection finds of Windows besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowsInfo {
    /// Its directory in the guest as it is spelled on the disk, with slashes: `/Windows`.
    pub system_root: String,
    /// The volume that it boots from where that is not its own: the EFI system partition, or "System Reserved".
    #[serde(default)]
    pub boot_device: Option<String>,
    /// The drive letter that it gives its own volume, without colon; `C` unless its registry says otherwise.
    pub drive: String,
    /// CurrentMajorVersionNumber or the part of CurrentVersion: 5 (XP, 2003), 6 (Vista to 8.1), 10.
    pub major: u32,
    /// Minor version: 6.1 is Windows 7 and Server 2008 R2.
    pub minor: u32,
    /// CurrentBuildNumber.
    pub build: u32,
    /// UBR: the update of the build, 0 where it has none.
    pub revision: u32,
    /// `WinNT`, `ServerNT`, `LanmanNT` (a domain controller).
    pub product_type: String,
    /// EditionID, e.g. `Professional`, `ServerStandard`.
    pub edition: String,
    /// DisplayVersion or ReleaseId, e.g. `22H2`; CSDVersion (`Service Pack 1`) of older ones.
    pub release: String,
    /// Installation is Server Core.
    pub core: bool,
    /// Control sets, `ControlSet001` …: the one of Select\Current first, then those it may fall back to.
    pub control_sets: Vec<String>,
    /// RealTimeIsUniversal is set.
    pub rtc_utc: bool,
    /// Network adapters that have a configuration.
    pub adapters: Vec<WindowsAdapter>,
    /// Programs of hypervisors, with what uninstalls them.
    pub tools: Vec<WindowsProgram>,
    /// Updates for SHA-2 signatures are there (KB4474419) or not needed (Windows 8 on).
    pub sha2: bool,
}

/// The configuration of one network adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowsAdapter {
    /// NetCfgInstanceId with its braces.
    pub id: String,
    /// Name of the connection, e.g. `Ethernet0`.
    pub name: String,
    /// Its hardware address, where the registry has it.
    pub mac: Option<MacAddr>,
    /// Device instance, e.g. `PCI\VEN_8086&DEV_100F…`.
    pub device: String,
    /// IPv4 and IPv6 addresses that were set by hand, with their prefixes in bits.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default gateways with their metrics.
    pub gateways: Vec<(IpAddr, u32)>,
    /// Name servers that were set by hand.
    pub nameservers: Vec<IpAddr>,
    /// DNS suffix of the connection.
    pub domain: Option<String>,
    /// Metric of the interface; `None` is automatic.
    pub metric: Option<u32>,
    /// IPv4 by DHCP.
    pub dhcp: bool,
}

/// An installed program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowsProgram {
    /// `vmware`, `virtualbox`, `hyperv`, `xen`, `parallels`, `nutanix`, …
    pub kind: String,
    /// DisplayName.
    pub name: String,
    /// UninstallString.
    pub uninstall: Option<String>,
    /// Product code where Windows Installer installed it.
    pub product_code: Option<String>,
}
