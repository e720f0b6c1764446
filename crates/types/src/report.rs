//! The change report (`--report FILE`).

use serde::{Deserialize, Serialize};

/// One change to one file of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Name of the conversion step.
    pub step: String,
    /// Path in the guest.
    pub path: String,
    /// SHA-256 of the content before, hexadecimal; `None` when the file did not exist.
    pub before: Option<String>,
    /// SHA-256 of the content after; `None` when the file was removed.
    pub after: Option<String>,
    /// Why, in one sentence for the administrator.
    pub why: String,
}
