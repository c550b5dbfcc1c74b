//! What a cluster says to another cluster, signed by its identity.
//!
//! Gateways carry these bytes and cannot change them: the receiver verifies signature, audience and
//! expiry, and refuses an older (epoch, generation) than the one that it holds.

use super::{WireEndpoint, WirePrefix};

/// A signed [`ClusterSnapshot`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SignedSnapshot {
    /// The encoded [`ClusterSnapshot`].
    #[prost(bytes = "vec", tag = "1")]
    pub payload: Vec<u8>,
    /// The identity public key that signed, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    /// Ed25519 signature over the ASCII text `carrick snapshot v1`, a zero byte, and the payload.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

/// All that one cluster says to one other. A later one replaces the earlier whole.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterSnapshot {
    /// The speaker's cluster ID.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// The cluster ID for which this is meant.
    #[prost(string, tag = "2")]
    pub audience: String,
    /// Grows whenever the speaker's generation counter begins anew (seconds since 1970 of its start).
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// Grows with each change inside an epoch.
    #[prost(uint64, tag = "4")]
    pub generation: u64,
    /// When it was signed, in seconds since 1970.
    #[prost(uint64, tag = "5")]
    pub issued_at: u64,
    /// From when on it no longer holds, in seconds since 1970.
    #[prost(uint64, tag = "6")]
    pub expires_at: u64,
    /// The gateways that are in service. One that is missing here has been withdrawn, whatever
    /// certificate it shows.
    #[prost(message, repeated, tag = "7")]
    pub gateways: Vec<GatewayEntry>,
    /// Where pods live.
    #[prost(message, repeated, tag = "8")]
    pub pod_prefixes: Vec<WirePrefix>,
    /// The cluster's node prefix (mesh addresses), an IPv4 /20.
    #[prost(message, optional, tag = "9")]
    pub mesh_prefix: Option<WirePrefix>,
    /// Nodes in service: targets of end-to-end probes.
    #[prost(message, repeated, tag = "10")]
    pub nodes: Vec<NodeEntry>,
    /// The speaker holds a ClusterPeering for the audience that is not suspended. False tells the
    /// receiver that its traffic is unwanted, and it makes the prefixes unreachable.
    #[prost(bool, tag = "11")]
    pub consents: bool,
    // 12 was kept for exported services, which have messages of their own (`super::service`).
    /// The audience's drills may hit the traffic between both clusters.
    #[prost(bool, tag = "20")]
    pub drills: bool,
    /// The speaker's drill that hits the traffic with the audience now, for a person; empty when none does.
    #[prost(string, tag = "21")]
    pub drill: String,
}

/// One gateway of the speaker.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GatewayEntry {
    /// Its member name (pod UID), as in its certificate.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where its exchange listens, most preferred first; empty when it can only dial out.
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<WireEndpoint>,
}

/// One node of the speaker.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeEntry {
    /// The node's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its mesh address: 4 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub mesh_address: Vec<u8>,
}
