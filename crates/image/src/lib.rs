//! Disk images: random-access sources that know their extents, sinks, the formats of both, the copy-on-write
//! overlay, the NBD server that shows it to the appliance, and the copy engine.
//!
//! ```text
//! BlockSource ──> Overlay ──NBD──> appliance
//!     │             │
//!     └─────────────┴──> copy engine ──> BlockSink
//! ```

mod bytes;
pub mod copy;
mod error;
pub mod formats;
mod info;
pub mod nbd;
mod neighbours;
mod overlay;
mod sink;
mod source;
mod zero;

pub use bytes::{ByteStore, FileId, FileRange, Packing, Unpack};
pub use error::{Error, ErrorKind, Result};
pub use info::{Fact, Finding, FindingKind, ImageInfo, MAX_FINDINGS, MetadataCheck, Snapshot};
pub use neighbours::{Files, Neighbours, Reference};
pub use overlay::{Overlay, OverlayStats};
pub use sink::{BlockSink, Preallocation, SinkStats};
pub use source::{BlockSource, Extent, ExtentKind, extents};
pub use zero::{data_runs, is_zero};
