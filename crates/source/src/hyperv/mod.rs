//! Hyper-V machines: `.vmcx` and the older `.xml` (`-i hyperv`).
//!
//! ```text
//! folder ──find──> .vmcx ──vmcx──┐
//!                  .xml ───xml───┴─> tree ──machine──> Machine + Windows paths ──below──> files
//! ```
//!
//! The configuration names the newest file of each chain of checkpoints; the format follows the chain, and finds the
//! parents below the same folder. What is in a saved state is not carried over.

mod find;
mod machine;
mod tree;
mod vmcx;
mod xml;

#[cfg(test)]
mod tests;

pub(crate) use find::parse;

use std::path::Path;

use crate::below::Below;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::open::SourceOptions;
use crate::{Prepared, PreparedDisk};

/// Folder of the configuration in an export, beside the one of the disks.
const MACHINES: &str = "Virtual Machines";

/// Reads the machine; its disks are not opened yet.
pub(crate) fn prepare(path: &Path, options: &SourceOptions) -> Result<Prepared> {
    let wanted = options.vm.as_deref();
    let meta =
        std::fs::metadata(path).map_err(|e| Error::io("opening", e).in_file(path.display()))?;
    let (found, mut warnings, root) = if meta.is_dir() {
        let (found, warnings) = find::choose(path, wanted)?;
        (found, warnings, path)
    } else {
        let found = find::read(path)?.ok_or_else(|| {
            let message = "expected the configuration of a Hyper-V machine, .vmcx or .xml, found another file";
            Error::corrupt(message).in_file(path.display())
        })?;
        (found, Vec::new(), folder_of_machine(path))
    };
    if let Some(wanted) = wanted.filter(|wanted| !find::is_wanted(&found, wanted)) {
        let message = format!(
            "expected the machine `{}`, found {}",
            shown(wanted),
            find::list(std::slice::from_ref(&found))
        );
        return Err(Error::new(ErrorKind::Usage, message).in_file(path.display()));
    }
    let file = found.path.display().to_string();
    let configuration = found.configuration;
    if !configuration.is_machine {
        warnings.push("this is the configuration of a checkpoint: what the machine did after it is not in its disks".to_owned());
    }
    warnings.extend(configuration.warnings);
    if found.path.with_extension("vsv").exists() {
        warnings.push(
            "the machine is in a saved state, which is not carried over: its guest will find its disks as after a \
             power failure"
                .to_owned(),
        );
    }
    let mut machine = configuration.machine;
    let root = options.base_dir.as_deref().unwrap_or(root);
    let (below, files) = Below::open(root, folder_of(&found.path))?.into_files();
    let mut disks = Vec::new();
    for disk in &mut machine.disks {
        let range = below
            .find(&disk.label)
            .map_err(|e| e.in_file(&file))?
            .ok_or_else(|| missing(&disk.label, root).in_file(&file))?;
        disk.label = range.label().to_owned();
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
        warnings: warnings
            .into_iter()
            .map(|warning| format!("{file}: {warning}"))
            .collect(),
    })
}

fn missing(path: &str, root: &Path) -> Error {
    let message = format!(
        "missing disk: expected `{}` below {}, found none; hint: copy it there, or name the folder that holds it with \
         --base-dir",
        shown(path),
        root.display()
    );
    Error::new(ErrorKind::Missing, message)
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The folder that holds everything of the machine whose configuration this is.
fn folder_of_machine(path: &Path) -> &Path {
    let folder = folder_of(path);
    let in_machines = folder
        .file_name()
        .is_some_and(|name| name.eq_ignore_ascii_case(MACHINES));
    match folder.parent() {
        Some(parent) if in_machines && parent == Path::new("") => Path::new("."),
        Some(parent) if in_machines => parent,
        _ => folder,
    }
}
