//! The entry point: opens a source of any kind.

use std::path::PathBuf;
use std::sync::Arc;

use image::formats::{self, Format, OpenOptions};
use image::{BlockSource, FileRange, Files};
use types::Machine;

use crate::error::{Error, Result};
use crate::{Verification, disk, hyperv, libvirt, ova, vbox, vmx};

/// Where a machine comes from (`-i`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceKind {
    /// `-i ova`: a tar archive, a folder with one `.ovf`, or the `.ovf` itself.
    Ova(PathBuf),
    /// `-i disk`: disk images of one machine, first disk first. An `nbd://` or `nbd+unix://` URI is one too.
    Disk(Vec<PathBuf>),
    /// `-i vmx`: a VMware virtual machine by its `.vmx` file.
    Vmx(VmxPlace),
    /// `-i libvirtxml`: a libvirt domain by its XML in a file; the disks are local.
    LibvirtXml(PathBuf),
    /// `-i libvirt`: a domain of a libvirt connection, asked through virsh; the disks are local.
    Libvirt {
        /// `-ic URI`; `None` is virsh's default.
        uri: Option<String>,
        /// Name, UUID or id of the domain.
        domain: String,
    },
    /// `-i hyperv`: an exported or copied Hyper-V machine: its folder, its `.vmcx` or its old `.xml`.
    HyperV(PathBuf),
    /// `-i vbox`: a VirtualBox machine: its folder or its `.vbox`.
    Vbox(PathBuf),
}

/// Where a `.vmx` and the disks beside it are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VmxPlace {
    /// A file of this host.
    File(PathBuf),
    /// `-it ssh`: on an ESXi host, read through the system's ssh.
    Ssh(SshPlace),
}

/// A file that is read through ssh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshPlace {
    /// `ssh://[USER@]HOST[:PORT]/vmfs/volumes/…/x.vmx`.
    pub uri: String,
    /// `-ip`: file whose first line is the password; without one ssh asks, or uses keys and the agent.
    pub password_file: Option<PathBuf>,
    /// Program that prints the first line of the file that [`PASSWORD_FILE_VARIABLE`](crate::PASSWORD_FILE_VARIABLE)
    /// names: ssh takes passwords from a terminal or from such a program only.
    pub askpass: Option<PathBuf>,
    /// `-io ssh=PATH`: the program instead of `ssh`.
    pub program: Option<PathBuf>,
}

/// How to open it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// `-if`: format of the disks; without it, content decides.
    pub format: Option<Format>,
    /// `--vm`: which machine of a source that holds several.
    pub vm: Option<String>,
    /// `--base-dir`: images may name files anywhere below this directory, not only beside themselves.
    pub base_dir: Option<PathBuf>,
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
    /// Format that the metadata state; the user's word goes before it, content decides without either.
    pub(crate) format: Option<Format>,
    /// Where the parents and extents that the image names are.
    pub(crate) files: Files,
}

/// Opens a source: reads its metadata and the tables of its disk images, no data.
pub fn open(kind: &SourceKind, options: &SourceOptions) -> Result<Opened> {
    let prepared = match kind {
        SourceKind::Ova(path) => ova::prepare(path, options)?,
        SourceKind::Disk(paths) => disk::prepare(paths, options)?,
        SourceKind::Vmx(place) => vmx::prepare(place, options)?,
        SourceKind::LibvirtXml(path) => libvirt::prepare_file(path, options)?,
        SourceKind::Libvirt { uri, domain } => libvirt::prepare(uri.as_deref(), domain, options)?,
        SourceKind::HyperV(path) => hyperv::prepare(path, options)?,
        SourceKind::Vbox(path) => vbox::prepare(path, options)?,
    };
    let Prepared {
        mut machine,
        disks: ranges,
        verifications,
        mut warnings,
    } = prepared;
    let mut disks = Vec::with_capacity(ranges.len());
    for (disk, prepared) in machine.disks.iter_mut().zip(ranges) {
        let PreparedDisk {
            range,
            capacity,
            format,
            files,
        } = prepared;
        let label = range.label().to_owned();
        let how = OpenOptions {
            format: options.format.or(format),
            files: Some(files),
            snapshot: None,
        };
        let source =
            formats::open_range(range, &how).map_err(|e| Error::from(e.in_file(&label)))?;
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
