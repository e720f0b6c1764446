//! GRUB legacy (0.9x): menu.lst or grub.conf, the default a number (GRUB manual 0.97, section 13.1).

use crate::{Recorder, Result, Root};

use super::place::Places;
use super::{Loader, MenuEntry, find_ci};

/// Where it is on BIOS. Where /boot is separate, `/boot/boot` is a link to `.` in many guests.
const CONFIGS: [&str; 4] = [
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/boot/grub/menu.lst",
    "/boot/boot/grub/grub.conf",
];

/// Its menus, each file once.
pub(crate) fn configs(root: &Root, places: &Places) -> Vec<String> {
    let mut paths: Vec<String> = CONFIGS.map(str::to_owned).to_vec();
    for esp in &places.esps {
        for vendor in super::vendors(root, esp) {
            paths.extend(efi_configs(root, &vendor));
        }
    }
    let mut seen = Vec::new();
    paths.retain(|path| {
        let Ok(meta) = root.meta(path) else {
            return false;
        };
        let inode = (meta.dev, meta.ino);
        let new = root.is_file(path) && !seen.contains(&inode);
        seen.push(inode);
        new
    });
    paths
}

/// The menu of GRUB legacy on BIOS.
pub(crate) fn bios_config(root: &Root, places: &Places) -> Option<String> {
    let configs = configs(root, places);
    configs
        .into_iter()
        .find(|path| CONFIGS.contains(&path.as_str()))
}

/// CentOS 6 starts it by UEFI too: grub.efi reads the grub.conf beside it, BOOTX64.EFI a BOOTX64.conf.
pub(crate) fn efi_config(root: &Root, dir: &str) -> Option<String> {
    find_ci(root, dir, "grub.conf")
}

fn efi_configs(root: &Root, dir: &str) -> Vec<String> {
    ["grub.conf", "BOOTX64.conf", "BOOTIA32.conf"]
        .iter()
        .filter_map(|name| find_ci(root, dir, name))
        .collect()
}

/// See [`super::entries`].
pub(crate) fn entries(root: &Root, places: &Places) -> Vec<MenuEntry> {
    let configs = configs(root, places);
    let first = configs.iter().find(|path| {
        // UEFI's is the one in use where it is there.
        !CONFIGS.contains(&path.as_str())
    });
    let Some(config) = first.or_else(|| configs.first()) else {
        return Vec::new();
    };
    let text = root.text(config).unwrap_or_default();
    let mut menu = parse(config, &text);
    let default = default_number(root, &text);
    let found = |entry: &MenuEntry| entry.kernel.is_some();
    // Without such an entry GRUB falls back to the first.
    let at = default.filter(|&at| menu.get(at).is_some_and(found));
    let at = at.or_else(|| menu.iter().position(found));
    if let Some(entry) = at.and_then(|at| menu.get_mut(at)) {
        entry.is_default = true;
    }
    menu.retain(found);
    for entry in &mut menu {
        entry.kernel = entry
            .kernel
            .take()
            .and_then(|path| places.find(root, &path));
        let initrds = std::mem::take(&mut entry.initrds);
        entry.initrds = initrds
            .iter()
            .filter_map(|path| places.find(root, path))
            .collect();
    }
    menu
}

/// Every `title`, those without a kernel too: they count.
fn parse(path: &str, text: &str) -> Vec<MenuEntry> {
    let mut menu: Vec<MenuEntry> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let (word, rest) = command(line);
        if word == "title" {
            menu.push(MenuEntry {
                id: menu.len().to_string(),
                title: rest.trim().to_owned(),
                ..MenuEntry::new(Loader::GrubLegacy, path)
            });
            continue;
        }
        let Some(entry) = menu.last_mut() else {
            continue;
        };
        let xen = |path: &String| {
            path.rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with("xen"))
        };
        let replaces = entry.kernel.as_ref().is_none_or(xen);
        match word {
            "kernel" | "module" if replaces => {
                let mut words = rest
                    .split_whitespace()
                    .filter(|word| !word.starts_with("--"));
                entry.kernel = words.next().map(str::to_owned);
                entry.args = words.collect::<Vec<_>>().join(" ");
                entry.line = number + 1;
            }
            "initrd" | "module" => {
                entry
                    .initrds
                    .extend(rest.split_whitespace().next().map(str::to_owned));
            }
            _ => {}
        }
    }
    menu
}

/// `default=0`, `default 0` and `default = 0` are the same.
fn command(line: &str) -> (&str, &str) {
    let end = line.find([' ', '\t', '=']).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (word, rest.trim_start_matches([' ', '\t', '=']))
}

fn default_number(root: &Root, text: &str) -> Option<usize> {
    let value = setting(text)?;
    if value == "saved" {
        // A number in a file of its own (grub-set-default).
        let saved = root.text("/boot/grub/default")?;
        return saved.lines().next()?.trim().parse().ok();
    }
    value.parse().ok()
}

fn setting(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (word, rest) = command(line.trim_start());
        (word == "default").then(|| rest.trim())
    })
}

/// True for a line with kernel arguments: `kernel`, Xen's `module`, and the comments that Debian's update-grub makes
/// the menu from (`# kopt=root=… ro`).
pub(crate) fn is_args(line: &str) -> bool {
    let (word, _) = command(line.trim_start());
    let magic = ["# kopt", "# xenkopt", "# defoptions", "# altoptions"];
    matches!(word, "kernel" | "module") || magic.iter().any(|start| line.starts_with(start))
}

/// Sets `default N` in every copy of the menu that has this entry at that place.
pub(crate) fn set_default(
    recorder: &mut Recorder<'_>,
    entry: &MenuEntry,
    why: &str,
) -> Result<bool> {
    let (id, title) = (&entry.id, &entry.title);
    recorder.edit(&entry.source, why, |text| {
        let mut done = false;
        let mut out = String::with_capacity(text.len() + 16);
        for line in text.split_inclusive('\n') {
            let (word, _) = command(line.trim_start());
            if word == "default" && !done {
                let equals = line.contains('=');
                out.push_str(&format!(
                    "default{}{id}\n",
                    if equals { "=" } else { "\t\t" }
                ));
                done = true;
                continue;
            }
            if word == "title" && !done {
                out.push_str(&format!("default {id}\n"));
                done = true;
            }
            out.push_str(line);
        }
        done.then_some(out)
    })?;
    tracing::debug!("{}: default {id}: {title}", entry.source);
    Ok(true)
}
