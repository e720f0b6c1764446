//! What is said of a conversion (`--report FILE`) and before one (`v2v inspect --json`): JSON with stable names.
//!
//! Names are only ever added; [`SCHEMA`] counts up when one changes its meaning or goes. Unless said otherwise a size
//! is in bytes, a path is the guest's, and a device is named as the storage map names it (`/dev/sda1` is the first
//! partition of the machine's first disk, whatever either kernel calls it).
//!
//! [`Report`], one object:
//!
//! | name | value |
//! |---|---|
//! | `schema` | [`SCHEMA`] |
//! | `v2v` | version of this program |
//! | `conversion` | `converted`, or `copied` where nothing was changed in the guest (`--compat`) |
//! | `source` | the machine as its source describes it, as `--print-source --json` prints it ([`types::Machine`]) |
//! | `guest` | the system as it was found ([`types::GuestInfo`]) |
//! | `steps` | list of `name`, `outcome` (`applied`, `not-needed`, `skipped`), `reason` ([`types::StepReport`]) |
//! | `changes` | list of `step`, `path`, `before`, `after` (SHA-256 or null), `why` ([`types::Change`]) |
//! | `warnings` | list of sentences: what the administrator has to look at |
//! | `concerns` | list of `severity` (`info`, `warning`, `blocker`), `what`, `fix`, the worst first ([`types::Concern`]) |
//! | `caps` | what the guest drives now and the new machine has ([`types::GuestCaps`]) |
//! | `boot_entries` | entries for the boot menu of UEFI ([`types::BootEntry`]) |
//! | `space` | list of `path`, `needed`, `found` ([`types::Space`]) |
//! | `disks` | list of `virtual_size` and `data_bytes`, what had to be copied of it at most |
//! | `target` | `files`, disks first, and `domain`, null where libvirt was not told of one |
//!
//! [`Inspection`] has the same names but `target`, with `guest` and `caps` null where nothing can be converted, and
//! besides: `convertible`, `systems` (every [`types::GuestInfo`] found) and `storage` ([`types::StorageMap`]).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use types::{
    BootEntry, Change, Concern, GuestCaps, GuestInfo, Machine, Space, StepReport, StorageMap,
};

/// Number of this form of both documents.
pub const SCHEMA: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of this program.
    pub v2v: String,
    /// What was done with the guest.
    pub conversion: Treatment,
    /// The machine as its source describes it.
    pub source: Machine,
    /// The system as it was found.
    pub guest: GuestInfo,
    /// What became of each step.
    pub steps: Vec<StepReport>,
    /// Every changed file.
    pub changes: Vec<Change>,
    /// What the administrator has to look at.
    pub warnings: Vec<String>,
    /// What is known about the guest, the worst first.
    pub concerns: Vec<Concern>,
    /// What the guest drives.
    pub caps: GuestCaps,
    /// For the firmware's boot menu.
    pub boot_entries: Vec<BootEntry>,
    /// Room taken in the guest.
    pub space: Vec<Space>,
    /// What was copied.
    pub disks: Vec<DiskBytes>,
    /// What was made.
    pub target: TargetFiles,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of this program.
    pub v2v: String,
    /// The same options with a target would succeed, as far as the guest goes.
    pub convertible: bool,
    /// What would be done with the guest.
    pub conversion: Treatment,
    /// The machine as its source describes it.
    pub source: Machine,
    /// What is on its disks; empty where even that could not be looked at.
    pub storage: StorageMap,
    /// Every system found.
    pub systems: Vec<GuestInfo>,
    /// The one that would be converted.
    pub guest: Option<GuestInfo>,
    /// What would become of each step.
    pub steps: Vec<StepReport>,
    /// Every file that would be changed.
    pub changes: Vec<Change>,
    /// What the administrator would have to look at.
    pub warnings: Vec<String>,
    /// What is known about the guest, the worst first; a blocker is why it is not convertible.
    pub concerns: Vec<Concern>,
    /// What the guest would drive.
    pub caps: Option<GuestCaps>,
    /// For the firmware's boot menu.
    pub boot_entries: Vec<BootEntry>,
    /// Room needed in the guest.
    pub space: Vec<Space>,
    /// What would be copied.
    pub disks: Vec<DiskBytes>,
}

/// What is done with a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// It is made to run on KVM.
    Converted,
    /// Its disks are copied and nothing in it is changed.
    Copied,
}

/// Size of a disk, and what there is to copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskBytes {
    /// What the guest sees.
    pub virtual_size: u64,
    /// What does not read as zero.
    pub data_bytes: u64,
}

/// What a conversion made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFiles {
    /// Files, disks first.
    pub files: Vec<PathBuf>,
    /// Name of the domain that libvirt knows now.
    pub domain: Option<String>,
}
