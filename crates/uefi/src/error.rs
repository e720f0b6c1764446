//! Why a flash or a load option cannot be used.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not begin with a firmware volume.
    #[error("at 0x28: expected a firmware volume, `_FVH`, found none")]
    NoVolume,
    /// The sum of the volume's header is wrong, or its length is not that of its store or file.
    #[error(
        "expected a firmware volume of {expected:#x} bytes with a correct sum, found {found:#x} bytes, sum {sum:#x}"
    )]
    BadVolume {
        /// Length that the header states.
        expected: u64,
        /// Length of the file.
        found: u64,
        /// Sum of the header's 16-bit words; zero when all is well.
        sum: u16,
    },
    /// There is no store of variables where the volume's header ends.
    #[error("at {at:#x}: expected a store of authenticated variables, found none")]
    NoStore {
        /// Offset in the file.
        at: usize,
    },
    /// The store is longer than the file.
    #[error("at {at:#x}: expected a store of {size:#x} bytes, found the end of the file")]
    StoreCut {
        /// Offset in the file.
        at: usize,
        /// Length that the store's header states.
        size: usize,
    },
    /// The store was not formatted to the end.
    #[error("expected a formatted and healthy store (0x5a, 0xfe), found {format:#x}, {state:#x}")]
    Unhealthy {
        /// VARIABLE_STORE_HEADER.Format.
        format: u8,
        /// VARIABLE_STORE_HEADER.State.
        state: u8,
    },
    /// A variable is longer than what is left of the store.
    #[error(
        "expected a variable that ends within the store, found {left:#x} bytes less than it says"
    )]
    VariableCut {
        /// Bytes from the variable's header to the end of the store.
        left: usize,
    },
    /// There is data where the next variable would be written.
    #[error("at {at:#x}: expected erased flash behind the last variable, found data")]
    NotErased {
        /// Offset in the file.
        at: usize,
    },
    /// The variable does not fit.
    #[error("expected {needed:#x} bytes for a variable, found {free:#x} free")]
    Full {
        /// What it takes.
        needed: usize,
        /// What there is.
        free: usize,
    },
    /// No EFI_LOAD_OPTION.
    #[error("expected a load option with {0}, found none")]
    LoadOption(&'static str),
    /// No number is left for an entry of the boot menu.
    #[error("expected at most 65536 boot options, found more")]
    TooMany,
}
