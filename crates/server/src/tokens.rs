//! Tokens: one-time secrets, and the join strings that carry them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use wire::P2V_PORT;
use wire::join::{Fingerprint, JoinString, Secret};

use crate::jobs::{chain, safe_text};
use crate::pki::random;
use crate::store::{Store, TokenHash};
use crate::{ControlError, CreatedToken, NewToken};

/// Bytes of a secret: not to be guessed.
const SECRET_LEN: usize = 16;
/// Addresses in a join string that are found out here; a kernel command line is short.
const MAX_FOUND: usize = 4;
/// Characters of a note.
const MAX_NOTE_LEN: usize = 200;
/// An address of TEST-NET-1 (RFC 5737): nothing is sent to it, the kernel only says which way it would go.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
const LOCAL_ADDRESSES: &str = "/proc/net/fib_trie";

/// Where the server listens, known once it does.
pub(crate) type Addresses = Arc<OnceLock<Vec<SocketAddr>>>;

/// Makes a token and its join string. The secret is kept as a hash only.
pub(crate) fn create(
    store: &Store,
    fingerprint: Fingerprint,
    listening: &Addresses,
    new: &NewToken,
) -> Result<CreatedToken, ControlError> {
    let listening = listening.get().map_or(&[][..], Vec::as_slice);
    let servers = if new.servers.is_empty() {
        reachable(listening)
    } else {
        let port = listening.first().map_or(P2V_PORT, SocketAddr::port);
        let complete = |server: &String| with_port(server, port);
        new.servers.iter().map(complete).collect::<Result<_, _>>()?
    };
    let internal = |error: crate::Error| ControlError::Internal(chain(&error));
    let secret = Secret(random::<SECRET_LEN>().map_err(internal)?);
    let join = JoinString {
        servers,
        fingerprint,
        secret,
    };
    // What no agent could read is not handed out.
    if let Err(error) = join.to_string().parse::<JoinString>() {
        return Err(ControlError::Refused(format!(
            "the addresses make no join string: {error}"
        )));
    }
    let new = NewToken {
        note: safe_text(&new.note, MAX_NOTE_LEN),
        ..new.clone()
    };
    let (id, expires_unix_ms) = store
        .add_token(TokenHash::of(secret), &new)
        .map_err(internal)?;
    Ok(CreatedToken {
        id,
        join,
        expires_unix_ms,
    })
}

/// `ADDR`, `NAME`, `[ADDR6]` or `ADDR6`, with `:PORT` or without.
fn with_port(server: &str, port: u16) -> Result<String, ControlError> {
    let wrong = || {
        ControlError::Refused(format!(
            "expected an address as ADDR:PORT, found {server:?}"
        ))
    };
    if let Ok(address) = server.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port).to_string());
    }
    if server.parse::<SocketAddr>().is_ok() {
        return Ok(server.to_owned());
    }
    let (host, port) = match server.rsplit_once(':') {
        Some((host, written)) => (host, written.parse::<u16>().map_err(|_| wrong())?),
        None => (server, port),
    };
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if port == 0 || host.is_empty() || !host.chars().all(of_a_name) {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

/// Addresses that a machine elsewhere may reach: a wildcard stands for the host's own.
fn reachable(listening: &[SocketAddr]) -> Vec<String> {
    let mut found: Vec<SocketAddr> = Vec::new();
    let mut add = |address: SocketAddr| {
        if found.len() < MAX_FOUND && !found.contains(&address) {
            found.push(address);
        }
    };
    for address in listening {
        if address.ip().is_unspecified() {
            for ip in host_addresses() {
                add(SocketAddr::new(ip, address.port()));
            }
        } else {
            add(*address);
        }
    }
    found.iter().map(SocketAddr::to_string).collect()
}

/// The host's IPv4 addresses, that of the default route first; the loopback's where there is no other.
fn host_addresses() -> Vec<IpAddr> {
    let outward = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| {
            socket.connect(ELSEWHERE)?;
            socket.local_addr()
        })
        .map(|address| address.ip());
    let mut addresses: Vec<IpAddr> = outward.into_iter().collect();
    let table = std::fs::read_to_string(LOCAL_ADDRESSES).unwrap_or_default();
    addresses.extend(local_addresses(&table).into_iter().map(IpAddr::V4));
    addresses.retain(|address| !address.is_unspecified() && !address.is_loopback());
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    addresses
}

/// Addresses with `/32 host LOCAL` behind them in the kernel's routing trie.
fn local_addresses(table: &str) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    let mut last = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_and_checked() {
        let complete = |text| with_port(text, 7440).unwrap();
        assert_eq!(complete("192.0.2.7"), "192.0.2.7:7440");
        assert_eq!(complete("192.0.2.7:1"), "192.0.2.7:1");
        assert_eq!(complete("2001:db8::1"), "[2001:db8::1]:7440");
        assert_eq!(complete("[2001:db8::1]:5"), "[2001:db8::1]:5");
        assert_eq!(complete("v2v.example"), "v2v.example:7440");
        for wrong in ["", ":7440", "a b:1", "host:x", "host:0", "host:70000"] {
            assert!(with_port(wrong, 7440).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_the_addresses_of_the_host() {
        let servers = reachable(&["0.0.0.0:7440".parse().unwrap()]);
        assert!(!servers.is_empty());
        assert!(servers.iter().all(|server| !server.starts_with("0.0.0.0")));
        let table = "        |-- 192.0.2.5\n           /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\n";
        assert_eq!(local_addresses(table), [Ipv4Addr::new(192, 0, 2, 5)]);
    }
}
