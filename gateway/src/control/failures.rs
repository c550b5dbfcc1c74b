//! The newest failures to connect with one peer: bounded, and forgotten when they are over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrick_exchange::message::member::ConnectFailure;

/// How many are kept.
const LIMIT: usize = 8;

/// A failure that did not come again for this long is over.
const MEMORY: Duration = Duration::from_secs(30);

/// The failures of one peer, one an endpoint.
#[derive(Debug, Default)]
pub struct Failures(BTreeMap<String, ConnectFailure>);

impl Failures {
    /// Notes that `endpoint` (what was dialled, or the address of who dialled) failed.
    pub fn note(&mut self, endpoint: &str, reason: &str, message: &str, now: SystemTime) {
        let at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let failure = ConnectFailure {
            endpoint: endpoint.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            at,
        };
        self.0.insert(endpoint.to_owned(), failure);
        if self.0.len() > LIMIT {
            let oldest = self.0.values().min_by_key(|failure| failure.at);
            let oldest = oldest.map(|failure| failure.endpoint.clone());
            oldest.and_then(|endpoint| self.0.remove(&endpoint));
        }
    }

    /// Notes that somebody was refused who came from `address` and claims to be the peer. Only the
    /// first of several equal ones counts: anybody can make such claims.
    pub fn note_stranger(&mut self, address: IpAddr, reason: &str, message: &str, now: SystemTime) {
        let key = address.to_string();
        if self.0.get(&key).is_none_or(|known| known.reason != reason) {
            self.note(&key, reason, message, now);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets what is over.
    pub fn prune(&mut self, now: SystemTime) {
        let oldest = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(MEMORY);
        self.0.retain(|_, failure| failure.at >= oldest.as_secs());
    }

    /// All of them, by endpoint.
    pub fn list(&self) -> Vec<ConnectFailure> {
        self.0.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_bounded_and_forgotten() {
        let mut failures = Failures::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for n in 0..20 {
            failures.note(&format!("192.0.2.{n}:1"), "Timeout", "no answer", at(100 + n));
        }
        assert_eq!(failures.list().len(), LIMIT);
        assert!(failures.list().iter().all(|failure| failure.at >= 112), "the newest stay");
        failures.prune(at(300));
        assert_eq!(failures.list(), []);
    }

    #[test]
    fn strangers_cannot_make_noise() {
        let mut failures = Failures::default();
        let (ip, now) = ("192.0.2.1".parse().expect("address"), SystemTime::now());
        failures.note_stranger(ip, "WrongIdentity", "from port 1", now);
        failures.note_stranger(ip, "WrongIdentity", "from port 2", now);
        assert_eq!(failures.list().len(), 1);
        assert_eq!(failures.list()[0].message, "from port 1");
    }
}
