//! `ClusterPeering.spec`: what an operator writes.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClusterPeeringStatus;

/// The port on which a gateway's exchange listens when an endpoint names none.
pub const DEFAULT_PORT: i32 = 31820;
/// How many prefixes a peer may announce when `accept.maxPrefixes` is not set.
pub const DEFAULT_MAX_PREFIXES: i32 = 32;
/// WireGuard's persistent keepalive in seconds when `tunnel.keepaliveSeconds` is not set.
pub const DEFAULT_KEEPALIVE_SECONDS: i32 = 25;
/// The most entries of `identities`.
pub const IDENTITIES_LIMIT: usize = 4;
/// The most entries of `endpoints`.
pub const ENDPOINTS_LIMIT: usize = 32;
/// The most entries of each list of ranges.
pub const RANGES_LIMIT: usize = 64;
/// The most entries of each list of namespaces.
pub const NAMESPACES_LIMIT: usize = 256;
/// The largest `accept.maxPrefixes`.
pub const MAX_PREFIXES_LIMIT: i32 = 256;
/// The bounds of `services.maxImports`.
pub const MAX_IMPORTS_RANGE: (i32, i32) = (1, 16_384);
/// The largest `endpoints[].cost`.
pub const COST_LIMIT: i32 = 65535;
/// The bounds of `failover.detectionMilliseconds`.
pub const DETECTION_RANGE: (i32, i32) = (150, 60_000);
/// The smallest and largest `tunnel.mtu` in bytes.
pub const MTU_RANGE: (i32, i32) = (1280, 9000);

/// Lets this cluster and one other reach each other's pods. Traffic flows only while both clusters
/// hold a ClusterPeering for each other.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[kube(
    group = "carrick.dev",
    version = "v1alpha1",
    kind = "ClusterPeering",
    plural = "clusterpeerings",
    shortname = "cpeer",
    category = "carrick",
    status = "ClusterPeeringStatus",
    derive = "PartialEq",
    doc = "Lets this cluster and one other reach each other's pods. Traffic flows only while both clusters hold a ClusterPeering for each other.",
    printcolumn = r#"{"name": "Cluster", "type": "string", "jsonPath": ".spec.clusterID"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name": "Peer Version", "type": "string", "jsonPath": ".status.peer.release"}"#,
    printcolumn = r#"{"name": "Gateways", "type": "integer", "jsonPath": ".status.peer.connectedGateways", "description": "How many of the peer's gateways we have a tunnel to"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPeeringSpec {
    /// The other cluster's ID, as its ClusterIdentity `self` says. It cannot be changed later.
    #[serde(rename = "clusterID")]
    #[schemars(
        length(min = 1, max = 127),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$"),
        extend("x-kubernetes-validations" = [{
            "rule": "self == oldSelf",
            "message": "clusterID cannot be changed; delete this ClusterPeering and make another",
        }])
    )]
    pub cluster_id: String,

    /// The other cluster's identity keys, `ed25519:` and 44 characters of base64. A second one is for
    /// the time of a change of keys.
    #[schemars(
        length(min = 1, max = IDENTITIES_LIMIT),
        inner(length(min = 52, max = 52), regex(pattern = r"^ed25519:[A-Za-z0-9+/]{43}=$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub identities: Vec<String>,

    /// Where the other cluster's gateways are dialled. Empty when it dials us.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = ENDPOINTS_LIMIT), extend("x-kubernetes-list-type" = "atomic"))]
    pub endpoints: Vec<EndpointSpec>,

    /// What we take from the other cluster. All else that it announces is refused.
    pub accept: AcceptSpec,

    /// What we tell the other cluster; all of our pod ranges when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce: Option<AnnounceSpec>,

    /// What new connections from the other cluster may reach: all pods, or only those behind exported
    /// services.
    #[serde(default = "access_default")]
    #[schemars(extend("enum" = ["AllPods", "ExportedServices"]))]
    pub access: String,

    /// Which namespaces' services are shared; none when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesSpec>,

    /// Whether failover drills of the other cluster may hit the traffic between both, and send streams to our
    /// nodes.
    #[serde(default = "drills_default")]
    #[schemars(extend("enum" = ["Allow", "Deny"]))]
    pub drills: String,

    /// What to do when pod ranges overlap. `Auto` is not implemented in this release.
    #[serde(default = "remap_default")]
    #[schemars(extend("enum" = ["Never", "Auto"]))]
    pub remap: String,

    /// How fast a lost path is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverSpec>,

    /// How the tunnels are made.
    #[serde(default)]
    pub tunnel: TunnelSpec,

    /// Stops all traffic while true, without forgetting anything.
    #[serde(default)]
    pub suspended: bool,
}

/// One place to dial.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSpec {
    /// An IP address or a DNS name.
    #[schemars(
        length(min = 1, max = 253),
        extend("x-kubernetes-validations" = [{
            "rule": r"isIP(self) || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*[.]?$')",
            "message": "address must be an IP address or a DNS name, without a port",
        }])
    )]
    pub address: String,
    /// The UDP port of the gateway's exchange; its lanes follow on the next ports.
    #[serde(default = "port_default")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The network in which the address is valid; the internet when not set. Not implemented in this
    /// release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub network: Option<String>,
    /// Dearer paths are used when cheaper ones fail.
    #[serde(default)]
    #[schemars(range(min = 0, max = COST_LIMIT))]
    pub cost: i32,
}

/// What we take from the other cluster.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptSpec {
    /// Ranges in which the other cluster's pods may live, such as `10.2.0.0/16`.
    #[schemars(
        length(min = 1, max = RANGES_LIMIT),
        extend("x-kubernetes-list-type" = "set"),
        transform = range_items
    )]
    pub pod_ranges: Vec<String>,
    /// How many prefixes the other cluster may announce.
    #[serde(default = "max_prefixes_default")]
    #[schemars(range(min = 1, max = MAX_PREFIXES_LIMIT))]
    pub max_prefixes: i32,
}

/// What we tell the other cluster.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnnounceSpec {
    /// Which parts of our pod ranges; all of them when empty.
    #[serde(default)]
    #[schemars(
        length(max = RANGES_LIMIT),
        extend("x-kubernetes-list-type" = "set"),
        transform = range_items
    )]
    pub pod_ranges: Vec<String>,
}

/// Which namespaces' services are shared. A namespace of the same name in both clusters is one to them: whoever may write
/// into it there is trusted with it here.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicesSpec {
    /// Namespaces whose exported services the other cluster may use; `*` is all but those of Kubernetes itself.
    #[serde(default)]
    #[schemars(length(max = NAMESPACES_LIMIT), inner(length(min = 1, max = 63)))]
    pub export: Vec<String>,
    /// Namespaces into which the other cluster's exported services are imported; `*` is all but those of Kubernetes
    /// itself.
    #[serde(default)]
    #[schemars(length(max = NAMESPACES_LIMIT), inner(length(min = 1, max = 63)))]
    pub import: Vec<String>,
    /// How many of its services are imported at most: those that have been exported longest. When not set, as many as a
    /// quarter of the addresses that were free for Services when the controller began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = MAX_IMPORTS_RANGE.0, max = MAX_IMPORTS_RANGE.1))]
    pub max_imports: Option<i32>,
}

/// How fast a lost path is noticed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverSpec {
    /// After how many milliseconds of silence a path counts as lost; 300 when not set. The slower side's wish
    /// wins. Below 300 heartbeats cost more than 10 kbit/s a path. Nodes notice a lost gateway as soon as the hastiest
    /// peering wants, between 300 and 2400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = DETECTION_RANGE.0, max = DETECTION_RANGE.1))]
    pub detection_milliseconds: Option<i32>,
}

/// How the tunnels are made.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TunnelSpec {
    /// How many lanes between two gateways at most; as many as both have when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub lanes: Option<i32>,
    /// The largest inner packet in bytes; the chart's `tunnel.mtu` when not set. Where the path carries less,
    /// that counts by itself: see `status.mtu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = MTU_RANGE.0, max = MTU_RANGE.1))]
    pub mtu: Option<i32>,
    /// WireGuard's persistent keepalive in seconds; 0 is off.
    #[serde(default = "keepalive_default")]
    #[schemars(range(min = 0, max = 65535))]
    pub keepalive_seconds: i32,
    /// `Required` refuses connections without a post-quantum key exchange.
    #[serde(default = "post_quantum_default")]
    #[schemars(extend("enum" = ["Preferred", "Required"]))]
    pub post_quantum: String,
}

impl Default for TunnelSpec {
    fn default() -> Self {
        Self {
            lanes: None,
            mtu: None,
            keepalive_seconds: keepalive_default(),
            post_quantum: post_quantum_default(),
        }
    }
}

/// The rules for each range of a list; the API server checks them at `kubectl apply`.
fn range_items(list: &mut schemars::Schema) {
    let rules = serde_json::json!([
        { "rule": "isCIDR(self)", "message": "must be an address and a length such as 10.2.0.0/16" },
        { "rule": "!isCIDR(self) || cidr(self) == cidr(self).masked()",
          "message": "has host bits set; clear them, such as 10.2.0.0/16 for 10.2.3.4/16" },
        { "rule": "!isCIDR(self) || cidr(self).prefixLength() > 0",
          "message": "must not be a default route" },
    ]);
    let item = serde_json::json!({
        "type": "string", "maxLength": 43, "x-kubernetes-validations": rules,
    });
    list.insert("items".into(), item);
}

fn access_default() -> String {
    "AllPods".into()
}

fn drills_default() -> String {
    "Deny".into()
}

fn remap_default() -> String {
    "Never".into()
}

fn port_default() -> i32 {
    DEFAULT_PORT
}

fn max_prefixes_default() -> i32 {
    DEFAULT_MAX_PREFIXES
}

fn keepalive_default() -> i32 {
    DEFAULT_KEEPALIVE_SECONDS
}

fn post_quantum_default() -> String {
    "Preferred".into()
}
