//! What a tunnel knows of the path below it, and how it learns that: by messages that both gateways send
//! each other inside the tunnel.
//!
//! [`message`] is what they say of its size, [`search`] how the largest packet is found. Sizes here are those
//! of whole IP packets on the underlay; [`overhead`] lies between them and inner packets. [`beat`] is what
//! they say of its health, [`health`] what is concluded, and [`choice`] which of several paths is used. [`word`] is what they say of their
//! nodes, [`standing`] what follows.

pub mod beat;
pub mod choice;
mod grade;
pub mod health;
mod hold;
mod inbound;
mod measure;
pub mod message;
mod outbound;
pub(crate) mod random;
mod round;
pub mod search;
pub mod standing;
pub mod word;

use std::net::IpAddr;

use crate::noise::OVERHEAD;

pub use grade::Grade;
pub use health::{Fitness, Health, HealthReport, HealthState, PathEnd};
pub use search::{PathMtu, Probe, Unexpected};
pub use standing::Standing;

/// The path MTUs in bytes that are told apart: what every IPv4 host takes (RFC 791), and the largest
/// packet that carries the largest inner one.
pub const PATH_RANGE: std::ops::RangeInclusive<u16> = 576..=9080;

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathReport {
    /// The largest IP packet that it carries, in bytes; `None` while nobody knows. It is never beyond
    /// what the largest inner packet needs, since nothing larger is tried.
    pub mtu: Option<u16>,
    /// How that is known.
    pub state: PathState,
}

/// How a path's MTU is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// The peer is plain WireGuard: the kernel's word counts, if there is one.
    NotProbed,
    /// Packets of several sizes are under way.
    Searching,
    /// Packets of this size arrived not long ago, larger ones did not.
    Verified,
    /// The peer does not answer: it is of an older version, or the tunnel is down. What was found
    /// before still counts.
    Unanswered,
}

impl PathState {
    /// The label in metrics, logs and status.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotProbed => "not_probed",
            Self::Searching => "searching",
            Self::Verified => "verified",
            Self::Unanswered => "unanswered",
        }
    }
}

/// How much larger a packet is on the underlay than inside: IP, UDP and WireGuard's headers, and its tag.
pub fn overhead(endpoint: IpAddr) -> usize {
    let ip = if endpoint.to_canonical().is_ipv4() { 20 } else { 40 };
    ip + 8 + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MTU_RANGE;

    #[test]
    fn headers_are_60_and_80_bytes_and_the_range_holds_the_largest_packet() {
        let (v4, v6) = (overhead("192.0.2.1".parse().expect("v4")), overhead([0; 16].into()));
        assert_eq!((v4, v6, overhead("::ffff:192.0.2.1".parse().expect("mapped"))), (60, 80, 60));
        assert_eq!(usize::from(*PATH_RANGE.end()), MTU_RANGE.end() + v6);
    }
}
