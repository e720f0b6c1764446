//! The initramfs of a guest: what it carries, and the archive that is appended to it.
//!
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel. A buffer is a sequence of cpio
//! archives, each compressed or not, with zeroes between them; later files replace earlier ones.

pub(crate) mod compress;
pub(crate) mod cpio;
pub(crate) mod find;
pub(crate) mod lz4;
pub(crate) mod scan;

pub(crate) use compress::Compression;
pub(crate) use scan::{Contents, Generator, Segment, contents, for_each};
