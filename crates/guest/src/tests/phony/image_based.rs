//! Systems whose root is an image: Fedora CoreOS, MicroOS, NixOS, Flatcar, Talos.

use super::shapes::{DRACUT, NIXOS, TALOS};
use super::{BOOT, DATA, ESP, KERNEL, Kernel, Layout, Packed, ROOT, os};

const ZSTD: &[&str] = &["zstd", "-qc"];
const VIRTIO: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "net_failover",
    "failover",
    "scsi_mod",
    "sd_mod",
];

/// The deployment is mounted as the root, as the caller does for ostree; the physical root is at /sysroot.
#[test]
fn fedora_coreos() {
    let Some(os) = os("fedora_coreos", Layout::Merged) else {
        return;
    };
    let kver = "6.8.11-300.fc40.x86_64";
    os.files(
        r#"
=== /usr/lib/os-release
NAME="Fedora Linux"
VERSION="40.20240616.3.0 (CoreOS)"
ID=fedora
VERSION_ID=40
VARIANT="CoreOS"
VARIANT_ID=coreos
OSTREE_VERSION='40.20240616.3.0'
PRETTY_NAME="Fedora CoreOS 40.20240616.3.0"
=== /etc/os-release -> ../usr/lib/os-release
=== /etc/hostname
fcos
=== /run/ostree-booted
=== /ostree -> sysroot/ostree
=== /sysroot/ostree/repo/config
[core]
repo_version=1
mode=bare
=== /usr/lib/systemd/systemd
systemd
=== /usr/sbin/init -> ../lib/systemd/systemd
=== /usr/bin/dracut
#!/bin/bash
=== /usr/bin/rpm-ostree
elf
=== /usr/lib/udev/rules.d/80-net-setup-link.rules
IMPORT{builtin}="net_setup_link"
=== /usr/lib/systemd/systemd-udevd
elf
=== /etc/fstab
=== /boot/grub2/grub.cfg
set default="${saved_entry}"
insmod blscfg
blscfg
=== /boot/grub2/i386-pc/core.img
core
=== /boot/loader -> loader.1
=== /boot/loader.1/entries/ostree-1.conf
title Fedora CoreOS 40.20240616.3.0 (ostree:0)
version 1
options rw $ignition_firstboot mitigations=auto,nosmt ostree=/ostree/boot.1/fedora-coreos/aaaaaaaa/0 ignition.platform.id=vmware root=UUID=@ROOT@ rw rootflags=prjquota boot=UUID=@BOOT@
linux /ostree/fedora-coreos-aaaaaaaa/vmlinuz-6.8.11-300.fc40.x86_64
initrd /ostree/fedora-coreos-aaaaaaaa/initramfs-6.8.11-300.fc40.x86_64.img
=== /etc/NetworkManager/system-connections/ens192.nmconnection
[connection]
id=ens192
type=ethernet
interface-name=ens192

[ipv4]
method=manual
address1=192.0.2.5/24,192.0.2.1
=== /usr/sbin/NetworkManager
elf
=== /etc/selinux/config
SELINUX=enforcing
SELINUXTYPE=targeted
=== /etc/selinux/targeted/contexts/files/file_contexts
/.*	system_u:object_r:default_t:s0
"#,
    )
    .rpms(&["systemd"])
    .disk(0, "gpt")
    .part(2, "vfat", ESP, "")
    .part(3, "ext4", BOOT, "/boot")
    .part(4, "xfs", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/ostree/fedora-coreos-aaaaaaaa/vmlinuz-6.8.11-300.fc40.x86_64",
        packed: Packed::Xz,
        config: "",
        builtin: &["virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"],
        ..KERNEL
    })
    .files("=== /usr/lib/modules/6.8.11-300.fc40.x86_64/vmlinuz\nkernel\n")
    .initrd_with(
        "/boot/ostree/fedora-coreos-aaaaaaaa/initramfs-6.8.11-300.fc40.x86_64.img",
        kver,
        DRACUT.early(),
        ZSTD,
        &["virtio_blk", "virtio_scsi", "scsi_mod", "sd_mod", "vmw_pvscsi"],
    )
    .check();
}

#[test]
fn microos() {
    let Some(os) = os("microos", Layout::Merged) else {
        return;
    };
    let kver = "6.9.9-1-default";
    os.files(
        r#"
=== /usr/lib/os-release
NAME="openSUSE MicroOS"
ID="opensuse-microos"
ID_LIKE="suse opensuse opensuse-tumbleweed microos sl-micro"
VERSION_ID="20240714"
PRETTY_NAME="openSUSE MicroOS"
=== /etc/os-release -> ../usr/lib/os-release
=== /etc/hostname
micro
=== /usr/lib/systemd/systemd
systemd
=== /usr/sbin/init -> ../lib/systemd/systemd
=== /usr/bin/dracut
#!/bin/bash
=== /usr/sbin/transactional-update
#!/bin/bash
=== /usr/lib/udev/rules.d/80-net-setup-link.rules
IMPORT{builtin}="net_setup_link"
=== /usr/lib/systemd/systemd-udevd
elf
=== /etc/fstab
UUID=@ROOT@ / btrfs ro 0 0
UUID=@ROOT@ /var btrfs subvol=/@/var,x-initrd.mount 0 0
UUID=@ROOT@ /.snapshots btrfs subvol=/@/.snapshots 0 0
overlay /etc overlay defaults,lowerdir=/sysroot/etc,upperdir=/sysroot/var/lib/overlay/2/etc,workdir=/sysroot/var/lib/overlay/2/work-etc,x-systemd.requires-mounts-for=/var,x-initrd.mount 0 0
UUID=@ESP@ /boot/efi vfat utf8 0 2
=== /boot/efi/EFI/systemd/systemd-bootx64.efi
boot
=== /boot/efi/EFI/systemd/shim.efi
shim
=== /boot/efi/EFI/BOOT/BOOTX64.EFI
shim
=== /boot/efi/loader/loader.conf
default snapper-opensuse-microos-*
timeout 5
=== /boot/efi/loader/entries/snapper-opensuse-microos-6.9.9-1-default-2.conf
title      openSUSE MicroOS
version    2@6.9.9-1-default
sort-key   opensuse-microos
options    quiet systemd.show_status=1 console=ttyS0,115200 console=tty0 net.ifnames=0 ignition.platform.id=vmware root=UUID=@ROOT@ rootflags=subvol=@/.snapshots/2/snapshot
linux      /opensuse-microos/6.9.9-1-default/linux-aaaa
initrd     /opensuse-microos/6.9.9-1-default/initrd-aaaa
=== /etc/machine-id
eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee
=== /usr/sbin/NetworkManager
elf
"#,
    )
    .files("=== /usr/lib/modules/6.9.9-1-default/vmlinuz\nkernel\n")
    .rpms(&["systemd"])
    .disk(0, "gpt")
    .part(2, "vfat", ESP, "/boot/efi")
    .part(3, "btrfs", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/efi/opensuse-microos/6.9.9-1-default/linux-aaaa",
        packed: Packed::Zst,
        config: "",
        ..KERNEL
    })
    .initrd(
        "/boot/efi/opensuse-microos/6.9.9-1-default/initrd-aaaa",
        kver,
        DRACUT,
        ZSTD,
    )
    .check();
}

#[test]
fn nixos() {
    let Some(os) = os("nixos", Layout::Split) else {
        return;
    };
    let kver = "6.6.36";
    os.files(
        r#"
=== /etc/os-release -> /etc/static/os-release
=== /etc/static -> /nix/store/aaaa-etc/etc
=== /nix/store/aaaa-etc/etc/os-release
ID=nixos
NAME=NixOS
PRETTY_NAME="NixOS 24.05 (Uakari)"
VERSION_ID="24.05"
=== /etc/NIXOS
=== /etc/hostname -> /etc/static/hostname
=== /nix/store/aaaa-etc/etc/hostname
nix1
=== /etc/fstab -> /etc/static/fstab
=== /nix/store/aaaa-etc/etc/fstab
# This is a generated file.  Do not edit!
/dev/disk/by-uuid/@ROOT@ / ext4 x-initrd.mount 0 1
/dev/disk/by-uuid/@ESP@ /boot vfat fmask=0022,dmask=0022 0 2
=== /etc/nixos/configuration.nix
{ config, pkgs, ... }:
{
  imports = [ ./hardware-configuration.nix ];
  virtualisation.vmware.guest.enable = true;
  boot.loader.systemd-boot.enable = true;
}
=== /etc/nixos/hardware-configuration.nix
{ config, lib, pkgs, modulesPath, ... }:
{
  boot.initrd.availableKernelModules = [ "ata_piix" "vmw_pvscsi" "sd_mod" "sr_mod" ];
}
=== /nix/var/nix/profiles/system -> system-42-link
=== /nix/var/nix/profiles/system-42-link -> /nix/store/bbbb-nixos-system
=== /nix/store/bbbb-nixos-system/init
#!/bin/sh
=== /nix/store/bbbb-nixos-system/kernel-modules -> /nix/store/eeee-linux-6.6.36
=== /run/
=== /boot/loader/loader.conf
timeout 5
default nixos-generation-42.conf
=== /boot/loader/entries/nixos-generation-42.conf
title NixOS
sort-key nixos
version Generation 42 NixOS 24.05.20240628 (Linux 6.6.36), built on 2024-06-29
linux /EFI/nixos/cccc-linux-6.6.36-bzImage.efi
initrd /EFI/nixos/dddd-initrd-linux-6.6.36-initrd.efi
options init=/nix/store/bbbb-nixos-system/init root=fstab loglevel=4
machine-id ffffffffffffffffffffffffffffffff
=== /boot/EFI/nixos/cccc-linux-6.6.36-bzImage.efi
kernel
=== /boot/EFI/systemd/systemd-bootx64.efi
boot
=== /boot/EFI/BOOT/BOOTX64.EFI
boot
"#,
    )
    .disk(0, "gpt")
    .part(1, "vfat", ESP, "/boot")
    .part(2, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/EFI/nixos/cccc-linux-6.6.36-bzImage.efi",
        packed: Packed::Xz,
        config: "",
        ..KERNEL
    })
    .initrd(
        "/boot/EFI/nixos/dddd-initrd-linux-6.6.36-initrd.efi",
        kver,
        NIXOS,
        ZSTD,
    )
    .modules_to(kver, "/nix/store/eeee-linux-6.6.36/lib/modules/6.6.36")
    .check();
}

#[test]
fn flatcar() {
    let Some(os) = os("flatcar", Layout::Merged) else {
        return;
    };
    let kver = "6.1.90-flatcar";
    os.files(
        r#"
=== /usr/lib/os-release
NAME="Flatcar Container Linux by Kinvolk"
ID=flatcar
ID_LIKE=coreos
VERSION=3815.2.3
VERSION_ID=3815.2.3
PRETTY_NAME="Flatcar Container Linux by Kinvolk 3815.2.3 (Oklo)"
=== /etc/os-release -> ../usr/lib/os-release
=== /etc/hostname
flat
=== /usr/lib/systemd/systemd
systemd
=== /usr/sbin/init -> ../lib/systemd/systemd
=== /usr/lib/udev/rules.d/80-net-setup-link.rules
IMPORT{builtin}="net_setup_link"
=== /boot/coreos/grub/x86_64-efi/core.efi
grub
=== /boot/flatcar/grub/grub.cfg.tar
tar
=== /boot/flatcar/vmlinuz-a
kernel
=== /boot/EFI/boot/bootx64.efi
grub
=== /oem/grub.cfg
# Flatcar GRUB settings
set oem_id="vmware"
=== /usr/share/oem/
=== /etc/systemd/network/static.network
[Match]
Name=ens192

[Network]
Address=203.0.113.20/24
=== /usr/lib/systemd/systemd-networkd
elf
=== /usr/lib/systemd/system/vmtoolsd.service
[Service]
ExecStart=/oem/bin/vmtoolsd
"#,
    )
    .disk(0, "gpt")
    .part(1, "vfat", ESP, "/boot")
    .part(3, "btrfs", DATA, "")
    .part(9, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/flatcar/vmlinuz-a",
        packed: Packed::Xz,
        builtin: VIRTIO,
        config: "",
        ..KERNEL
    })
    .check();
}

/// Its root is a squashfs in the initramfs; of the disk only the boot partition and STATE can be seen.
#[test]
fn talos() {
    let Some(os) = os("talos", Layout::Merged) else {
        return;
    };
    os.files(
        r#"
=== /etc/os-release
NAME="Talos"
ID=talos
VERSION_ID=v1.7.5
PRETTY_NAME="Talos (v1.7.5)"
=== /boot/A/vmlinuz
kernel
=== /boot/grub/grub.cfg
set default="A - Talos v1.7.5"
set timeout=3
menuentry "A - Talos v1.7.5" {
	set gfxmode=auto
	linux /A/vmlinuz talos.platform=vmware console=tty0 init_on_alloc=1 slab_nomerge pti=on
	initrd /A/initramfs.xz
}
=== /boot/EFI/BOOT/BOOTX64.EFI
grub
"#,
    )
    .disk(0, "gpt")
    .part(1, "vfat", ESP, "/boot/EFI")
    .part(3, "xfs", BOOT, "/boot")
    .part(6, "xfs", ROOT, "/")
    .initrd_with(
        "/boot/A/initramfs.xz",
        "none",
        TALOS,
        &["xz", "--check=crc32", "-c"],
        &[],
    )
    .check();
}
