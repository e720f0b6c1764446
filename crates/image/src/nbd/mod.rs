//! An NBD server for overlays, on a unix socket: how the appliance gets its disks; and a [`client`].
//!
//! Fixed newstyle negotiation, writable exports, TRIM, WRITE_ZEROES, FLUSH, FUA, several connections to one export.
//! The protocol is doc/proto.md of the NBD project; sections are named where they are used.
//!
//! Structured replies with `base:allocation` are offered. They cost nothing that can be measured (page-cached base,
//! qemu-img from the export: 0.9 to 4.1 GB/s and 24,000 to 32,000 reads of 4 KiB a second on two busy cores, with and
//! without), tell QEMU why a request failed, and let it copy or map an empty disk of 2 TiB in a second.
//!
//! ```text
//! accept ──> handshake ──> transmission ──> end
//! ```

pub mod client;
mod handshake;
mod proto;
mod reply;
mod server;
mod transmission;

pub use server::Server;
