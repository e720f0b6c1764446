//! Inspection: identities of many distributions, mounts, kernels.

use std::path::PathBuf;
use std::process::Command;

use types::{Arch, DeviceKind, OsType};

use super::fixtures;
use super::tree::{ESP_UUID, KVER, Packed, ROOT_UUID, Tree, device, disk, part, run, tools};
use crate::linux::os_release::OsRelease;
use crate::linux::osinfo::osinfo_id;
use crate::{Root, is_os_root, mountpoints};

pub(super) fn fixtures() -> Option<PathBuf> {
    fixtures::pack("os-release.tar.xz")
}

#[test]
fn every_distribution_says_its_name() {
    let Some(pack) = fixtures() else { return };
    if !tools(&["tar", "xz"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run(Command::new("tar")
        .arg("-xf")
        .arg(&pack)
        .arg("-C")
        .arg(dir.path()));
    let list = run(Command::new("find").current_dir(dir.path()).args([
        ".", "-type", "d", "(", "-name", "etc", "-o", "-name", "usr", ")",
    ]));
    let mut roots: Vec<String> = String::from_utf8(list)
        .unwrap()
        .lines()
        .map(|line| line.rsplit_once('/').unwrap().0.to_owned())
        .collect();
    roots.sort();
    roots.dedup();
    let mut lines = Vec::new();
    for name in roots {
        let root = Root::open(&dir.path().join(&name)).unwrap();
        let line = match OsRelease::read(&root) {
            Some(release) => format!(
                "{name}: {} {} {:?} [{}] {}",
                release.id,
                release.version,
                release.pretty,
                release.like.join(" "),
                osinfo_id(&release).unwrap_or_else(|| "-".into())
            ),
            None => format!("{name}: none"),
        };
        lines.push(line);
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn systems_older_than_os_release_say_their_names() {
    for (path, text, want) in [
        (
            "/etc/SuSE-release",
            "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 4\n",
            "sles 11.4 http://suse.com/sles/11.4",
        ),
        (
            "/etc/SuSE-release",
            "openSUSE 13.1 (x86_64)\nVERSION = 13.1\nCODENAME = Bottle\n",
            "opensuse 13.1 http://opensuse.org/opensuse/13.1",
        ),
        (
            "/etc/alpine-release",
            "3.4.6\n",
            "alpine 3.4.6 http://alpinelinux.org/alpinelinux/3.4",
        ),
        (
            "/etc/gentoo-release",
            "Gentoo Base System release 2.2\n",
            "gentoo  http://gentoo.org/gentoo/rolling",
        ),
        (
            "/etc/slackware-version",
            "Slackware 14.2\n",
            "slackware 14.2 http://slackware.com/slackware/14.2",
        ),
        (
            "/etc/arch-release",
            "",
            "arch  http://archlinux.org/archlinux/rolling",
        ),
        (
            "/etc/redhat-release",
            "Red Hat Enterprise Linux Server release 6.10 (Santiago)\n",
            "rhel 6.10 http://redhat.com/rhel/6.10",
        ),
        (
            "/etc/lsb-release",
            "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=10.04\nDISTRIB_DESCRIPTION=\"Ubuntu 10.04 LTS\"\n",
            "ubuntu 10.04 http://ubuntu.com/ubuntu/10.04",
        ),
        (
            "/etc/debian_version",
            "6.0.10\n",
            "debian 6 http://debian.org/debian/6",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join(path.trim_start_matches('/')), text).unwrap();
        let release = OsRelease::read(&Root::open(dir.path()).unwrap()).unwrap();
        let id = osinfo_id(&release).unwrap_or_default();
        assert_eq!(
            format!("{} {} {id}", release.id, release.version),
            want,
            "{path}"
        );
        assert!(!release.pretty.is_empty());
    }
}

#[test]
fn a_debian_is_described() {
    if !tools(&["depmod", "cpio"]) {
        return;
    }
    let tree = Tree::debian();
    tree.add_kernel(KVER, Packed::No);
    tree.add_kernel("6.1.0-9-amd64", Packed::No);
    tree.add_initrd(KVER, &["sd_mod"], |cpio| cpio.to_vec());
    tree.put(
        "/lib/modules/5.10.0-1-amd64/modules.dep",
        b"left behind by a removed kernel\n",
    );
    let guest = tree.inspect();
    assert_eq!((guest.os, guest.arch), (OsType::Linux, Arch::X86_64));
    assert_eq!(
        (guest.distro.as_str(), guest.version.as_str()),
        ("debian", "12")
    );
    assert_eq!(guest.hostname.as_deref(), Some("web01"));
    assert_eq!(guest.init, "systemd");
    assert_eq!(guest.initramfs_generator, "initramfs-tools");
    assert_eq!(guest.package_format, "dpkg");
    assert_eq!(guest.hypervisor_tools, ["open-vm-tools"]);
    assert!(guest.has_guest_agent && !guest.selinux);
    assert_eq!(guest.boot_loaders.len(), 1);
    assert_eq!(guest.boot_loaders[0].kind, "grub2-bios");
    let versions: Vec<(&str, bool)> = guest
        .kernels
        .iter()
        .map(|k| (k.version.as_str(), k.is_default))
        .collect();
    assert_eq!(versions, [(KVER, true), ("6.1.0-9-amd64", false)]);
    let kernel = &guest.kernels[0];
    assert!(kernel.has_virtio_blk && kernel.has_virtio_net && !kernel.initrd_has_virtio);
    assert_eq!(
        kernel.initrd.as_deref(),
        Some("/boot/initrd.img-6.1.0-18-amd64")
    );
    serde_json::to_string(&guest).unwrap();
}

#[test]
fn only_a_root_is_a_root() {
    let tree = Tree::debian();
    assert!(is_os_root(&tree.root()));
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(data.path().join("etc")).unwrap();
    std::fs::create_dir_all(data.path().join("bin")).unwrap();
    assert!(!is_os_root(&Root::open(data.path()).unwrap()));
}

#[test]
fn fstab_becomes_mount_points_parents_first() {
    let mut tree = Tree::debian();
    let lv = device(
        "/dev/vg-one/var",
        DeviceKind::Lv {
            vg: "vg-one".into(),
            lv: "var".into(),
        },
        "ext4",
        Some("99999999-2222-4333-8444-555555555555"),
    );
    let mut esp = part(0, 3, "vfat", Some(ESP_UUID));
    esp.parttype = Some(crate::linux::mounts::ESP_TYPE.to_uppercase());
    let mut home = part(1, 1, "xfs", None);
    home.label = Some("my home".into());
    tree.storage.devices.extend([esp, disk(1, "gpt"), home, lv]);
    tree.put(
        "/etc/fstab",
        b"UUID=abcd-1234 /boot/efi vfat umask=0077 0 1\n/dev/sda1 / ext4 defaults 0 1\n\
          /dev/mapper/vg--one-var /var/ ext4 defaults 0 2\n/dev/disk/by-label/my\\x20home /home auto defaults 0 2\n\
          /dev/sdc1 /backup ext4 nofail 0 2\n/dev/sda2 none swap sw 0 0\nserver:/x /mnt nfs defaults 0 0\n\
          tmpfs /tmp tmpfs defaults 0 0\n/var/log /srv none bind 0 0\n/dev/sr0 /cd iso9660 noauto 0 0\n",
    );
    let found = mountpoints(&tree.root(), &tree.storage, "/dev/sda1").unwrap();
    let got: Vec<String> = found
        .iter()
        .map(|m| format!("{} {} {}", m.device, m.path, m.fs_type))
        .collect();
    assert_eq!(
        got,
        [
            "/dev/sda1 / ext4",
            "/dev/vg-one/var /var ext4",
            "/dev/sdb1 /home xfs",
            "/dev/sda3 /boot/efi vfat"
        ]
    );
    tree.put(
        "/etc/fstab",
        b"UUID=0000-0000 /boot/efi vfat umask=0077 0 1\n",
    );
    let error = mountpoints(&tree.root(), &tree.storage, "/dev/sda1").unwrap_err();
    assert!(
        error.to_string().contains("UUID=0000-0000 for /boot/efi"),
        "{error}"
    );
    let error = mountpoints(&tree.root(), &tree.storage, "/dev/sdz9").unwrap_err();
    assert!(error.to_string().contains("/dev/sdz9"), "{error}");
}

#[test]
fn an_esp_that_fstab_does_not_name_is_found_by_its_type() {
    let mut tree = Tree::debian();
    tree.storage.devices[1].uuid = Some(ROOT_UUID.into());
    let mut esp = part(0, 3, "vfat", Some(ESP_UUID));
    esp.parttype = Some(crate::linux::mounts::ESP_TYPE.into());
    tree.storage.devices.push(esp);
    std::fs::create_dir_all(tree.at("/efi")).unwrap();
    let found = mountpoints(&tree.root(), &tree.storage, "/dev/sda1").unwrap();
    assert_eq!(found[1].path, "/efi");
}
