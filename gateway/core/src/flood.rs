//! How many handshakes are looked at: what a lane does beside boringtun's cookies.
//!
//! A cookie proves that a source is not forged, and no more: whoever has a real address could still make
//! us compute without end. So under load each source gets a share, as Linux's WireGuard does it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Handshakes a second that are answered without a cookie, whatever the tunnels.
const LEAST: u64 = 200;
/// Handshakes a second that one source gets under load, whatever the tunnels.
const LEAST_OF_SOURCE: u64 = 20;
/// Sources that are told apart; those beyond share one place.
const SOURCES: usize = 4096;
/// What all sources get under load together, as a multiple of the limit: what a lane can compute beside
/// its packets. Sources that are known to be peers' have their shares beside it.
const TOGETHER: u64 = 4;

/// Handshakes a second that are answered without a cookie, on a lane with so many tunnels. After a
/// restart all of them begin at once, and each takes an initiation and a response.
pub fn limit(tunnels: usize) -> u64 {
    LEAST + 2 * tunnels as u64
}

/// Counts handshakes by source while there are more than the limit.
#[derive(Debug)]
pub struct Flood {
    limit: u64,
    of_source: u64,
    since: Option<Instant>,
    count: u64,
    /// Where peers are known to be.
    known: BTreeSet<IpAddr>,
    sources: BTreeMap<IpAddr, u64>,
    others: u64,
    /// Handshakes of unknown sources that were looked at under load.
    strangers: u64,
}

impl Flood {
    /// For a lane with so many tunnels, whose peers are known to be at `known`.
    pub fn new(tunnels: usize, known: BTreeSet<IpAddr>) -> Self {
        Self {
            limit: limit(tunnels),
            of_source: LEAST_OF_SOURCE + 2 * tunnels as u64,
            since: None,
            count: 0,
            known: known.into_iter().map(network).collect(),
            sources: BTreeMap::new(),
            others: 0,
            strangers: 0,
        }
    }

    /// Whether one more handshake from `source` is looked at.
    pub fn admits(&mut self, now: Instant, source: IpAddr) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= Duration::from_secs(1) {
            self.since = Some(now);
            self.count = 0;
            self.others = 0;
            self.strangers = 0;
            self.sources.clear();
        }
        self.count += 1;
        if self.count <= self.limit {
            return true;
        }
        let source = network(source);
        let stranger = !self.known.contains(&source);
        if stranger && self.strangers >= TOGETHER * self.limit {
            return false;
        }
        let room = self.sources.len() < SOURCES || !stranger || self.sources.contains_key(&source);
        let count = if room { self.sources.entry(source).or_default() } else { &mut self.others };
        *count += 1;
        let admitted = *count <= self.of_source;
        self.strangers += u64::from(admitted && stranger);
        admitted
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one host of IPv6 has for itself.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    fn source(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn one_source_that_floods_leaves_the_others_their_share() {
        let (mut flood, now) = (Flood::new(0, BTreeSet::new()), start());
        let admitted = (0..10_000).filter(|_| flood.admits(now, source(1))).count() as u64;
        assert_eq!(admitted, LEAST + LEAST_OF_SOURCE);
        assert!(flood.admits(now, source(2)));
        assert!(flood.admits(now + Duration::from_secs(1), source(1)));
    }

    #[test]
    fn addresses_of_one_host_of_version_six_share() {
        let (mut flood, now) = (Flood::new(0, BTreeSet::new()), start());
        let host = |number: u128| IpAddr::V6((0xfd00 << 112 | number).into());
        let admitted = (0..10_000).filter(|n| flood.admits(now, host(*n))).count() as u64;
        assert_eq!(admitted, LEAST + LEAST_OF_SOURCE);
    }

    #[test]
    fn sources_without_end_are_bounded() {
        let (mut flood, now) = (Flood::new(0, BTreeSet::new()), start());
        let admitted = (0..100_000).filter(|n| flood.admits(now, source(*n))).count() as u64;
        assert_eq!(admitted, LEAST + TOGETHER * LEAST);
        assert!(flood.sources.len() <= SOURCES);
        assert!(!flood.admits(now, source(200_000)));
    }

    #[test]
    fn a_known_peer_gets_in_beside_strangers_without_end() {
        let (mut flood, now) = (Flood::new(1, [source(7)].into()), start());
        (100..100_000).for_each(|n| {
            flood.admits(now, source(n));
        });
        assert!(flood.admits(now, source(7)));
    }

    #[test]
    fn a_gateway_that_restarts_with_many_tunnels_does_not_limit_itself() {
        let (mut flood, now) = (Flood::new(4096, BTreeSet::new()), start());
        assert!((0..2 * 4096).all(|_| flood.admits(now, source(1))));
    }
}
