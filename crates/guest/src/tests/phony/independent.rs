//! Gentoo, Void, Photon, ALT, openEuler, Anolis and Amazon Linux.

use super::shapes::{DRACUT, DRACUT_SHELL, GENKERNEL, MAKE_INITRD};
use super::{BOOT, ESP, KERNEL, Kernel, Layout, Os, Packed, ROOT, SWAP, os};

const GZIP: &[&str] = &["gzip", "-nc"];
const XZ: &[&str] = &["xz", "--check=crc32", "-c"];
const ZSTD: &[&str] = &["zstd", "-qc"];

const SYSTEMD: &str = "\
=== /etc/hostname
node1
=== /usr/lib/systemd/systemd
systemd
=== /usr/sbin/init -> ../lib/systemd/systemd
=== /usr/lib/udev/rules.d/80-net-setup-link.rules
IMPORT{builtin}=\"net_setup_link\"
=== /usr/lib/systemd/systemd-udevd
elf
=== /etc/systemd/system/multi-user.target.wants/vmtoolsd.service -> /usr/lib/systemd/system/vmtoolsd.service
=== /usr/bin/vmtoolsd
elf
=== /etc/machine-id
dddddddddddddddddddddddddddddddd
=== /etc/systemd/system/multi-user.target.wants/chronyd.service -> /usr/lib/systemd/system/chronyd.service
";

fn systemd(os: Os) -> Os {
    os.files(SYSTEMD)
}

#[test]
fn gentoo_with_openrc() {
    let Some(os) = os("gentoo_with_openrc", Layout::Split) else {
        return;
    };
    let kver = "6.6.30-gentoo";
    os.files(
        r#"
=== /etc/os-release
NAME=Gentoo
ID=gentoo
PRETTY_NAME="Gentoo Linux"
VERSION_ID="2.15"
=== /etc/gentoo-release
Gentoo Base System release 2.15
=== /sbin/init
elf
=== /sbin/openrc
elf
=== /sbin/openrc-run
elf
=== /etc/inittab
id:3:initdefault:
si::sysinit:/sbin/openrc sysinit
c1:12345:respawn:/sbin/agetty --noclear 38400 tty1 linux
=== /usr/bin/genkernel
#!/bin/bash
=== /usr/bin/emerge
#!/usr/bin/python
=== /etc/genkernel.conf
MODULES_VIRTIO="virtio_pci virtio_net"
=== /var/db/pkg/app-emulation/open-vm-tools-12.3.5/PF
open-vm-tools-12.3.5
=== /etc/conf.d/hostname
hostname="gentoo1"
=== /etc/conf.d/net
config_enp11s0="192.0.2.33/24"
routes_enp11s0="default via 192.0.2.1"
=== /etc/init.d/net.lo
#!/sbin/openrc-run
=== /etc/init.d/net.enp11s0 -> net.lo
=== /etc/runlevels/default/net.enp11s0 -> /etc/init.d/net.enp11s0
=== /etc/runlevels/default/vmware-tools -> /etc/init.d/vmware-tools
=== /etc/init.d/vmware-tools
#!/sbin/openrc-run
=== /lib/udev/rules.d/80-net-name-slot.rules
ENV{ID_NET_NAME_SLOT}
=== /etc/fstab
/dev/sda1   /boot        ext2    noauto,noatime  1 2
/dev/sda3   /            ext4    noatime         0 1
/dev/sda2   none         swap    sw              0 0
=== /etc/default/grub
GRUB_CMDLINE_LINUX="dobladecenter"
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
menuentry 'Gentoo GNU/Linux' {
	search --no-floppy --fs-uuid --set=root @BOOT@
	linux	/vmlinuz-6.6.30-gentoo-x86_64 root=/dev/sda3 ro
	initrd	/initramfs-6.6.30-gentoo-x86_64.img
}
"#,
    )
    .disk(0, "dos")
    .part(1, "ext2", BOOT, "/boot")
    .part(2, "swap", SWAP, "")
    .part(3, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: "6.6.30-gentoo-x86_64",
        image: "/boot/vmlinuz-6.6.30-gentoo-x86_64",
        config: "",
        ..KERNEL
    })
    .initrd(
        &format!("/boot/initramfs-{kver}-x86_64.img"),
        "6.6.30-gentoo-x86_64",
        GENKERNEL,
        XZ,
    )
    .check();
}

#[test]
fn gentoo_with_its_own_kernel() {
    let Some(os) = os("gentoo_with_its_own_kernel", Layout::Split) else {
        return;
    };
    // No initramfs, and virtio is not built in: the disks cannot be virtio.
    os.files(
        r#"
=== /etc/os-release
NAME=Gentoo
ID=gentoo
PRETTY_NAME="Gentoo Linux"
=== /sbin/init
elf
=== /sbin/openrc
elf
=== /etc/fstab
/dev/sda1   /            ext4    noatime         0 1
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
menuentry 'Gentoo GNU/Linux' {
	linux	/boot/vmlinuz-6.1.90-gentoo root=/dev/sda1 ro
}
=== /etc/conf.d/net
config_eth0="dhcp"
=== /etc/init.d/net.eth0 -> net.lo
"#,
    )
    .disk(0, "dos")
    .part(1, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: "6.1.90-gentoo",
        image: "/boot/vmlinuz-6.1.90-gentoo",
        builtin: &["scsi_mod", "sd_mod"],
        config: "",
        ..KERNEL
    })
    .check();
}

#[test]
fn void_with_runit() {
    let Some(os) = os("void_with_runit", Layout::OneBin) else {
        return;
    };
    let kver = "6.6.32_1";
    os.files(
        r#"
=== /etc/os-release
NAME="Void"
ID="void"
PRETTY_NAME="Void Linux"
=== /etc/hostname
void1
=== /usr/bin/init -> runit-init
=== /usr/bin/runit-init
elf
=== /usr/bin/runit
elf
=== /usr/bin/dracut
#!/bin/bash
=== /usr/bin/xbps-install
elf
=== /var/db/xbps/pkgdb-0.38.plist
<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0">
<dict>
	<key>open-vm-tools</key>
	<dict>
		<key>pkgver</key>
		<string>open-vm-tools-12.4.0_1</string>
		<key>state</key>
		<string>installed</string>
	</dict>
</dict>
</plist>
=== /etc/runit/runsvdir/default/vmtoolsd -> /etc/sv/vmtoolsd
=== /etc/runit/runsvdir/default/dhcpcd -> /etc/sv/dhcpcd
=== /etc/runit/runsvdir/default/agetty-tty1 -> /etc/sv/agetty-tty1
=== /etc/sv/vmtoolsd/run
#!/bin/sh
exec vmtoolsd
=== /etc/dhcpcd.conf
hostname
interface eth0
static ip_address=10.0.9.9/24
static routers=10.0.9.1
=== /usr/bin/dhcpcd
elf
=== /etc/fstab
tmpfs /tmp tmpfs defaults,nosuid,nodev 0 0
/dev/sda1 / ext4 rw,relatime 0 1
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT="loglevel=4"
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
menuentry 'Void GNU/Linux' $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @ROOT@
	linux	/boot/vmlinuz-6.6.32_1 root=/dev/sda1 ro  loglevel=4
	initrd	/boot/initramfs-6.6.32_1.img
}
"#,
    )
    .disk(0, "dos")
    .part(1, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/vmlinuz-6.6.32_1",
        packed: Packed::Zst,
        ..KERNEL
    })
    .initrd(
        &format!("/boot/initramfs-{kver}.img"),
        kver,
        DRACUT_SHELL.early(),
        GZIP,
    )
    .check();
}

#[test]
fn photon_5() {
    let Some(os) = os("photon_5", Layout::Merged) else {
        return;
    };
    let Some(os) = systemd(os).release("photon") else {
        return;
    };
    let kver = "6.1.83-2.ph5";
    os.files(
        r#"
=== /usr/bin/dracut
#!/bin/bash
=== /usr/bin/tdnf
elf
=== /usr/bin/rpm
elf
=== /etc/fstab
#system	mnt-pt	type	options	dump	fsck
PARTUUID=deadbeef-02	/	ext4	defaults	1 1
PARTUUID=deadbeef-01	/boot/efi	vfat	defaults	1 2
/dev/cdrom	/mnt/cdrom	iso9660	ro,noauto	0	0
=== /boot/photon.cfg -> linux-6.1.83-2.ph5.cfg
=== /boot/linux-6.1.83-2.ph5.cfg
# GRUB Environment Block
photon_cmdline=init=/lib/systemd/systemd ro loglevel=3 quiet
photon_linux=vmlinuz-6.1.83-2.ph5
photon_initrd=initrd.img-6.1.83-2.ph5
=== /boot/systemd.cfg
# GRUB Environment Block
systemd_cmdline=net.ifnames=0
=== /boot/grub2/grub.cfg
# Begin /boot/grub2/grub.cfg
set default=0
set timeout=2
loadfont ascii
insmod all_video
insmod gfxterm
load_env -f /boot/photon.cfg
if [ -f /boot/systemd.cfg ]; then
	load_env -f /boot/systemd.cfg
else
	set systemd_cmdline=net.ifnames=0
fi
set rootpartition=PARTUUID=deadbeef-02
menuentry "Photon" {
	linux /boot/$photon_linux root=$rootpartition $photon_cmdline $systemd_cmdline
	if [ -f /boot/$photon_initrd ]; then
		initrd /boot/$photon_initrd
	fi
}
=== /boot/efi/EFI/BOOT/bootx64.efi
shim
=== /boot/efi/EFI/BOOT/grubx64.efi
grub
=== /boot/efi/boot/grub2/grub.cfg
search -n -u @ROOT@ -s
configfile /boot/grub2/grub.cfg
=== /etc/systemd/network/99-dhcp-en.network
[Match]
Name=e*

[Network]
DHCP=yes
=== /usr/lib/systemd/systemd-networkd
elf
=== /etc/systemd/system/multi-user.target.wants/systemd-networkd.service -> /usr/lib/systemd/system/systemd-networkd.service
=== /etc/systemd/system/multi-user.target.wants/vgauthd.service -> /usr/lib/systemd/system/vgauthd.service
"#,
    )
    .rpms(&["open-vm-tools", "systemd"])
    .disk(0, "gpt")
    .part(1, "vfat", ESP, "/boot/efi")
    .part(2, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/vmlinuz-6.1.83-2.ph5",
        packed: Packed::Xz,
        ..KERNEL
    })
    .initrd(&format!("/boot/initrd.img-{kver}"), kver, DRACUT.early(), ZSTD)
    .check();
}

#[test]
fn alt_10() {
    let Some(os) = os("alt_10", Layout::Split) else {
        return;
    };
    let kver = "5.10.217-std-def-alt1";
    os.files(
        r#"
=== /etc/os-release
NAME="ALT"
VERSION="10.2"
ID=altlinux
VERSION_ID=10.2
PRETTY_NAME="ALT Server 10.2 (Mendelevium)"
=== /etc/altlinux-release
ALT Server 10.2 (Mendelevium)
=== /etc/sysconfig/network
HOSTNAME=alt1.example.com
NETWORKING=yes
=== /lib/systemd/systemd
elf
=== /sbin/init -> ../lib/systemd/systemd
=== /lib/udev/rules.d/80-net-setup-link.rules
IMPORT{builtin}="net_setup_link"
=== /lib/systemd/systemd-udevd
elf
=== /usr/sbin/make-initrd
#!/bin/bash
=== /usr/bin/apt-get
elf
=== /bin/rpm
elf
=== /etc/initrd.mk
AUTODETECT = all
=== /etc/net/ifaces/ens192/options
BOOTPROTO=static
TYPE=eth
CONFIG_WIRELESS=no
DISABLED=no
=== /etc/net/ifaces/ens192/ipv4address
172.20.1.5/24
=== /etc/net/ifaces/ens192/ipv4route
default via 172.20.1.1
=== /etc/net/ifaces/lo/options
TYPE=lo
=== /etc/fstab
proc		/proc			proc	nosuid,noexec,gid=proc		0 0
UUID=@ROOT@	/	ext4	relatime	1	1
UUID=@SWAP@	swap	swap	defaults	0	0
=== /etc/sysconfig/grub2
GRUB_CMDLINE_LINUX_DEFAULT='quiet resume=/dev/disk/by-uuid/@SWAP@ panic=30 splash'
GRUB_CMDLINE_LINUX='failsafe vga=normal'
=== /etc/default/grub -> ../sysconfig/grub2
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
menuentry 'ALT Server 10.2' $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @ROOT@
	linux	/boot/vmlinuz root=UUID=@ROOT@ ro  quiet resume=/dev/disk/by-uuid/@SWAP@ panic=30 splash
	initrd	/boot/initrd.img
}
=== /boot/vmlinuz -> vmlinuz-5.10.217-std-def-alt1
=== /boot/initrd.img -> initrd-5.10.217-std-def-alt1.img
=== /etc/systemd/system/multi-user.target.wants/vmtoolsd.service -> /lib/systemd/system/vmtoolsd.service
"#,
    )
    .rpms(&["open-vm-tools", "systemd"])
    .disk(0, "dos")
    .part(1, "ext4", ROOT, "/")
    .part(2, "swap", SWAP, "")
    .kernel(Kernel {
        version: kver,
        image: "/boot/vmlinuz-5.10.217-std-def-alt1",
        packed: Packed::Xz,
        ..KERNEL
    })
    .initrd(&format!("/boot/initrd-{kver}.img"), kver, MAKE_INITRD, ZSTD)
    .check();
}

#[test]
fn openeuler_22_03() {
    let Some(os) = os("openeuler_22_03", Layout::Merged) else {
        return;
    };
    let kver = "5.10.0-60.18.0.50.oe2203.x86_64";
    systemd(os)
        .files(
            r#"
=== /etc/os-release
NAME="openEuler"
VERSION="22.03 LTS"
ID="openEuler"
VERSION_ID="22.03"
PRETTY_NAME="openEuler 22.03 LTS"
=== /usr/bin/dracut
#!/bin/bash
=== /usr/bin/dnf
#!/usr/bin/python3
=== /usr/bin/rpm
elf
=== /etc/selinux/config
SELINUX=enforcing
SELINUXTYPE=targeted
=== /etc/selinux/targeted/contexts/files/file_contexts
/.*	system_u:object_r:default_t:s0
/etc/.*	system_u:object_r:etc_t:s0
/boot/.*	system_u:object_r:boot_t:s0
=== /etc/fstab
/dev/mapper/openeuler-root /                       ext4    defaults        1 1
UUID=@BOOT@ /boot                   ext4    defaults        1 2
UUID=@ESP@          /boot/efi               vfat    umask=0077,shortname=winnt 0 2
/dev/mapper/openeuler-swap none                    swap    defaults        0 0
=== /etc/default/grub
GRUB_DEFAULT=saved
GRUB_CMDLINE_LINUX="resume=/dev/mapper/openeuler-swap rd.lvm.lv=openeuler/root rd.lvm.lv=openeuler/swap cgroup_disable=files apparmor=0 crashkernel=512M"
=== /boot/grub2/grubenv -> ../efi/EFI/openEuler/grubenv
=== /boot/efi/EFI/openEuler/grubenv
# GRUB Environment Block
saved_entry=gnulinux-5.10.0-60.18.0.50.oe2203.x86_64-advanced-@ROOT@
=== /boot/efi/EFI/openEuler/grub.cfg
set default="${saved_entry}"
menuentry 'openEuler (5.10.0-60.18.0.50.oe2203.x86_64) 22.03 LTS' --class openeuler $menuentry_id_option 'gnulinux-5.10.0-60.18.0.50.oe2203.x86_64-advanced-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @BOOT@
	linux	/vmlinuz-5.10.0-60.18.0.50.oe2203.x86_64 root=/dev/mapper/openeuler-root ro resume=/dev/mapper/openeuler-swap rd.lvm.lv=openeuler/root rd.lvm.lv=openeuler/swap cgroup_disable=files apparmor=0 crashkernel=512M
	initrd /initramfs-5.10.0-60.18.0.50.oe2203.x86_64.img
}
=== /boot/efi/EFI/openEuler/shimx64.efi
shim
=== /boot/efi/EFI/openEuler/grubx64.efi
grub
=== /etc/sysconfig/network-scripts/ifcfg-ens33
TYPE=Ethernet
BOOTPROTO=dhcp
NAME=ens33
DEVICE=ens33
ONBOOT=yes
=== /usr/sbin/NetworkManager
elf
"#,
        )
        .rpms(&["open-vm-tools", "systemd"])
        .disk(0, "gpt")
        .part(1, "vfat", ESP, "/boot/efi")
        .part(2, "ext4", BOOT, "/boot")
        .part(3, "LVM2_member", "pv", "")
        .lv("openeuler", "root", "ext4", ROOT, "/")
        .lv("openeuler", "swap", "swap", SWAP, "")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-5.10.0-60.18.0.50.oe2203.x86_64",
            packed: Packed::Xz,
            ..KERNEL
        })
        .initrd(&format!("/boot/initramfs-{kver}.img"), kver, DRACUT.early(), GZIP)
        .check();
}

#[test]
fn anolis_8() {
    let Some(os) = os("anolis_8", Layout::Merged) else {
        return;
    };
    let kver = "5.10.134-16.2.an8.x86_64";
    systemd(os)
        .files(
            r#"
=== /etc/os-release
NAME="Anolis OS"
VERSION="8.9"
ID="anolis"
ID_LIKE="rhel fedora centos"
VERSION_ID="8.9"
PRETTY_NAME="Anolis OS 8.9"
=== /usr/bin/dracut
#!/bin/bash
=== /usr/bin/dnf
#!/usr/bin/python3
=== /etc/fstab
UUID=@ROOT@ / xfs defaults 0 0
=== /etc/default/grub
GRUB_DEFAULT=saved
GRUB_CMDLINE_LINUX="crashkernel=0M-2G:0M,2G-8G:192M,8G-:256M console=ttyS0,115200 console=tty0"
GRUB_ENABLE_BLSCFG=true
=== /boot/grub2/grubenv
# GRUB Environment Block
saved_entry=dddddddddddddddddddddddddddddddd-5.10.134-16.2.an8.x86_64
kernelopts=root=UUID=@ROOT@ ro crashkernel=0M-2G:0M,2G-8G:192M,8G-:256M console=ttyS0,115200 console=tty0 
=== /boot/grub2/i386-pc/core.img
core
=== /boot/grub2/grub.cfg
set default="${saved_entry}"
insmod blscfg
blscfg
=== /boot/loader/entries/dddddddddddddddddddddddddddddddd-5.10.134-16.2.an8.x86_64.conf
title Anolis OS (5.10.134-16.2.an8.x86_64) 8.9
version 5.10.134-16.2.an8.x86_64
linux /boot/vmlinuz-5.10.134-16.2.an8.x86_64
initrd /boot/initramfs-5.10.134-16.2.an8.x86_64.img $tuned_initrd
options $kernelopts $tuned_params
=== /etc/sysconfig/network-scripts/ifcfg-eth0
BOOTPROTO=dhcp
DEVICE=eth0
ONBOOT=yes
"#,
        )
        .rpms(&["open-vm-tools", "systemd"])
        .disk(0, "dos")
        .part(1, "xfs", ROOT, "/")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-5.10.134-16.2.an8.x86_64",
            packed: Packed::Xz,
            ..KERNEL
        })
        .initrd(&format!("/boot/initramfs-{kver}.img"), kver, DRACUT.early(), GZIP)
        .check();
}

#[test]
fn amazon_2023_from_aws() {
    let Some(os) = os("amazon_2023_from_aws", Layout::Merged) else {
        return;
    };
    let kver = "6.1.90-99.173.amzn2023.x86_64";
    os.files(&SYSTEMD.replace("vmtoolsd", "amazon-ssm-agent"))
        .files(
            r#"
=== /etc/os-release
NAME="Amazon Linux"
VERSION="2023"
ID="amzn"
ID_LIKE="fedora"
VERSION_ID="2023"
PRETTY_NAME="Amazon Linux 2023.4.20240528"
=== /usr/bin/dracut
#!/bin/bash
=== /usr/bin/dnf
#!/usr/bin/python3
=== /usr/bin/rpm
elf
=== /etc/selinux/config
SELINUX=permissive
SELINUXTYPE=targeted
=== /etc/selinux/targeted/contexts/files/file_contexts
/.*	system_u:object_r:default_t:s0
/etc/.*	system_u:object_r:etc_t:s0
/boot/.*	system_u:object_r:boot_t:s0
=== /etc/fstab
#
UUID=@ROOT@     /           xfs    defaults,noatime  1   1
UUID=@ESP@        /boot/efi       vfat    defaults,noatime,uid=0,gid=0,umask=0077,shortname=winnt,x-systemd.automount 0 2
=== /etc/default/grub
GRUB_CMDLINE_LINUX_DEFAULT="console=tty0 console=ttyS0,115200n8 nvme_core.io_timeout=4294967295 rd.emergency=poweroff rd.shell=0 selinux=1 security=selinux quiet"
GRUB_ENABLE_BLSCFG="true"
=== /boot/grub2/grubenv
# GRUB Environment Block
saved_entry=dddddddddddddddddddddddddddddddd-6.1.90-99.173.amzn2023.x86_64
=== /boot/grub2/grub.cfg
set default="${saved_entry}"
insmod blscfg
blscfg
=== /boot/loader/entries/dddddddddddddddddddddddddddddddd-6.1.90-99.173.amzn2023.x86_64.conf
title Amazon Linux (6.1.90-99.173.amzn2023.x86_64) 2023
version 6.1.90-99.173.amzn2023.x86_64
linux /boot/vmlinuz-6.1.90-99.173.amzn2023.x86_64
initrd /boot/initramfs-6.1.90-99.173.amzn2023.x86_64.img
options root=UUID=@ROOT@ ro console=tty0 console=ttyS0,115200n8 nvme_core.io_timeout=4294967295 rd.emergency=poweroff rd.shell=0 selinux=1 security=selinux quiet
=== /boot/grub2/i386-pc/core.img
core
=== /boot/efi/EFI/BOOT/BOOTX64.EFI
grub
=== /boot/efi/EFI/BOOT/grub.cfg
search --no-floppy --set dev --fs-uuid @ROOT@
set prefix=($dev)/boot/grub2
configfile $prefix/grub.cfg
=== /etc/systemd/network/70-ens5.network.d/
=== /usr/lib/systemd/network/80-ec2.network
[Match]
Driver=ena ixgbevf vif

[Network]
DHCP=yes
=== /usr/lib/systemd/systemd-networkd
elf
=== /etc/systemd/system/multi-user.target.wants/systemd-networkd.service -> /usr/lib/systemd/system/systemd-networkd.service
=== /usr/bin/cloud-init
#!/usr/bin/python3
=== /etc/cloud/cloud.cfg
datasource_list: [ "Ec2", "None" ]
users:
 - default
=== /etc/systemd/system/cloud-init.target.wants/cloud-init.service -> /usr/lib/systemd/system/cloud-init.service
"#,
        )
        .rpms(&["amazon-ssm-agent", "ec2-utils", "systemd"])
        .disk(0, "gpt")
        .part(128, "vfat", ESP, "/boot/efi")
        .part(1, "xfs", ROOT, "/")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-6.1.90-99.173.amzn2023.x86_64",
            packed: Packed::Xz,
            ..KERNEL
        })
        .initrd(&format!("/boot/initramfs-{kver}.img"), kver, DRACUT, GZIP)
        .check();
}
