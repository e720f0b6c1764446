//! Parallels' expanding disk image (HDD).

mod reader;

pub use reader::Reader;
