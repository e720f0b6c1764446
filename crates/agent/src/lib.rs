//! What runs on the physical machine: it detects the hardware, asks what is to be sent or reads it off the kernel
//! command line, dials the converter server, and answers its reads. The disks are opened read-only.
//!
//! ```text
//! init/ (as PID 1: mounts, udev, modules) ─> inventory/ ─> config/ (kernel words) ─┬─> app ─> session/ ─> server
//!                                            net/ ─────────────────────────────────┤            └─> disks/ (reads)
//!                                                                     ui/ (TUI) ───┘
//! ```

pub mod app;
pub mod cli;
pub mod config;
pub mod disks;
mod hosts;
pub mod init;
pub mod inventory;
mod inventory_json;
pub mod net;
mod parts;
pub mod session;
pub mod ui;
