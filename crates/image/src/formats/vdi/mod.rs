//! VDI, VirtualBox's disk image.

mod reader;

pub use reader::Reader;
