//! The entry point: opens a source of any kind.

use std::path::PathBuf;
use std::sync::Arc;

use image::formats::{self, Format};
use image::{BlockSource, FileRange};
use types::Machine;

use crate::error::{Error, Result};
use crate::{Verification, disk, ova};

/// Where a machine comes from (`-i`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceKind {
    /// `-i ova`: a tar archive, a folder with one `.ovf`, or the `.ovf` itself.
    Ova(PathBuf),
    /// `-i disk`: disk images of one machine, first disk first.
    Disk(Vec<PathBuf>),
}

/// How to open it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// `-if`: format of the disks; without it, content decides.
    pub format: Option<Format>,
}

/// An opened source. Disks are read while it lives; nothing was written.
#[derive(Debug)]
pub struct Opened {
    /// The machine as its source describes it, with the sizes that its disk images have.
    pub machine: Machine,
    /// The disks in the order of the machine's.
    pub disks: Vec<Arc<dyn BlockSource>>,
    /// Hashes still to be compared; the conversion may not finish before they pass.
    pub verifications: Vec<Verification>,
    /// What the administrator should know.
    pub warnings: Vec<String>,
}

/// A source of which everything but the disk images has been read.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) machine: Machine,
    pub(crate) disks: Vec<PreparedDisk>,
    pub(crate) verifications: Vec<Verification>,
    pub(crate) warnings: Vec<String>,
}

/// The bytes of a disk image.
#[derive(Debug)]
pub(crate) struct PreparedDisk {
    pub(crate) range: FileRange,
    /// Capacity that the metadata state, in bytes.
    pub(crate) capacity: Option<u64>,
}

/// Opens a source: reads its metadata and the tables of its disk images, no data.
pub fn open(kind: &SourceKind, options: &SourceOptions) -> Result<Opened> {
    let prepared = match kind {
        SourceKind::Ova(path) => ova::prepare(path)?,
        SourceKind::Disk(paths) => disk::prepare(paths)?,
    };
    let Prepared {
        mut machine,
        disks: ranges,
        verifications,
        mut warnings,
    } = prepared;
    let mut disks = Vec::with_capacity(ranges.len());
    for (disk, PreparedDisk { range, capacity }) in machine.disks.iter_mut().zip(ranges) {
        let label = range.label().to_owned();
        let source = formats::open_range(range, options.format)
            .map_err(|e| Error::from(e.in_file(&label)))?;
        disk.virtual_size = source.virtual_size();
        if let Some(stated) = capacity.filter(|&stated| stated != disk.virtual_size) {
            let found = disk.virtual_size;
            warnings.push(format!("{label}: the descriptor states {stated} bytes, the image holds {found}; taking the image's"));
        }
        disks.push(source);
    }
    Ok(Opened {
        machine,
        disks,
        verifications,
        warnings,
    })
}
