//! The bytes of an image file, wherever they are: a file or block device of the host, a member of an archive read
//! in place, pieces put together, a compressed stream, an NBD export. Formats read them through [`FileRange`] and
//! do not know which it is.

mod concat;
mod host;
mod memory;
mod packed;
mod range;
mod store;

pub use packed::{Packing, Unpack};
pub use range::FileRange;
pub use store::{ByteStore, FileId};
