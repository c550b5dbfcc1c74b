//! `FailoverDrill.spec`: what an operator writes.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FailoverDrillStatus;

/// The longest `durationSeconds`.
pub const DURATION_LIMIT: i32 = 3600;
/// The range of `load.packetsPerSecond`.
pub const RATE_RANGE: (i32, i32) = (10, 1000);
/// The range of `load.sizeBytes`.
pub const SIZE_RANGE: (i32, i32) = (128, 1400);
/// The largest latency and jitter in milliseconds.
pub const LATENCY_LIMIT: i32 = 10_000;
/// The most milliseconds of `bounds.maxRecoveryMilliseconds`.
pub const RECOVERY_LIMIT: i32 = 3_600_000;

/// Injects a fault between this cluster and a peer, measures what it does to traffic, and says whether
/// that kept within bounds. Deleting it ends it at once.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[kube(
    group = "carrick.dev",
    version = "v1alpha1",
    kind = "FailoverDrill",
    plural = "failoverdrills",
    shortname = "drill",
    category = "carrick",
    status = "FailoverDrillStatus",
    derive = "PartialEq",
    doc = "Injects a fault between this cluster and a peer, measures what it does to traffic, and says whether that kept within bounds. Deleting it ends it at once.",
    printcolumn = r#"{"name": "Peering", "type": "string", "jsonPath": ".spec.peering"}"#,
    printcolumn = r#"{"name": "Fault", "type": "string", "jsonPath": ".spec.fault.type"}"#,
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "Verdict", "type": "string", "jsonPath": ".status.verdict"}"#,
    printcolumn = r#"{"name": "Loss %", "type": "number", "jsonPath": ".status.lossPercent", "description": "Packets lost in the worst stream and direction"}"#,
    printcolumn = r#"{"name": "Recovery ms", "type": "integer", "jsonPath": ".status.recoveryMilliseconds", "description": "Longest recovery of any stream and direction"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.reasons[0]", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self == oldSelf",
      "message": "a drill cannot be changed; delete it and make another" },
    { "rule": "self.fault.type != 'Partition' || (has(self.allowOutage) && self.allowOutage)",
      "message": "a partition cuts every path: set allowOutage: true" },
    { "rule": "self.fault.type != 'Partition' || !has(self.bounds.maxRecoveryMilliseconds) || self.bounds.maxRecoveryMilliseconds > self.durationSeconds * 1000",
      "message": "nothing recovers from a partition before its end: bounds.maxRecoveryMilliseconds must be more than durationSeconds" },
    { "rule": "self.fault.type == 'Partition' || !has(self.bounds.maxRecoveryMilliseconds) || self.bounds.maxRecoveryMilliseconds < self.durationSeconds * 1000",
      "message": "the fault ends before bounds.maxRecoveryMilliseconds, so that nothing would be proved: make durationSeconds longer or the bound smaller" },
]))]
pub struct FailoverDrillSpec {
    /// The name of the ClusterPeering whose traffic is measured, and whose paths are hit.
    #[schemars(length(min = 1, max = 253))]
    pub peering: String,

    /// What is injected.
    pub fault: FaultSpec,

    /// How long the fault lasts, in seconds. The chart may allow less.
    #[schemars(range(min = 1, max = DURATION_LIMIT))]
    pub duration_seconds: i32,

    /// What is sent meanwhile.
    #[serde(default)]
    pub load: LoadSpec,

    /// What makes a pass. At least one bound is needed.
    pub bounds: BoundsSpec,

    /// Allows a fault that leaves no path to a peer, or none that is good.
    #[serde(default)]
    pub allow_outage: bool,
}

/// What is injected.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.type == 'PathLoss' ? has(self.lossPercent) : true",
      "message": "PathLoss needs lossPercent" },
    { "rule": "self.type == 'PathDegraded' ? has(self.lossPercent) || has(self.latencyMilliseconds) || has(self.jitterMilliseconds) : true",
      "message": "PathDegraded needs lossPercent, latencyMilliseconds or jitterMilliseconds" },
    { "rule": "self.type == 'PathDegraded' || !has(self.latencyMilliseconds) && !has(self.jitterMilliseconds)",
      "message": "latencyMilliseconds and jitterMilliseconds belong to PathDegraded" },
    { "rule": "self.type in ['PathLoss', 'PathDegraded'] || !has(self.lossPercent)",
      "message": "lossPercent belongs to PathLoss and PathDegraded" },
    { "rule": "self.type in ['PathLoss', 'PathDegraded'] || !has(self.direction)",
      "message": "direction belongs to PathLoss and PathDegraded" },
    { "rule": "self.type in ['PathLoss', 'PathDegraded'] || !has(self.endpoint)",
      "message": "endpoint belongs to PathLoss and PathDegraded" },
    { "rule": "self.type != 'Partition' || !has(self.gateway)",
      "message": "a partition hits all gateways" },
    { "rule": "!(self.type in ['AgentLinkLost', 'APIServerUnreachable']) || !has(self.gateway)",
      "message": "no gateway is hit by AgentLinkLost and APIServerUnreachable" },
    { "rule": "self.type == 'AgentLinkLost' || !has(self.node)",
      "message": "node belongs to AgentLinkLost" },
    { "rule": "!has(self.jitterMilliseconds) || has(self.latencyMilliseconds) && self.jitterMilliseconds <= self.latencyMilliseconds",
      "message": "jitterMilliseconds must not be more than latencyMilliseconds" },
]))]
pub struct FaultSpec {
    /// `GatewayCrash`: a gateway falls silent for nodes and all peers. `GatewayDrain`: it announces that it leaves,
    /// and comes back. `PathLoss`, `PathDegraded`: the paths of
    /// one gateway to the peer lose packets, or take longer as well. `Partition`: all paths to the peer are cut.
    /// `AgentLinkLost`: a node's agent has no link to the controller. `APIServerUnreachable`: the leading controller
    /// cannot reach the API server.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["GatewayCrash", "GatewayDrain", "PathLoss", "PathDegraded", "Partition", "AgentLinkLost", "APIServerUnreachable"]))]
    pub kind: String,
    /// The pod's name of the gateway that is hit; any that has a tunnel to the peer when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub gateway: Option<String>,
    /// The far end of the one path that is hit, as `address:port` (`carrick status` and the ClusterPeering's status
    /// name them); every path of the gateway to the peer when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub endpoint: Option<String>,
    /// The node whose agent is hit; any when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub node: Option<String>,
    /// Which direction is hit, as seen from this cluster; `Both` when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Both", "Outbound", "Inbound", null]))]
    pub direction: Option<String>,
    /// How many of a hundred packets are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.1, max = 100.0))]
    pub loss_percent: Option<f64>,
    /// By how many milliseconds packets are late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = LATENCY_LIMIT))]
    pub latency_milliseconds: Option<i32>,
    /// By how many milliseconds that varies to both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = LATENCY_LIMIT))]
    pub jitter_milliseconds: Option<i32>,
}

/// What is sent while a drill runs, between nodes of both clusters.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadSpec {
    /// Packets a second of each stream: a gap is known to the time between two of them.
    #[serde(default = "rate_default")]
    #[schemars(range(min = RATE_RANGE.0, max = RATE_RANGE.1))]
    pub packets_per_second: i32,
    /// Bytes of each IP packet.
    #[serde(default = "size_default")]
    #[schemars(range(min = SIZE_RANGE.0, max = SIZE_RANGE.1))]
    pub size_bytes: i32,
}

impl Default for LoadSpec {
    fn default() -> Self {
        Self { packets_per_second: rate_default(), size_bytes: size_default() }
    }
}

/// What makes a pass.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.maxLossPercent) || has(self.maxRecoveryMilliseconds) || has(self.connectionsSurvive)",
      "message": "at least one bound is needed, or nothing would be proved" },
]))]
pub struct BoundsSpec {
    /// How many of a hundred packets may be lost, in each stream and direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub max_loss_percent: Option<f64>,
    /// How long it may take until packets arrive as before, in each stream and direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = RECOVERY_LIMIT))]
    pub max_recovery_milliseconds: Option<i32>,
    /// No connection may break: with requests ten times a second, and a time-out of five seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_survive: Option<bool>,
}

fn rate_default() -> i32 {
    100
}

fn size_default() -> i32 {
    128
}
