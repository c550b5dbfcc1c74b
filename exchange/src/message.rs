//! What goes over the links, as Protobuf messages.
//!
//! Every stream carries length-delimited frames of one type per direction: [`member::FromController`]
//! and [`member::FromMember`] between a controller and its gateways and agents, [`peer::PeerMessage`]
//! between gateways of two clusters, [`join`] for the one exchange by which a member gets its
//! certificate. Exported services have streams of their own, see [`service`]. Unknown fields are ignored, and numbers are never used twice, so that versions n and
//! n−1 understand each other. Texts and bytes in here are what the other side claims: the `parse`
//! modules and the receivers turn them into model types before anyone believes them.

pub mod drill;
pub mod join;
pub mod member;
pub mod peer;
pub mod service;
pub mod snapshot;

/// The newest protocol version that this build speaks.
pub const VERSION: u32 = 1;

/// The oldest protocol version that this build speaks.
pub const OLDEST_VERSION: u32 = 1;

/// An IP prefix on the wire.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct WirePrefix {
    /// Network address: 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    /// Length in bits: 0–32 or 0–128.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// A UDP endpoint on the wire: what an operator wrote or a controller found.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct WireEndpoint {
    /// An IP address or a DNS name.
    #[prost(string, tag = "1")]
    pub host: String,
    /// UDP port of the exchange; lane k listens on port + 1 + k. 1–65535.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}
