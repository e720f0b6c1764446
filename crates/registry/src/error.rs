//! The one error of this crate.

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is, for callers that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes contradict the format.
    Corrupt,
    /// It was not closed cleanly, and its logs do not repair it.
    Dirty,
    /// A valid feature or version that this program does not handle; the message names it.
    Unsupported,
    /// A key that is not there.
    NotFound,
    /// A length or count is beyond what the format or this program accepts.
    Limit,
}

/// A failure: what was expected and what was found, with the offset in the file where there is one.
#[derive(Debug, thiserror::Error)]
#[error("{}{message}", offset.map(|at| format!("offset {at:#x}: ")).unwrap_or_default())]
pub struct Error {
    /// What sort of failure it is.
    pub kind: ErrorKind,
    /// Offset in the file, in bytes.
    pub offset: Option<u64>,
    /// What was expected and what was found.
    pub message: String,
}

impl Error {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            offset: None,
            message: message.into(),
        }
    }

    /// Where in the file.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}
