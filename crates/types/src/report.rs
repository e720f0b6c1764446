//! What a conversion says of itself (`--report FILE`) and of a guest (`v2v inspect`).

use serde::{Deserialize, Serialize};

/// One change to one file of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Name of the conversion step.
    pub step: String,
    /// Path in the guest, or `HKLM\\SYSTEM\\…` and the name of a value.
    pub path: String,
    /// SHA-256 of the content before, hexadecimal; `None` when the file did not exist. Of a registry value, the value
    /// as a .reg file has it.
    pub before: Option<String>,
    /// SHA-256 of the content after; `None` when the file was removed.
    pub after: Option<String>,
    /// Why, in one sentence for the administrator.
    pub why: String,
}

/// What became of one step of a conversion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Name of the step.
    pub name: String,
    /// What became of it.
    pub outcome: StepOutcome,
    /// Why it was not needed or skipped; empty when it was applied.
    pub reason: String,
}

/// See [`StepReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It changed something.
    Applied,
    /// There was nothing for it to do in this guest.
    NotNeeded,
    /// There was, but it could not be done.
    Skipped,
}

/// Room on a file system of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Where the guest mounts it.
    pub path: String,
    /// Bytes that the conversion took there.
    pub needed: u64,
    /// Bytes that were free before it, without the reserve for root.
    pub found: u64,
}

/// Something about a guest that its administrator should know before the conversion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concern {
    /// How bad it is.
    pub severity: Severity,
    /// What was found, in one sentence.
    pub what: String,
    /// What to do about it, if there is something.
    pub fix: Option<String>,
}

/// How bad a [`Concern`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// The guest will start, but something of it may not be as it was.
    Warning,
    /// It is not converted as it is.
    Blocker,
}
