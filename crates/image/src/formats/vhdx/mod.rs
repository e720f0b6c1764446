//! VHDX, Hyper-V's virtual disk since 2012, and AVHDX, its checkpoints. Reference: Microsoft, *\[MS-VHDX\]: Virtual
//! Hard Disk v2 (VHDX) File Format*, version 1 of the format; sections are cited as `MS-VHDX 2.x`.
//!
//! ```text
//! 0          64K       128K      192K           256K           1M (then in any order, in whole MiB)
//! | file id | header 1 | header 2 | region table 1 | region table 2 | log, metadata, BAT, blocks …
//!
//! current header ──> log ──> pages of 4 KiB that are newer than the file ┐
//! region table ──> metadata: sizes, identity, parent locator             ├──> disk
//!            └──> BAT ──> payload blocks, sector bitmap blocks           ┘
//! ```
//!
//! **Read**: fixed, dynamic and differencing disks and their chains, block sizes 1 to 256 MiB, logical sectors of 512
//! and 4096 bytes, every block state, either header and either region table damaged. A log that was never applied
//! is applied in memory ([`overlay`]); the file is never written. The parent is the file beside the child whose
//! `DataWriteGuid` is the one that the child names.
//!
//! **Refused**: both headers or both region tables damaged, unknown required regions and metadata items and parent
//! locator types (by GUID), structures that overlap or lie past the end of the file, a log that holds no valid
//! sequence, a parent that is missing or was changed.
//!
//! **Written**: dynamic and fixed (see [`Writer`]).

mod allocation;
mod bat;
mod bitmap;
mod check;
mod content;
mod crc32c;
mod guid;
mod header;
mod locator;
mod log;
mod map;
mod metadata;
mod options;
mod overlay;
mod pages;
mod parent;
mod reader;
mod region;
mod writer;

pub use options::{Options, Subformat};
pub use reader::Reader;
pub use writer::Writer;

/// The unit in which everything of the file is aligned: MS-VHDX 2.1.
const MIB: u64 = 1 << 20;
/// Largest virtual disk: MS-VHDX 2.6.2.2.
const MAX_VIRTUAL_SIZE: u64 = 64 << 40;
/// Longest file that is accepted: the largest disk, all allocated, with its tables, twice over.
const MAX_FILE_LEN: u64 = 2 * MAX_VIRTUAL_SIZE;

/// This program runs on 64-bit hosts, so every length that fits a file fits memory's arithmetic.
const _: () = assert!(usize::BITS >= 64);

/// An index or a capped length as `usize`.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
