//! Which of the configurations below a folder is meant.
//!
//! ```text
//! EXPORT/NAME/Virtual Machines/GUID.vmcx (or GUID.xml), GUID.vmrs, GUID.vmgs
//!            /Virtual Hard Disks/x.vhdx, x_GUID.avhdx
//!            /Snapshots/GUID.vmcx, GUID.vmrs            checkpoints, which are no machines
//! ```

use std::path::{Path, PathBuf};

use image::FileRange;

use crate::below;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::hyperv::machine::{self, Configuration};
use crate::hyperv::{vmcx, xml};
use crate::{ids, text};

/// Largest configuration that is read, in bytes. Real ones are below 1 MiB.
const MAX_FILE_SIZE: u64 = 16 << 20;
/// Machines that a message lists.
const MAX_LISTED: usize = 20;

/// A configuration and its file.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) configuration: Configuration,
}

/// Reads a file; `None` when it is none of Hyper-V's.
pub(crate) fn read(path: &Path) -> Result<Option<Found>> {
    let range = FileRange::open(path)?;
    let named = |e: Error| e.in_file(path.display());
    if range.len() > MAX_FILE_SIZE {
        let message = format!(
            "expected a configuration of at most {MAX_FILE_SIZE} bytes, found {}",
            range.len()
        );
        return Err(named(Error::new(ErrorKind::Limit, message)));
    }
    let len = usize::try_from(range.len()).unwrap_or(usize::MAX);
    let bytes = range.read_vec(0, len)?;
    let configuration = parse(&bytes).map_err(named)?;
    Ok(configuration.map(|configuration| Found {
        path: path.to_owned(),
        configuration,
    }))
}

/// Reads either kind of configuration; content decides.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Configuration>> {
    if let Some((tree, warnings)) = vmcx::parse(bytes)? {
        let mut configuration = machine::read(&tree)?;
        configuration.warnings.extend(warnings);
        return Ok(Some(configuration));
    }
    if !crate::sniff::is_xml(bytes.get(..256).unwrap_or(bytes)) {
        return Ok(None);
    }
    match xml::parse(&text::decode(bytes)?)? {
        Some(tree) => machine::read(&tree).map(Some),
        None => Ok(None),
    }
}

/// The machine below `folder` that `wanted`, a name or GUID, means; the only one without it.
pub(crate) fn choose(folder: &Path, wanted: Option<&str>) -> Result<(Found, Vec<String>)> {
    let mut machines: Vec<Found> = Vec::new();
    let mut broken: Vec<Error> = Vec::new();
    for relative in below::files_below(folder)? {
        if !is_candidate(&relative) {
            continue;
        }
        match read(&folder.join(&relative)) {
            Ok(Some(found)) if found.configuration.is_machine => add(&mut machines, found),
            Ok(_) => {}
            Err(error) => broken.push(error),
        }
    }
    let listed = list(&machines);
    if let Some(wanted) = wanted {
        machines.retain(|found| is_wanted(found, wanted));
    }
    match (machines.len(), broken.is_empty()) {
        (1, _) => {}
        (0, false) => return Err(broken.swap_remove(0)),
        (0, true) if listed.is_empty() => {
            let message = "expected the configuration of a Hyper-V machine, .vmcx or .xml, below the folder, found none";
            return Err(Error::new(ErrorKind::Missing, message).in_file(folder.display()));
        }
        (count, _) => {
            let found = match count {
                0 => "none of this name",
                _ => "several machines",
            };
            let message = format!("expected one machine, found {found}; choose by --vm: {listed}");
            return Err(Error::new(ErrorKind::Usage, message).in_file(folder.display()));
        }
    }
    let warnings = broken
        .iter()
        .map(|error| format!("ignoring a configuration: {error}"))
        .collect();
    Ok((machines.swap_remove(0), warnings))
}

/// By extension, outside of the folders of checkpoints.
fn is_candidate(relative: &Path) -> bool {
    let extension = relative
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let in_snapshots = relative.parent().is_some_and(|parent| {
        parent
            .components()
            .any(|part| part.as_os_str().eq_ignore_ascii_case("Snapshots"))
    });
    !in_snapshots
        && ["vmcx", "xml"]
            .iter()
            .any(|e| extension.eq_ignore_ascii_case(e))
}

/// A machine whose `.vmcx` and `.xml` lie side by side is one machine: the `.vmcx`, which Hyper-V itself reads.
fn add(machines: &mut Vec<Found>, found: Found) {
    let is_vmcx = |found: &Found| {
        found
            .path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("vmcx"))
    };
    let same = |other: &Found| match (&other.configuration.id, &found.configuration.id) {
        (Some(a), Some(b)) => a == b,
        // What packer writes beside the `.vmcx` has no GUID.
        _ => {
            other.configuration.machine.name == found.configuration.machine.name
                && other.path.parent() == found.path.parent()
        }
    };
    match machines
        .iter_mut()
        .find(|other| is_vmcx(other) != is_vmcx(&found) && same(other))
    {
        Some(other) if is_vmcx(other) => {}
        Some(other) => *other = found,
        None => machines.push(found),
    }
}

/// True when the machine has this name or GUID.
pub(crate) fn is_wanted(found: &Found, wanted: &str) -> bool {
    let configuration = &found.configuration;
    configuration
        .machine
        .name
        .to_lowercase()
        .eq(&wanted.to_lowercase())
        || (configuration.id.is_some() && configuration.id == ids::uuid(wanted))
}

/// Names and GUIDs for a message.
pub(crate) fn list(machines: &[Found]) -> String {
    let mut names: Vec<String> = machines
        .iter()
        .take(MAX_LISTED)
        .map(|found| {
            let id = found.configuration.id.as_deref().unwrap_or("no GUID");
            format!("`{}` ({id})", shown(&found.configuration.machine.name))
        })
        .collect();
    if machines.len() > MAX_LISTED {
        names.push(format!("{} more", machines.len() - MAX_LISTED));
    }
    names.join(", ")
}
