//! Disk image formats, one folder each, and the factory that opens any of them.

mod blocks;
mod context;
mod create;
mod location;
mod open;
pub mod parallels;
pub mod qcow1;
pub mod qcow2;
pub mod qed;
pub mod raw;
mod resize;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;

pub use create::{Compression, OutputFormat, WriteOptions, create, create_with};
pub use location::{Chain, is_uri, open_bytes, open_chain, open_location};
pub use open::{Format, OpenOptions, open, open_range, unpack};
pub use resize::{NewSize, lock_exclusively, resize};
