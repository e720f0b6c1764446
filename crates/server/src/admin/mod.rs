//! Administration over the unix socket STATE/admin.sock: the service, and the client of `v2v token` and `v2v jobs`.

mod client;

pub use client::{Client, ClientError};

/// Name of the socket in the state folder.
pub(crate) const SOCKET: &str = "admin.sock";
