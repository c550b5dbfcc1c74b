//! `ClusterPeering.status`: what the controller found. Written when a condition changes, else at most
//! once a minute, which tunnels there are within seconds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller found.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPeeringStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Connected, RoutesReady, DataPathReady, NodesDegraded, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// The other cluster, as it shows itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerStatus>,
    /// Tunnels between our gateways and the peer's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<TunnelStatus>,
    /// What is routed and what was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<PrefixesStatus>,
    /// The largest inner packet in bytes: `tunnel.mtu`, or less where a path carries less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i32>,
    /// How services are shared with the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesStatus>,
}

/// The other cluster, as it shows itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Carrick's release there (the oldest, if its gateways differ).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// How many gateways its signed snapshot lists.
    pub gateways: i32,
    /// To how many of them we have a tunnel.
    pub connected_gateways: i32,
    /// How many nodes its signed snapshot lists.
    pub nodes: i32,
    /// Its mesh prefix.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mesh_prefix: String,
    /// A failover drill of its that hits the traffic between both now, in its own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub drill: String,
}

/// One tunnel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TunnelStatus {
    /// Our gateway: its pod's name.
    pub gateway: String,
    /// The peer's gateway: its pod's UID.
    pub remote_gateway: String,
    /// The peer's lane, `address:port`.
    pub remote_endpoint: String,
    /// The lane.
    pub lane: i32,
    /// `Up` or `Down`.
    pub state: String,
    /// When the last handshake ended, as of the last write of this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handshake: Option<Time>,
    /// Round-trip time of the connection beside it, in milliseconds, rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_milliseconds: Option<i32>,
    /// The largest IP packet that the path below it carries, in bytes, as probes found; never more than
    /// the tunnel needs.
    #[serde(default, rename = "pathMTU", skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<i32>,
    /// How that is known: `searching`, `verified`, or `unanswered` when the peer does not answer probes.
    #[serde(default, rename = "pathMTUState", skip_serializing_if = "String::is_empty")]
    pub path_mtu_state: String,
    /// Its paths that are not as they should be, each with what is wrong: `down`, `held` (it flapped), `poor` (it loses 1 %
    /// or has become slow) or `bad` (it loses 10 %, or large packets).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unhealthy_paths: Vec<String>,
}

/// What is routed and what was refused.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrefixesStatus {
    /// The peer's prefixes that our nodes route.
    #[serde(default)]
    pub imported: Vec<String>,
    /// What the peer announced and we did not take.
    #[serde(default)]
    pub refused: Vec<RefusedPrefix>,
    /// What we announced and the peer did not take.
    #[serde(default)]
    pub refused_by_peer: Vec<RefusedPrefix>,
}

/// A prefix that was not taken.
#[derive(
    Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct RefusedPrefix {
    /// Which.
    pub prefix: String,
    /// Why, CamelCase.
    pub reason: String,
}

/// How services are shared with a peer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicesStatus {
    /// How many of ours the peer is told.
    pub exported: i32,
    /// How many of its are imported.
    pub imported: i32,
    /// How many of its are not, or not with all their endpoints.
    pub refused: i32,
    /// The first of those, with the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_imported: Vec<RefusedService>,
    /// Some of ours that the peer is not told though it might be, with the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_exported: Vec<RefusedService>,
    /// Why nothing newer is known of what the peer exports; empty when there is no such reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// A service that is not shared, or not as a whole.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedService {
    /// Which, `namespace/name`.
    pub service: String,
    /// Why, CamelCase.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
}
