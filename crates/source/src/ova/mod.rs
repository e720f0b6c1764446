//! Reads an OVF package: opens it, checks its descriptor against the manifest, finds the content of its disks.
//!
//! ```text
//! DiskFile ──> file | pieces | newest snapshot ──(gzip)──> FileRange ─┐
//!    └──parent──> opened, child over it ──────────────────────────────┴──> PreparedDisk
//! ```

mod delta;
mod neighbours;
mod pieces;

use std::path::Path;
use std::sync::Arc;

use image::formats::Format;
use image::{FileRange, Files, Packing, Unpack};
use types::CancelToken;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::manifest::{self, Entry, Verification};
use crate::open::SourceOptions;
use crate::ovf::{DiskFile, FileRef};
use crate::package::Package;
use crate::{Prepared, PreparedDisk, ovf, text};

use self::neighbours::Members;

/// A disk image may be this much larger than the disk (tables, a descriptor, metadata), in bytes and as a divisor of its
/// capacity; a packed one that unpacks to more is a bomb.
const MAX_OVERHEAD: u64 = 1 << 30;

/// Finds everything that is needed without opening the disk images themselves.
pub(crate) fn prepare(path: &Path, options: &SourceOptions) -> Result<Prepared> {
    let package = Package::open(path)?;
    let mut warnings = package.warnings.clone();
    let range = package.descriptor_range()?;
    let bytes = text::read_small(&range)?;
    let (mut verifications, unmatched) = verifications(&package, &range, &mut warnings)?;

    let at_descriptor = |e: Error| e.in_file(range.label());
    let fallback_name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let descriptor = text::decode(&bytes)
        .and_then(|text| ovf::parse(&text, &fallback_name, options.vm.as_deref()))
        .map_err(at_descriptor)?;
    let label = range.label();
    warnings.extend(
        descriptor
            .warnings
            .iter()
            .map(|warning| format!("{label}: {warning}")),
    );

    let mut finder = Finder {
        package: Arc::new(package),
        options,
        found: Vec::new(),
        warnings,
    };
    let mut machine = descriptor.machine;
    let mut disks = Vec::new();
    for (disk, file) in machine.disks.iter_mut().zip(descriptor.files) {
        let prepared = finder.disk(&file).map_err(at_descriptor)?;
        disk.label = prepared.range.label().to_owned();
        disks.push(prepared);
    }
    let Finder {
        package,
        found,
        mut warnings,
        ..
    } = finder;
    for (label, entry) in unmatched {
        // A manifest may state the hash of a chunked file as a whole.
        match found.iter().find(|(href, _)| *href == entry.name) {
            Some((_, range)) => verifications.push(Verification::new(entry, range.clone())),
            None => warnings.push(format!(
                "{label}: the manifest lists `{}`, which is missing",
                shown(&entry.name)
            )),
        }
    }
    verifications.extend(package.unverified());
    Ok(Prepared {
        machine,
        disks,
        verifications,
        warnings,
    })
}

/// Finds the content of disks.
struct Finder<'a> {
    package: Arc<Package>,
    options: &'a SourceOptions,
    /// Files that were put together, by reference.
    found: Vec<(String, FileRange)>,
    warnings: Vec<String>,
}

impl Finder<'_> {
    fn disk(&mut self, disk: &DiskFile) -> Result<PreparedDisk> {
        let Some(parent) = &disk.parent else {
            return self.one(disk);
        };
        // The parser has limited the number of parents.
        let parent = self.disk(parent)?;
        if disk.file.is_none() {
            return Ok(parent); // a delta that changes nothing
        }
        let child = self.one(disk)?;
        delta::over(child, parent, self.options.format)
    }

    /// The disk without its parent.
    fn one(&mut self, disk: &DiskFile) -> Result<PreparedDisk> {
        let Some(file) = &disk.file else {
            return delta::blank(disk);
        };
        let whole = self.whole(file)?;
        let packing = whole.packing()?;
        let range = match packing {
            _ if file.gzip && packing != Some(Packing::Gzip) => {
                let message = "expected gzip data (ovf:compression=\"gzip\"), found something else";
                return Err(Error::corrupt(message).in_file(whole.label()));
            }
            Some(packing) if !disk.raw || file.gzip => whole.unpacked_by(&Unpack {
                max_len: limit(disk.capacity),
                ..Unpack::new(packing)
            })?,
            _ => whole,
        };
        let files = match (&self.options.base_dir, self.package.is_archive()) {
            (Some(base), false) => Files::below(base),
            _ => Files::of(Arc::new(Members::new(Arc::clone(&self.package)))),
        };
        Ok(PreparedDisk {
            range,
            capacity: disk.capacity,
            format: disk.raw.then_some(Format::Raw),
            files,
        })
    }

    /// The file's bytes as the package has them, pieces put together.
    fn whole(&mut self, file: &FileRef) -> Result<FileRange> {
        let single = match file.chunk_size {
            Some(_) => None,
            None => self.package.find(&file.href)?,
        };
        let range = match single {
            Some(range) => range,
            None => match pieces::find(&self.package, file, &mut self.warnings)? {
                Some(range) => {
                    self.found.push((file.href.clone(), range.clone()));
                    range
                }
                None => {
                    let message = format!(
                        "missing disk: expected the file `{}`, found none",
                        shown(&file.href)
                    );
                    let error = Error::new(ErrorKind::Missing, message);
                    return Err(error.in_file(self.package.label()));
                }
            },
        };
        if let Some(stated) = file.size.filter(|&stated| stated != range.len()) {
            let found = range.len();
            self.warnings.push(format!(
                "{}: the descriptor states {stated} bytes, the file has {found}",
                range.label()
            ));
        }
        Ok(range)
    }
}

/// Longest image of a disk of this capacity.
fn limit(capacity: Option<u64>) -> u64 {
    match capacity {
        // Descriptors that state too small a capacity exist, and their images are read.
        Some(capacity) => capacity.saturating_mul(2).saturating_add(MAX_OVERHEAD),
        None => Unpack::new(Packing::Gzip).max_len,
    }
}

/// What is to be verified later, and manifest lines without a file, each with the manifest's label.
type Later = (Vec<Verification>, Vec<(String, Entry)>);

/// Checks the descriptor now, as it is small and about to be trusted; the rest is left for later.
fn verifications(
    package: &Package,
    descriptor: &FileRange,
    warnings: &mut Vec<String>,
) -> Result<Later> {
    let mut later = Vec::new();
    let mut unmatched = Vec::new();
    if let Some(name) = package.certificate()? {
        warnings.push(format!(
            "{}: the package is signed (`{}`); signatures are not verified, the manifest's hashes are",
            package.label(),
            shown(&name)
        ));
    }
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
                Ok(None) => unmatched.push((label.to_owned(), entry)),
                Err(e) => warnings.push(format!("{label}: ignoring a manifest line: {e}")),
            }
        }
    }
    Ok((later, unmatched))
}
