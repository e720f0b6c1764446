//! How many failed attempts a peer, and all peers together, may have in a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Failures of one peer in a window: a person who mistypes a code.
pub(super) const PEER_FAILURES: u32 = 10;
/// Failures of all peers in a window.
pub(super) const ALL_FAILURES: u32 = 200;
const WINDOW: Duration = Duration::from_secs(60);
/// Peers that are remembered. With `ALL_FAILURES` in a window there are never more.
const MAX_PEERS: usize = ALL_FAILURES as usize;

/// Counts failures in windows of a minute.
#[derive(Debug)]
pub(super) struct FailureLimits {
    since: Instant,
    all: u32,
    peers: HashMap<IpAddr, u32>,
}

impl FailureLimits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            all: 0,
            peers: HashMap::new(),
        }
    }

    /// May this peer try once more?
    pub(super) fn allows(&mut self, peer: Option<IpAddr>, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        let of_peer = peer.and_then(|peer| self.peers.get(&network(peer)));
        self.all < ALL_FAILURES && of_peer.is_none_or(|failures| *failures < PEER_FAILURES)
    }

    /// Notes a failure.
    pub(super) fn failed(&mut self, peer: Option<IpAddr>) {
        self.all = self.all.saturating_add(1);
        if let Some(peer) = peer.map(network)
            && (self.peers.len() < MAX_PEERS || self.peers.contains_key(&peer))
        {
            *self.peers.entry(peer).or_default() += 1;
        }
    }
}

/// A host has one IPv4 address, and as many IPv6 addresses of one /64 as it likes (RFC 4291, section 2.5.1).
pub(crate) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_fails_too_often_waits_and_others_do_not() {
        let now = Instant::now();
        let mut limits = FailureLimits::new(now);
        let peer = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for _ in 0..PEER_FAILURES {
            assert!(limits.allows(peer("2001:db8::1"), now));
            limits.failed(peer("2001:db8::1"));
        }
        assert!(!limits.allows(peer("2001:db8::ffff"), now));
        assert!(limits.allows(peer("192.0.2.1"), now));
        assert!(limits.allows(peer("2001:db8::1"), now + WINDOW));
    }

    #[test]
    fn all_peers_together_are_limited_and_memory_is() {
        let now = Instant::now();
        let mut limits = FailureLimits::new(now);
        for n in 0..2 * ALL_FAILURES {
            limits.failed(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(!limits.allows(Some(IpAddr::from([192, 0, 2, 1])), now));
        assert!(limits.peers.len() <= MAX_PEERS);
    }
}
