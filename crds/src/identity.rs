//! ClusterIdentity `self`: what this cluster is to others. Made by the controller.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ClusterPeering;

/// What this cluster is to others: its ID, its keys, its ranges, and a ClusterPeering ready to be
/// applied in another cluster.
#[derive(
    CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default, KubeSchema,
)]
#[kube(
    group = "carrick.dev",
    version = "v1alpha1",
    kind = "ClusterIdentity",
    plural = "clusteridentities",
    category = "carrick",
    status = "ClusterIdentityStatus",
    derive = "PartialEq",
    doc = "What this cluster is to others: its ID, its keys, its ranges, and in status a ClusterPeering ready to be applied in another cluster. Made by the controller.",
    validation = ("self.metadata.name == 'self'", "a cluster has one ClusterIdentity, and its name is self"),
    printcolumn = r#"{"name": "Cluster", "type": "string", "jsonPath": ".status.clusterID"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Covers Pods", "type": "string", "jsonPath": ".status.conditions[?(@.type=='PrefixesCoverPods')].status"}"#,
    printcolumn = r#"{"name": "Pod Ranges", "type": "string", "jsonPath": ".status.podRanges"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Identities", "type": "string", "jsonPath": ".status.identities", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIdentitySpec {}

/// What the controller says of this cluster.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIdentityStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, PrefixesCoverPods, Withdrawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// This cluster's ID.
    #[serde(rename = "clusterID", default, skip_serializing_if = "String::is_empty")]
    pub cluster_id: String,
    /// Public identity keys, `ed25519:…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// Where pods live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_ranges: Vec<String>,
    /// Where services live; never routed between clusters, only kept free of collisions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_ranges: Vec<String>,
    /// The prefix of the nodes' mesh addresses.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mesh_prefix: String,
    /// Where our gateways can be dialled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<IdentityEndpoint>,
    /// Our gateways that report, and what they leave to the kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IdentityGateway>,
    /// Each node's mesh address, so that it stays the same when the controller restarts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeAddress>,
    /// What ClusterPeerings accept now, so that a deletion is noticed even when it happens while no
    /// controller runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<AcceptedRange>,
    /// Prefixes that stay unreachable because a deleted ClusterPeering once accepted them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<Tombstone>,
    /// Ready to be applied in another cluster; `carrick invite` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded_object")]
    pub cluster_peering: Option<ClusterPeering>,
}

/// Where one of our gateways can be dialled.
#[derive(
    Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct IdentityEndpoint {
    /// The gateway: its pod's name.
    pub gateway: String,
    /// An IP address or a DNS name.
    pub address: String,
    /// The UDP port of its exchange.
    pub port: i32,
}

/// One of our gateways, as it reports.
#[derive(
    Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct IdentityGateway {
    /// Its pod's name.
    pub name: String,
    /// Offloads that are in use on all its lanes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offloads: Vec<String>,
    /// Offloads that are not: switched off, not had by the kernel, or failed on some lane.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offloads_off: Vec<String>,
    /// Nodes that it does not answer, five at most: their traffic goes by other gateways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent_to: Vec<String>,
    /// Whether packets of its own node reach it past the CNI's bridge, uncut; absent where that node does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<bool>,
}

/// A node's mesh address.
#[derive(
    Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct NodeAddress {
    /// The node.
    pub name: String,
    /// Its mesh address.
    pub mesh_address: String,
}

/// A range that a ClusterPeering accepts.
#[derive(
    Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedRange {
    /// Which.
    pub prefix: String,
    /// The cluster that may have it.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
}

/// A prefix that stays unreachable, so that nothing leaves in clear after a peering's end.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// Which.
    pub prefix: String,
    /// The cluster that had it.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Since when.
    pub since: Time,
}

/// A whole Kubernetes object, kept as it is.
fn embedded_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "nullable": true,
        "description": "A ClusterPeering ready to be applied in another cluster; `carrick invite` prints it.",
        "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
