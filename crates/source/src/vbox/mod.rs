//! VirtualBox machines by their `.vbox` (`-i vbox`).
//!
//! ```text
//! folder ──> .vbox ──> machine, storage ──UUID──> media ──location──> below ──> file
//! ```
//!
//! The image that is attached is the newest of its chain. A VDI knows its parent by UUID alone: the registry tells the
//! file. A location of another host is looked for below the folder of the machine or of `--base-dir`.

mod machine;
mod media;
mod nvram;
mod storage;

#[cfg(test)]
mod tests;

pub(crate) use machine::parse;
pub(crate) use nvram::read as read_flash;

use std::path::{Path, PathBuf};

use image::FileRange;
use image::formats::Format;
use types::Firmware;

use crate::below::{self, Below};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::open::SourceOptions;
use crate::{Prepared, PreparedDisk, ids, text};

use machine::Settings;
use nvram::Flash;

/// Machines that a message lists.
const MAX_LISTED: usize = 20;

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare(path: &Path, options: &SourceOptions) -> Result<Prepared> {
    let meta =
        std::fs::metadata(path).map_err(|e| Error::io("opening", e).in_file(path.display()))?;
    let candidates = if meta.is_dir() {
        settings_below(path)?
    } else {
        vec![path.to_owned()]
    };
    let (file, settings, mut warnings) = choose(path, candidates, options.vm.as_deref())?;
    let label = file.display().to_string();
    let home = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let root = options.base_dir.as_deref().unwrap_or(home);
    let below = Below::open(root, home)?.with_media(settings.media.locations());
    let (below, files) = below.into_files();
    let mut machine = settings.machine;
    if machine.firmware == Some(Firmware::Uefi) {
        let named = settings
            .nvram
            .unwrap_or_else(|| format!("{}.nvram", machine.name));
        let flash = flash(&below, &named, &mut warnings)?;
        machine.secure_boot |= flash.secure_boot;
        machine.details.boot_options = flash.boot_options;
    }
    let mut disks = Vec::new();
    for (disk, image) in machine.disks.iter_mut().zip(settings.images) {
        let range = below
            .find(&image.location)
            .map_err(|e| e.in_file(&label))?
            .ok_or_else(|| missing(&image.location, root).in_file(&label))?;
        disk.label = range.label().to_owned();
        disks.push(PreparedDisk {
            range,
            capacity: None,
            format: format(&image.format),
            files: files.clone(),
        });
    }
    let own = settings
        .warnings
        .into_iter()
        .map(|warning| format!("{label}: {warning}"));
    Ok(Prepared {
        machine,
        disks,
        verifications: Vec::new(),
        warnings: warnings.into_iter().chain(own).collect(),
    })
}

/// What the machine's flash says. Without a flash Secure Boot is off, as it is on a new machine.
fn flash(below: &Below, named: &str, warnings: &mut Vec<String>) -> Result<Flash> {
    let Some(range) = below.find(named)? else {
        return Ok(Flash::default());
    };
    let len = usize::try_from(range.len().min(nvram::MAX_SIZE)).unwrap_or(0);
    let bytes = range.read_vec(0, len)?;
    Ok(nvram::read(&bytes).unwrap_or_else(|error| {
        let file = range.label();
        warnings.push(format!(
            "{file}: {error}; whether Secure Boot is on is not known"
        ));
        Flash::default()
    }))
}

/// Only raw must be said; of the others, content tells.
fn format(word: &str) -> Option<Format> {
    word.eq_ignore_ascii_case("RAW").then_some(Format::Raw)
}

fn missing(location: &str, root: &Path) -> Error {
    let message = format!(
        "missing disk: expected `{}` below {}, found none; hint: name the folder that holds it with --base-dir",
        shown(location),
        root.display()
    );
    Error::new(ErrorKind::Missing, message)
}

/// Settings files below a folder; `.vbox-prev` and `.vbox-tmp` are older and half-written ones.
fn settings_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = below::files_below(folder)?;
    let is_settings = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("vbox"))
    };
    let found: Vec<PathBuf> = files
        .into_iter()
        .filter(is_settings)
        .map(|path| folder.join(path))
        .collect();
    if found.is_empty() {
        let message = "expected a .vbox file below the folder, found none";
        return Err(Error::new(ErrorKind::Missing, message).in_file(folder.display()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Settings> {
    let range = FileRange::open(path)?;
    let bytes = text::read_small(&range)?;
    text::decode(&bytes)
        .and_then(|text| parse(&text))
        .map_err(|e| e.in_file(path.display()))
}

/// The machine of this name or UUID, or the only one.
fn choose(
    place: &Path,
    candidates: Vec<PathBuf>,
    wanted: Option<&str>,
) -> Result<(PathBuf, Settings, Vec<String>)> {
    let mut machines = Vec::new();
    let mut broken = Vec::new();
    for path in candidates {
        match read(&path) {
            Ok(settings) => machines.push((path, settings)),
            Err(error) => broken.push(error),
        }
    }
    if machines.is_empty() && !broken.is_empty() {
        return Err(broken.swap_remove(0));
    }
    let listed = list(&machines);
    if let Some(wanted) = wanted {
        machines.retain(|(_, settings)| {
            settings.machine.name == wanted
                || (settings.id.is_some() && settings.id == ids::uuid(wanted))
        });
    }
    let count = machines.len();
    let warnings = broken
        .iter()
        .map(|error| format!("ignoring a machine: {error}"))
        .collect();
    match machines.pop() {
        Some((path, settings)) if count == 1 => Ok((path, settings, warnings)),
        _ => {
            let found = if count == 0 {
                "none of this name"
            } else {
                "several machines"
            };
            let message = format!("expected one machine, found {found}; choose by --vm: {listed}");
            Err(Error::new(ErrorKind::Usage, message).in_file(place.display()))
        }
    }
}

fn list(machines: &[(PathBuf, Settings)]) -> String {
    let mut names: Vec<String> = machines
        .iter()
        .take(MAX_LISTED)
        .map(|(_, settings)| {
            let id = settings.id.as_deref().unwrap_or("no UUID");
            format!("`{}` ({id})", shown(&settings.machine.name))
        })
        .collect();
    if machines.len() > MAX_LISTED {
        names.push(format!("{} more", machines.len() - MAX_LISTED));
    }
    names.join(", ")
}
