//! Why the appliance cannot do what it was asked.

use std::io;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the appliance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no image to start.
    #[error(
        "no appliance found in {tried}; build it with `cargo xtask dist`, or set V2V_APPLIANCE"
    )]
    NoImage {
        /// Where it was looked for.
        tried: String,
    },
    /// `V2V_ACCEL` says something else than it may.
    #[error("V2V_ACCEL={0}: expected kvm or tcg")]
    UnknownAccel(String),
    /// There is no QEMU.
    #[error("{program} not found; on Debian install the package qemu-system-x86")]
    QemuMissing {
        /// Name of the program.
        program: String,
    },
    /// QEMU is too old.
    #[error(
        "{program} is version {found}, and at least {needed} is needed; on Debian 12 take qemu-system-x86 from bookworm or later"
    )]
    QemuTooOld {
        /// Name of the program.
        program: String,
        /// Its version.
        found: String,
        /// The oldest that will do.
        needed: String,
    },
    /// QEMU ended by itself.
    #[error("the appliance ended while {doing} ({status}): {last}")]
    Died {
        /// What it was to do.
        doing: String,
        /// How QEMU ended.
        status: String,
        /// The line of its log that says most.
        last: String,
    },
    /// The appliance does not answer.
    #[error(
        "the appliance gave no sign of life for {seconds} s while {doing}; the last of its log: {last}"
    )]
    Silent {
        /// What it was to do.
        doing: String,
        /// How long it was waited for.
        seconds: u64,
        /// The last line of its log.
        last: String,
    },
    /// The appliance is of another build.
    #[error(
        "the appliance speaks protocol {found}, expected {expected}; build v2v and its appliance together"
    )]
    Protocol {
        /// Number that it gave.
        found: u32,
        /// Number of this program.
        expected: u32,
    },
    /// The appliance refuses: the message is the guest's problem in one line.
    #[error("{0}")]
    Refused(String),
    /// A document of the appliance cannot be read.
    #[error("reading the appliance's {what}")]
    Document {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A system call failed.
    #[error("{doing}")]
    Io {
        /// Doing-word and object.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The caller's token was raised.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// True when nothing is wrong but that somebody wanted it to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }
}
