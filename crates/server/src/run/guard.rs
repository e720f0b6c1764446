//! Who may call what: enrolment is open to all, everything else to holders of a certificate that was not withdrawn.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tonic::Status;
use tonic::server::NamedService;
use wire::enrol::enrol_server::EnrolServer;
use wire::tls::Peer;

use crate::enrol::EnrolService;
use crate::session::Agents;

/// Refuses every request that its sender may not make, whichever service it is for.
pub(super) async fn guard(
    State(agents): State<Arc<dyn Agents>>,
    request: Request,
    next: Next,
) -> Response {
    if is_enrolment(request.uri().path()) {
        return next.run(request).await;
    }
    let certificate = request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.certificate.clone());
    let refused = match certificate {
        None => Some("a client certificate is needed: enrol with a join string"),
        Some(certificate) => {
            let agents = Arc::clone(&agents);
            let known =
                tokio::task::spawn_blocking(move || agents.identify(&certificate).is_some());
            match known.await {
                Ok(true) => None,
                _ => Some("the client certificate was withdrawn: enrol again"),
            }
        }
    };
    match refused {
        None => next.run(request).await,
        Some(why) => {
            tracing::warn!(path = request.uri().path(), why, "refused");
            Status::unauthenticated(why)
                .into_http::<axum::body::Body>()
                .into_response()
        }
    }
}

fn is_enrolment(path: &str) -> bool {
    let service = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .map(|(service, _)| service);
    service == Some(<EnrolServer<EnrolService> as NamedService>::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enrolment_alone_is_open() {
        assert!(is_enrolment("/v2v.enrol.v1.Enrol/Probe"));
        for path in [
            "/v2v.session.v1.Session/Control",
            "/v2v.enrol.v1.EnrolX/Probe",
            "/v2v.enrol.v1.Enrol",
            "v2v.enrol.v1.Enrol/Probe",
            "//v2v.enrol.v1.Enrol/Probe",
            "/",
        ] {
            assert!(!is_enrolment(path), "{path}");
        }
    }
}
