//! Registry hives (`regf`): read, edited in place, verified, their transaction logs replayed first.
//!
//! The whole hive is in memory. Keys are named by paths below the hive's root, parts separated by `\`, letters compared
//! without case as Windows does; the empty path is the root. What is not edited keeps its bytes: class names, security
//! descriptors, big data, the order of values.
//!
//! ```text
//!   primary + LOG, LOG1, LOG2 ──> recover ──> Hive ──> set, delete ──> verify ──> to_bytes
//! ```

mod error;
mod hive;
mod log;
mod value;

pub use error::{Error, ErrorKind, Result};
pub use hive::{Hive, Summary};
pub use log::{Logs, Recovered};
pub use value::{Kind, Value};

/// Dirty hives and their logs, made for tests.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    pub use crate::log::maker::{Made, dirt, incremental, settled, versioned};
}
