//! Why a conversion ended.

use std::sync::Arc;

/// The way that is left for every guest.
const COMPAT: &str = "--compat copies the disks unchanged and gives the machine SATA disks and e1000e adapters, \
                      which most systems start from as they are";

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed conversion. The message is one line with its cause; nothing is left in the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source cannot be read.
    #[error(transparent)]
    Source(source::Error),
    /// A disk cannot be read or written.
    #[error(transparent)]
    Image(image::Error),
    /// The appliance failed, or what it found forbids conversion.
    #[error(transparent)]
    Appliance(appliance::Error),
    /// The target refuses.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// A disk of the source could not be read while the appliance worked on it.
    #[error("the appliance could not read or write disk data")]
    Disk(#[source] Arc<image::Error>),
    /// Nothing bootable was found.
    #[error("no operating system found on {disks}; is this the disk that the machine boots from?")]
    NoOperatingSystem {
        /// Labels of the disks.
        disks: String,
    },
    /// More than one operating system, and nobody said which.
    #[error(
        "several operating systems found ({roots}); choose one with --root DEVICE, or --root first"
    )]
    SeveralRoots {
        /// Their devices and names.
        roots: String,
    },
    /// `--root` names a device that holds none.
    #[error("--root {wanted}: no operating system there; found {found}")]
    NoSuchRoot {
        /// The device asked for.
        wanted: String,
        /// What was found.
        found: String,
    },
    /// This kind of guest cannot be converted.
    #[error("{product} on {root} cannot be converted yet: only Linux guests can")]
    UnsupportedGuest {
        /// Device of its root.
        root: String,
        /// Its name.
        product: String,
    },
    /// Everything that could hold a system is encrypted.
    #[error(
        "no operating system found outside of encrypted volumes, and no key opened {volumes}; give it with --key"
    )]
    Locked {
        /// Their devices and kinds.
        volumes: String,
    },
    /// `--network`, `--bridge` or `--mac` cannot be followed.
    #[error("{0}")]
    Network(String),
    /// A file of this host cannot be taken along into the guest.
    #[error("taking {path} along for the guest")]
    Payload {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The report file cannot be written.
    #[error("writing the report {path}")]
    Report {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// All is copied, but it may not be called a success.
    #[error("{0}")]
    Refused(String),
    /// Ctrl-C, or a server's cancel.
    #[error("cancelled; nothing was left in the target")]
    Cancelled,
}

impl From<source::Error> for Error {
    fn from(error: source::Error) -> Self {
        match error.kind() {
            source::ErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Source(error),
        }
    }
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        match error.kind() {
            image::ErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Image(error),
        }
    }
}

impl From<appliance::Error> for Error {
    fn from(error: appliance::Error) -> Self {
        match error {
            appliance::Error::Cancelled => Self::Cancelled,
            error => Self::Appliance(error),
        }
    }
}

impl Error {
    /// What the user can do about it, where that is known and not in the message.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Target(error) => error.hint(),
            Self::NoOperatingSystem { .. }
            | Self::UnsupportedGuest { .. }
            | Self::Locked { .. }
            | Self::Appliance(appliance::Error::Refused(_)) => Some(COMPAT),
            _ => None,
        }
    }

    /// True when the guest is the reason: the same program on the same host may well convert another one.
    pub fn is_of_guest(&self) -> bool {
        matches!(
            self,
            Self::NoOperatingSystem { .. }
                | Self::SeveralRoots { .. }
                | Self::UnsupportedGuest { .. }
                | Self::Locked { .. }
                | Self::Appliance(appliance::Error::Refused(_))
        )
    }
}
