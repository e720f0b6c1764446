//! Disk images: random-access sources that know their extents, sinks, the formats of both, the copy-on-write
//! overlay, the NBD server that shows it to the appliance, and the copy engine.
//!
//! ```text
//! BlockSource ──> Overlay ──NBD──> appliance
//!     │             │
//!     └─────────────┴──> copy engine ──> BlockSink
//! ```

pub mod copy;
mod error;
mod file;
pub mod formats;
pub mod nbd;
mod overlay;
mod sink;
mod source;
mod zero;

pub use error::{Error, ErrorKind, Result};
pub use file::FileRange;
pub use overlay::{Overlay, OverlayStats};
pub use sink::{BlockSink, Preallocation, SinkStats};
pub use source::{BlockSource, Extent, ExtentKind, extents};
pub use zero::{data_runs, is_zero};
