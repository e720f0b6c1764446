//! What is to be converted, how, and to where.

use std::path::PathBuf;

use source::{SourceKind, SourceOptions};
use target::TargetOptions;
use types::StaticIp;

use crate::NetworkRules;

/// One conversion. The command line's options are this, parsed.
#[derive(Debug)]
pub struct Job {
    /// `-i` and its arguments.
    pub source: SourceKind,
    /// `-if`.
    pub source_options: SourceOptions,
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
    pub changes: usize,
}
