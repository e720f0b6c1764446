//! Describes a Linux guest. Changes nothing.

use std::os::unix::fs::FileExt;

use types::{Arch, GuestInfo, Mountpoint, NetworkConfig, OsType, StorageMap};

use crate::linux::os_release::{OsRelease, unquote};
use crate::linux::osinfo::osinfo_id;
use crate::linux::packages::Packages;
use crate::linux::{boot, concerns, kernels};
use crate::root::join;
use crate::{Error, ErrorKind, Result, Root};

/// Programs that every Linux system has one of; the first one's ELF header tells the architecture.
const PROGRAMS: [&str; 6] = [
    "/bin/sh",
    "/usr/bin/sh",
    "/sbin/init",
    "/usr/lib/systemd/systemd",
    "/bin/busybox",
    "/bin/bash",
];

/// More files of one network manager are not listed.
const CONFIGS_MAX: usize = 64;

/// See [`crate::is_os_root`]: a Linux root has /etc, a place for programs, and a name or an fstab. An initramfs, a
/// separate /usr or /boot, and a data disk have not.
pub(crate) fn is_root(root: &Root) -> bool {
    let programs = ["/bin", "/usr/bin", "/sbin", "/usr"]
        .iter()
        .any(|dir| root.is_dir(dir));
    let named = [
        "/etc/os-release",
        "/etc/fstab",
        "/etc/debian_version",
        "/etc/redhat-release",
        "/etc/lsb-release",
        "/usr/lib/os-release",
        "/etc/SuSE-release",
        "/etc/alpine-release",
        "/etc/gentoo-release",
        "/etc/slackware-version",
        "/etc/arch-release",
        "/etc/NIXOS",
    ];
    root.is_dir("/etc")
        && programs
        && named
            .iter()
            .any(|file| root.is_file(file) || root.link_meta(file).is_ok())
}

/// See [`crate::inspect`].
pub(crate) fn inspect(
    root: &Root,
    storage: &StorageMap,
    mountpoints: &[Mountpoint],
) -> Result<GuestInfo> {
    let main = mountpoints.iter().find(|mount| mount.path == "/");
    let main = main
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "expected a mount point /, found none"))?;
    if storage.get(&main.device).is_none() {
        let message = format!("root device {} is not in the storage map", main.device);
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let release = OsRelease::read(root).unwrap_or_default();
    let packages = Packages::read(root);
    let mut guest = GuestInfo {
        windows: None,
        root: main.device.clone(),
        os: OsType::Linux,
        osinfo_id: osinfo_id(&release),
        distro: if release.id.is_empty() {
            "linux".into()
        } else {
            release.id
        },
        distro_like: release.like,
        version: release.version,
        product_name: if release.pretty.is_empty() {
            "Linux".into()
        } else {
            release.pretty
        },
        hostname: hostname(root),
        arch: arch(root),
        mountpoints: mountpoints.to_vec(),
        kernels: kernels::kernels(root),
        boot_loaders: boot::boot_loaders(root, mountpoints),
        init: init(root).to_owned(),
        initramfs_generator: initramfs_generator(root).to_owned(),
        package_format: packages.format.to_owned(),
        hypervisor_tools: packages.hypervisor_tools(root),
        has_guest_agent: packages.has_guest_agent(root),
        selinux: selinux(root),
        network: network(root),
        concerns: Vec::new(),
    };
    guest.concerns = concerns::concerns(root, storage, &guest);
    Ok(guest)
}

/// The files by which each network manager is configured. What is there counts, not what runs.
fn network(root: &Root) -> Vec<NetworkConfig> {
    const PLACES: [(&str, &str, &str, &str); 8] = [
        ("ifcfg", "/etc/sysconfig/network-scripts", "ifcfg-", ""),
        ("wicked", "/etc/sysconfig/network", "ifcfg-", ""),
        (
            "NetworkManager",
            "/etc/NetworkManager/system-connections",
            "",
            "",
        ),
        ("netplan", "/etc/netplan", "", ".yaml"),
        ("systemd-networkd", "/etc/systemd/network", "", ".network"),
        ("ifupdown", "/etc/network/interfaces.d", "", ""),
        ("ifupdown", "/etc/network", "interfaces", ""),
        ("netifrc", "/etc/conf.d", "net", ""),
    ];
    let mut found: Vec<NetworkConfig> = Vec::new();
    for (kind, dir, start, end) in PLACES {
        let fits = |name: &String| {
            let whole = kind != "netifrc" && start != "interfaces";
            name.starts_with(start)
                && name.ends_with(end)
                && name != "ifcfg-lo"
                && (whole || name == start)
        };
        let mut files: Vec<String> = root
            .names(dir)
            .into_iter()
            .filter(fits)
            .map(|name| join(dir, &name))
            .filter(|path| root.is_file(path))
            .take(CONFIGS_MAX)
            .collect();
        files.sort();
        if files.is_empty() {
            continue;
        }
        match found.iter_mut().find(|config| config.kind == kind) {
            Some(config) => config.files.append(&mut files),
            None => found.push(NetworkConfig {
                kind: kind.to_owned(),
                files,
            }),
        }
    }
    found
}

fn hostname(root: &Root) -> Option<String> {
    let plain = ["/etc/hostname", "/etc/HOSTNAME"]
        .iter()
        .find_map(|path| root.text(path));
    let first = plain.and_then(|text| {
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.next().map(str::to_owned)
    });
    first.or_else(|| {
        let text = root.text("/etc/sysconfig/network")?;
        text.lines()
            .find_map(|line| line.trim().strip_prefix("HOSTNAME=").map(unquote))
    })
}

/// By the machine of an ELF program (System V ABI, ELF header: e_ident[EI_DATA] at 5, e_machine at 18).
fn arch(root: &Root) -> Arch {
    const EM_386: u16 = 3;
    const EM_X86_64: u16 = 62;
    const EM_AARCH64: u16 = 183;
    let machine = PROGRAMS.iter().find_map(|path| {
        let mut header = [0u8; 20];
        root.open_file(path)
            .ok()?
            .read_exact_at(&mut header, 0)
            .ok()?;
        let [0x7f, b'E', b'L', b'F', _, order, .., low, high] = header else {
            return None;
        };
        Some(if order == 2 {
            u16::from_be_bytes([low, high])
        } else {
            u16::from_le_bytes([low, high])
        })
    });
    match machine {
        Some(EM_X86_64) => Arch::X86_64,
        Some(EM_386) => Arch::I686,
        Some(EM_AARCH64) => Arch::Aarch64,
        _ => Arch::Other,
    }
}

/// PID 1. /sbin/init is a link to the one in use where there is a choice.
fn init(root: &Root) -> &'static str {
    let link = root.read_link("/sbin/init").unwrap_or_default();
    let any = |files: &[&str]| files.iter().any(|file| root.is_file(file));
    let systemd = any(&["/lib/systemd/systemd", "/usr/lib/systemd/systemd"]);
    if link.ends_with("systemd") || (link.is_empty() && systemd && !any(&["/sbin/init"])) {
        "systemd"
    } else if any(&["/sbin/initctl"]) && root.is_dir("/etc/init") && !link.ends_with("systemd") {
        "upstart"
    } else if link.contains("openrc") || any(&["/sbin/openrc", "/sbin/openrc-run"]) {
        "openrc"
    } else if link.contains("runit") {
        "runit"
    } else if any(&["/etc/inittab"]) {
        "sysvinit"
    } else if systemd {
        "systemd"
    } else if link.contains("busybox") {
        "busybox"
    } else {
        ""
    }
}

fn initramfs_generator(root: &Root) -> &'static str {
    let any = |files: &[&str]| files.iter().any(|file| root.is_file(file));
    if any(&["/usr/sbin/update-initramfs"]) && root.is_dir("/etc/initramfs-tools") {
        "initramfs-tools"
    } else if any(&["/usr/bin/dracut", "/sbin/dracut", "/usr/sbin/dracut"]) {
        "dracut"
    } else if any(&["/usr/bin/mkinitcpio"]) {
        "mkinitcpio"
    } else if any(&["/sbin/mkinitfs", "/usr/sbin/mkinitfs"]) {
        "mkinitfs"
    } else if any(&["/usr/sbin/update-initramfs", "/usr/sbin/mkinitramfs"]) {
        "initramfs-tools"
    } else if any(&["/sbin/mkinitrd", "/usr/bin/mkinitrd"]) {
        "mkinitrd"
    } else if any(&["/usr/bin/genkernel", "/usr/sbin/genkernel"]) {
        "genkernel"
    } else if any(&["/usr/sbin/make-initrd", "/usr/bin/make-initrd"]) {
        "make-initrd"
    } else if any(&["/usr/bin/booster"]) {
        "booster"
    } else {
        ""
    }
}

fn selinux(root: &Root) -> bool {
    let text = root.text("/etc/selinux/config").unwrap_or_default();
    let mode = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SELINUX="))
        .next_back()
        .unwrap_or("disabled");
    matches!(
        mode.trim().to_ascii_lowercase().as_str(),
        "enforcing" | "permissive"
    )
}
