//! VMware machines by their `.vmx` (`-i vmx`).
//!
//! ```text
//! bytes ──> syntax (encoding, entries) ──> machine + storage (Description) ──> files of the disks ──> image::formats
//! ```
//!
//! A disk is named relative to the `.vmx`, or by a path of the host that ran the machine; that path is followed where
//! it is allowed, else the file of that name beside the `.vmx` is taken. Snapshots need nothing here: the `.vmx` names
//! the newest descriptor, which names its parents.

mod ids;
mod machine;
mod ssh;
mod storage;
mod syntax;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use image::{FileRange, Files, Reference};
use types::Machine;

pub use self::ssh::PASSWORD_FILE_VARIABLE;

use self::machine::Description;
use self::storage::DiskFile;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::folder::Folder;
use crate::open::{SourceOptions, VmxPlace};
use crate::{Prepared, PreparedDisk, text};

/// The machine that the bytes of a `.vmx` describe, its disks named but not opened, and what is odd about it.
pub fn parse_vmx(bytes: &[u8]) -> Result<(Machine, Vec<String>)> {
    let mut description = machine::parse(bytes, "")?;
    description.machine.disks = description
        .disks
        .into_iter()
        .map(|file| file.disk)
        .collect();
    Ok((description.machine, description.warnings))
}

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare(place: &VmxPlace, options: &SourceOptions) -> Result<Prepared> {
    match place {
        VmxPlace::File(path) => {
            let path = vmx_of(path)?;
            let range = FileRange::open(&path)?;
            let files = match &options.base_dir {
                Some(base) => Files::below(base),
                None => Files::beside(&path),
            };
            prepare_from(&range, &files)
        }
        VmxPlace::Ssh(place) => {
            let (range, files) = ssh::open(place, options)?;
            prepare_from(&range, &files)
        }
    }
}

/// The file itself, or the one `.vmx` of a folder.
fn vmx_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let is_vmx = |name: &String| {
        let extension = Path::new(name).extension();
        extension.is_some_and(|ext| ext.eq_ignore_ascii_case("vmx")) && !name.starts_with('.')
    };
    let names: Vec<String> = Folder::open(path)?
        .names()?
        .into_iter()
        .filter(is_vmx)
        .collect();
    match names.as_slice() {
        [one] => Ok(path.join(one)),
        [] => Err(Error::new(
            ErrorKind::Missing,
            "expected a .vmx in the folder, found none",
        )
        .in_file(path.display())),
        many => {
            let count = many.len();
            let listed: Vec<String> = many.iter().take(5).map(|name| shown(name)).collect();
            let message = format!(
                "expected one .vmx in the folder, found {count}: {}; name the one that is meant",
                listed.join(", ")
            );
            Err(Error::new(ErrorKind::Usage, message).in_file(path.display()))
        }
    }
}

/// Reads the `.vmx` and finds the files of its disks.
fn prepare_from(range: &FileRange, files: &Files) -> Result<Prepared> {
    let label = range.label().to_owned();
    let fallback_name = Path::new(&label)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let bytes = text::read_small(range)?;
    let Description {
        mut machine,
        disks: files_of_disks,
        mut warnings,
    } = machine::parse(&bytes, &fallback_name).map_err(|e| e.in_file(&label))?;
    for warning in &mut warnings {
        *warning = format!("{label}: {warning}");
    }
    let mut disks: Vec<PreparedDisk> = Vec::new();
    for DiskFile {
        mut disk,
        device,
        name,
    } in files_of_disks
    {
        let range = find(files, &label, &device, &name, &mut warnings)?;
        let same = |other: &PreparedDisk| {
            other.range.label() == range.label()
                || other.range.id().is_some_and(|id| Some(id) == range.id())
        };
        if disks.iter().any(same) {
            let message = format!(
                "{device} is `{}`, but {} is the file of another disk of the machine already; hint: keep the folders as \
                 they were, and name the one above them with --base-dir",
                shown(&name),
                range.label()
            );
            return Err(Error::new(ErrorKind::Missing, message).in_file(&label));
        }
        range.label().clone_into(&mut disk.label);
        machine.disks.push(disk);
        disks.push(PreparedDisk {
            range,
            capacity: None,
            format: None,
            files: files.clone(),
        });
    }
    Ok(Prepared {
        machine,
        disks,
        verifications: Vec::new(),
        warnings,
    })
}

/// The file that is named, where it is allowed; else the one of that name beside the `.vmx`.
fn find(
    files: &Files,
    vmx: &str,
    device: &str,
    name: &str,
    warnings: &mut Vec<String>,
) -> Result<FileRange> {
    let at_device = |e: image::Error| {
        let kind = match e.kind() {
            image::ErrorKind::Missing => ErrorKind::Missing,
            _ => return Error::from(e),
        };
        let name = shown(name);
        Error::new(
            kind,
            format!(
                "{device}: expected the disk `{name}` beside the .vmx, found none; hint: --base-dir allows the folder \
                 above both"
            ),
        )
        .in_file(vmx)
    };
    if let Ok(range) = files.find(vmx, Reference::Host(OsStr::new(name))) {
        return Ok(range);
    }
    let range = files
        .find(vmx, Reference::Foreign(name))
        .map_err(at_device)?;
    if name.contains(['/', '\\']) {
        let name = shown(name);
        warnings.push(format!(
            "{vmx}: {device}: taking {} for `{name}`",
            range.label()
        ));
    }
    Ok(range)
}
