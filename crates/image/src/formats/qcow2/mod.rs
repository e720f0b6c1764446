//! qcow2, QEMU's copy-on-write format, versions 2 and 3. Reference: "Qcow2 Image File Format", QEMU
//! docs/interop/qcow2 (QEMU 10.0); sections are cited as `qcow2 "SECTION"`.
//!
//! ```text
//! header ──> L1 table ──> L2 tables ──> clusters: data, compressed, zero, or none (then the backing file)
//!        └─> refcount table ──> refcount blocks (written, never needed to read)
//! ```
//!
//! **Read**: versions 2 and 3, cluster sizes 512 bytes to 2 MiB, every refcount width, zlib and zstd clusters,
//! zero clusters, extended L2 entries, external data files, a chain of backing files of any format. Either the
//! active state is read or an internal snapshot; the dirty bit and bitmaps do not matter for that. All metadata,
//! refcounts and bitmaps included, can be checked (`check`).
//!
//! **Refused by name**: encryption (AES, LUKS), unknown incompatible features and compression types, files
//! elsewhere; and data of an image whose corrupt bit is set.
//!
//! **Written**: version 3 and 2, append-only, plain or compressed, with or without a backing file (see [`Writer`]).

mod backing;
mod bitmaps;
mod cache;
mod check;
mod compress;
mod compressed;
mod extension;
mod geometry;
mod header;
mod info;
mod map;
mod new_header;
mod options;
mod reader;
mod refcount;
mod resize;
mod snapshots;
mod store;
mod tables;
mod writer;

pub(in crate::formats) use cache::Cache;
pub(in crate::formats) use compressed::Decoders;
pub(in crate::formats) use header::Compression;
pub use options::{Backing, Options};
pub use reader::Reader;
pub(in crate::formats) use resize::grow;
pub use writer::Writer;

/// This program runs on 64-bit hosts, so every length that fits a file fits memory's arithmetic.
const _: () = assert!(usize::BITS >= 64);

/// An index or a capped length as `usize`.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
