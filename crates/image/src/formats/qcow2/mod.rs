//! qcow2, QEMU's copy-on-write format, versions 2 and 3. Reference: "Qcow2 Image File Format", QEMU
//! docs/interop/qcow2 (QEMU 10.0); sections are cited as `qcow2 "SECTION"`.
//!
//! ```text
//! header ──> L1 table ──> L2 tables ──> clusters: data, compressed, zero, or none (then the backing file)
//!        └─> refcount table ──> refcount blocks (written, never needed to read)
//! ```
//!
//! **Read**: versions 2 and 3, cluster sizes 512 bytes to 2 MiB, every refcount width, zlib and zstd clusters,
//! zero clusters, extended L2 entries, a chain of backing files that lie beside the image. The active state is
//! read; internal snapshots, bitmaps and the dirty bit are ignored.
//!
//! **Refused by name**: QCOW version 1, encryption (AES, LUKS), external data files, the corrupt bit, unknown
//! incompatible features and compression types, backing files elsewhere.
//!
//! **Written**: version 3, uncompressed, append-only (see [`Writer`]).

mod backing;
mod cache;
mod compressed;
mod extension;
mod geometry;
mod header;
mod map;
mod reader;
mod refcount;
mod resize;
mod tables;
mod writer;

pub use reader::Reader;
pub(in crate::formats) use resize::grow;
pub use writer::{Options, Writer};

/// This program runs on 64-bit hosts, so every length that fits a file fits memory's arithmetic.
const _: () = assert!(usize::BITS >= 64);

/// An index or a capped length as `usize`.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
