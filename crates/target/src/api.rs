//! What the pipeline sees of a target.

use std::fmt;
use std::path::{Path, PathBuf};

use image::formats::OutputFormat;
use image::{BlockSink, Preallocation};
use types::{GuestCaps, GuestInfo, Machine};

use crate::{Result, libvirt, local, name, null, qemu};

/// Where the result goes (`-o`, `-os`, `-oc`, `-oo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// `-o local -os DIR`: disks and `NAME.xml` in a folder.
    Local {
        /// The folder.
        dir: PathBuf,
        /// `-oo nvram`: the firmware's boot menu goes into a file beside the disks, and the domain names the firmware of
        /// this host.
        nvram: bool,
    },
    /// `-o libvirt [-os POOL|DIR] [-oc URI]`: disks in a directory pool, the domain defined.
    Libvirt {
        /// `-os`: name of a pool, or a folder when it contains `/`. `None` is the pool `default`.
        pool_or_dir: Option<String>,
        /// `-oc`: connection URI. `None` is virsh's own default.
        uri: Option<String>,
    },
    /// `-o qemu -os DIR`: disks and `NAME.sh` in a folder.
    Qemu {
        /// The folder.
        dir: PathBuf,
        /// `-oo qemu-boot`: run the script when it is there.
        boot: bool,
    },
    /// `-o null`: everything is done and thrown away.
    Null,
}

/// Virtualisation of the domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DomainType {
    /// Hardware virtualisation.
    #[default]
    Kvm,
    /// Software emulation, where the host's KVM is absent or does not work.
    Qemu,
}

/// What is asked of a target.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Where the result goes.
    pub kind: TargetKind,
    /// `-of`.
    pub format: OutputFormat,
    /// `-oa`.
    pub preallocation: Preallocation,
    /// `-on`, or the name at the source. A `/` in it becomes `_`; control characters are refused.
    pub name: String,
    /// Replace files of an earlier result. A domain that libvirt knows is never replaced.
    pub overwrite: bool,
    /// `type` of the domain.
    pub domain_type: DomainType,
    /// Carry the SMBIOS UUID of the source over, for software that is licensed by it. Off by default: the source
    /// and its copy must not run under one UUID on the same host.
    pub keep_uuid: bool,
    /// Carry the SMBIOS strings of the source over (vendor, product, serial numbers), and the UUID with them.
    pub keep_smbios: bool,
}

impl TargetOptions {
    /// virt-v2v's defaults for everything but place and name: sparse qcow2, type kvm.
    pub fn new(kind: TargetKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            format: OutputFormat::Qcow2,
            preallocation: Preallocation::Sparse,
            name: name.into(),
            overwrite: false,
            domain_type: DomainType::Kvm,
            keep_uuid: false,
            keep_smbios: false,
        }
    }
}

impl fmt::Display for TargetKind {
    /// For messages: `folder /srv`, `libvirt pool default`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { dir, .. } => write!(f, "folder {}", dir.display()),
            Self::Libvirt { pool_or_dir, uri } => {
                let place = pool_or_dir.as_deref().unwrap_or(libvirt::DEFAULT_POOL);
                let kind = if libvirt::is_dir(place) {
                    "folder"
                } else {
                    "pool"
                };
                write!(f, "libvirt {kind} {place}")?;
                uri.as_ref().map_or(Ok(()), |uri| write!(f, " at {uri}"))
            }
            Self::Qemu { dir, .. } => write!(f, "folder {} for QEMU", dir.display()),
            Self::Null => f.write_str("null"),
        }
    }
}

/// What is known before any work.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The machine, with the networks that it will be connected to.
    pub machine: &'a Machine,
    /// What the converted guest can drive, as soon as that is known.
    pub caps: Option<&'a GuestCaps>,
    /// For each disk the bytes that a sparse copy is expected to take. A disk without an estimate counts with its
    /// whole capacity.
    pub estimated_bytes: Vec<u64>,
}

/// What is known when every sink has finished.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What the converted guest can drive.
    pub caps: &'a GuestCaps,
    /// The guest, where one was inspected.
    pub guest: Option<&'a GuestInfo>,
    /// The firmware's boot menu, the first entry first: EFI_LOAD_OPTIONs (UEFI 2.10, section 3.1.3).
    pub boot_options: &'a [Vec<u8>],
}

/// The result under its final name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Files, disks first. For a pool of a remote host: the paths there.
    pub files: Vec<PathBuf>,
    /// Name of the domain that libvirt knows now.
    pub domain: Option<String>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
}

/// A place for one converted guest. Dropping it before [`finalise`](Self::finalise) has succeeded removes
/// everything that it made.
pub trait Target: Send + fmt::Debug {
    /// Refuses what can be known to fail, before any work: a taken name, too little room, absent networks, a
    /// host that lacks what the machine needs. May be called again with a better plan.
    fn check(&mut self, plan: &Plan<'_>) -> Result<()>;

    /// The one folder for temporary files of this conversion, mode 0700, on the file system of the result. The
    /// names `lock`, `placing` and `result` in it belong to the target; every other name is the caller's.
    fn scratch_dir(&self) -> &Path;

    /// A sink for disk `index` of the machine.
    fn create_disk(&mut self, index: u32, virtual_size: u64) -> Result<Box<dyn BlockSink>>;

    /// Writes the metadata and gives everything its final name. All sinks have finished. After this the scratch
    /// folder is gone, whatever the outcome.
    fn finalise(&mut self, finished: &Finished<'_>) -> Result<Placed>;
}

/// Checks the options, looks at the destination and makes the scratch folder there.
///
/// Leftovers of earlier runs for the same name whose process is dead are removed first.
pub fn prepare(options: TargetOptions) -> Result<Box<dyn Target>> {
    let name = name::clean(&options.name)?;
    let options = &options;
    match &options.kind {
        TargetKind::Local { dir, nvram } => Ok(Box::new(local::LocalTarget::prepare(
            options, name, dir, *nvram,
        )?)),
        TargetKind::Libvirt { pool_or_dir, uri } => Ok(Box::new(libvirt::LibvirtTarget::prepare(
            options,
            name,
            pool_or_dir.as_deref(),
            uri.as_deref(),
        )?)),
        TargetKind::Qemu { dir, boot } => Ok(Box::new(qemu::QemuTarget::prepare(
            options, name, dir, *boot,
        )?)),
        TargetKind::Null => Ok(Box::new(null::NullTarget::prepare(name)?)),
    }
}
