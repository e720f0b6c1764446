//! The appliance, seen from the host: found, launched, asked, ended.
//!
//! ```text
//!  find_image ─> settle_accel: KVM where it says hello within 6 s, else TCG; remembered for this boot of the host
//!       │             │
//!       └─────────────┴─> launch ─> Appliance
//!  Appliance ── inspect, convert, trim (gRPC over a virtio-serial port) ──> shutdown
//! ```
//!
//! The machine has no network and no disk but the exports that it is given. It dies with this process: the kernel
//! kills QEMU when the thread that started it ends, and `applianced` powers off when the port is closed.

mod accel;
mod client;
mod error;
mod image;
mod launch;
pub mod ntfs;
mod qemu;
mod sys;

pub use accel::Accel;
pub use client::Key;
pub use error::{Error, Result};
pub use image::{ApplianceImage, find_image};
pub use launch::{Appliance, LaunchOptions, settle_accel};
