//! Disk images: random-access sources that know their extents, sinks, the formats of both, the copy-on-write
//! overlay, the NBD server that shows it to the appliance, and the copy engine.
//!
//! ```text
//! BlockSource ──> Overlay ──NBD──> appliance
//!     │             │
//!     └─────────────┴──> copy engine ──> BlockSink
//! ```

mod bytes;
mod check;
mod compare;
pub mod copy;
mod delta;
mod error;
pub mod formats;
pub mod in_place;
mod info;
pub mod iso9660;
mod map;
pub mod nbd;
mod neighbours;
mod overlay;
mod sink;
mod source;
mod workers;
mod zero;

pub use bytes::{ByteStore, FileId, FileRange, Packing, Unpack};
pub use check::{DataCheck, check_data};
pub use compare::{CompareOptions, Comparison, Difference, compare};
pub use delta::copy_delta;
pub use error::{Error, ErrorKind, Result};
pub use info::{Fact, Finding, FindingKind, ImageInfo, MAX_FINDINGS, MetadataCheck, Snapshot};
pub use map::map;
pub use neighbours::{Files, MAX_LISTED, Neighbours, Reference};
pub use overlay::{Overlay, OverlayStats};
pub use sink::{BlockSink, Preallocation, SinkStats};
pub use source::{BlockSource, Extent, ExtentKind, Stored, extents};
pub use zero::{data_runs, is_zero};
