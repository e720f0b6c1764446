//! The one error of this crate: a small kind to match on, the path in the guest, and what was expected.

use std::fmt;
use std::io;

use crate::linux::escapes::printable;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is, for callers that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    Io,
    /// The file or directory does not exist.
    NotFound,
    /// The content contradicts its format.
    Corrupt,
    /// A valid feature that this program does not handle; the message names it.
    Unsupported,
    /// A file or count is beyond what is accepted.
    Limit,
    /// A file system of the guest is too full.
    NoSpace,
    /// The guest is in a state in which it must not be converted; the message says what to do.
    Refused,
}

/// A failure: `PATH: MESSAGE`, the operating system's reason as its source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    path: Option<String>,
    message: String,
    source: Option<io::Error>,
}

impl Error {
    /// A failure of this kind; `message` is lowercase and says what was expected and what was found.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            path: None,
            message: message.into(),
            source: None,
        }
    }

    /// Content that contradicts its format.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A feature by name that is not handled.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A failed system call; `doing` is a doing-word with its object.
    pub fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        };
        Self {
            kind,
            path: None,
            message: doing.into(),
            source: Some(source),
        }
    }

    /// Names the path in the guest unless one is named already.
    #[must_use]
    pub fn at(mut self, path: impl fmt::Display) -> Self {
        self.path.get_or_insert_with(|| path.to_string());
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Path in the guest, where one is known.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The message with the reason behind it, for warnings.
    pub(crate) fn chain(&self) -> String {
        match &self.source {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", printable(path))?;
        }
        f.write_str(&printable(&self.message))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
