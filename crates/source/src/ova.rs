//! Reads an OVF package: opens it, checks its descriptor against the manifest, finds the files of its disks.

use image::{FileRange, Files};
use std::path::Path;
use types::CancelToken;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::manifest::{self, Verification};
use crate::open::SourceOptions;
use crate::package::Package;
use crate::{Prepared, PreparedDisk, ovf, text};

/// Finds everything that is needed without opening the disk images themselves.
pub(crate) fn prepare(path: &Path, options: &SourceOptions) -> Result<Prepared> {
    let _ = options;
    let mut package = Package::open(path)?;
    let mut warnings = std::mem::take(&mut package.warnings);
    let range = package.descriptor_range()?;
    let bytes = text::read_small(&range)?;
    let verifications = verifications(&package, &range, &mut warnings)?;

    let at_descriptor = |e: Error| e.in_file(range.label());
    let fallback_name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let descriptor = text::decode(&bytes)
        .and_then(|text| ovf::parse(&text, &fallback_name))
        .map_err(at_descriptor)?;
    let label = range.label();
    warnings.extend(
        descriptor
            .warnings
            .iter()
            .map(|warning| format!("{label}: {warning}")),
    );

    let mut machine = descriptor.machine;
    let mut disks = Vec::new();
    for (disk, file) in machine.disks.iter_mut().zip(descriptor.files) {
        let Some(range) = package.find(&file.href).map_err(at_descriptor)? else {
            return Err(missing(&package, &file.href)?.in_file(package.label()));
        };
        if let Some(stated) = file.file_size.filter(|&stated| stated != range.len()) {
            let found = range.len();
            warnings.push(format!(
                "{}: the descriptor states {stated} bytes, the file has {found}",
                range.label()
            ));
        }
        disk.label = range.label().to_owned();
        disks.push(PreparedDisk {
            range,
            capacity: file.capacity,
            format: None,
            files: Files::none(),
        });
    }
    Ok(Prepared {
        machine,
        disks,
        verifications,
        warnings,
    })
}

/// Says that a disk is not there, and whether there are pieces of it.
fn missing(package: &Package, href: &str) -> Result<Error> {
    let pieces = package.find(&format!("{href}.000000000"))?.is_some();
    let hint = if pieces {
        "; there are pieces of it, but chunked disks are not supported"
    } else {
        ""
    };
    let message = format!(
        "missing disk: expected the file `{}`, found none{hint}",
        shown(href)
    );
    Ok(Error::new(ErrorKind::Missing, message))
}

/// Checks the descriptor now, as it is small and about to be trusted; the rest is left for later.
fn verifications(
    package: &Package,
    descriptor: &FileRange,
    warnings: &mut Vec<String>,
) -> Result<Vec<Verification>> {
    let mut later = Vec::new();
    for name in package.manifests()? {
        let Some(range) = package.get(&name)? else {
            continue;
        };
        let label = range.label();
        let bytes = text::read_small(&range)?;
        let (entries, bad_lines) = manifest::parse(&String::from_utf8_lossy(&bytes), label);
        warnings.extend(bad_lines);
        for entry in entries {
            if entry.name.strip_prefix("./").unwrap_or(&entry.name) == package.descriptor {
                Verification::new(entry, descriptor.clone()).run(&CancelToken::new(), &|_| {})?;
                continue;
            }
            match package.find(&entry.name) {
                Ok(Some(file)) => later.push(Verification::new(entry, file)),
                Ok(None) => {
                    warnings.push(format!(
                        "{label}: the manifest lists `{}`, which is missing",
                        shown(&entry.name)
                    ));
                }
                Err(e) => warnings.push(format!("{label}: ignoring a manifest line: {e}")),
            }
        }
    }
    Ok(later)
}
