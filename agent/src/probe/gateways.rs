//! Whether the gateways of our own cluster forward, asked on the very path that packets take: by VXLAN,
//! bridge and lane. Neither the Kubernetes API nor the controller has a part in it.
//!
//! [`watch`] is the machine: time and answers in, questions and verdicts out. [`shell`] has the socket.

pub mod shell;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// What is known of each gateway, by its name.
pub type Verdicts = BTreeMap<String, Verdict>;

/// The clusters that a gateway reaches, by their router addresses, and how well: 0 is as well as can be, or
/// for all that an older release says.
pub type Reached = BTreeMap<[u8; 4], u8>;

/// What is known of one gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It has not answered yet, as one does that has just begun, or an older release: what the controller
    /// says of it counts.
    #[default]
    Unknown,
    /// It answers.
    Answers {
        /// Which clusters it reaches; `None`: as the controller says.
        reach: Option<Arc<Reached>>,
        /// It leaves.
        draining: bool,
    },
    /// It answers again, and has to do so for a while, since it fell silent again and again: it is used where no other
    /// is left.
    Returns {
        /// Which clusters it reaches; `None`: as the controller says.
        reach: Option<Arc<Reached>>,
    },
    /// It has stopped to answer.
    Silent {
        /// So long ago that it is not even used where no other is left.
        gone: bool,
    },
}

impl Verdict {
    /// As reports call it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Answers { draining: false, .. } => "Answers",
            Self::Answers { draining: true, .. } => "Drains",
            Self::Returns { .. } | Self::Silent { .. } => "Silent",
        }
    }

    /// The clusters that it reaches otherwise than by `before`, where both say: with the ranks before and now, none for one
    /// that is not reached.
    pub fn moved(&self, before: &Self) -> Vec<(Ipv4Addr, Option<u8>, Option<u8>)> {
        let (Some(now), Some(before)) = (self.reach(), before.reach()) else { return Vec::new() };
        let routers: BTreeSet<_> = now.keys().chain(before.keys()).collect();
        let ranks = |router: &[u8; 4]| (before.get(router).copied(), now.get(router).copied());
        let all = routers.into_iter().map(|router| (*router, ranks(router)));
        let moved = all.filter(|(_, (before, now))| before != now);
        moved.map(|(router, (before, now))| (router.into(), before, now)).collect()
    }

    fn reach(&self) -> Option<&Reached> {
        match self {
            Self::Answers { reach, .. } => reach.as_deref(),
            Self::Unknown | Self::Returns { .. } | Self::Silent { .. } => None,
        }
    }
}

/// One gateway, as the watch sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its mesh address.
    pub address: Ipv4Addr,
    /// What is known of it.
    pub verdict: Verdict,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// How often it has fallen silent, or begun anew.
    pub falls: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_otherwise_than_before_is_named() {
        let answers = |ranks: &[(u8, u8)]| Verdict::Answers {
            reach: Some(Arc::new(ranks.iter().map(|(n, rank)| ([240, *n, 0, 1], *rank)).collect())),
            draining: false,
        };
        let router = |n| Ipv4Addr::new(240, n, 0, 1);
        let before = answers(&[(1, 0), (2, 0), (3, 5)]);
        let now = answers(&[(1, 0), (3, 10), (4, 0)]);
        let moved = [
            (router(2), Some(0), None),
            (router(3), Some(5), Some(10)),
            (router(4), None, Some(0)),
        ];
        assert_eq!(now.moved(&before), moved);
        assert_eq!(now.moved(&Verdict::Unknown), []);
    }
}
