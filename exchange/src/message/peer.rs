//! Between gateways of two clusters. The first message of each side is a [`Hello`].

use super::WirePrefix;
use super::snapshot::SignedSnapshot;

/// A frame between two gateways.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeerMessage {
    /// What it says; `None` is a kind that this build does not know, and is ignored.
    #[prost(oneof = "peer_message::Kind", tags = "1, 2, 3")]
    pub kind: Option<peer_message::Kind>,
}

/// The alternatives of [`PeerMessage`].
pub mod peer_message {
    /// What a gateway says to a remote gateway.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// Who I am and which lanes I have.
        #[prost(message, tag = "1")]
        Hello(super::Hello),
        /// What my cluster says to yours.
        #[prost(message, tag = "2")]
        Snapshot(super::SignedSnapshot),
        /// What of your snapshot my cluster does not take.
        #[prost(message, tag = "3")]
        Report(super::Report),
    }
}

/// The first frame of each side. A gateway speaks for itself only about its lanes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Newest protocol version spoken.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Oldest protocol version spoken.
    #[prost(uint32, tag = "2")]
    pub oldest_version: u32,
    /// Carrick's release, for status.
    #[prost(string, tag = "3")]
    pub release: String,
    /// My lanes, by index from 0.
    #[prost(message, repeated, tag = "4")]
    pub lanes: Vec<LaneEntry>,
    /// Tunnels to you that I already hold: where both sides name the same incarnation, it is kept as
    /// it is; else both derive a new preshared key from this connection.
    #[prost(message, repeated, tag = "5")]
    pub tunnels: Vec<TunnelEntry>,
}

/// A lane that a gateway offers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LaneEntry {
    /// Its index: lane k talks to lane k.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// Its X25519 public key, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub public_key: Vec<u8>,
    /// The UDP port that it listens on.
    #[prost(uint32, tag = "3")]
    pub port: u32,
}

/// A tunnel that its sender already holds with the receiver.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TunnelEntry {
    /// The lane.
    #[prost(uint32, tag = "1")]
    pub lane: u32,
    /// Names the preshared key: the first 16 bytes of SHA-256 over it. Reveals nothing of it.
    #[prost(bytes = "vec", tag = "2")]
    pub incarnation: Vec<u8>,
}

/// The receiver's view of a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// The snapshot's epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The snapshot's generation.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// Prefixes not taken.
    #[prost(message, repeated, tag = "3")]
    pub refused: Vec<Refusal>,
    /// The snapshot as a whole was not taken, and why; empty when it was.
    #[prost(string, tag = "4")]
    pub error: String,
    /// The epoch of the snapshot that `error` is about, where it is known; else 0.
    #[prost(uint64, tag = "5")]
    pub error_epoch: u64,
    /// The generation of the snapshot that `error` is about, where it is known; else 0.
    #[prost(uint64, tag = "6")]
    pub error_generation: u64,
}

/// A prefix that a receiver did not take.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Refusal {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub prefix: Option<WirePrefix>,
    /// Why: a CamelCase reason, see `carrick_exchange::filter::RefusalReason`.
    #[prost(string, tag = "2")]
    pub reason: String,
}
