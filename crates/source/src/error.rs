//! The one error of this crate: a small kind to match on, the file it happened in, and what was expected.

use std::fmt;
use std::io;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is, for callers that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    Io,
    /// A file that is needed does not exist.
    Missing,
    /// The archive or file ends before its own metadata say it does.
    Truncated,
    /// The content contradicts its specification.
    Corrupt,
    /// A valid feature that this program does not read; the message names it.
    Unsupported,
    /// A declared size or count is beyond what is accepted.
    Limit,
    /// Content that tries to reach outside its package, or to make the reader do so.
    Refused,
    /// A file does not have the hash that the manifest states.
    Mismatch,
    /// The caller asked for something that cannot be.
    Usage,
    /// A [`CancelToken`](types::CancelToken) was raised.
    Cancelled,
    /// A disk image could not be opened; the source is an [`image::Error`].
    Image,
}

/// A failure: `FILE: MESSAGE`.
#[derive(Debug)]
pub struct Error(Box<Repr>);

#[derive(Debug)]
enum Repr {
    Plain {
        kind: ErrorKind,
        file: Option<String>,
        message: String,
        source: Option<io::Error>,
    },
    Image(image::Error),
}

impl Error {
    /// A failure of this kind; `message` is lowercase and says what was expected and what was found.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Repr::Plain {
            kind,
            file: None,
            message: message.into(),
            source: None,
        }))
    }

    /// Content that contradicts its specification.
    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A feature by name that is not supported.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A failed system call; `doing` is a doing-word, with its object where the file is not it.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::Missing,
            _ => ErrorKind::Io,
        };
        let message = doing.into();
        Self(Box::new(Repr::Plain {
            kind,
            file: None,
            message,
            source: Some(source),
        }))
    }

    /// Names the file (or archive member) unless one is named already.
    #[must_use]
    pub(crate) fn in_file(mut self, name: impl fmt::Display) -> Self {
        if let Repr::Plain { file, .. } = &mut *self.0 {
            file.get_or_insert_with(|| name.to_string());
        }
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Repr::Plain { kind, .. } => *kind,
            Repr::Image(error) => match error.kind() {
                image::ErrorKind::Truncated => ErrorKind::Truncated,
                image::ErrorKind::Cancelled => ErrorKind::Cancelled,
                _ => ErrorKind::Image,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Repr::Plain { file, message, .. } => {
                if let Some(file) = file {
                    write!(f, "{file}: ")?;
                }
                f.write_str(message)
            }
            Repr::Image(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Repr::Plain { source, .. } => source.as_ref().map(|source| source as _),
            Repr::Image(error) => std::error::Error::source(error),
        }
    }
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        Self(Box::new(Repr::Image(error)))
    }
}

/// Text from a foreign file as it may be shown on one line of a message: no control characters, not too long.
pub(crate) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 120;
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut out: String = text.chars().take(MAX_CHARS).map(clean).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}
