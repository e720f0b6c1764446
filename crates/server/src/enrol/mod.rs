//! Enrolment: the one service that a connection without a certificate reaches.

mod limits;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use data_encoding::HEXLOWER;
use limits::FailureLimits;
pub(crate) use limits::network;
use tonic::{Code, Request, Response, Status};
use wire::P2V_PROTOCOL;
use wire::enrol::enrol_server::{Enrol, EnrolServer};
use wire::enrol::{EnrolReply, EnrolRequest, ProbeReply, ProbeRequest};
use wire::join::Secret;
use wire::tls::{Peer, fingerprint};

use crate::jobs::safe_text;
use crate::pki::{AgentKey, Authority, random};
use crate::store::{AgentRow, Redeemed, Refusal, Store, TokenHash};

/// Largest request: it has some 120 bytes and a label.
const MAX_REQUEST_LEN: usize = 16 << 10;
/// Characters of a label that are kept.
const MAX_LABEL_LEN: usize = 128;
/// Bytes of a machine id: a BLAKE3.
const MACHINE_ID_LEN: usize = 32;
/// Bytes of an agent's random name.
const AGENT_ID_LEN: usize = 8;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct EnrolService {
    store: Arc<Store>,
    authority: Arc<Authority>,
    limits: Arc<Mutex<FailureLimits>>,
}

impl EnrolService {
    /// The gRPC service over this store and authority.
    pub(crate) fn server(store: Arc<Store>, authority: Arc<Authority>) -> EnrolServer<Self> {
        EnrolServer::new(Self {
            store,
            authority,
            limits: Arc::new(Mutex::new(FailureLimits::new(Instant::now()))),
        })
        .max_decoding_message_size(MAX_REQUEST_LEN)
    }

    fn enrol_now(
        &self,
        from: Option<SocketAddr>,
        request: EnrolRequest,
    ) -> Result<EnrolReply, Status> {
        let peer = from.map(|address| address.ip());
        let limits = || self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = limits().allows(peer, Instant::now());
        let result = if allowed {
            self.trade(request)
        } else {
            Err(Status::resource_exhausted(
                "too many failed attempts; try again in a minute",
            ))
        };
        match &result {
            Ok(reply) => {
                tracing::info!(agent = reply.agent_id, address = ?from, "an agent has enrolled");
            }
            Err(status) => {
                // Who is over the limit is not written down again and again.
                if allowed {
                    self.note_refusal(from, status);
                    if status.code() != Code::Internal {
                        limits().failed(peer);
                    }
                }
            }
        }
        result
    }

    fn note_refusal(&self, from: Option<SocketAddr>, status: &Status) {
        let address = from.map_or_else(|| "unknown".to_owned(), |from| from.to_string());
        tracing::warn!(%address, reason = status.message(), "enrolment refused");
        if let Err(error) = self.store.audit("enrol", status.message(), &address) {
            tracing::error!(%error, "a refusal could not be noted");
        }
    }

    fn trade(&self, request: EnrolRequest) -> Result<EnrolReply, Status> {
        if request.protocol != P2V_PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "this server speaks protocol {P2V_PROTOCOL}, the agent {}: use the ISO of this version of v2v",
                request.protocol
            )));
        }
        let secret = <[u8; 16]>::try_from(request.secret.as_slice())
            .map(Secret)
            .map_err(|_| Status::invalid_argument("expected a secret of 16 bytes"))?;
        if request.machine_id.len() != MACHINE_ID_LEN {
            return Err(Status::invalid_argument(
                "expected a machine id of 32 bytes",
            ));
        }
        let key = AgentKey::new(&request.public_key).map_err(Status::invalid_argument)?;
        let agent = AgentRow {
            id: HEXLOWER.encode(&random::<AGENT_ID_LEN>().map_err(internal)?),
            machine_id: request.machine_id,
            label: safe_text(&request.label, MAX_LABEL_LEN),
            auto_approve: false,
        };
        let sign = || self.authority.sign_agent(&agent.id, &key);
        let redeemed = self
            .store
            .redeem(TokenHash::of(secret), &agent, fingerprint, sign)
            .map_err(internal)?;
        match redeemed {
            Ok(Redeemed {
                certificate,
                withdrawn,
            }) => {
                if withdrawn > 0 {
                    tracing::info!(
                        agent = agent.id,
                        withdrawn,
                        "earlier certificates of the machine are withdrawn"
                    );
                }
                Ok(EnrolReply {
                    certificate,
                    agent_id: agent.id,
                })
            }
            Err(refusal) => Err(refused(refusal)),
        }
    }
}

/// What proto/enrol.proto promises for each refusal.
fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Unknown => {
            Status::unauthenticated("the join string or code is not known to this server")
        }
        Refusal::Expired => {
            Status::permission_denied("the token has expired; make a new one with v2v token create")
        }
        Refusal::Revoked => Status::permission_denied("the token was withdrawn"),
        Refusal::UsedByAnother => Status::permission_denied(
            "the token was used by another machine; make a new one with v2v token create",
        ),
        Refusal::JobEnded => Status::permission_denied(
            "the token was used, and the job of this machine has ended; make a new one with v2v token create",
        ),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn internal(error: crate::Error) -> Status {
    tracing::error!(error = crate::jobs::chain(&error), "enrolment failed");
    Status::internal("the server could not enrol the agent; its log says why")
}

#[tonic::async_trait]
impl Enrol for EnrolService {
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        Ok(Response::new(ProbeReply {
            protocol: P2V_PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let from = request
            .extensions()
            .get::<Peer>()
            .and_then(|peer| peer.address);
        let service = self.clone();
        let request = request.into_inner();
        let work = tokio::task::spawn_blocking(move || service.enrol_now(from, request));
        let reply = work
            .await
            .map_err(|_| Status::internal("the server failed"))??;
        Ok(Response::new(reply))
    }
}
