//! gRPC services generated from proto/.

/// Services of the appliance (proto/appliance.proto).
#[expect(missing_docs, clippy::too_many_lines, reason = "generated code")]
pub mod appliance {
    tonic::include_proto!("v2v.appliance.v1");
}

/// Protocol number of the appliance service; raised with every change of proto/appliance.proto or of the documents
/// that travel in it.
///
/// 1: first.
pub const APPLIANCE_PROTOCOL: u32 = 1;
