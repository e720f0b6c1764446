//! VDI, the virtual disk of VirtualBox.
//!
//! There is no specification; the facts are those that VirtualBox's own files show, and its forum's article "VDI
//! file format" (forums.virtualbox.org, topic 8046), cited below as VDI.
//!
//! Read: versions 1.0 and 1.1, dynamic, fixed and differencing images with blocks of any size. Refused by name:
//! undo images, and versions before 1.0, which VirtualBox has not written since 2007.
//!
//! ```text
//! text | signature, version | header | block map | data: block | block | …
//! ```
//!
//! All numbers are little-endian. The block map has an entry for each block of the disk (1 MiB as a rule): the
//! number of the block in the data area, or that the block is free, or that it is zero. A differencing image names
//! its parent by a UUID only: `parent` looks for it among the files that the user allows.

mod header;
mod parent;
mod reader;

pub use reader::Reader;
