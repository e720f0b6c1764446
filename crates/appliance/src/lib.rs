//! The appliance, seen from the host: found, launched, asked, ended.
//!
//! ```text
//!  find_image ─> launch: KVM, if nothing speaks against it ──hello within 6 s──> Appliance
//!                   │                                └─ no hello ─┐
//!                   └── TCG <──────── verdict remembered ─────────┘
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
mod qemu;
mod sys;

pub use accel::{Accel, kvm_works};
pub use client::Key;
pub use error::{Error, Result};
pub use image::{ApplianceImage, find_image};
pub use launch::{Appliance, LaunchOptions};
