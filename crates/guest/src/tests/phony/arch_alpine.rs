//! Arch Linux and Alpine.

use super::shapes::{MKINITCPIO, MKINITCPIO_SYSTEMD, MKINITFS};
use super::{BOOT, DATA, ESP, KERNEL, Kernel, Layout, Packed, ROOT, SWAP, os};

const GZIP: &[&str] = &["gzip", "-nc"];
const ZSTD: &[&str] = &["zstd", "-qc"];
/// What mkinitcpio's fallback image has beside.
const ALL: [&str; 10] = [
    "scsi_mod",
    "sd_mod",
    "vmw_pvscsi",
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
];

#[test]
fn arch_with_systemd_boot() {
    let Some(os) = os("arch_with_systemd_boot", Layout::OneBin) else {
        return;
    };
    let Some(os) = os.release("arch") else {
        return;
    };
    let kver = "6.9.7-arch1-1";
    os.files(
        r#"
=== /etc/hostname
archbox
=== /usr/lib/systemd/systemd
systemd
=== /usr/bin/init -> ../lib/systemd/systemd
=== /usr/lib/udev/rules.d/80-net-setup-link.rules
IMPORT{builtin}="net_setup_link"
=== /usr/lib/systemd/systemd-udevd
elf
=== /usr/bin/mkinitcpio
#!/usr/bin/bash
=== /usr/bin/pacman
elf
=== /var/lib/pacman/local/open-vm-tools-6:12.4.0-1/desc
%NAME%
open-vm-tools

%VERSION%
6:12.4.0-1
=== /etc/mkinitcpio.conf
# vim:set ft=sh
MODULES=()
BINARIES=()
FILES=()
HOOKS=(base udev autodetect modconf kms keyboard keymap consolefont block filesystems fsck)
=== /etc/mkinitcpio.d/linux.preset
# mkinitcpio preset file for the 'linux' package
ALL_kver="/boot/vmlinuz-linux"
PRESETS=('default' 'fallback')
default_image="/boot/initramfs-linux.img"
fallback_image="/boot/initramfs-linux-fallback.img"
fallback_options="-S autodetect"
=== /lib/modules/6.9.7-arch1-1/pkgbase
linux
=== /etc/fstab
# /dev/sda2
UUID=@ROOT@	/         	ext4      	rw,relatime	0 1

# /dev/sda1
UUID=@ESP@      	/boot     	vfat      	rw,relatime,fmask=0022,dmask=0022	0 2
=== /boot/loader/loader.conf
default arch.conf
timeout 3
=== /boot/loader/entries/arch.conf
title   Arch Linux
linux   /vmlinuz-linux
initrd  /intel-ucode.img
initrd  /initramfs-linux.img
options root=PARTUUID=deadbeef-02 rw
=== /boot/loader/entries/arch-fallback.conf
title   Arch Linux (fallback initramfs)
linux   /vmlinuz-linux
initrd  /initramfs-linux-fallback.img
options root=/dev/sda2 rw
=== /boot/intel-ucode.img
=== /boot/EFI/systemd/systemd-bootx64.efi
MZ systemd-boot 255
=== /boot/EFI/BOOT/BOOTX64.EFI
MZ systemd-boot 255
=== /etc/systemd/network/20-wired.network
[Match]
Name=ens33

[Network]
DHCP=yes
=== /usr/lib/systemd/systemd-networkd
elf
=== /etc/systemd/system/multi-user.target.wants/systemd-networkd.service -> /usr/lib/systemd/system/systemd-networkd.service
=== /etc/systemd/system/multi-user.target.wants/vmtoolsd.service -> /usr/lib/systemd/system/vmtoolsd.service
=== /etc/systemd/system/multi-user.target.wants/vmware-vmblock-fuse.service -> /usr/lib/systemd/system/vmware-vmblock-fuse.service
"#,
    )
    .disk(0, "gpt")
    .part(1, "vfat", ESP, "/boot")
    .part(2, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/vmlinuz-linux",
        packed: Packed::Zst,
        config: "",
        ..KERNEL
    })
    .initrd("/boot/initramfs-linux.img", kver, MKINITCPIO, ZSTD)
    .initrd_with("/boot/initramfs-linux-fallback.img", kver, MKINITCPIO, ZSTD, &ALL)
    .check();
}

#[test]
fn arch_with_grub_and_luks() {
    let Some(os) = os("arch_with_grub_and_luks", Layout::OneBin) else {
        return;
    };
    let Some(os) = os.release("arch") else {
        return;
    };
    let kver = "6.6.36-1-lts";
    os.files(
        r#"
=== /etc/hostname
vault
=== /usr/lib/systemd/systemd
systemd
=== /usr/bin/init -> ../lib/systemd/systemd
=== /usr/lib/udev/rules.d/80-net-setup-link.rules
IMPORT{builtin}="net_setup_link"
=== /usr/lib/systemd/systemd-udevd
elf
=== /usr/bin/mkinitcpio
#!/usr/bin/bash
=== /usr/bin/pacman
elf
=== /var/lib/pacman/local/linux-lts-6.6.36-1/desc
%NAME%
linux-lts

%VERSION%
6.6.36-1
=== /etc/mkinitcpio.conf
MODULES=(vmw_pvscsi)
HOOKS=(base systemd autodetect modconf block sd-encrypt filesystems fsck)
=== /etc/mkinitcpio.conf.d/
=== /etc/mkinitcpio.d/linux-lts.preset
PRESETS=('default')
default_image="/boot/initramfs-linux-lts.img"
=== /lib/modules/6.6.36-1-lts/pkgbase
linux-lts
=== /etc/fstab
/dev/mapper/root / ext4 rw,relatime 0 1
/dev/sda1 /boot ext4 rw 0 2
=== /etc/crypttab
# <name> <device> <password> <options>
swap /dev/sda3 /dev/urandom swap,cipher=aes-xts-plain64
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX="rd.luks.name=@DATA@=root root=/dev/mapper/root"
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
menuentry 'Arch Linux' $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @BOOT@
	linux	/vmlinuz-linux-lts root=/dev/mapper/root rw rd.luks.name=@DATA@=root loglevel=3 quiet
	initrd	/initramfs-linux-lts.img
}
=== /etc/netctl/office
Interface=ens160
Connection=ethernet
IP=static
Address=('10.5.5.5/24')
Gateway='10.5.5.1'
=== /usr/bin/netctl
#!/usr/bin/bash
"#,
    )
    .disk(0, "dos")
    .part(1, "ext4", BOOT, "/boot")
    .part(2, "crypto_LUKS", DATA, "")
    .part(3, "", "", "")
    .crypt("/dev/mapper/root", "/dev/sda2", "ext4", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/vmlinuz-linux-lts",
        packed: Packed::Zst,
        config: "",
        ..KERNEL
    })
    .initrd(
        "/boot/initramfs-linux-lts.img",
        kver,
        MKINITCPIO_SYSTEMD.early(),
        ZSTD,
    )
    .check();
}

#[test]
fn alpine_with_extlinux() {
    let Some(os) = os("alpine_with_extlinux", Layout::Split) else {
        return;
    };
    let Some(os) = os.release("alpine") else {
        return;
    };
    let kver = "6.6.34-0-lts";
    os.files(
        r#"
=== /etc/hostname
edge
=== /sbin/init -> /bin/busybox
=== /bin/busybox
elf
=== /sbin/openrc
elf
=== /sbin/mkinitfs
#!/bin/sh
=== /sbin/apk
elf
=== /lib/apk/db/installed
P:open-vm-tools
V:12.3.5-r1
A:x86_64

P:busybox
V:1.36.1-r29
A:x86_64
=== /etc/inittab
::sysinit:/sbin/openrc sysinit
::wait:/sbin/openrc default
tty1::respawn:/sbin/getty 38400 tty1
=== /etc/mkinitfs/mkinitfs.conf
features="ata base ide scsi usb virtio ext4"
=== /etc/mkinitfs/features.d/virtio.modules
kernel/drivers/block/virtio_blk*
kernel/drivers/virtio
kernel/drivers/net/virtio_net*
=== /etc/fstab
UUID=@ROOT@	/	ext4	rw,relatime 0 1
/dev/sda1	/boot	ext4	rw,relatime 0 2
/dev/sda2	swap	swap	defaults	0 0
/dev/cdrom	/media/cdrom	iso9660	noauto,ro 0 0
=== /boot/extlinux.conf
# Generated by update-extlinux 6.04_pre1-r15
DEFAULT menu.c32
PROMPT 0
MENU TITLE Alpine/Linux Boot Menu
MENU HIDDEN
MENU AUTOBOOT Alpine will be booted automatically in # seconds.
TIMEOUT 10
LABEL lts
  MENU DEFAULT
  MENU LABEL Linux lts
  LINUX vmlinuz-lts
  INITRD initramfs-lts
  APPEND root=/dev/sda3 modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4
=== /boot/ldlinux.sys
sys
=== /etc/update-extlinux.conf
overwrite=1
default_kernel_opts="quiet rootfstype=ext4"
modules=sd-mod,usb-storage,ext4
root=/dev/sda3
default=lts
=== /etc/network/interfaces
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
	address 10.20.30.40
	netmask 255.255.255.0
	gateway 10.20.30.1
=== /sbin/ifup
elf
=== /etc/runlevels/default/open-vm-tools -> /etc/init.d/open-vm-tools
=== /etc/init.d/open-vm-tools
#!/sbin/openrc-run
=== /etc/runlevels/default/sshd -> /etc/init.d/sshd
=== /etc/modules
af_packet
ipv6
"#,
    )
    .disk(0, "dos")
    .part(1, "ext4", BOOT, "/boot")
    .part(2, "swap", SWAP, "")
    .part(3, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/vmlinuz-lts",
        packed: Packed::Gz,
        config: "",
        ..KERNEL
    })
    .initrd("/boot/initramfs-lts", kver, MKINITFS, GZIP)
    .check();
}
