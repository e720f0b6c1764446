//! systemd-boot: loader.conf, entries and unified kernel images on the ESP and on XBOOTLDR (loader.conf(5)).
//!
//! A default that the firmware's variables hold (`bootctl set-default`, `@saved`) is not on the disks; without it the
//! pattern of loader.conf counts, and without that the first of the list.

use types::glob;

use crate::root::join;
use crate::{Recorder, Result, Root};

use super::efi::{self, Image};
use super::place::Places;
use super::uki::Uki;
use super::{Loader, MenuEntry, bls, find_ci};

/// Unified kernel images in one directory that are read.
const UKIS_MAX: usize = 64;

/// True when it is installed on an ESP, or its loader.conf is.
pub(crate) fn is_installed(root: &Root, places: &Places) -> bool {
    let here = |esp: &String| {
        find_ci(root, esp, "loader/loader.conf").is_some()
            || find_ci(root, esp, "EFI/systemd")
                .is_some_and(|dir| has_kind(root, &dir, Image::SystemdBoot))
            || find_ci(root, esp, "EFI/BOOT")
                .is_some_and(|dir| has_kind(root, &dir, Image::SystemdBoot))
    };
    places.esps.iter().any(here)
}

/// True when the firmware starts it and not GRUB: the fallback loader says so, or there is no GRUB on the ESP.
pub(crate) fn is_first(root: &Root, places: &Places) -> bool {
    let mut grub = false;
    let mut systemd = false;
    for esp in &places.esps {
        for program in efi::images(root, esp) {
            let fallback = program.dir.to_ascii_lowercase().ends_with("/boot");
            match program.kind {
                Image::SystemdBoot if fallback => return true,
                Image::SystemdBoot | Image::Uki => systemd = true,
                Image::Shim | Image::Grub => grub = true,
                _ => {}
            }
        }
    }
    systemd && !grub
}

fn has_kind(root: &Root, dir: &str, kind: Image) -> bool {
    efi::programs(root, dir)
        .iter()
        .any(|program| program.kind == kind)
}

/// See [`super::entries`].
pub(crate) fn entries(root: &Root, places: &Places) -> Vec<MenuEntry> {
    let mut listed: Vec<(bls::Entry, MenuEntry)> = Vec::new();
    for esp in &places.esps {
        listed.extend(ukis(root, esp));
    }
    if is_installed(root, places) {
        for top in &places.tops {
            for entry in bls::read(root, &join(top, "loader/entries")) {
                let menu = from_bls(root, places, top, &entry);
                listed.push((entry, menu));
            }
        }
    }
    listed.sort_by(|(a, _), (b, _)| bls::systemd_order(a, b));
    let mut entries: Vec<MenuEntry> = listed.into_iter().map(|(_, entry)| entry).collect();
    let wanted = default_pattern(root, places);
    let default = wanted
        .as_deref()
        .and_then(|pattern| entries.iter().position(|entry| matches(pattern, &entry.id)))
        .unwrap_or(0);
    if let Some(entry) = entries.get_mut(default) {
        entry.is_default = true;
    }
    entries
}

fn from_bls(root: &Root, places: &Places, top: &str, entry: &bls::Entry) -> MenuEntry {
    let find = |path: &String| places.find_on(root, top, path);
    let title = [&entry.title, &entry.version];
    MenuEntry {
        id: format!("{}.conf", entry.id),
        title: title
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| text.as_str())
            .collect::<Vec<_>>()
            .join(" "),
        kernel: find(&entry.linux),
        initrds: entry.initrds.iter().filter_map(find).collect(),
        args: entry.options.clone(),
        line: entry.options_line,
        ..MenuEntry::new(Loader::SystemdBoot, &entry.path)
    }
}

/// EFI/Linux/*.efi, with what they are sorted by.
fn ukis(root: &Root, esp: &str) -> Vec<(bls::Entry, MenuEntry)> {
    let Some(dir) = find_ci(root, esp, "EFI/Linux") else {
        return Vec::new();
    };
    let names = root.names(&dir);
    let efi = names
        .iter()
        .filter(|name| name.to_ascii_lowercase().ends_with(".efi"));
    efi.take(UKIS_MAX)
        .filter_map(|name| {
            let path = join(&dir, name);
            let uki = Uki::read(root, &path)?;
            let stem = name.get(..name.len().checked_sub(4)?)?;
            let (id, tries_left) = bls::counted(stem);
            let release = |names: &[&str]| names.iter().find_map(|name| uki.release(name));
            let version = release(&["IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"]);
            let sorted_by = bls::Entry {
                path: path.clone(),
                id: format!("{id}.efi"),
                sort_key: release(&["IMAGE_ID", "ID"]).unwrap_or_default(),
                version: version.unwrap_or_default(),
                tries_left,
                ..bls::Entry::default()
            };
            let entry = MenuEntry {
                id: format!("{id}.efi"),
                title: release(&["PRETTY_NAME", "NAME"]).unwrap_or_else(|| name.clone()),
                kernel: Some(path.clone()),
                args: uki.cmdline.clone(),
                ..MenuEntry::new(Loader::Uki, &path)
            };
            Some((sorted_by, entry))
        })
        .collect()
}

/// The loader.conf files.
fn configs(root: &Root, places: &Places) -> Vec<String> {
    let find = |esp: &String| find_ci(root, esp, "loader/loader.conf");
    places.esps.iter().filter_map(find).collect()
}

fn default_pattern(root: &Root, places: &Places) -> Option<String> {
    let config = configs(root, places).into_iter().next()?;
    let text = root.text(&config)?;
    let mut values = text.lines().filter_map(default_value);
    values.next_back().map(str::to_owned)
}

fn default_value(line: &str) -> Option<&str> {
    let (key, value) = line.trim().split_once([' ', '\t'])?;
    (key == "default").then(|| value.trim())
}

/// Matches as fnmatch does; before systemd 248 the pattern had no `.conf`.
fn matches(pattern: &str, id: &str) -> bool {
    let short = id.strip_suffix(".conf").unwrap_or(id);
    let one = |text: &str| glob::matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase());
    !pattern.starts_with('@') && (one(id) || one(short))
}

/// Writes `default ID` into loader.conf.
pub(crate) fn set_default(
    recorder: &mut Recorder<'_>,
    places: &Places,
    entry: &MenuEntry,
    why: &str,
) -> Result<bool> {
    let root = recorder.root();
    let config = configs(root, places).into_iter().next();
    let Some(config) = config.or_else(|| Some(join(places.esps.first()?, "loader/loader.conf")))
    else {
        return Ok(false);
    };
    let line = format!(
        "default {}",
        crate::recorder::from_bytes(entry.id.as_bytes())
    );
    if !root.is_file(&config) {
        return recorder.write(&config, format!("default {}\n", entry.id).as_bytes(), why);
    }
    recorder.edit(&config, why, |text| {
        let new = super::grub2::replace_lines(text, |old| default_value(old).map(|_| line.clone()));
        Some(if new.lines().any(|have| have == line) {
            new
        } else {
            format!("{}\n{line}\n", new.trim_end_matches('\n'))
        })
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_match_as_globs_with_or_without_suffix() {
        for (pattern, id, want) in [
            ("arch.conf", "arch.conf", true),
            ("arch", "arch.conf", true),
            ("debian-*", "debian-6.1.0-18-amd64.conf", true),
            ("*-6.1.0-1?-*", "debian-6.1.0-18-amd64.conf", true),
            ("*6.[2-9].*", "debian-6.1.0.conf", false),
            ("*6.[!2-9].*", "debian-6.1.0.conf", true),
            ("@saved", "@saved", false),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, id), want, "{pattern} {id}");
        }
    }
}
