//! QED, QEMU's enhanced disk format. Reference: "QED Image File Format Specification", QEMU docs/interop/qed_spec
//! (QEMU 10.0); sections are cited as `qed "SECTION"`. VirtualBox writes it too.
//!
//! ```text
//! header ──> L1 table ──> L2 tables ──> clusters: data, zero, or none (then the backing file)
//! ```
//!
//! **Read**: all sizes of clusters and tables, zero clusters, a backing file beside the image. An image that was not
//! closed (need-check bit) is checked when it is opened and refused if its tables contradict each other.
//! **Refused by name**: unknown features.

mod check;
mod header;
mod reader;

pub use reader::Reader;

/// An index or a capped length as `usize`.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
