//! The gateway's core: what becomes of a packet, without sockets, clocks or threads.
//!
//! [`lane::Lane`] is the machine. Frames, datagrams and the time go in; datagrams and frames come out
//! through a [`lane::Sink`]. [`noise`] is the only file that names boringtun.

pub mod checksum;
pub mod coalesce;
pub mod config;
pub mod drops;
pub mod ecn;
mod flood;
pub mod forward;
pub mod icmp;
pub mod lane;
pub mod mss;
pub mod noise;
pub mod offload;
pub mod packet;
pub mod path;
pub mod segment;
pub mod spread;
pub mod table;
mod tunnel;

pub use coalesce::Merging;
pub use config::{
    ConfigError, ForwardingConfig, HostConfig, NodeForwarding, PathConfig, PeerForwarding, Routers,
    TunnelConfig, TunnelId,
};
pub use drops::{DropReason, Drops};
pub use lane::fault::{Effect, Fault, FaultFigures, Weather};
pub use lane::{Datagrams, Framing, Lane, Lost, Sink};
pub use noise::SecretKey;
pub use offload::{Cut, CutKind, Offload};
pub use path::{PathReport, PathState};
pub use tunnel::TunnelReport;

#[cfg(test)]
pub(crate) mod testing {
    use std::time::Instant;

    /// A time to count from.
    #[expect(clippy::disallowed_methods, reason = "tests have to begin somewhere")]
    pub fn start() -> Instant {
        Instant::now()
    }
}
