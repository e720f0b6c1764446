//! Debian 11 to 13, Ubuntu 18.04 to 26.04, Mint and Kali. Debian 8 and Ubuntu 14.04 are in `old`.

use super::shapes::{DRACUT, INITRAMFS_TOOLS};
use super::{BOOT, ESP, KERNEL, Kernel, Layout, Os, Packed, ROOT, SWAP, os};

const GZIP: &[&str] = &["gzip", "-nc"];
const LZ4: &[&str] = &["lz4", "-l", "-c"];
const ZSTD: &[&str] = &["zstd", "-qc"];
/// Ubuntu builds virtio's core into its kernels.
const UBUNTU: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
];

pub(super) const BASE: &str = "\
=== /etc/hostname
web01
=== /etc/adjtime
0.0 0 0.0
0
UTC
=== /usr/lib/systemd/systemd
systemd
=== /usr/sbin/init -> ../lib/systemd/systemd
=== /usr/lib/udev/rules.d/80-net-setup-link.rules
IMPORT{builtin}=\"net_setup_link\"
=== /usr/lib/systemd/systemd-udevd
elf
=== /usr/sbin/update-initramfs
#!/bin/sh
=== /usr/bin/apt-get
elf
=== /usr/bin/dpkg
elf
=== /etc/initramfs-tools/modules
# List of modules that you want to include in your initramfs.
#
# Examples:
#
# raid1
# sd_mod
=== /etc/initramfs-tools/initramfs.conf
MODULES=most
BUSYBOX=auto
COMPRESS=zstd
=== /lib/systemd/system/open-vm-tools.service
[Unit]
ConditionVirtualization=vmware
[Service]
ExecStart=/usr/bin/vmtoolsd
[Install]
WantedBy=multi-user.target
Alias=vmtoolsd.service
=== /usr/bin/vmtoolsd
elf
=== /etc/systemd/system/multi-user.target.wants/open-vm-tools.service -> /lib/systemd/system/open-vm-tools.service
=== /etc/systemd/system/vmtoolsd.service -> /lib/systemd/system/open-vm-tools.service
=== /etc/systemd/system/multi-user.target.wants/cron.service -> /lib/systemd/system/cron.service
=== /etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service -> /lib/systemd/system/systemd-timesyncd.service
";

const DPKG: &str = "\
=== /var/lib/dpkg/status
Package: open-vm-tools
Status: install ok installed
Priority: extra
Architecture: amd64
Version: 2:12.2.0-1

Package: systemd
Status: install ok installed
Priority: important
Architecture: amd64
Version: 252.22-1
";

fn base(os: Os) -> Os {
    os.files(BASE).files(DPKG)
}

#[test]
fn debian_11_by_device_names() {
    let Some(os) = os("debian_11_by_device_names", Layout::Merged) else {
        return;
    };
    let kver = "5.10.0-28-amd64";
    base(os)
        .files(
            r#"
=== /etc/os-release
PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"
NAME="Debian GNU/Linux"
VERSION_ID="11"
VERSION="11 (bullseye)"
ID=debian
=== /etc/debian_version
11.9
=== /etc/fstab
# /etc/fstab: static file system information.
#
# <file system> <mount point>   <type>  <options>       <dump>  <pass>
/dev/sda1 /               ext4    errors=remount-ro 0       1
/dev/sda5 none            swap    sw              0       0
/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="elevator=noop clocksource=hyperv_clocksource_tsc_page"
#GRUB_DISABLE_LINUX_UUID=true
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
set default="0"
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux --class gnu --class os $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	load_video
	insmod gzio
	insmod part_msdos
	insmod ext2
	set root='hd0,msdos1'
	search --no-floppy --fs-uuid --set=root @ROOT@
	echo	'Loading Linux 5.10.0-28-amd64 ...'
	linux	/boot/vmlinuz-5.10.0-28-amd64 root=/dev/sda1 ro elevator=noop clocksource=hyperv_clocksource_tsc_page quiet
	echo	'Loading initial ramdisk ...'
	initrd	/boot/initrd.img-5.10.0-28-amd64
}
=== /etc/initramfs-tools/conf.d/resume
RESUME=/dev/sda5
=== /etc/network/interfaces
# This file describes the network interfaces available on your system
source /etc/network/interfaces.d/*

# The loopback network interface
auto lo
iface lo inet loopback

# The primary network interface
allow-hotplug ens33
iface ens33 inet static
	address 10.0.2.77/24
	gateway 10.0.2.2
	dns-nameservers 10.0.2.3
=== /usr/sbin/ifup
elf
=== /var/cache/debconf/config.dat
Name: grub-pc/install_devices
Template: grub-pc/install_devices
Value: /dev/sda
Owners: grub-pc
Flags: seen

Name: tzdata/Areas
Template: tzdata/Areas
Value: Europe
Owners: tzdata
"#,
        )
        .disk(0, "dos")
        .part(1, "ext4", ROOT, "/")
        .part(5, "swap", SWAP, "")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-5.10.0-28-amd64",
            ..KERNEL
        })
        .initrd(&format!("/boot/initrd.img-{kver}"), kver, INITRAMFS_TOOLS, GZIP)
        .check();
}

#[test]
fn debian_13_on_uefi() {
    let Some(os) = os("debian_13_on_uefi", Layout::Merged) else {
        return;
    };
    let kver = "6.12.31+deb13-amd64";
    base(os)
        .files(
            r#"
=== /usr/lib/os-release
PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
NAME="Debian GNU/Linux"
VERSION_ID="13"
VERSION_CODENAME=trixie
ID=debian
=== /etc/os-release -> ../usr/lib/os-release
=== /etc/fstab
UUID=@ROOT@ /               ext4    errors=remount-ro 0       1
UUID=@ESP@  /boot/efi       vfat    umask=0077      0       1
UUID=@SWAP@ none            swap    sw              0       0
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX=""
=== /boot/grub/grub.cfg
set default="0"
menuentry 'Debian GNU/Linux' $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @ROOT@
	linux	/boot/vmlinuz-6.12.31+deb13-amd64 root=UUID=@ROOT@ ro  quiet
	initrd	/boot/initrd.img-6.12.31+deb13-amd64
}
=== /boot/grub/x86_64-efi/normal.mod
mod
=== /boot/efi/EFI/debian/shimx64.efi
shim
=== /boot/efi/EFI/debian/grubx64.efi
grub
=== /boot/efi/EFI/debian/mmx64.efi
mm
=== /boot/efi/EFI/debian/fbx64.efi
fallback
=== /boot/efi/EFI/debian/BOOTX64.CSV
shimx64.efi,debian,,This is the boot entry for debian
=== /boot/efi/EFI/debian/grub.cfg
search.fs_uuid @ROOT@ root
set prefix=($root)'/boot/grub'
configfile $prefix/grub.cfg
=== /etc/network/interfaces
source /etc/network/interfaces.d/*
auto lo
iface lo inet loopback
allow-hotplug enp11s0
iface enp11s0 inet dhcp
=== /usr/sbin/ifup
elf
=== /usr/sbin/dhcpcd
elf
"#,
        )
        .disk(0, "gpt")
        .part(1, "vfat", ESP, "/boot/efi")
        .part(2, "ext4", ROOT, "/")
        .part(3, "swap", SWAP, "")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-6.12.31+deb13-amd64",
            packed: Packed::Xz,
            ..KERNEL
        })
        .initrd(
            &format!("/boot/initrd.img-{kver}"),
            kver,
            INITRAMFS_TOOLS.early(),
            ZSTD,
        )
        .check();
}

#[test]
fn kali_with_lvm() {
    let Some(os) = os("kali_with_lvm", Layout::Merged) else {
        return;
    };
    let kver = "6.8.11-amd64";
    base(os)
        .files(
            r#"
=== /etc/os-release
PRETTY_NAME="Kali GNU/Linux Rolling"
NAME="Kali GNU/Linux"
VERSION_ID="2024.2"
VERSION="2024.2"
ID=kali
ID_LIKE=debian
=== /etc/fstab
/dev/mapper/kali--vg-root /               ext4    errors=remount-ro 0       1
UUID=@BOOT@ /boot           ext2    defaults        0       2
/dev/mapper/kali--vg-swap_1 none            swap    sw              0       0
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
menuentry 'Kali GNU/Linux' {
	search --no-floppy --fs-uuid --set=root @BOOT@
	linux	/vmlinuz-6.8.11-amd64 root=/dev/mapper/kali--vg-root ro  quiet splash
	initrd	/initrd.img-6.8.11-amd64
}
=== /etc/initramfs-tools/conf.d/resume
RESUME=/dev/mapper/kali--vg-swap_1
=== /etc/NetworkManager/system-connections/Wired connection 1
[connection]
id=Wired connection 1
type=802-3-ethernet
permissions=

[802-3-ethernet]
mac-address-blacklist=

[ipv4]
method=auto
=== /usr/sbin/NetworkManager
elf
=== /etc/X11/Xsession.d/20dbus_xdg-runtime
true
=== /etc/xdg/autostart/vmware-user.desktop
[Desktop Entry]
Type=Application
Exec=/usr/bin/vmware-user-suid-wrapper
"#,
        )
        .disk(0, "dos")
        .part(1, "ext2", BOOT, "/boot")
        .part(5, "LVM2_member", "pv", "")
        .lv("kali-vg", "root", "ext4", ROOT, "/")
        .lv("kali-vg", "swap_1", "swap", SWAP, "")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-6.8.11-amd64",
            packed: Packed::Xz,
            ..KERNEL
        })
        .initrd(
            &format!("/boot/initrd.img-{kver}"),
            kver,
            INITRAMFS_TOOLS,
            ZSTD,
        )
        .check();
}

#[test]
fn ubuntu_18_04_with_netplan() {
    let Some(os) = os("ubuntu_18_04_with_netplan", Layout::Split) else {
        return;
    };
    let kver = "4.15.0-213-generic";
    base(os)
        .files(
            r#"
=== /etc/os-release
NAME="Ubuntu"
VERSION="18.04.6 LTS (Bionic Beaver)"
ID=ubuntu
ID_LIKE=debian
PRETTY_NAME="Ubuntu 18.04.6 LTS"
VERSION_ID="18.04"
=== /sbin/init -> /lib/systemd/systemd
=== /lib/systemd/systemd
elf
=== /etc/fstab
/dev/sda2 / ext4 defaults 0 0
/swap.img	none	swap	sw	0	0
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT="maybe-ubiquity"
GRUB_CMDLINE_LINUX=""
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
set default="0"
menuentry 'Ubuntu' --class ubuntu $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @ROOT@
	linux	/boot/vmlinuz-4.15.0-213-generic root=UUID=@ROOT@ ro  maybe-ubiquity
	initrd	/boot/initrd.img-4.15.0-213-generic
}
=== /etc/netplan/50-cloud-init.yaml
# This file is generated from information provided by
# the datasource.  Changes to it will not persist across an instance.
network:
    ethernets:
        ens160:
            addresses:
            - 192.168.7.5/24
            gateway4: 192.168.7.1
            nameservers:
                addresses:
                - 192.168.7.1
    version: 2
=== /usr/sbin/netplan
#!/usr/bin/python3
=== /lib/systemd/systemd-networkd
elf
=== /usr/bin/cloud-init
#!/usr/bin/python3
=== /etc/cloud/cloud.cfg
users:
   - default
disable_root: true
=== /etc/cloud/cloud.cfg.d/50-curtin-networking.cfg
network:
  ethernets:
    ens160:
      addresses: [192.168.7.5/24]
      gateway4: 192.168.7.1
  version: 2
=== /etc/systemd/system/cloud-init.target.wants/cloud-init.service -> /lib/systemd/system/cloud-init.service
=== /var/lib/cloud/instance -> instances/nocloud
"#,
        )
        .disk(0, "gpt")
        .part(1, "", "", "")
        .part(2, "ext4", ROOT, "/")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-4.15.0-213-generic",
            builtin: UBUNTU,
            ..KERNEL
        })
        .initrd(&format!("/boot/initrd.img-{kver}"), kver, INITRAMFS_TOOLS.early(), GZIP)
        .check();
}

#[test]
fn ubuntu_22_04_with_cloud_init() {
    let Some(os) = os("ubuntu_22_04_with_cloud_init", Layout::Merged) else {
        return;
    };
    let kver = "5.15.0-105-generic";
    base(os)
        .files(
            r#"
=== /etc/os-release
PRETTY_NAME="Ubuntu 22.04.4 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
ID=ubuntu
ID_LIKE=debian
=== /etc/fstab
/dev/disk/by-id/dm-uuid-LVM-abcdefghijklmnopqrstuvwxyz0123456789 / ext4 defaults 0 1
/dev/disk/by-uuid/@BOOT@ /boot ext4 defaults 0 1
/dev/disk/by-uuid/@ESP@ /boot/efi vfat defaults 0 1
/swap.img	none	swap	sw	0	0
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX=""
=== /boot/grub/grub.cfg
menuentry 'Ubuntu' $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @BOOT@
	linux	/vmlinuz-5.15.0-105-generic root=/dev/mapper/ubuntu--vg-ubuntu--lv ro
	initrd	/initrd.img-5.15.0-105-generic
}
submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-@ROOT@' {
	menuentry 'Ubuntu, with Linux 5.15.0-105-generic (recovery mode)' $menuentry_id_option 'gnulinux-5.15.0-105-generic-recovery-@ROOT@' {
		linux	/vmlinuz-5.15.0-105-generic root=/dev/mapper/ubuntu--vg-ubuntu--lv ro recovery nomodeset dis_ucode_ldr
		initrd	/initrd.img-5.15.0-105-generic
	}
}
=== /boot/efi/EFI/ubuntu/shimx64.efi
shim
=== /boot/efi/EFI/ubuntu/grubx64.efi
grub
=== /boot/efi/EFI/ubuntu/mmx64.efi
mm
=== /boot/efi/EFI/ubuntu/grub.cfg
search.fs_uuid @BOOT@ root
set prefix=($root)'/grub'
configfile $prefix/grub.cfg
=== /boot/efi/EFI/BOOT/BOOTX64.EFI
shim
=== /boot/efi/EFI/BOOT/fbx64.efi
fallback
=== /etc/netplan/50-cloud-init.yaml
network:
    version: 2
    ethernets:
        ens192:
            dhcp4: true
            match:
                macaddress: 00:50:56:9a:01:02
            set-name: ens192
=== /usr/sbin/netplan
#!/usr/bin/python3
=== /usr/bin/cloud-init
#!/usr/bin/python3
=== /etc/cloud/cloud.cfg.d/90_dpkg.cfg
datasource_list: [ NoCloud, ConfigDrive, VMware, None ]
=== /etc/systemd/system/cloud-init.target.wants/cloud-init.service -> /lib/systemd/system/cloud-init.service
=== /etc/multipath.conf
defaults {
    user_friendly_names yes
}
=== /snap/
"#,
        )
        .disk(0, "gpt")
        .part(1, "vfat", ESP, "/boot/efi")
        .part(2, "ext4", BOOT, "/boot")
        .part(3, "LVM2_member", "pv", "")
        .lv("ubuntu-vg", "ubuntu-lv", "ext4", ROOT, "/")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-5.15.0-105-generic",
            builtin: UBUNTU,
            ..KERNEL
        })
        .initrd(&format!("/boot/initrd.img-{kver}"), kver, INITRAMFS_TOOLS.early(), ZSTD)
        .check();
}

#[test]
fn ubuntu_24_04_with_two_kernels() {
    let Some(os) = os("ubuntu_24_04_with_two_kernels", Layout::Merged) else {
        return;
    };
    let (new, old) = ("6.8.0-45-generic", "6.8.0-31-generic");
    base(os)
        .files(
            r#"
=== /etc/os-release
PRETTY_NAME="Ubuntu 24.04.1 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
ID=ubuntu
ID_LIKE=debian
=== /etc/fstab
/dev/disk/by-uuid/@ROOT@ / ext4 defaults 0 1
/dev/disk/by-partuuid/deadbeef-03 none swap sw 0 0
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"
GRUB_CMDLINE_LINUX="net.ifnames=0 biosdevname=0"
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
menuentry 'Ubuntu' $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @ROOT@
	linux	/boot/vmlinuz-6.8.0-45-generic root=UUID=@ROOT@ ro net.ifnames=0 biosdevname=0 quiet splash $vt_handoff
	initrd	/boot/initrd.img-6.8.0-45-generic
}
submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-@ROOT@' {
	menuentry 'Ubuntu, with Linux 6.8.0-31-generic' $menuentry_id_option 'gnulinux-6.8.0-31-generic-advanced-@ROOT@' {
		linux	/boot/vmlinuz-6.8.0-31-generic root=UUID=@ROOT@ ro net.ifnames=0 biosdevname=0 quiet splash
		initrd	/boot/initrd.img-6.8.0-31-generic
	}
}
=== /etc/netplan/01-network-manager-all.yaml
network:
  version: 2
  renderer: NetworkManager
=== /etc/netplan/90-NM-4a7c0d3e-aaaa-3b6f-9b1a-cc5d4dd3a5c7.yaml
network:
  version: 2
  ethernets:
    NM-4a7c0d3e-aaaa-3b6f-9b1a-cc5d4dd3a5c7:
      renderer: NetworkManager
      match:
        name: "eth0"
      addresses:
      - "10.9.8.7/24"
      networkmanager:
        uuid: "4a7c0d3e-aaaa-3b6f-9b1a-cc5d4dd3a5c7"
        name: "netplan-eth0"
=== /usr/sbin/netplan
#!/usr/bin/python3
=== /usr/sbin/NetworkManager
elf
=== /boot/vmlinuz -> vmlinuz-6.8.0-45-generic
=== /boot/initrd.img -> initrd.img-6.8.0-45-generic
"#,
        )
        .disk(0, "gpt")
        .part(1, "", "", "")
        .part(2, "ext4", ROOT, "/")
        .part(3, "swap", SWAP, "")
        .kernel(Kernel {
            version: new,
            image: "/boot/vmlinuz-6.8.0-45-generic",
            packed: Packed::Zst,
            builtin: UBUNTU,
            ..KERNEL
        })
        .kernel(Kernel {
            version: old,
            image: "/boot/vmlinuz-6.8.0-31-generic",
            packed: Packed::Zst,
            builtin: UBUNTU,
            ..KERNEL
        })
        .initrd(&format!("/boot/initrd.img-{new}"), new, INITRAMFS_TOOLS.early(), ZSTD)
        .initrd(&format!("/boot/initrd.img-{old}"), old, INITRAMFS_TOOLS.early(), LZ4)
        .check();
}

#[test]
fn ubuntu_26_04_with_dracut() {
    let Some(os) = os("ubuntu_26_04_with_dracut", Layout::Merged) else {
        return;
    };
    let kver = "6.19.0-7-generic";
    // 25.10 and later build the initramfs with dracut and keep update-initramfs as a wrapper.
    base(os)
        .files(
            r#"
=== /etc/os-release
PRETTY_NAME="Ubuntu 26.04 LTS"
NAME="Ubuntu"
VERSION_ID="26.04"
ID=ubuntu
ID_LIKE=debian
=== /usr/bin/dracut
#!/bin/bash
=== /etc/fstab
UUID=@ROOT@ / ext4 defaults 0 1
UUID=@ESP@ /boot/efi vfat umask=0077 0 1
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"
=== /boot/grub/grub.cfg
menuentry 'Ubuntu' $menuentry_id_option 'gnulinux-simple-@ROOT@' {
	search --no-floppy --fs-uuid --set=root @ROOT@
	linux	/boot/vmlinuz-6.19.0-7-generic root=UUID=@ROOT@ ro  quiet splash
	initrd	/boot/initrd.img-6.19.0-7-generic
}
=== /boot/efi/EFI/ubuntu/shimx64.efi
shim
=== /boot/efi/EFI/ubuntu/grubx64.efi
grub
=== /boot/efi/EFI/ubuntu/mmx64.efi
mm
=== /boot/efi/EFI/ubuntu/grub.cfg
search.fs_uuid @ROOT@ root
set prefix=($root)'/boot/grub'
configfile $prefix/grub.cfg
=== /etc/systemd/network/10-static.network
[Match]
Name=ens18

[Network]
Address=203.0.113.9/24
Gateway=203.0.113.1
=== /usr/lib/systemd/systemd-networkd
elf
=== /etc/systemd/system/multi-user.target.wants/systemd-networkd.service -> /usr/lib/systemd/system/systemd-networkd.service
"#,
        )
        .disk(0, "gpt")
        .part(1, "vfat", ESP, "/boot/efi")
        .part(2, "ext4", ROOT, "/")
        .kernel(Kernel {
            version: kver,
            image: "/boot/vmlinuz-6.19.0-7-generic",
            packed: Packed::Zst,
            builtin: UBUNTU,
            ..KERNEL
        })
        .initrd(&format!("/boot/initrd.img-{kver}"), kver, DRACUT.early(), ZSTD)
        .check();
}

#[test]
fn mint_21_from_virtualbox() {
    let Some(os) = os("mint_21_from_virtualbox", Layout::Merged) else {
        return;
    };
    let kver = "5.15.0-91-generic";
    os.files(
        &BASE
            .replace("open-vm-tools", "virtualbox-guest-utils")
            .replace("vmtoolsd", "vboxservice"),
    )
    .files(
        r#"
=== /var/lib/dpkg/status
Package: virtualbox-guest-utils
Status: install ok installed
Architecture: amd64
Version: 6.1.38-dfsg-3~ubuntu1.22.04.1

Package: virtualbox-guest-x11
Status: install ok installed
Architecture: amd64
Version: 6.1.38-dfsg-3~ubuntu1.22.04.1
=== /etc/os-release
NAME="Linux Mint"
VERSION="21.3 (Virginia)"
ID=linuxmint
ID_LIKE="ubuntu debian"
PRETTY_NAME="Linux Mint 21.3"
VERSION_ID="21.3"
=== /etc/fstab
UUID=@ROOT@ /               ext4    errors=remount-ro 0       1
/swapfile                                 none            swap    sw              0       0
share /mnt/share vboxsf defaults,uid=1000 0 0
=== /etc/default/grub
GRUB_DEFAULT=0
GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"
=== /boot/grub/i386-pc/core.img
core
=== /boot/grub/grub.cfg
menuentry 'Linux Mint 21.3 Cinnamon' {
	search --no-floppy --fs-uuid --set=root @ROOT@
	linux	/boot/vmlinuz-5.15.0-91-generic root=UUID=@ROOT@ ro  quiet splash
	initrd	/boot/initrd.img-5.15.0-91-generic
}
=== /etc/X11/xorg.conf
Section "Device"
    Identifier "Card0"
    Driver "vboxvideo"
EndSection
=== /etc/xdg/autostart/vboxclient.desktop
[Desktop Entry]
Exec=/usr/bin/VBoxClient-all
=== /etc/NetworkManager/system-connections/Wired connection 1.nmconnection
[connection]
id=Wired connection 1
type=ethernet
interface-name=enp0s3

[ipv4]
method=auto
=== /usr/sbin/NetworkManager
elf
"#,
    )
    .disk(0, "dos")
    .part(1, "ext4", ROOT, "/")
    .kernel(Kernel {
        version: kver,
        image: "/boot/vmlinuz-5.15.0-91-generic",
        builtin: UBUNTU,
        ..KERNEL
    })
    .initrd(
        &format!("/boot/initrd.img-{kver}"),
        kver,
        INITRAMFS_TOOLS,
        ZSTD,
    )
    .check();
}
