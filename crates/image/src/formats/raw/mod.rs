//! Raw images: byte n of the file is byte n of the disk. Holes of a sparse file are read as extents of zeroes,
//! and written by leaving out what is zero. A block device is read and written the same way; what it held before is
//! zeroed.

mod allocation;
mod device;
mod output;
mod reader;
mod writer;

pub use allocation::Allocation;
pub(super) use allocation::{is_on, parse_options, parse_size};
pub(super) use output::{OutputFile, check_write};
pub use reader::Reader;
pub(super) use reader::check_read;
pub use writer::Writer;
pub(super) use writer::{check_not_failed, check_virtual_size};
