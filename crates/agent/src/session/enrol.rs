//! Trading the secret of a join string for a client certificate.

use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};
use wire::enrol::EnrolRequest;
use wire::enrol::enrol_client::EnrolClient;
use wire::tls::Identity;

use super::SessionOptions;

const ENROL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest name of a machine, in bytes.
const MAX_LABEL: usize = 200;

/// Over a connection whose certificate was checked.
pub(super) async fn enrol(channel: Channel, options: &SessionOptions) -> Result<Identity, Status> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| Status::internal(format!("making a key: {error}")))?;
    let mut label = options.label.clone();
    label.truncate(label.floor_char_boundary(MAX_LABEL));
    let request = EnrolRequest {
        protocol: wire::P2V_PROTOCOL,
        secret: options.target.secret.0.to_vec(),
        public_key: key.public_key_raw().to_vec(),
        machine_id: options.inventory.machine_id.clone(),
        label,
    };
    let mut client = EnrolClient::new(channel);
    let reply = timeout(ENROL_TIMEOUT, client.enrol(request))
        .await
        .map_err(|_| Status::new(Code::DeadlineExceeded, "no answer to the enrolment"))??;
    Ok(Identity {
        certificate: CertificateDer::from(reply.into_inner().certificate),
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    })
}
