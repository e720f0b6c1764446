//! Administration over the unix socket STATE/admin.sock: the service, and the client of `v2v token` and `v2v jobs`.

mod client;
mod service;

pub use client::{Client, ClientError};
pub(crate) use service::AdminService;

/// Name of the socket in the state folder.
pub(crate) const SOCKET: &str = "admin.sock";
