//! VHD, the virtual disk of Virtual PC, Hyper-V and Azure; qemu-img calls it vpc.
//!
//! Specification: Microsoft, *Virtual Hard Disk Image Format Specification* 1.0 (2006), cited below as VHD 1.0;
//! sections are named by their headings.
//!
//! Read: fixed, dynamic and differencing disks with all blocks sizes and sector bitmaps, chains of differencing
//! disks. Written: dynamic and fixed disks. Refused by name: the disk types that the specification calls
//! deprecated, other versions.
//!
//! ```text
//! fixed                  data | footer
//! dynamic, differencing  footer copy | header | BAT | parent locators | bitmap block | bitmap block | … | footer
//! ```
//!
//! All numbers are big-endian. The BAT has an entry for each block of the disk (2 MiB as a rule): the sector of its
//! bitmap, which the data follow. A bit of the bitmap is a sector: 1 for one that is in the block, 0 for one that is
//! zero, or in the parent of a differencing disk.
//!
//! `footer` and `header` are the two structures, `geometry` says how long the disk is, `locator` what the parent is
//! called, `parent` finds it, `bitmap` reads the bitmaps, `reader` makes the disk of it all.

mod bitmap;
mod footer;
mod geometry;
mod header;
mod locator;
mod parent;
mod reader;
mod writer;

pub use reader::Reader;
pub use writer::{Options, Subformat, Writer};
