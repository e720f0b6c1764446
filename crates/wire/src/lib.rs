//! gRPC services generated from proto/; and with the feature `p2v` what the agent and the converter server share:
//! join strings, TLS with pinned certificates, the codec of chunks, limits.

#[cfg(feature = "p2v")]
pub mod chunk;
#[cfg(feature = "p2v")]
pub mod describe;
#[cfg(feature = "p2v")]
pub mod join;
#[cfg(feature = "p2v")]
mod limits;
#[cfg(feature = "p2v")]
pub mod tls;

#[cfg(feature = "p2v")]
pub use limits::*;

/// Services of the appliance (proto/appliance.proto).
#[expect(missing_docs, clippy::too_many_lines, reason = "generated code")]
pub mod appliance {
    tonic::include_proto!("v2v.appliance.v1");
}

/// Enrolment of agents (proto/enrol.proto).
#[cfg(feature = "p2v")]
#[expect(missing_docs, clippy::too_many_lines, reason = "generated code")]
pub mod enrol {
    tonic::include_proto!("v2v.enrol.v1");
}

/// What an agent finds on its machine (proto/inventory.proto).
#[cfg(feature = "p2v")]
#[expect(missing_docs, reason = "generated code")]
pub mod inventory {
    tonic::include_proto!("v2v.inventory.v1");
}

/// Sessions of agents (proto/session.proto).
#[cfg(feature = "p2v")]
#[expect(
    missing_docs,
    clippy::large_enum_variant,
    clippy::too_many_lines,
    reason = "generated code"
)]
pub mod session {
    tonic::include_proto!("v2v.session.v1");
}

/// Administration of the converter server (proto/admin.proto).
#[cfg(feature = "p2v")]
#[expect(missing_docs, clippy::too_many_lines, reason = "generated code")]
pub mod admin {
    tonic::include_proto!("v2v.admin.v1");
}

/// Protocol number of the appliance service; raised with every change of proto/appliance.proto or of the documents
/// that travel in it.
///
/// 1: first.
pub const APPLIANCE_PROTOCOL: u32 = 1;
