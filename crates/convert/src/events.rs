//! What a conversion tells whoever started it.

use types::GuestInfo;

/// The stages, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The source's metadata and disk tables are read.
    Open,
    /// The target is asked whether it can take the machine.
    Check,
    /// The appliance starts.
    Launch,
    /// The guest is described.
    Inspect,
    /// The guest is changed, in the overlay.
    Convert,
    /// What its file systems do not use is discarded.
    Trim,
    /// Disks are written.
    Copy,
    /// Manifest hashes are awaited.
    Verify,
    /// Metadata are written and everything gets its final name.
    Finish,
}

impl Stage {
    /// Stable word for machine-readable output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Check => "check",
            Self::Launch => "launch",
            Self::Inspect => "inspect",
            Self::Convert => "convert",
            Self::Trim => "trim",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Finish => "finish",
        }
    }
}

/// How far the copy of one disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskProgress {
    /// Index of the disk, from 0.
    pub disk: usize,
    /// Number of disks.
    pub disks: usize,
    /// Bytes copied.
    pub copied_bytes: u64,
    /// Bytes that will be copied; what reads as zero is not counted.
    pub total_bytes: u64,
}

/// Receiver of events. Calls come from several threads and must return soon.
pub trait Events: Send + Sync {
    /// A stage begins; `text` is the line for people.
    fn stage(&self, stage: Stage, text: &str);
    /// A step within the conversion begins.
    fn step(&self, name: &str);
    /// The appliance answered after `hello_ms` under `accel` (`kvm` or `tcg`).
    fn appliance(&self, hello_ms: u64, accel: &str);
    /// The copy of a disk moved on.
    fn disk(&self, progress: DiskProgress);
    /// Something that is good to know and no cause for concern.
    fn note(&self, text: &str);
    /// Something that the administrator should look at; the conversion goes on.
    fn warning(&self, text: &str);
    /// A line for the log (`-v`).
    fn log(&self, line: &str);
    /// Several operating systems were found and `--root ask` holds: which one? `None` when nobody can be asked.
    fn choose_root(&self, guests: &[GuestInfo]) -> Option<usize>;
}
