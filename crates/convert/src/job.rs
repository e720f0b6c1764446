//! What is to be converted, how, and to where.

use std::path::PathBuf;

use source::{SourceKind, SourceOptions};
use target::TargetOptions;
use types::{BlockBus, CancelToken, Change, Customise, GuestInfo, StaticIp, StepReport};

use crate::{NetworkRules, Result};

/// A source and what is to be done with it. The command line's options are this, parsed.
#[derive(Debug)]
pub struct Job {
    /// `-i` and its arguments.
    pub source: SourceKind,
    /// `-if`.
    pub source_options: SourceOptions,
    /// All else.
    pub conversion: Conversion,
}

/// How a machine is converted, and to where.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// `-o`, `-os`, `-of`, `-oa`. Its name is set from `name` or the source.
    pub target: TargetOptions,
    /// `-on`: name of the result instead of the source's.
    pub name: Option<String>,
    /// `--network`, `--bridge`, `--mac MAC:network|bridge:…`.
    pub networks: NetworkRules,
    /// `--mac MAC:ip:…`.
    pub static_ips: Vec<StaticIp>,
    /// `--root`.
    pub root: RootChoice,
    /// `--no-fstrim`.
    pub trim: Trim,
    /// `--key`.
    pub keys: Vec<appliance::Key>,
    /// `--memsize`, `--smp`.
    pub appliance: ApplianceOptions,
    /// `--parallel`: disks copied at the same time.
    pub parallel: usize,
    /// `--report`.
    pub report: Option<PathBuf>,
    /// `--compat`, `--on-unknown`: what becomes of a guest that is not converted.
    pub unknown: Unknown,
    /// `--block-driver`.
    pub block_driver: Option<BlockBus>,
    /// virt-customize's options, in the order of the command line.
    pub customise: Vec<Customise>,
    /// Files of this host that `customise` names.
    pub payload: Vec<PayloadFile>,
    /// `--qemu-ga`: a package of the guest agent on this host.
    pub qemu_ga: Option<PathBuf>,
    /// `--allow-guest-code`.
    pub allow_guest_code: bool,
    /// `--virtio-win`, `$VIRTIO_WIN`: folder or ISO with drivers for Windows.
    pub virtio_win: Option<PathBuf>,
    /// `--force-hibernated`.
    pub force_hibernated: bool,
}

/// A file or folder of this host that goes into the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFile {
    /// Name that [`Customise`] uses for it.
    pub name: String,
    /// Where it is on this host.
    pub path: PathBuf,
}

/// What becomes of a guest that this program cannot convert: an unknown system, an appliance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// It is refused; the message offers the other choices.
    #[default]
    Refuse,
    /// Its disks are copied unchanged and it gets devices that every system drives (`--on-unknown=copy`).
    Copy,
    /// Any guest is treated so, convertible or not (`--compat`).
    CopyAlways,
}

/// Which operating system to convert when there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RootChoice {
    /// Ask on the terminal; refuse where there is none.
    #[default]
    Ask,
    /// Refuse.
    Single,
    /// Take the first.
    First,
    /// The one on this device.
    Device(String),
}

/// What is trimmed before the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Every file system but those mounted at these places.
    AllBut(Vec<String>),
    /// Nothing.
    Nothing,
}

/// Size of the appliance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplianceOptions {
    /// Memory in MiB.
    pub memsize_mib: Option<u64>,
    /// Virtual CPUs.
    pub smp: Option<u32>,
}

/// What a conversion produced.
#[derive(Debug)]
pub struct Outcome {
    /// Files and domain, as the target placed them.
    pub placed: target::Placed,
    /// Changes made in the guest.
    pub changes: Vec<Change>,
    /// What became of each step.
    pub steps: Vec<StepReport>,
    /// The guest as it was found.
    pub guest: GuestInfo,
}

/// Asked when all disks are copied and before anything gets its final name: may the conversion be called a success?
pub trait Gate: Sync {
    /// An error is the conversion's; [`Error::Source`](crate::Error) or [`Error::Refused`](crate::Error).
    fn before_finish(&self, events: &dyn crate::Events, cancel: &CancelToken) -> Result<()>;
}

/// The gate of sources that have nothing to say then.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl Gate for Open {
    fn before_finish(&self, _: &dyn crate::Events, _: &CancelToken) -> Result<()> {
        Ok(())
    }
}
