//! QCOW, QEMU's copy-on-write format, version 1. Reference: "The QCOW Image Format" (M. McLoughlin, 2006), and the
//! images that qemu-img and VirtualBox write.
//!
//! ```text
//! header ──> L1 table ──> L2 tables ──> clusters: data, deflated, or none (then the backing file)
//! ```
//!
//! **Read**: all cluster sizes, compressed clusters, a backing file beside the image. **Refused by name**: AES.

mod header;
mod reader;

pub use reader::Reader;

/// An index or a capped length as `usize`.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
