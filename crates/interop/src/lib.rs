//! Disk images through other people's readers, and sparse disks of known content to compare them on.
//!
//! What each reader is trusted with is what it was measured to read right (DESIGN.md, Dependencies); the cases
//! outside that are not asked.

mod disk;
mod second;

pub use disk::{SparseDisk, compare};
pub use second::{Second, imago_qcow2, qcow2_rs, vhdx_core, vhdx_crate, vmdk_core};
