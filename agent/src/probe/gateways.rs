//! Whether the gateways of our own cluster forward, asked on the very path that packets take: by VXLAN,
//! bridge and lane. Neither the Kubernetes API nor the controller has a part in it.
//!
//! [`watch`] is the machine: time and answers in, questions and verdicts out. [`shell`] has the socket.

pub mod shell;
pub mod watch;

use std::collections::BTreeMap;
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
            Self::Silent { .. } => "Silent",
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
