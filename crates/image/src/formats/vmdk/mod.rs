//! VMware virtual disks (VMDK).
//!
//! Specification: VMware, *Virtual Disk Format 1.1* (2007) and *Virtual Disk Format 5.0* (2011), cited below as
//! VDF 1.1 and VDF 5.0; sections are named by their headings.
//!
//! Read: one-file hosted sparse extents, versions 1 to 3: `monolithicSparse` and `streamOptimized`, zeroed grains
//! included. A stream whose footer or grain directory is damaged is read by walking its markers.
//! Refused by name: subformats in several files (`monolithicFlat`, `twoGbMaxExtent…`, `vmfs…`), ESX `COWD` and
//! `seSparse` extents, and delta disks, whose content lies partly in a parent.
//!
//! ```text
//! monolithicSparse   header | descriptor | directory copy + tables | directory + tables | grain | grain | …
//! streamOptimized    header | descriptor | marker grain | … | marker table | … | marker directory
//!                                        | marker footer header | end-of-stream marker
//! ```
//!
//! The directory holds one entry per grain table, a grain table one entry per grain (64 KiB as a rule); both hold
//! sector numbers in the file. `header` and `descriptor` say what the file is, `directory` and `walk` find the
//! tables, `tables` turns a grain number into a place, `grains` reads and inflates, `sparse` puts these together
//! into one extent, and `reader` makes the disk of it.

mod cache;
mod descriptor;
mod directory;
mod geometry;
mod grains;
mod header;
mod marker;
mod reader;
mod sparse;
mod tables;
mod walk;

pub use descriptor::{Descriptor, ExtentLine};
pub use reader::Reader;
pub(in crate::formats) use reader::Signature;
