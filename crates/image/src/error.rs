//! The one error of this crate: a small kind to match on, the place it happened, and what was expected.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is, for callers that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    Io,
    /// The file ends before its own metadata say it does.
    Truncated,
    /// The content contradicts its specification.
    Corrupt,
    /// A valid feature that this program does not read; the message names it.
    Unsupported,
    /// A declared size or count is beyond what is accepted.
    Limit,
    /// A file that the image needs is not there.
    Missing,
    /// No space left for the output.
    NoSpace,
    /// The caller asked for something that cannot be: a range past the end, a misaligned write.
    Usage,
    /// A [`CancelToken`](types::CancelToken) was raised.
    Cancelled,
}

/// A failure: `FILE: at 0xOFFSET: MESSAGE`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    label: Option<String>,
    offset: Option<u64>,
    message: String,
    source: Option<io::Error>,
}

impl Error {
    /// A failure of this kind; `message` is lowercase and says what was expected and what was found.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            label: None,
            offset: None,
            message: message.into(),
            source: None,
        }
    }

    /// Content that contradicts its specification.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A feature by name that is not supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A failed system call; `doing` is a doing-word with its object: `reading`, `opening the scratch file`.
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::UnexpectedEof => ErrorKind::Truncated,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Io,
        };
        Self {
            kind,
            label: None,
            offset: None,
            message: doing.into(),
            source: Some(source),
        }
    }

    /// The operation was cancelled.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Names the file (or archive member) unless one is named already.
    #[must_use]
    pub fn in_file(mut self, label: impl fmt::Display) -> Self {
        self.label.get_or_insert_with(|| label.to_string());
        self
    }

    /// Names the file by path unless one is named already.
    #[must_use]
    pub fn in_path(self, path: impl Into<PathBuf>) -> Self {
        self.in_file(path.into().display())
    }

    /// Gives the byte offset within the file unless one is given already.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset.get_or_insert(offset);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Byte offset within the file, where one is known.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(label) = &self.label {
            write!(f, "{label}: ")?;
        }
        if let Some(offset) = self.offset {
            write!(f, "at {offset:#x}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
