//! Boot loaders: which there are, and one model of their menus.
//!
//! ```text
//!   GRUB 2 grub.cfg ──┬── blscfg ──> BLS entries (/boot/loader/entries)
//!   systemd-boot ─────┴────────────> BLS entries (ESP, XBOOTLDR), unified kernel images (EFI/Linux)
//!   GRUB legacy menu.lst, grub.conf
//!   extlinux, syslinux
//! ```
//!
//! LILO, ELILO, zipl, yaboot and kernels that only the firmware's variables name have no menu that is read here; they
//! are named in [`boot_loaders`], and the steps say what follows.

pub(crate) mod bls;
pub(crate) mod efi;
pub(crate) mod extlinux;
pub(crate) mod grub2;
pub(crate) mod grub_legacy;
pub(crate) mod grubenv;
pub(crate) mod place;
pub(crate) mod systemd_boot;
pub(crate) mod uki;

use types::{BootLoader, Mountpoint};

use crate::Root;
use crate::root::join;

use efi::Image;
use place::Places;

/// Where grub.cfg of GRUB 2 is.
pub(crate) const GRUB_DIRS: [&str; 2] = ["/boot/grub", "/boot/grub2"];
/// A menu with more entries than this is cut: nobody scrolls that far, and each one costs look-ups.
const ENTRIES_MAX: usize = 512;

/// What reads a menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loader {
    /// GRUB 2, its entries in grub.cfg.
    Grub2,
    /// GRUB 2, its entries as Boot Loader Specification files.
    Grub2Bls,
    /// GRUB 0.9x.
    GrubLegacy,
    /// systemd-boot, Boot Loader Specification files.
    SystemdBoot,
    /// A unified kernel image, in systemd-boot's menu or started by the firmware itself.
    Uki,
    /// extlinux, syslinux.
    Extlinux,
}

/// One entry of a boot menu that starts a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MenuEntry {
    /// Whose menu it is in.
    pub(crate) loader: Loader,
    /// What the loader's setting of the default calls it.
    pub(crate) id: String,
    /// What the menu shows.
    pub(crate) title: String,
    /// Its kernel: path in the guest, links followed, if the file is there; else as written.
    pub(crate) kernel: Option<String>,
    /// Its initramfs files, likewise.
    pub(crate) initrds: Vec<String>,
    /// Kernel arguments as written.
    pub(crate) args: String,
    /// File that has the arguments.
    pub(crate) source: String,
    /// Line of the arguments in it, from 1; 0 when it has none.
    pub(crate) line: usize,
    /// Started when nobody chooses.
    pub(crate) is_default: bool,
    /// For emergencies; never a good default.
    pub(crate) is_rescue: bool,
}

impl MenuEntry {
    /// An entry of a file, with nothing in it.
    fn new(loader: Loader, source: &str) -> Self {
        Self {
            loader,
            id: String::new(),
            title: String::new(),
            kernel: None,
            initrds: Vec::new(),
            args: String::new(),
            source: source.to_owned(),
            line: 0,
            is_default: false,
            is_rescue: false,
        }
    }

    /// The kernel gets no initramfs: neither from the menu nor from its own arguments (EFI stub).
    pub(crate) fn is_bare(&self) -> bool {
        let by_argument = || {
            let mut args = self.args.split_whitespace();
            args.any(|token| token.starts_with("initrd="))
        };
        self.loader != Loader::Uki && self.initrds.is_empty() && !by_argument()
    }

    fn judge(mut self) -> Self {
        let marks = ["rescue", "recovery mode", "failsafe"];
        let has = |text: &str| {
            let lower = text.to_ascii_lowercase();
            marks.iter().any(|mark| lower.contains(mark))
        };
        self.is_rescue = has(&self.id) || has(&self.title);
        self
    }
}

/// Every entry of every menu that starts a kernel, rescue ones included: first the menu of the loader that the machine
/// starts with, each menu in its own order. In each at most one is the default.
pub(crate) fn entries(root: &Root) -> Vec<MenuEntry> {
    let places = Places::of(root);
    let mut menus = [
        (Menu::Grub2, grub2::entries(root, &places)),
        (Menu::SystemdBoot, systemd_boot::entries(root, &places)),
        (Menu::GrubLegacy, grub_legacy::entries(root, &places)),
        (Menu::Extlinux, extlinux::entries(root, &places)),
    ];
    let first = first_menu(root, &places);
    menus.sort_by_key(|(menu, _)| *menu != first);
    let mut all: Vec<MenuEntry> = menus.into_iter().flat_map(|(_, menu)| menu).collect();
    all.truncate(ENTRIES_MAX);
    all.into_iter().map(MenuEntry::judge).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Menu {
    Grub2,
    SystemdBoot,
    GrubLegacy,
    Extlinux,
}

/// Whose menu the machine shows. A loader that was replaced leaves its files behind, so the installed program decides.
fn first_menu(root: &Root, places: &Places) -> Menu {
    if systemd_boot::is_first(root, places) {
        return Menu::SystemdBoot;
    }
    let core = |dir: &&str| root.is_file(&format!("{dir}/i386-pc/core.img"));
    if !places.esps.is_empty() || GRUB_DIRS.iter().any(core) || root.is_file("/boot/grub/core.img")
    {
        return Menu::Grub2;
    }
    if extlinux::is_installed(root) {
        Menu::Extlinux
    } else if root.is_file("/boot/grub/stage2") {
        Menu::GrubLegacy
    } else {
        Menu::Grub2
    }
}

/// Base name of the kernel that the boot loader starts by default.
pub(crate) fn default_of(entries: &[MenuEntry]) -> Option<String> {
    let default = entries.iter().find(|entry| entry.is_default)?;
    let kernel = default.kernel.as_deref()?;
    kernel.rsplit('/').next().map(str::to_owned)
}

/// Mount point of the EFI system partition, where one with an EFI directory is mounted.
pub(crate) fn esp(root: &Root, mountpoints: &[Mountpoint]) -> Option<String> {
    mountpoints
        .iter()
        .filter(|mount| matches!(mount.fs_type.as_str(), "vfat" | "msdos"))
        .map(|mount| mount.path.clone())
        .find(|path| find_ci(root, path, "EFI").is_some())
}

/// Path of `below` in `dir`, each component found in whatever case it has: an ESP is FAT, which ignores case, but
/// the appliance may see it through a file system that does not.
pub(crate) fn find_ci(root: &Root, dir: &str, below: &str) -> Option<String> {
    let mut at = dir.to_owned();
    for part in below.split('/').filter(|part| !part.is_empty()) {
        let name = root
            .names(&at)
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(part))?;
        at = join(&at, &name);
    }
    Some(at)
}

/// Directories below EFI on the ESP.
pub(crate) fn vendors(root: &Root, esp: &str) -> Vec<String> {
    let Some(efi) = find_ci(root, esp, "EFI") else {
        return Vec::new();
    };
    let names = root.names(&efi);
    names
        .iter()
        .map(|name| join(&efi, name))
        .filter(|path| root.is_dir(path))
        .collect()
}

/// The boot loaders found, UEFI ones first.
pub(crate) fn boot_loaders(root: &Root, mountpoints: &[Mountpoint]) -> Vec<BootLoader> {
    let places = Places::of(root);
    let grub_cfg = grub2::main_config(root, &places);
    let esp = esp(root, mountpoints);
    let mut loaders = esp
        .as_deref()
        .map_or_else(Vec::new, |esp| uefi_loaders(root, esp, grub_cfg.as_deref()));
    let mut add = |kind: &str, config: Option<String>| {
        loaders.push(BootLoader {
            kind: kind.to_owned(),
            config,
        });
    };
    let bios = GRUB_DIRS
        .iter()
        .any(|dir| root.is_dir(&format!("{dir}/i386-pc")));
    if bios || (grub_cfg.is_some() && esp.is_none()) {
        add("grub2-bios", grub_cfg.clone());
    }
    if let Some(config) = grub_legacy::bios_config(root, &places)
        && (grub_cfg.is_none() || root.exists("/boot/grub/stage2"))
    {
        add("grub-legacy", Some(config));
    }
    if let Some(config) = extlinux::main_config(root) {
        add("extlinux", Some(config));
    }
    for (config, kind) in UNREAD {
        if root.is_file(config) {
            add(kind, Some((*config).to_owned()));
        }
    }
    loaders
}

/// Boot loaders whose configuration is not edited.
pub(crate) const UNREAD: &[(&str, &str)] = &[
    ("/etc/lilo.conf", "lilo"),
    ("/etc/elilo.conf", "elilo"),
    ("/etc/zipl.conf", "zipl"),
    ("/etc/yaboot.conf", "yaboot"),
];

fn uefi_loaders(root: &Root, esp: &str, grub_cfg: Option<&str>) -> Vec<BootLoader> {
    let mut found: Vec<BootLoader> = Vec::new();
    let mut add = |kind: &str, config: Option<String>| {
        if !found.iter().any(|loader| loader.kind == kind) {
            found.push(BootLoader {
                kind: kind.to_owned(),
                config,
            });
        }
    };
    let images = efi::images(root, esp);
    let legacy = images
        .iter()
        .find_map(|image| grub_legacy::efi_config(root, &image.dir));
    for image in &images {
        match image.kind {
            Image::Shim | Image::Grub => {
                let own = find_ci(root, &image.dir, "grub.cfg");
                match (grub_cfg.map(str::to_owned).or(own), &legacy) {
                    (None, Some(config)) => add("grub-legacy-efi", Some(config.clone())),
                    (config, _) => add("grub2-efi", config),
                }
            }
            Image::SystemdBoot => {
                add("systemd-boot", find_ci(root, esp, "loader/loader.conf"));
            }
            Image::Uki => add("uki-efi", Some(image.path.clone())),
            Image::Windows => add("windows-efi", None),
            Image::Kernel | Image::Other => {}
        }
    }
    if found.iter().all(|loader| loader.kind == "windows-efi")
        && let Some(kernel) = efi::stub_kernel(root, esp)
    {
        found.push(BootLoader {
            kind: "efistub-efi".to_owned(),
            config: Some(kernel),
        });
    }
    found
}

#[cfg(test)]
mod tests;
