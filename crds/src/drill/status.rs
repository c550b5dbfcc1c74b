//! `FailoverDrill.status`: what the drill does, and what it found. Written while it runs, and never after.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most points of `series`.
pub const SERIES_LIMIT: usize = 240;
/// The most paths of `series`.
pub const PATHS_LIMIT: usize = 16;

/// What the drill does, and what it found.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverDrillStatus {
    /// Where it is.
    #[serde(default)]
    pub phase: Phase,
    /// Complete: true once there is a verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// When each phase began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseStatus>,
    /// What was injected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injected: Option<InjectedStatus>,
    /// What each stream found, one entry a direction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamStatus>,
    /// Connections with requests and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionsStatus>,
    /// The worst loss of any stream and direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<f64>,
    /// The longest recovery of any stream and direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_milliseconds: Option<i64>,
    /// What happened over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<SeriesStatus>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why, or what is waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Where a drill is.
#[derive(
    Serialize,
    Deserialize,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    JsonSchema,
)]
pub enum Phase {
    /// It waits for its turn.
    #[default]
    Pending,
    /// Streams run without a fault.
    Baseline,
    /// Streams count anew, so that the fault alone is in what they find.
    Arming,
    /// The fault acts.
    Injecting,
    /// The fault is over, and streams still run.
    Recovering,
    /// There is a verdict.
    Done,
}

impl Phase {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Baseline => "Baseline",
            Self::Arming => "Arming",
            Self::Injecting => "Injecting",
            Self::Recovering => "Recovering",
            Self::Done => "Done",
        }
    }
}

/// How a drill ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
pub enum Verdict {
    /// Every bound was kept.
    Passed,
    /// A bound was broken, or nothing was proved.
    Failed,
    /// It ended before its time.
    Aborted,
    /// It did not begin.
    Refused,
}

impl Verdict {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "Passed",
            Self::Failed => "Failed",
            Self::Aborted => "Aborted",
            Self::Refused => "Refused",
        }
    }
}

/// When a phase began.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseStatus {
    /// Which.
    pub phase: Phase,
    /// When, as RFC 3339 with milliseconds.
    pub at: String,
}

/// What was injected: by gateways, or by the agent or the controller that is hit.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InjectedStatus {
    /// The pod's name of the gateway that is hit; empty for all, and where none is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Its pod's UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gateway_uid: String,
    /// The node whose agent is hit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// When the fault began, by the clock of who injects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// When it ended, by the same clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Packets dropped by it.
    #[serde(default)]
    pub packets_dropped: i64,
    /// Packets delayed by it.
    #[serde(default)]
    pub packets_delayed: i64,
    /// Requests to the API server refused by it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests_refused: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What one stream found in one direction.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// From which node to which: ours first.
    pub name: String,
    /// `Outbound` to the peer, or `Inbound` from it.
    pub direction: String,
    /// Packets sent whose fate is known.
    pub sent: i64,
    /// Packets lost.
    pub lost: i64,
    /// The same in percent.
    pub loss_percent: f64,
    /// Answers that came more than 200 ms later than the fastest (both directions together).
    pub late: i64,
    /// The longest time between two arrivals, with a loss or without.
    pub longest_gap_milliseconds: i64,
    /// For how long packets were sent in it that were lost.
    pub detection_milliseconds: i64,
    /// How long it took until packets arrived as before.
    pub recovery_milliseconds: i64,
    /// The median round-trip time in microseconds.
    pub rtt_p50_microseconds: i64,
    /// The round-trip time that one of a hundred exceeds, in microseconds.
    pub rtt_p99_microseconds: i64,
}

/// Connections with requests and answers.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsStatus {
    /// How many were to be opened.
    #[serde(default)]
    pub wanted: i32,
    /// How many were opened.
    pub opened: i32,
    /// How many never waited longer than five seconds.
    pub survived: i32,
}

/// What happened over time.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeriesStatus {
    /// When the first point begins, as RFC 3339 with milliseconds.
    pub from: String,
    /// How long each point is.
    pub point_milliseconds: i64,
    /// Packets sent and not answered, in each point of all streams together, in percent; -1 where none was
    /// sent.
    #[schemars(length(max = SERIES_LIMIT))]
    pub loss_percent: Vec<f64>,
    /// The mean round-trip time in microseconds in each point; 0 where nothing was answered.
    #[schemars(length(max = SERIES_LIMIT))]
    pub rtt_microseconds: Vec<i64>,
    /// The same of paths of gateways, in the same points, as the gateways measure them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PATHS_LIMIT))]
    pub paths: Vec<PathSeriesStatus>,
}

/// What happened over time on a path of a gateway to the peer, by the gateway's own heartbeats.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathSeriesStatus {
    /// The gateway's pod.
    pub gateway: String,
    /// Where the path leads, as `address:port`.
    pub endpoint: String,
    /// What was lost in the worse direction, smoothed, in percent; 100 while the path was down, -1 where nothing was known.
    #[schemars(length(max = SERIES_LIMIT))]
    pub loss_percent: Vec<f64>,
    /// The round-trip time in microseconds, smoothed; 0 while the path was down, and where nothing was known.
    #[schemars(length(max = SERIES_LIMIT))]
    pub rtt_microseconds: Vec<i64>,
}
