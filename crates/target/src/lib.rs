//! Where a converted guest goes: `local`, `libvirt`, `qemu`, `null`; and its domain XML.
//!
//! ```text
//! prepare ──> check ──> create_disk … finish ──> finalise ──> Placed
//!    │          │             │                      │
//!    └──────────┴─────────────┴── drop ──────────────┘   the scratch folder goes, and with it everything
//! ```
//!
//! Nothing has its final name before `finalise`: disks grow in one scratch folder beside the result, on the
//! same file system, and are renamed when all of them are complete and durable.

mod api;
pub mod domain;
mod error;
mod firmware;
mod hostcmd;
mod libvirt;
mod local;
mod name;
mod null;
mod nvram;
mod place;
mod qemu;
mod scratch;
mod space;
mod stage;
#[cfg(test)]
mod tests;

pub use api::{DomainType, Finished, Placed, Plan, Target, TargetKind, TargetOptions, prepare};
pub use error::{Error, ErrorKind, Result};
pub use nvram::NvramPaths;
