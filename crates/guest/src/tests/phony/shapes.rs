//! What each generator puts into an initramfs beside modules: the marks by which it is known.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::super::tree::{pipe, put_at, run};
use crate::linux::initrd;

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Directory of the modules where they lie flat.
    pub(super) flat: Option<&'static str>,
    /// Microcode comes first.
    pub(super) early: bool,
}

impl Shape {
    pub(super) const fn early(self) -> Self {
        Self {
            early: true,
            ..self
        }
    }
}

const fn shape(files: &'static [(&'static str, &'static str)]) -> Shape {
    Shape {
        files,
        flat: None,
        early: false,
    }
}

pub(super) const DRACUT: Shape = shape(&[
    ("init", "elf"),
    ("usr/lib/dracut/dracut-057", ""),
    ("usr/lib/dracut/hostonly-files", "etc/machine-id\n"),
    ("usr/lib/systemd/systemd", "elf"),
    ("usr/lib/systemd/systemd-udevd", "elf"),
    ("usr/lib/systemd/systemd-modules-load", "elf"),
    (
        "usr/lib/udev/rules.d/80-drivers.rules",
        "ENV{MODALIAS}==\"?*\", RUN{builtin}+=\"kmod load $env{MODALIAS}\"\n",
    ),
    (
        "usr/lib/udev/rules.d/80-net-setup-link.rules",
        "IMPORT{builtin}=\"net_setup_link\"\n",
    ),
]);

/// dracut of RHEL 6: neither systemd nor kmod.
pub(super) const DRACUT_OLD: Shape = shape(&[
    ("init", "#!/bin/sh\n"),
    ("dracut-004-411.el6", ""),
    ("sbin/udevd", "elf"),
    (
        "lib/udev/rules.d/80-drivers.rules",
        "ENV{MODALIAS}==\"?*\", RUN+=\"/sbin/modprobe $env{MODALIAS}\"\n",
    ),
]);

/// dracut with its shell alone, as Void uses it.
pub(super) const DRACUT_SHELL: Shape = shape(&[
    ("init", "#!/bin/sh\n"),
    ("usr/lib/dracut/dracut-059", ""),
    ("usr/lib/dracut/hostonly-files", "\n"),
    (
        "usr/lib/udev/rules.d/80-drivers.rules",
        "ENV{MODALIAS}==\"?*\", RUN{builtin}+=\"kmod load $env{MODALIAS}\"\n",
    ),
]);

pub(super) const INITRAMFS_TOOLS: Shape = shape(&[
    ("init", "#!/bin/sh\n"),
    ("conf/initramfs.conf", "MODULES=dep\nBUSYBOX=auto\n"),
    ("conf/modules", "vmw_pvscsi\n"),
    ("scripts/functions", "# functions\n"),
    ("scripts/init-top/ORDER", "/scripts/init-top/udev \"$@\"\n"),
    (
        "usr/lib/udev/rules.d/80-net-setup-link.rules",
        "IMPORT{builtin}=\"net_setup_link\"\n",
    ),
]);

/// initramfs-tools before merged /usr and predictable names.
pub(super) const INITRAMFS_TOOLS_OLD: Shape = shape(&[
    ("init", "#!/bin/sh\n"),
    ("conf/initramfs.conf", "MODULES=most\nBUSYBOX=y\n"),
    ("conf/modules", ""),
    ("scripts/functions", "# functions\n"),
]);

pub(super) const MKINITCPIO: Shape = shape(&[
    ("init", "#!/usr/bin/ash\n"),
    ("init_functions", "#!/usr/bin/ash\n"),
    (
        "buildconfig",
        "HOOKS=(base udev autodetect modconf block filesystems fsck)\n",
    ),
    (
        "config",
        "EARLYHOOKS=\"udev\"\nHOOKS=\"udev\"\nMODULES=\"vmw_pvscsi\"\n",
    ),
]);

pub(super) const MKINITCPIO_SYSTEMD: Shape = shape(&[
    ("init", "elf"),
    (
        "buildconfig",
        "HOOKS=(base systemd autodetect modconf block filesystems fsck)\n",
    ),
    ("usr/lib/systemd/systemd", "elf"),
    ("usr/lib/systemd/systemd-modules-load", "elf"),
]);

pub(super) const MKINITFS: Shape = shape(&[
    ("init", "#!/bin/sh\n"),
    ("sbin/nlplug-findfs", "elf"),
    ("etc/modules", "af_packet\nipv6\n"),
]);

pub(super) const MKINITRD_SUSE: Shape = shape(&[
    ("init", "#!/bin/bash\n"),
    (
        "run_all.sh",
        "[ \"$RESOLVED_INITRD_MODULES\" ] || RESOLVED_INITRD_MODULES='vmw_pvscsi jbd ext3'\n",
    ),
    (
        "config/start.sh",
        "build_day='20150509'\nRESOLVED_INITRD_MODULES='vmw_pvscsi jbd ext3'\n",
    ),
]);

pub(super) const GENKERNEL: Shape = shape(&[
    ("init", "#!/bin/sh\n"),
    ("etc/initrd.scripts", "modules_scan() { :; }\n"),
    ("etc/modules/scsi", "sd_mod\nvmw_pvscsi\n"),
]);

pub(super) const NASH: Shape = Shape {
    files: &[(
        "init",
        "#!/bin/nash\nmount -t proc /proc /proc\nmkblkdevs\necho \"Loading scsi_mod.ko module\"\ninsmod /lib/scsi_mod.ko \n\
         echo \"Loading sd_mod.ko module\"\ninsmod /lib/sd_mod.ko \nmkblkdevs\necho Scanning logical volumes\nlvm vgscan \
         --ignorelockingfailure\nlvm vgchange -ay --ignorelockingfailure  VolGroup00\nresume /dev/VolGroup00/LogVol01\n\
         mkrootdev -t ext3 -o defaults,ro dm-0\nmount /sysroot\nswitchroot\n",
    )],
    flat: Some("lib"),
    early: false,
};

/// ALT's make-initrd.
pub(super) const MAKE_INITRD: Shape = shape(&[
    ("init", "#!/bin/bash\n"),
    ("etc/initrd/cmdline.d/root", ""),
    ("usr/share/make-initrd/release", "2.40.0\n"),
    ("lib/uevent/handlers/100-devs", "#!/bin/bash\n"),
    (
        "lib/udev/rules.d/80-drivers.rules",
        "ENV{MODALIAS}==\"?*\", RUN{builtin}+=\"kmod load $env{MODALIAS}\"\n",
    ),
]);

/// A plain stage 1 of NixOS.
pub(super) const NIXOS: Shape = shape(&[(
    "init",
    "#!/nix/store/x-extra-utils/bin/ash\nfor i in sd_mod vmw_pvscsi; do modprobe $i; done\n",
)]);

/// Talos: the whole system as a squashfs; no modules beside.
pub(super) const TALOS: Shape = Shape {
    files: &[("init", "elf"), ("rootfs.sqsh", "hsqs")],
    flat: Some("lib"),
    early: false,
};

/// Makes the archive as the generator would, by cpio.
pub(super) fn archive(source: &Path, kver: &str, shape: Shape, modules: &[&str]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let inside = scratch.path();
    for (path, text) in shape.files {
        put_at(inside, path, text.as_bytes());
    }
    if shape.flat.is_none() && !inside.join("lib").exists() {
        fs::create_dir_all(inside.join("usr/lib")).unwrap();
        symlink("usr/lib", inside.join("lib")).unwrap();
    }
    let mut found = Vec::new();
    let mut visit = |path: &str, full: &Path| {
        if full.is_file() && path.contains(".ko") {
            found.push(path.to_owned());
        }
    };
    if source.exists() {
        super::golden::walk(source, Path::new(""), &mut visit);
    }
    for path in found {
        let file = path.rsplit('/').next().unwrap();
        let name = file.split('.').next().unwrap();
        if !modules.contains(&name) {
            continue;
        }
        let to = match shape.flat {
            Some(dir) => format!("{dir}/{name}.ko"),
            None => format!("lib/modules/{kver}/{path}"),
        };
        put_at(inside, &to, &fs::read(source.join(&path)).unwrap());
    }
    if shape.flat.is_none() {
        fs::create_dir_all(inside.join("lib/modules").join(kver)).unwrap();
        run(std::process::Command::new("depmod")
            .arg("-b")
            .arg(inside)
            .arg(kver));
    }
    let mut names = Vec::new();
    super::golden::walk(inside, Path::new(""), &mut |path, _| {
        names.push(path.to_owned());
    });
    names.sort();
    let mut cpio = Command::new("cpio");
    pipe(
        cpio.current_dir(inside).args(["-o", "-H", "newc"]),
        names.join("\n").as_bytes(),
    )
}

/// An archive with microcode, as generators put it first.
pub(super) fn early() -> Vec<u8> {
    let mut early = initrd::cpio::Builder::default();
    early.file("kernel/x86/microcode/GenuineIntel.bin", &[7; 3000]);
    let mut bytes = early.finish();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}
