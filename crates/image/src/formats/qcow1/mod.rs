//! QCOW version 1, QEMU's first copy-on-write format.

mod reader;

pub use reader::Reader;
