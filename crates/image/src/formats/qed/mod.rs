//! QED, QEMU's enhanced disk format.

mod reader;

pub use reader::Reader;
