//! The root tree that the sample guests share: Debian 12 by mmdebstrap, from the archive that this host itself uses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::config;
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
    format!("bookworm minbase {}", names.join(","))
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
    let source = archive_source()?;
    let mut cmd = cmd::command(
        "mmdebstrap",
        [
            "--variant=minbase",
            "--aptopt=APT::Install-Recommends \"0\"",
        ],
    );
    cmd.arg(format!("--include={}", packages.join(",")))
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

/// One sources.list line for Debian 12 from the archive that the host's own apt configuration names.
fn archive_source() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release has no VERSION_CODENAME: the sample guests are built on Debian 12 or 13")?;
    let uri = host_archive(codename.trim_matches('"'))?;
    Ok(format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {uri} bookworm main\n"
    ))
}

/// URI of the host's entry for its own release: deb822 files first, then one-line files.
fn host_archive(codename: &str) -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let found = match file.extension().and_then(|ext| ext.to_str()) {
            Some("sources") => deb822_uri(&text, codename),
            Some("list") => one_line_uri(&text, codename),
            _ => None,
        };
        if let Some(uri) = found {
            return Ok(uri);
        }
    }
    bail!(
        "no apt source for {codename} main in /etc/apt: the sample guests are built on Debian 12 or 13"
    )
}

/// See sources.list(5), "DEB822-STYLE FORMAT".
fn deb822_uri(text: &str, codename: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let line = stanza
                .lines()
                .find(|line| line.to_ascii_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.trim())
        };
        let has = |name: &str, word: &str| {
            field(name).is_some_and(|value| value.split_whitespace().any(|w| w == word))
        };
        let wanted = has("types:", "deb") && has("suites:", codename) && has("components:", "main");
        let uri = field("uris:")?.split_whitespace().next()?;
        (wanted && !has("enabled:", "no")).then(|| uri.to_owned())
    })
}

/// See sources.list(5), "ONE-LINE-STYLE FORMAT".
fn one_line_uri(text: &str, codename: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = rest.strip_prefix('[').map_or(rest, |options| {
            options.split_once(']').map_or("", |split| split.1)
        });
        let words: Vec<&str> = rest.split_whitespace().collect();
        let wanted =
            words.get(1) == Some(&codename) && words.iter().skip(2).any(|word| *word == "main");
        wanted.then(|| words[0].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_the_hosts_own() {
        let deb822 = "Types: deb\nURIs: http://a.test/x\nSuites: trixie-security\nComponents: main\n\n\
                      Types: deb deb-src\nURIs: http://a.test/debian\nSuites: trixie trixie-updates\nComponents: contrib main\n";
        assert_eq!(
            deb822_uri(deb822, "trixie").as_deref(),
            Some("http://a.test/debian")
        );
        assert_eq!(deb822_uri(deb822, "bookworm"), None);
        assert_eq!(
            deb822_uri(
                &deb822.replace("Suites: trixie t", "Enabled: no\nSuites: trixie t"),
                "trixie"
            ),
            None
        );
        let list = "# deb http://no.test/ bookworm main\ndeb-src http://no.test/ bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://b.test/debian bookworm main contrib\n";
        assert_eq!(
            one_line_uri(list, "bookworm").as_deref(),
            Some("http://b.test/debian")
        );
        assert_eq!(one_line_uri(list, "bookworm-updates"), None);
    }
}
