//! Disk image formats, one folder each, and the factory that opens any of them.

mod create;
mod open;
pub mod qcow2;
pub mod raw;
pub mod vmdk;

pub use create::{OutputFormat, create};
pub use open::{Format, open, open_range};
