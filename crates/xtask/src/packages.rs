//! Debian packages that the demo, the tests and the bench need beyond cargo and a C compiler, and how they get installed.
//!
//! As root: installed. Else: the one command is printed and xtask stops. Where Debian 12 has QEMU's tools from
//! bookworm-backports, the emulator must come from there too, and that suite is derived from the host's own entry.

use std::process::Command;

use anyhow::{Context, Result, bail};
use testkit::apt::{self, Archive};
use testkit::cmd;

/// What the packages are for; each holds the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// `cargo xtask iso`, which takes its other tools out of the packages that the ISO is made of.
    Iso,
    /// `cargo xtask demo`, `dist`, `samples`.
    Demo,
    /// `cargo xtask test`.
    Test,
    /// `cargo xtask test --all`.
    All,
    /// `cargo xtask bench`: the program that we compare with.
    Bench,
}

/// Package, who needs it, why. Names are those of Debian 12 and 13.
const PACKAGES: &[(&str, Group, &str)] = &[
    (
        "qemu-system-x86",
        Group::Demo,
        "runs the appliance and boots guests",
    ),
    (
        "qemu-utils",
        Group::Demo,
        "qemu-img makes the sample's VMDK and checks results",
    ),
    ("ovmf", Group::Demo, "UEFI firmware"),
    (
        "mmdebstrap",
        Group::Demo,
        "makes the sample guests and the appliance's root",
    ),
    (
        "e2fsprogs",
        Group::Demo,
        "mke2fs writes a guest's file systems",
    ),
    ("fdisk", Group::Demo, "sfdisk writes partition tables"),
    ("dosfstools", Group::Demo, "the UEFI sample's ESP"),
    ("mtools", Group::Demo, "files on that ESP"),
    (
        "mount",
        Group::Demo,
        "the overlay from which a sample is made",
    ),
    ("kmod", Group::Iso, "depmod for the appliance and the ISO"),
    ("cpio", Group::Demo, "looks into initramfs archives"),
    (
        "xz-utils",
        Group::Demo,
        "the kernel inside vmlinuz, the fixtures",
    ),
    ("zstd", Group::Demo, "initramfs archives"),
    (
        "gcc-mingw-w64-i686-win32",
        Group::Demo,
        "the first-boot program of 32-bit Windows",
    ),
    (
        "gcc-mingw-w64-x86-64-win32",
        Group::Demo,
        "the first-boot program of 64-bit Windows",
    ),
    (
        "lvm2",
        Group::Test,
        "second reader of volume groups that tests write",
    ),
    (
        "thin-provisioning-tools",
        Group::Test,
        "thin pools in test disks",
    ),
    ("mdadm", Group::Test, "arrays in test disks"),
    ("cryptsetup-bin", Group::Test, "LUKS in test disks"),
    ("btrfs-progs", Group::Test, "btrfs in test disks"),
    ("xfsprogs", Group::Test, "XFS in test disks"),
    ("f2fs-tools", Group::Test, "f2fs in test disks"),
    ("jfsutils", Group::Test, "JFS in test disks"),
    ("reiserfsprogs", Group::Test, "ReiserFS in test disks"),
    ("gdisk", Group::Test, "second reader of GPT"),
    (
        "libwin-hivex-perl",
        Group::Test,
        "hivexregedit, second reader of registry hives",
    ),
    (
        "python3-venv",
        Group::All,
        "regipy and virt-firmware, other readers, in environments of their own",
    ),
    (
        "ntfs-3g",
        Group::Test,
        "the volumes of the Windows guests, made, filled and read back",
    ),
    ("libvirt-clients", Group::Test, "virsh, virt-xml-validate"),
    (
        "libvirt-daemon-system",
        Group::Test,
        "a real libvirtd to define and start guests",
    ),
    (
        "libvirt-daemon-driver-qemu",
        Group::Test,
        "its QEMU driver, only recommended on Debian 13",
    ),
    ("dnsmasq-base", Group::Test, "libvirt's default network"),
    ("iptables", Group::Test, "libvirt's default network"),
    (
        "iproute2",
        Group::Test,
        "the private libvirtd's own network",
    ),
    (
        "libxml2-utils",
        Group::Test,
        "xmllint, which virt-xml-validate calls",
    ),
    (
        "virt-v2v",
        Group::Test,
        "its --print-source is compared with ours",
    ),
    (
        "nbdkit",
        Group::Test,
        "an NBD server to read from; virt-v2v's -o local stops without it",
    ),
    (
        "libnbd-bin",
        Group::Bench,
        "nbdcopy, with which virt-v2v copies",
    ),
    ("openssh-client", Group::Test, "-it ssh"),
    (
        "openssh-server",
        Group::Test,
        "an ESXi host's other end of -it ssh",
    ),
    ("openssh-sftp-server", Group::Test, "the files at that end"),
    ("zip", Group::Test, "zipped OVAs"),
    ("xorriso", Group::Test, "ISOs of drivers"),
    ("wine64", Group::All, "runs the first-boot program"),
    ("wine", Group::All, "its wineboot and wineserver"),
    ("sqlite3", Group::Test, "makes databases of rpm"),
    ("db5.3-util", Group::Test, "makes old databases of rpm"),
    ("rpm", Group::Test, "makes a database of its own"),
    (
        "selinux-utils",
        Group::Test,
        "matchpathcon, second reader of file_contexts",
    ),
    (
        "busybox",
        Group::Test,
        "one more shell for first-boot scripts",
    ),
    ("chromium", Group::Test, "looks at the server's web page"),
    ("chromium-driver", Group::Test, "drives it"),
];

/// QEMU's packages, which must be of one version.
const QEMU: &[&str] = &["qemu-system-x86", "qemu-utils"];
const BACKPORTS: &str = "bookworm-backports";
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/v2v-backports.sources";
/// In the version of every package from bookworm-backports.
const BACKPORTS_MARK: &str = "~bpo12";

/// Installs what `group` needs and is not there; where we are not root, names the command instead.
#[expect(clippy::print_stderr, reason = "xtask talks to a developer")]
pub(crate) fn ensure(group: Group) -> Result<()> {
    let installed = Installed::ask()?;
    let missing = missing(group, &installed);
    if missing.is_empty() {
        return Ok(());
    }
    for (name, why) in &missing {
        eprintln!("needs {name}: {why}");
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    let source = match installed.wants_backports() && !apt::has_suite(BACKPORTS) {
        true => Some(Archive::of_host("bookworm")?.deb822(BACKPORTS)),
        false => None,
    };
    let script = script(&names, installed.wants_backports(), source.as_deref());
    if !testkit::is_root() {
        bail!("some Debian packages are not installed; run as root:\n{script}");
    }
    eprintln!("{script}");
    let mut command = Command::new("sh");
    command.args(["-e", "-c", &script]);
    let status = command.status().context("starting sh")?;
    if !status.success() {
        bail!("installing {} failed ({status})", names.join(" "));
    }
    let left = self::missing(group, &Installed::ask()?);
    if !left.is_empty() {
        bail!("apt-get succeeded but these are still not installed: {left:?}");
    }
    Ok(())
}

/// What dpkg says of our packages.
#[derive(Debug)]
struct Installed {
    /// Package and version.
    versions: Vec<(String, String)>,
}

impl Installed {
    fn ask() -> Result<Self> {
        // Asks for all packages: with names, one unknown to dpkg would be a failure.
        let format = "${db:Status-Status} ${Package} ${Version}\n";
        let text = cmd::output(&mut cmd::command("dpkg-query", ["-W", "-f", format]))
            .context("asking dpkg: cargo xtask expects Debian 12 or 13")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let rows = text
            .lines()
            .filter_map(|line| line.strip_prefix("installed ")?.split_once(' '));
        Self {
            versions: rows
                .map(|(name, version)| (name.to_owned(), version.to_owned()))
                .collect(),
        }
    }

    fn version(&self, package: &str) -> Option<&str> {
        self.versions
            .iter()
            .find(|(name, _)| name == package)
            .map(|(_, version)| version.as_str())
    }

    fn wants_backports(&self) -> bool {
        self.version("qemu-utils")
            .is_some_and(|version| version.contains(BACKPORTS_MARK))
    }
}

fn missing(group: Group, installed: &Installed) -> Vec<(&'static str, &'static str)> {
    let wanted = PACKAGES
        .iter()
        .filter(|(_, needed_by, _)| *needed_by <= group);
    wanted
        .filter(|(name, ..)| installed.version(name).is_none())
        .map(|(name, _, why)| (*name, *why))
        .collect()
}

/// Shell commands that install `names`; `source` is written first. One text, so that what is printed is what would be run.
fn script(names: &[&str], backports: bool, source: Option<&str>) -> String {
    let (qemu, rest): (Vec<&str>, Vec<&str>) = names
        .iter()
        .copied()
        .partition(|name| backports && QEMU.contains(name));
    let install = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends";
    let mut steps = Vec::new();
    if let Some(source) = source {
        let lines: Vec<String> = source.lines().map(|line| format!("'{line}'")).collect();
        steps.push(format!(
            "printf '%s\\n' {} > {BACKPORTS_FILE}",
            lines.join(" ")
        ));
    }
    steps.push("apt-get update".to_owned());
    if !qemu.is_empty() {
        // All of QEMU's, so that the installed ones move to the same version.
        steps.push(format!("{install} -t {BACKPORTS} {}", QEMU.join(" ")));
    }
    if !rest.is_empty() {
        steps.push(format!("{install} {}", rest.join(" ")));
    }
    steps.join(" && \\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_package_is_missing_and_a_group_holds_the_smaller_ones() {
        let installed = Installed::parse(
            "installed qemu-utils 1:7.2\nconfig-files lvm2 2.0\ninstalled mmdebstrap 1.3\n",
        );
        assert!(!installed.wants_backports());
        let names = |group| {
            missing(group, &installed)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert!(
            names(Group::Test).contains(&"lvm2") && names(Group::Test).contains(&"qemu-system-x86")
        );
        assert!(
            !names(Group::Demo).contains(&"lvm2") && !names(Group::Demo).contains(&"qemu-utils")
        );
        assert!(
            names(Group::Bench).contains(&"libnbd-bin")
                && !names(Group::Test).contains(&"libnbd-bin")
        );
    }

    #[test]
    fn the_emulator_comes_from_where_its_tools_came_from() {
        let installed = Installed::parse("installed qemu-utils 1:10.0.2+ds-2+deb13u1~bpo12+1\n");
        assert!(installed.wants_backports());
        let text = script(
            &["qemu-system-x86", "lvm2"],
            true,
            Some("Types: deb\nSuites: x\n"),
        );
        let steps: Vec<&str> = text.split(" && \\\n").collect();
        assert_eq!(
            steps[0],
            "printf '%s\\n' 'Types: deb' 'Suites: x' > /etc/apt/sources.list.d/v2v-backports.sources"
        );
        assert_eq!(steps[1], "apt-get update");
        assert!(
            steps[2].ends_with(" -t bookworm-backports qemu-system-x86 qemu-utils"),
            "{text}"
        );
        assert!(
            steps[3].ends_with(" lvm2") && !steps[3].contains(" -t "),
            "{text}"
        );
        assert_eq!(steps.len(), 4);
    }

    #[test]
    fn without_backports_there_is_one_installation() {
        let text = script(&["qemu-system-x86", "lvm2"], false, None);
        assert!(
            text.starts_with("apt-get update && ") && text.ends_with(" qemu-system-x86 lvm2"),
            "{text}"
        );
    }
}
