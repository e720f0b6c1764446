//! Parallels HDD, expandable.
//!
//! Specification: *Parallels Expandable Image File Format* (QEMU, docs/interop/parallels), cited below as PEIF;
//! sections are named by their headings.
//!
//! Read: both kinds, `WithoutFreeSpace` (places in sectors, disks to 2 TiB) and `WithouFreSpacExt` (places in
//! clusters), with clusters of any size. The format extension holds dirty bitmaps, of which no content depends; it
//! is passed over, as the specification allows. Refused: other versions, an image that claims to be empty and has
//! clusters. Snapshots of Parallels are separate files that a `DiskDescriptor.xml` ties together; an image alone
//! does not say that it has a parent.
//!
//! ```text
//! header | BAT | data: cluster | cluster | …
//! ```

mod header;
mod reader;

pub use reader::Reader;
