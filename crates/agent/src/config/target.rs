//! Who is dialled: the addresses in order, the certificate that must be there, the secret that is traded.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use wire::P2V_PORT;
use wire::join::{Fingerprint, Secret};

use super::Config;

/// All that enrolment needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `ADDR:PORT`, tried in order, never empty.
    pub addresses: Vec<String>,
    /// Of the server's certificate.
    pub fingerprint: Fingerprint,
    /// What is traded for a client certificate.
    pub secret: Secret,
}

impl Config {
    /// Addresses in the order in which they are tried: what was given by hand, then those of the join string.
    pub fn addresses(&self) -> Vec<String> {
        let joined = self.join.iter().flat_map(|join| &join.servers);
        let mut addresses: Vec<String> = Vec::new();
        for address in self.server.iter().chain(joined) {
            let address = with_default_port(address);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Who is dialled; the error says what is missing.
    pub fn target(&self) -> Result<Target, String> {
        let addresses = self.addresses();
        if addresses.is_empty() {
            return Err("no server is given: p2v.join= or p2v.server=".to_owned());
        }
        let join = self.join.as_ref();
        let fingerprint = self.fingerprint.or(join.map(|join| join.fingerprint));
        let secret = self.code.or(join.map(|join| join.secret));
        Ok(Target {
            addresses,
            fingerprint: fingerprint.ok_or(
                "the server's fingerprint is not confirmed: p2v.join= or p2v.fingerprint=",
            )?,
            secret: secret.ok_or("the code of a token is missing: p2v.join= or p2v.code=")?,
        })
    }
}

/// `address` with the port of the converter server unless it names one.
fn with_default_port(address: &str) -> String {
    with(address, P2V_PORT, false)
}

/// `address` with `port` in place of what it names.
pub(super) fn with_port(address: &str, port: u16) -> String {
    with(address, port, true)
}

fn with(address: &str, port: u16, replace: bool) -> String {
    let address = address.trim();
    if let Ok(parsed) = address.parse::<SocketAddr>() {
        let port = if replace { port } else { parsed.port() };
        return SocketAddr::new(parsed.ip(), port).to_string();
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(address).parse::<Ipv6Addr>() {
        return SocketAddr::new(IpAddr::V6(ip), port).to_string();
    }
    match address.rsplit_once(':') {
        Some((host, _)) if replace => format!("{host}:{port}"),
        Some(_) => address.to_owned(),
        None => format!("{address}:{port}"),
    }
}
