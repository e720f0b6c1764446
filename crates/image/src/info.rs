//! What an image says of itself, for `v2v image info` and `check`.

/// Facts about one image, its parents not included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// The variant in the format's own words: `streamOptimized`, `dynamic`, `differencing`; empty where there is
    /// but one.
    pub variant: String,
    /// Bytes of the unit in which the format allocates: cluster, grain, block.
    pub cluster_size: Option<u64>,
    /// The parent's name as the image writes it.
    pub parent_name: Option<String>,
    /// The parent's format as the image states it, in qemu-img's word.
    pub parent_format: Option<String>,
    /// Files that the image consists of besides the one that was opened, by label.
    pub files: Vec<String>,
    /// Internal snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Everything else, in the format's own words and order, as `qemu-img info` lists "format specific information".
    pub facts: Vec<(&'static str, Fact)>,
}

/// The value of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// Words.
    Text(String),
    /// A count, or bytes where the name says so.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Several.
    List(Vec<Fact>),
    /// A group of facts.
    Group(Vec<(&'static str, Fact)>),
}

/// An internal snapshot of a qcow2 image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Identifier, unique in the image.
    pub id: String,
    /// Name given by the user.
    pub name: String,
    /// Bytes of saved machine state.
    pub vm_state_size: u64,
    /// When it was made: seconds since 1970.
    pub date_sec: u64,
    /// The same, nanoseconds.
    pub date_nsec: u32,
    /// How long the guest had run, in nanoseconds.
    pub vm_clock_nsec: u64,
}

/// Something wrong with an image's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What sort.
    pub kind: FindingKind,
    /// What was expected and what was found, with the offset; one line.
    pub message: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindingKind {
    /// The content that the guest sees is wrong or in danger.
    Corruption,
    /// Space of the file that nothing refers to.
    Leak,
}

/// What a check of the metadata found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataCheck {
    /// Everything that is wrong, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Number of all corruptions, listed or not.
    pub corruptions: u64,
    /// Number of all leaked units, listed or not.
    pub leaks: u64,
}

/// Findings that are listed; a broken table can have millions.
pub const MAX_FINDINGS: usize = 1000;

impl MetadataCheck {
    /// Notes something; a leak of `units` units, or one corruption.
    pub fn note(&mut self, kind: FindingKind, units: u64, message: impl Into<String>) {
        match kind {
            FindingKind::Corruption => self.corruptions += units,
            FindingKind::Leak => self.leaks += units,
        }
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding {
                kind,
                message: message.into(),
            });
        }
    }

    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0
    }
}
