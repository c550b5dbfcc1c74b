//! How much of others a process holds at most.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Limits of one exchange on what others can make it hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that came in and are not judged yet. From half of it on, new ones must first
    /// prove their address (QUIC Retry).
    pub half_open: usize,
    /// Connections from one IPv4 address or one IPv6 /64, judged or not.
    pub per_address: usize,
    /// Links that came in.
    pub links: usize,
    /// How long a handshake and the judgement may take.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { half_open: 64, per_address: 64, links: 8192, handshake: Duration::from_secs(5) }
    }
}

/// Counts what came in by address.
#[derive(Clone, Default)]
pub(crate) struct Census {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    by_address: HashMap<IpAddr, usize>,
    total: usize,
}

/// One place in the census, given back on drop.
pub(crate) struct Place {
    census: Census,
    address: IpAddr,
}

impl Census {
    /// A place for a connection from `address`; `None` when it has its share or all are taken.
    pub(crate) fn enter(&self, address: IpAddr, limits: &Limits) -> Option<Place> {
        let address = site(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if here >= limits.per_address || counts.total >= limits.links {
            return None;
        }
        counts.by_address.insert(address, here + 1);
        counts.total += 1;
        Some(Place { census: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// What one host may have many of: a /64 in IPv6.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_site_and_given_back() {
        let census = Census::default();
        let limits = Limits { per_address: 2, links: 3, ..Limits::default() };
        let enter = |text: &str| census.enter(text.parse().expect("address"), &limits);
        let first = enter("fd00::1").expect("first");
        let _second = enter("fd00::2").expect("second, same /64");
        assert!(enter("fd00::3").is_none());
        let _other = enter("192.0.2.1").expect("another site");
        assert!(enter("192.0.2.2").is_none(), "all places are taken");
        drop(first);
        assert!(enter("fd00::3").is_some());
    }
}
