//! The root tree that the sample guests share: Debian 12 by mmdebstrap, from the archive that this host itself uses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::config;
use crate::apt::{self, Archive};
use crate::cmd;
use crate::places::{fresh_dir, lock};

/// What the guest is made of, and why.
const PACKAGES: &[(&str, &str)] = &[
    (
        "linux-image-amd64",
        "the distribution's kernel: virtio, SATA and SCSI drivers are modules",
    ),
    ("systemd-sysv", "init"),
    ("udev", "loads modules by modalias, names the NIC"),
    ("openssh-server", "answers at the static address"),
    ("open-vm-tools", "what a conversion has to switch off"),
    ("ifupdown", "the static address in /etc/network/interfaces"),
    ("iproute2", "ifupdown's tool"),
    ("initramfs-tools", "the initramfs without virtio"),
    ("zstd", "compresses the initramfs as Debian's default does"),
    ("kmod", "modprobe"),
    ("lvm2", "for the LVM twin; its initramfs hook too"),
    ("grub-common", "grub-mkimage"),
    (
        "grub2-common",
        "update-grub, as an installed machine has it",
    ),
    ("grub-pc-bin", "BIOS boot loader"),
    ("grub-efi-amd64-bin", "UEFI boot loader"),
    ("procps", "sysctl at boot"),
    ("iputils-ping", "to look at the network by hand"),
];

/// Options of mmdebstrap that leave out what nobody reads in a guest: 65 MB, in the tree and again on every disk. They stay in
/// the guest's own dpkg.
pub(super) const WITHOUT_MANUALS: &[&str] = &[
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
];

/// The shared tree and what was found in it.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) dir: PathBuf,
    /// `uname -r` of its only kernel.
    pub(super) kernel: String,
}

/// Everything that decides what the tree contains, apart from the archive's state.
pub(super) fn recipe() -> String {
    let names: Vec<&str> = PACKAGES.iter().map(|(name, _)| *name).collect();
    format!(
        "bookworm minbase {} {}",
        WITHOUT_MANUALS.join(" "),
        names.join(",")
    )
}

/// The tree `root-ID` in the cache, made if absent.
pub(super) fn root(cache: &Path, id: &str) -> Result<Root> {
    let _lock = lock(cache, "root")?;
    let dir = cache.join(format!("root-{id}"));
    if !dir.is_dir() {
        let partial = cache.join("root.partial");
        fresh_dir(&partial)?;
        mmdebstrap(&partial)?;
        fs::rename(&partial, &dir).with_context(|| format!("renaming {}", partial.display()))?;
    }
    Ok(Root {
        kernel: kernel(&dir)?,
        dir,
    })
}

fn mmdebstrap(dir: &Path) -> Result<()> {
    let packages: Vec<&str> = PACKAGES.iter().map(|(name, _)| *name).collect();
    // Debian keeps all its releases in one archive, so the host's is the guest's too.
    let source = Archive::of_host(&apt::host_codename()?)?.one_line("bookworm");
    let mut cmd = cmd::command(
        "mmdebstrap",
        [
            "--variant=minbase",
            "--aptopt=APT::Install-Recommends \"0\"",
        ],
    );
    cmd.args(WITHOUT_MANUALS)
        .arg(format!("--include={}", packages.join(",")))
        .arg(format!(
            "--customize-hook=echo root:{} | chroot \"$1\" chpasswd",
            config::ROOT_PASSWORD
        ))
        .arg("bookworm")
        .arg(dir)
        .arg("-")
        // The variants make their own initramfs (/etc/kernel/postinst.d/initramfs-tools obeys this).
        .env("INITRD", "No")
        .env("SOURCE_DATE_EPOCH", config::EPOCH);
    cmd::output_with_input(&mut cmd, &source)
        .context("making the root tree of the sample guests")?;
    Ok(())
}

fn kernel(dir: &Path) -> Result<String> {
    for entry in fs::read_dir(dir.join("boot")).context("listing the guest's /boot")? {
        if let Some(version) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix("vmlinuz-"))
        {
            return Ok(version.to_owned());
        }
    }
    bail!("the root tree {} has no kernel", dir.display())
}
