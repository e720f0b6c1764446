//! extlinux, syslinux, and U-Boot's reading of the same file (syslinux wiki, "SYSLINUX" and "Menu").
//!
//! Keywords ignore case. `DEFAULT` names a label, or a menu program; then the entry with `MENU DEFAULT` counts.

use crate::root::{join, split};
use crate::{Recorder, Result, Root};

use super::grub2::replace_lines;
use super::place::Places;
use super::{Loader, MenuEntry, find_ci};

const CONFIGS: [&str; 8] = [
    "/boot/extlinux/extlinux.conf",
    "/boot/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
    "/boot/syslinux/extlinux.conf",
    "/boot/syslinux.cfg",
    "/extlinux/extlinux.conf",
    "/extlinux.conf",
    "/syslinux.cfg",
];
/// INCLUDE nests this deep in syslinux itself; files in all.
const INCLUDES_MAX: usize = 16;

/// The main configuration.
pub(crate) fn main_config(root: &Root) -> Option<String> {
    CONFIGS
        .iter()
        .find(|path| root.is_file(path))
        .map(|&path| path.to_owned())
}

/// True when its loader is beside its configuration (extlinux(1): ldlinux.sys, found by its blocks).
pub(crate) fn is_installed(root: &Root) -> bool {
    main_config(root).is_some_and(|path| {
        let dir = split(&path).map_or("", |(dir, _)| dir);
        root.is_file(&join(dir, "ldlinux.sys"))
    })
}

/// The main configuration, those of syslinux on an ESP, and all that they include.
pub(crate) fn configs(root: &Root, places: &Places) -> Vec<String> {
    let mut files: Vec<String> = main_config(root).into_iter().collect();
    for esp in &places.esps {
        for below in [
            "EFI/syslinux/syslinux.cfg",
            "EFI/BOOT/syslinux.cfg",
            "syslinux/syslinux.cfg",
        ] {
            files.extend(find_ci(root, esp, below).filter(|path| !files.contains(path)));
        }
    }
    let mut at = 0;
    while let Some(path) = files.get(at).cloned() {
        at += 1;
        for line in root.text(&path).unwrap_or_default().lines() {
            let (word, rest) = keyword(line);
            let rest = match word.as_str() {
                "include" => rest,
                "menu" => {
                    let (word, rest) = keyword(rest);
                    if word == "include" { rest } else { continue }
                }
                _ => continue,
            };
            let Some(name) = rest.split_whitespace().next() else {
                continue;
            };
            let found = near(root, places, &path, name).filter(|found| root.is_file(found));
            if let Some(found) = found
                && !files.contains(&found)
                && files.len() < INCLUDES_MAX
            {
                files.push(found);
            }
        }
    }
    files
}

/// A name beside the file that says it, or a path from the top of the file system.
fn near(root: &Root, places: &Places, config: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return places.find(root, name);
    }
    let dir = split(config).map_or("", |(dir, _)| dir);
    let mut path = dir.to_owned();
    for part in name.split('/') {
        match part {
            "." | "" => {}
            ".." => path.truncate(path.rfind('/').unwrap_or(0)),
            part => path = join(&path, part),
        }
    }
    if root.is_file(&path) {
        return Some(root.resolve_last(&path).unwrap_or(path));
    }
    // A path that leads nowhere is kept, normalised.
    places.find(root, name).or(Some(path))
}

/// See [`super::entries`].
pub(crate) fn entries(root: &Root, places: &Places) -> Vec<MenuEntry> {
    let mut menu: Vec<MenuEntry> = Vec::new();
    let mut settings = Settings::default();
    for path in configs(root, places) {
        parse(
            &path,
            &root.text(&path).unwrap_or_default(),
            &mut menu,
            &mut settings,
        );
    }
    let at = settings
        .default
        .and_then(|label| menu.iter().position(|entry| entry.id == label))
        .or_else(|| {
            menu.iter()
                .position(|entry| Some(&entry.id) == settings.marked.as_ref())
        })
        .unwrap_or(0);
    if let Some(entry) = menu.get_mut(at) {
        entry.is_default = true;
    }
    menu.retain(|entry| entry.kernel.is_some());
    for entry in &mut menu {
        let source = entry.source.clone();
        let find = |path: &String| near(root, places, &source, path);
        entry.kernel = entry.kernel.as_ref().and_then(find);
        entry.initrds = entry.initrds.iter().filter_map(find).collect();
    }
    menu
}

#[derive(Debug, Default)]
struct Settings {
    /// Label of `ONTIMEOUT` or `DEFAULT`.
    default: Option<String>,
    /// Label with `MENU DEFAULT`.
    marked: Option<String>,
}

fn parse(path: &str, text: &str, menu: &mut Vec<MenuEntry>, settings: &mut Settings) {
    let (mut default, mut on_timeout) = (None, None);
    for (number, line) in text.lines().enumerate() {
        let (word, rest) = keyword(line);
        let first = rest.split_whitespace().next().unwrap_or_default();
        match word.as_str() {
            "label" => menu.push(MenuEntry {
                id: first.to_owned(),
                title: first.to_owned(),
                ..MenuEntry::new(Loader::Extlinux, path)
            }),
            "default" => default = Some(first.to_owned()),
            "ontimeout" => on_timeout = Some(first.to_owned()),
            _ => {
                if let Some(entry) = menu.last_mut().filter(|entry| entry.source == path) {
                    line_of_entry(entry, settings, (&word, rest), number + 1);
                }
            }
        }
    }
    settings.default = on_timeout.or(default).or(settings.default.take());
}

fn line_of_entry(
    entry: &mut MenuEntry,
    settings: &mut Settings,
    (word, rest): (&str, &str),
    number: usize,
) {
    match word {
        "menu" => match keyword(rest) {
            (word, _) if word == "default" => settings.marked = Some(entry.id.clone()),
            (word, label) if word == "label" => entry.title = label.replace('^', ""),
            _ => {}
        },
        "kernel" | "linux" => {
            let path = rest.split_whitespace().next().unwrap_or_default();
            let program = [".c32", ".bin", ".bss", ".0", ".img"];
            let is_linux = !program.iter().any(|end| path.ends_with(end));
            entry.kernel = Some(path.to_owned()).filter(|path| is_linux && !path.is_empty());
        }
        "initrd" => entry.initrds.extend(list(rest)),
        "append" => {
            entry.args = rest.to_owned();
            entry.line = number;
            let initrds = rest
                .split_whitespace()
                .filter_map(|token| token.strip_prefix("initrd="));
            entry.initrds.extend(initrds.flat_map(list));
        }
        _ => {}
    }
}

fn list(text: &str) -> Vec<String> {
    text.split([',', ' ', '\t'])
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect()
}

/// First word in lower case, and the rest.
fn keyword(line: &str) -> (String, &str) {
    let line = line.trim();
    let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    (word.to_ascii_lowercase(), rest.trim())
}

/// True for a line with kernel arguments.
pub(crate) fn is_args(line: &str) -> bool {
    keyword(line).0 == "append"
}

/// Makes a label the default: in `DEFAULT` (or `ONTIMEOUT`) where that names one, else by moving `MENU DEFAULT`; and in
/// what update-extlinux makes the file from.
pub(crate) fn set_default(
    recorder: &mut Recorder<'_>,
    places: &Places,
    entry: &MenuEntry,
    why: &str,
) -> Result<bool> {
    let root = recorder.root();
    let labels: Vec<String> = entries(root, places)
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    let mut done = false;
    for path in configs(root, places) {
        recorder.edit(&path, why, |text| {
            let new = replace_lines(text, |line| {
                let (word, rest) = keyword(line);
                let names_label = labels.iter().any(|label| label == rest);
                if matches!(word.as_str(), "default" | "ontimeout") && names_label {
                    let keyword = line.split_whitespace().next().unwrap_or_default();
                    return Some(format!("{keyword} {}", entry.id));
                }
                None
            });
            done |= new.lines().any(|line| {
                let (word, rest) = keyword(line);
                matches!(word.as_str(), "default" | "ontimeout") && rest == entry.id
            });
            Some(new)
        })?;
    }
    if !done {
        for path in configs(root, places) {
            recorder.edit(&path, why, |text| {
                Some(move_mark(text, &entry.id, path == entry.source))
            })?;
        }
    }
    for (path, name) in [
        ("/etc/update-extlinux.conf", "default="),
        ("/etc/default/extlinux", "EXTLINUX_DEFAULT="),
    ] {
        recorder.edit(path, why, |text| {
            Some(replace_lines(text, |line| {
                let value = line.strip_prefix(name)?;
                let quote = if value.starts_with('"') { "\"" } else { "" };
                Some(format!("{name}{quote}{}{quote}", entry.id))
            }))
        })?;
    }
    Ok(true)
}

/// Takes `MENU DEFAULT` away from all labels, and gives it to one.
fn move_mark(text: &str, label: &str, here: bool) -> String {
    let is_mark = |line: &str| {
        let (word, rest) = keyword(line);
        word == "menu" && keyword(rest).0 == "default"
    };
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n').filter(|line| !is_mark(line)) {
        out.push_str(line);
        let (word, rest) = keyword(line);
        if here && word == "label" && rest == label {
            out.push_str("  MENU DEFAULT\n");
        }
    }
    out
}
