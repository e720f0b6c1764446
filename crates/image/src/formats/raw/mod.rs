//! Raw images: byte n of the file is byte n of the disk. Holes of a sparse file are read as extents of zeroes,
//! and written by leaving out what is zero.

mod output;
mod reader;
mod writer;

pub(super) use output::{OutputFile, check_write};
pub use reader::Reader;
pub(super) use reader::check_read;
pub use writer::Writer;
pub(super) use writer::{check_not_failed, check_virtual_size};
