//! An NBD server for overlays, on a unix socket: how the appliance gets its disks.
//!
//! Fixed newstyle negotiation, writable exports, TRIM, WRITE_ZEROES, FLUSH, FUA, several connections to one export.
//! The protocol is doc/proto.md of the NBD project; sections are named where they are used.
//!
//! ```text
//! accept ──> handshake ──> transmission ──> end
//! ```

mod handshake;
mod proto;
mod reply;
mod server;
mod transmission;

pub use server::Server;
