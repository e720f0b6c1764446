//! Addresses become connections.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::Channel;
use wire::enrol::ProbeRequest;
use wire::enrol::enrol_client::EnrolClient;
use wire::join::Fingerprint;
use wire::tls::{self, Identity};

use crate::config::Target;

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
/// A name may stand for this many addresses.
const MAX_RESOLVED: usize = 8;

/// No address could be used.
#[derive(Debug)]
pub(super) struct DialError {
    /// What was wrong with each.
    pub(super) message: String,
    /// All of those that answered have another certificate, and none failed otherwise.
    pub(super) wrong_server: bool,
}

/// The first address that answers with the right certificate.
pub(super) async fn any(
    target: &Target,
    identity: Option<Identity>,
) -> Result<(String, Channel), DialError> {
    let config = tls::client_config(target.fingerprint, identity).map_err(|error| DialError {
        message: format!("setting up TLS: {error}"),
        wrong_server: false,
    })?;
    let mut messages = Vec::new();
    let mut wrong_server = true;
    for address in &target.addresses {
        let resolved = match resolve(address).await {
            Ok(resolved) => resolved,
            Err(message) => {
                wrong_server = false;
                messages.push(message);
                continue;
            }
        };
        for socket in resolved {
            match tls::connect(&socket.to_string(), config.clone()).await {
                Ok(channel) => return Ok((address.clone(), channel)),
                Err(error) => {
                    wrong_server &= is_wrong_certificate(&error);
                    let cause = innermost(&error).unwrap_or_else(|| error.to_string());
                    messages.push(format!("{address}: {cause}"));
                }
            }
        }
    }
    Err(DialError {
        message: messages.join("; "),
        wrong_server,
    })
}

/// `NAME:PORT` as addresses. Names need a resolver: a static program has only what `resolv.conf` and `hosts` say.
async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(socket) = address.parse() {
        return Ok(vec![socket]);
    }
    let hint = "give the server's IP address, or a name server with ip= or nameserver=";
    match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(address)).await {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.take(MAX_RESOLVED).collect();
            if found.is_empty() {
                return Err(format!("{address}: the name has no address; {hint}"));
            }
            Ok(found)
        }
        Ok(Err(error)) => Err(format!("{address}: finding the address: {error}; {hint}")),
        Err(_) => Err(format!(
            "{address}: no name server answered within {} s; {hint}",
            RESOLVE_TIMEOUT.as_secs()
        )),
    }
}

/// What a connection test found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The right server, ready; its version.
    Ready {
        /// Where.
        address: String,
        /// Of v2v.
        version: String,
    },
    /// A server; a person must compare its fingerprint.
    Shows {
        /// Where.
        address: String,
        /// What it shows.
        fingerprint: Fingerprint,
    },
}

/// Looks whether the server answers. Without a known fingerprint: which one it shows. The error is for people; `true`
/// with it: trying again will not help.
pub async fn test_connection(
    addresses: &[String],
    fingerprint: Option<Fingerprint>,
) -> Result<Answer, (String, bool)> {
    let Some(fingerprint) = fingerprint else {
        return shown(addresses).await.map_err(|message| (message, false));
    };
    let target = Target {
        addresses: addresses.to_vec(),
        fingerprint,
        // A probe tells nothing of it.
        secret: wire::join::Secret([0; 16]),
    };
    let connected = any(&target, None).await;
    let (address, channel) = connected.map_err(|error| (error.message, error.wrong_server))?;
    let mut client = EnrolClient::new(channel);
    let reply = match timeout(PROBE_TIMEOUT, client.probe(ProbeRequest {})).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Err((format!("{address}: {}", super::describe(&status)), false)),
        Err(_) => return Err((format!("{address}: no answer"), false)),
    };
    if reply.protocol != wire::P2V_PROTOCOL {
        return Err((
            format!(
                "{address}: expected protocol {}, found {} (v2v {}): use the ISO of that version",
                wire::P2V_PROTOCOL,
                reply.protocol,
                reply.version
            ),
            true,
        ));
    }
    Ok(Answer::Ready {
        address,
        version: reply.version,
    })
}

async fn shown(addresses: &[String]) -> Result<Answer, String> {
    let mut messages = Vec::new();
    for address in addresses {
        match resolve(address).await {
            Ok(resolved) => {
                for socket in resolved {
                    match tls::certificate_shown(&socket.to_string()).await {
                        Ok(fingerprint) => {
                            return Ok(Answer::Shows {
                                address: address.clone(),
                                fingerprint,
                            });
                        }
                        Err(error) => messages.push(format!("{address}: {error}")),
                    }
                }
            }
            Err(message) => messages.push(message),
        }
    }
    if messages.is_empty() {
        messages.push("no server is given".to_owned());
    }
    Err(messages.join("; "))
}

/// The last cause of an error, which says most.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).last().map(ToString::to_string)
}

/// The causes below an error. `io::Error` hides what it was made from one level deeper than others.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let next = |error: &'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        inner
            .map(|inner| inner as &(dyn Error + 'static))
            .or_else(|| error.source())
    };
    std::iter::successors(next(error), move |&error| next(error))
}

/// The pinned certificate was not there (wire::tls says so in a general TLS error).
fn is_wrong_certificate(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        matches!(
            cause.downcast_ref::<rustls::Error>(),
            Some(rustls::Error::General(text)) if text.starts_with("expected the certificate")
        )
    })
}
