//! Disk image formats, one folder each, and the factory that opens any of them.

pub mod qcow2;
pub mod raw;
pub mod vmdk;
