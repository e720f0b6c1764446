//! What an administrator should know of a Linux guest before its conversion: a table of looks, each at one thing, none
//! of which changes anything. What the conversion settles by itself is no concern.

mod image_based;
mod security;
mod software;
mod storage;

use std::cmp::Reverse;

use types::{Concern, GuestInfo, Severity, StorageMap};

use crate::Root;
use crate::linux::devices::Devices;
use crate::linux::mounts::fstab_concerns;
use crate::root::join;

/// Entries of the Boot Loader Specification that are read.
const ENTRIES_MAX: usize = 64;

/// What the looks have before them.
struct Look<'a> {
    root: &'a Root,
    guest: &'a GuestInfo,
    devices: Devices<'a>,
    /// Every kernel argument of every menu entry, each once.
    kargs: Vec<String>,
}

/// All of them.
const LOOKS: &[fn(&Look<'_>, &mut Found)] = &[
    image_based::look,
    storage::fstab,
    storage::room,
    storage::crypttab,
    storage::multipath,
    storage::zfs,
    security::tpm,
    security::integrity,
    security::logins,
    software::modules,
    software::kernels,
    software::initramfs,
    software::console,
    software::cluster,
    software::licences,
    software::time,
    software::passthrough,
    software::nested,
];

/// Collects concerns.
#[derive(Default)]
struct Found(Vec<Concern>);

impl Found {
    fn add(&mut self, severity: Severity, what: impl Into<String>, fix: Option<&str>) {
        self.0.push(Concern {
            severity,
            what: what.into(),
            fix: fix.map(str::to_owned),
        });
    }

    fn info(&mut self, what: impl Into<String>, fix: Option<&str>) {
        self.add(Severity::Info, what, fix);
    }

    fn warning(&mut self, what: impl Into<String>, fix: Option<&str>) {
        self.add(Severity::Warning, what, fix);
    }
}

/// The concerns about a guest, the worst first.
pub(crate) fn concerns(root: &Root, storage: &StorageMap, guest: &GuestInfo) -> Vec<Concern> {
    let look = Look {
        root,
        guest,
        devices: Devices::new(root, storage).near(&guest.root),
        kargs: kargs(root),
    };
    let mut found = Found::default();
    for entry in LOOKS {
        entry(&look, &mut found);
    }
    let of_fstab = fstab_concerns(root, storage, &guest.root);
    found.0.extend(of_fstab);
    found.0.sort_by_key(|concern| Reverse(concern.severity));
    found.0
}

impl Look<'_> {
    fn any_file(&self, files: &[&str]) -> bool {
        files.iter().any(|file| self.root.is_file(file))
    }

    /// True when an argument `name=…`, or `name` alone, is on any kernel's command line.
    fn has_karg(&self, name: &str) -> bool {
        self.kargs.iter().any(|karg| {
            let rest = karg.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    }

    /// True when a service of one of these names starts at boot, whatever starts services.
    fn starts(&self, names: &[&str]) -> bool {
        let unit = |name: &str, dir: &str| {
            let link = format!("/etc/systemd/system/{dir}.wants/{name}.service");
            self.root.link_meta(&link).is_ok()
        };
        let targets = [
            "multi-user.target",
            "sysinit.target",
            "basic.target",
            "network-online.target",
        ];
        let scripts: Vec<String> = [
            "/etc/rc3.d",
            "/etc/rc.d/rc3.d",
            "/etc/rc2.d",
            "/etc/init.d/rc3.d",
        ]
        .iter()
        .flat_map(|dir| self.root.names(dir))
        .collect();
        names.iter().any(|name| {
            targets.iter().any(|dir| unit(name, dir))
                || ["default", "boot"].iter().any(|level| {
                    let link = format!("/etc/runlevels/{level}/{name}");
                    self.root.link_meta(&link).is_ok()
                })
                || self.root.link_meta(&format!("/var/service/{name}")).is_ok()
                || scripts.iter().any(|script| {
                    // S57chronyd
                    script.strip_prefix('S').and_then(|rest| rest.get(2..)) == Some(*name)
                })
        })
    }
}

/// Arguments from wherever a boot loader has them, and from where they are made.
fn kargs(root: &Root) -> Vec<String> {
    let mut texts: Vec<String> = grub_cfg(root).into_iter().collect();
    for dir in [
        "/boot/loader/entries",
        "/boot/efi/loader/entries",
        "/efi/loader/entries",
    ] {
        let entries = root
            .names(dir)
            .into_iter()
            .filter(|name| name.ends_with(".conf"));
        texts.extend(
            entries
                .take(ENTRIES_MAX)
                .filter_map(|name| root.text(&join(dir, &name))),
        );
    }
    let files = [
        "/etc/kernel/cmdline",
        "/boot/extlinux/extlinux.conf",
        "/boot/grub/menu.lst",
        "/boot/grub/grub.conf",
    ];
    texts.extend(files.iter().filter_map(|file| root.text(file)));
    let cmdline = root.text("/etc/kernel/cmdline").unwrap_or_default();
    let mut all: Vec<String> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(arguments)
        .flatten()
        .collect();
    all.extend(cmdline.split_whitespace().map(str::to_owned));
    if let Some(text) = root.text("/etc/default/grub") {
        let values = text.lines().filter_map(|line| {
            line.trim()
                .strip_prefix("GRUB_CMDLINE_LINUX")?
                .split_once('=')
        });
        all.extend(values.flat_map(|(_, value)| {
            crate::linux::os_release::unquote(value)
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        }));
    }
    all.sort();
    all.dedup();
    all
}

/// The main menu of GRUB 2.
fn grub_cfg(root: &Root) -> Option<String> {
    ["/boot/grub2/grub.cfg", "/boot/grub/grub.cfg"]
        .iter()
        .find_map(|path| root.text(path))
}

/// The arguments in a line that starts a kernel: `linux FILE ARG…` (GRUB), `options ARG…` (Boot Loader
/// Specification), `append ARG…` (syslinux), `kernel FILE ARG…` (GRUB legacy).
fn arguments(line: &str) -> Option<Vec<String>> {
    let mut words = line.split_whitespace();
    let first = words.next()?.to_ascii_lowercase();
    let skip = match first.as_str() {
        "linux" | "linux16" | "linuxefi" | "kernel" => 1,
        "options" | "append" => 0,
        _ => return None,
    };
    Some(words.skip(skip).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
