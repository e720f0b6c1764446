//! VMware virtual disks (VMDK).
//!
//! Specification: VMware, *Virtual Disk Format 1.1* (2007) and *Virtual Disk Format 5.0* (2011), cited below as
//! VDF 1.1 and VDF 5.0; sections are named by their headings.
//!
//! Read: hosted sparse extents of versions 1 to 3 in one file (`monolithicSparse`, `streamOptimized`; a stream whose
//! footer or grain directory is damaged is read by walking its markers) and in several (`twoGbMaxExtentSparse`), flat
//! ones (`monolithicFlat`, `twoGbMaxExtentFlat`, `vmfs`, `vmfsThin`, raw device mappings whose file is there), COWD
//! (`vmfsSparse`), `seSparse`, `ZERO`, and any mix of these; and delta disks over a chain of any of them. Written:
//! `streamOptimized`.
//! Refused by name: compressed grains without markers, extents that forbid access, device mappings without their
//! data, a seSparse journal that was not replayed, and data files that are given in place of their descriptor.
//!
//! ```text
//! descriptor file    text ──names──> extent files, parent
//! monolithicSparse   header | descriptor | directory copy + tables | directory + tables | grain | grain | …
//! streamOptimized    header | descriptor | marker grain | … | marker table | … | marker directory
//!                                        | marker footer header | end-of-stream marker
//! ```
//!
//! The directory holds one entry per grain table, a grain table one entry per grain (64 KiB as a rule); both hold
//! sector numbers in the file. `header`, `cowd`, `sesparse` and `descriptor` say what a file is, `directory` and
//! `walk` find the tables, `tables` turns a grain number into a place, `grains` reads and inflates, `sparse` puts
//! these together into one extent; `extents` and `parent` find the other files, and `reader` makes the disk of it.

mod cache;
mod check;
mod cowd;
mod descriptor;
mod directory;
mod encoding;
mod extent_line;
mod extents;
mod geometry;
mod grains;
mod header;
mod info;
mod marker;
mod naming;
mod parent;
mod reader;
mod sesparse;
mod sparse;
mod tables;
mod walk;
mod writer;

pub use descriptor::Descriptor;
pub use extent_line::ExtentLine;
pub use reader::Reader;
pub(in crate::formats) use reader::{Signature, refuse_data_file};
pub use writer::{AdapterType, Options, Writer};
