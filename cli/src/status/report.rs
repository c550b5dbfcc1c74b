//! What `status` reports: a stable shape for programs, which the table is made of too.

use carrick_crds::ClusterPeering;
use carrick_crds::condition::PeeringCondition;
use carrick_crds::identity::IdentityGateway;
use carrick_crds::peering::RefusedPrefix;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::parts::{self, Count};
use crate::state::{FetchError, Listed, State};

/// The state of one cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was made.
    pub at: Timestamp,
    /// This cluster.
    pub cluster: ClusterReport,
    /// Its peerings, by name.
    pub peerings: Vec<PeeringReport>,
}

/// This cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReport {
    /// Its ID; empty when the controller has not said it.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Its identity keys.
    pub identities: Vec<String>,
    /// Where its pods live.
    pub pod_ranges: Vec<String>,
    /// The prefix of its nodes' mesh addresses.
    pub mesh_prefix: String,
    /// Where its gateways can be dialled.
    pub endpoints: Vec<String>,
    /// Conditions of its ClusterIdentity.
    pub conditions: Vec<ConditionReport>,
    /// Controllers ready, of how many.
    pub controllers: Option<Count>,
    /// Gateways ready, of how many.
    pub gateways: Option<Count>,
    /// Agents ready, of how many.
    pub agents: Option<Count>,
    /// What each gateway that reports leaves to the kernel.
    pub offloads: Vec<OffloadsReport>,
    /// How nodes find each gateway.
    pub nearby: Vec<NearbyReport>,
}

/// How the nodes of this cluster find one of its gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NearbyReport {
    /// Its pod.
    pub gateway: String,
    /// Nodes that it does not answer, some of them.
    pub silent_to: Vec<String>,
    /// Whether packets of its own node reach it past the CNI's bridge, uncut.
    pub shortcut: Option<bool>,
}

/// What one gateway leaves to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OffloadsReport {
    /// Its pod.
    pub gateway: String,
    /// In use on all its lanes.
    pub in_use: Vec<String>,
    /// Not in use: switched off, not had by the kernel, or failed.
    pub off: Vec<String>,
}

/// One peering.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeeringReport {
    /// The ClusterPeering's name.
    pub name: String,
    /// The other cluster.
    #[serde(rename = "clusterID")]
    pub cluster_id: String,
    /// Whether traffic flows: `True`, `False` or `Unknown`.
    pub ready: String,
    /// Why.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when the ClusterPeering exists.
    pub created: Option<Timestamp>,
    /// Whether the status is about the newest spec.
    pub current: bool,
    /// Carrick's release on the other side.
    pub peer_release: String,
    /// Gateways of the other side: those with a tunnel, of all that it lists.
    pub peer_gateways: Count,
    /// The largest inner packet in bytes.
    pub mtu: Option<i32>,
    /// Tunnels.
    pub tunnels: Vec<TunnelReport>,
    /// Prefixes that are routed.
    pub imported: Vec<String>,
    /// Prefixes of the other side that this one did not take.
    pub refused: Vec<RefusedPrefix>,
    /// Prefixes of this side that the other one did not take.
    pub refused_by_peer: Vec<RefusedPrefix>,
    /// Conditions, in the order in which they come true.
    pub conditions: Vec<ConditionReport>,
}

/// One tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelReport {
    /// Our gateway.
    pub gateway: String,
    /// Where the other end is.
    pub endpoint: String,
    /// The lane.
    pub lane: i32,
    /// `Up` or `Down`.
    pub state: String,
    /// When the last handshake ended.
    pub last_handshake: Option<Timestamp>,
    /// Round-trip time in milliseconds.
    pub rtt_milliseconds: Option<i32>,
    /// The largest IP packet that the path carries, in bytes.
    #[serde(rename = "pathMTU")]
    pub path_mtu: Option<i32>,
    /// How that is known.
    #[serde(rename = "pathMTUState")]
    pub path_mtu_state: String,
    /// Its paths that are not as they should be, with what is wrong.
    pub unhealthy_paths: Vec<String>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionReport {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when it has had this status.
    pub since: Option<Timestamp>,
}

/// Makes the report. What could not be read although everything depends on it is an error.
pub fn report(state: &State, now: Timestamp) -> Result<Report, FetchError> {
    let listed = state.peerings.as_ref().map_err(Clone::clone)?;
    let peerings = listed.iter().map(peering).collect();
    Ok(Report { at: now, cluster: cluster(state)?, peerings })
}

fn cluster(state: &State) -> Result<ClusterReport, FetchError> {
    let identity = state.identity.as_ref().map_err(Clone::clone)?;
    let status = identity.as_ref().and_then(|i| i.status.clone()).unwrap_or_default();
    Ok(ClusterReport {
        cluster_id: status.cluster_id,
        identities: status.identities,
        pod_ranges: status.pod_ranges,
        mesh_prefix: status.mesh_prefix,
        endpoints: status.endpoints.iter().map(|e| format!("{}:{}", e.address, e.port)).collect(),
        conditions: status.conditions.iter().map(condition_report).collect(),
        controllers: parts::controllers(state),
        gateways: parts::gateways(state),
        agents: parts::agents(state),
        nearby: status.gateways.iter().map(nearby).collect(),
        offloads: status.gateways.into_iter().map(offloads).collect(),
    })
}

fn offloads(gateway: IdentityGateway) -> OffloadsReport {
    let IdentityGateway { name, offloads, offloads_off, .. } = gateway;
    OffloadsReport { gateway: name, in_use: offloads, off: offloads_off }
}

fn nearby(gateway: &IdentityGateway) -> NearbyReport {
    let IdentityGateway { name, silent_to, shortcut, .. } = gateway;
    NearbyReport { gateway: name.clone(), silent_to: silent_to.clone(), shortcut: *shortcut }
}

fn peering(listed: &Listed) -> PeeringReport {
    match &listed.object {
        Ok(object) => readable(&listed.name, object),
        Err(error) => unreadable(&listed.name, error),
    }
}

fn readable(name: &str, object: &ClusterPeering) -> PeeringReport {
    let status = object.status.clone().unwrap_or_default();
    let peer = status.peer.unwrap_or_default();
    let prefixes = status.prefixes.unwrap_or_default();
    let conditions: Vec<_> = in_order(&status.conditions).map(condition_report).collect();
    let ready = conditions.iter().find(|c| c.type_ == PeeringCondition::Ready.as_str()).cloned();
    let ready = ready.unwrap_or_else(|| ConditionReport {
        type_: PeeringCondition::Ready.as_str().to_owned(),
        status: "Unknown".to_owned(),
        reason: "NoStatus".to_owned(),
        message: "the controller has not looked at this ClusterPeering yet".to_owned(),
        since: None,
    });
    PeeringReport {
        name: name.to_owned(),
        cluster_id: object.spec.cluster_id.clone(),
        ready: ready.status,
        reason: ready.reason,
        message: ready.message,
        created: object.creation_timestamp().map(|time| time.0),
        current: status.observed_generation == object.metadata.generation,
        peer_release: peer.release,
        peer_gateways: Count { ready: peer.connected_gateways, wanted: peer.gateways },
        mtu: status.mtu,
        tunnels: status
            .tunnels
            .iter()
            .map(|t| TunnelReport {
                gateway: t.gateway.clone(),
                endpoint: t.remote_endpoint.clone(),
                lane: t.lane,
                state: t.state.clone(),
                last_handshake: t.last_handshake.as_ref().map(|time| time.0),
                rtt_milliseconds: t.rtt_milliseconds,
                path_mtu: t.path_mtu,
                path_mtu_state: t.path_mtu_state.clone(),
                unhealthy_paths: t.unhealthy_paths.clone(),
            })
            .collect(),
        imported: prefixes.imported,
        refused: prefixes.refused,
        refused_by_peer: prefixes.refused_by_peer,
        conditions,
    }
}

fn unreadable(name: &str, error: &str) -> PeeringReport {
    PeeringReport {
        name: name.to_owned(),
        cluster_id: String::new(),
        ready: "Unknown".to_owned(),
        reason: "Malformed".to_owned(),
        message: format!("this ClusterPeering cannot be read: {error}"),
        created: None,
        current: false,
        peer_release: String::new(),
        peer_gateways: Count { ready: 0, wanted: 0 },
        mtu: None,
        tunnels: Vec::new(),
        imported: Vec::new(),
        refused: Vec::new(),
        refused_by_peer: Vec::new(),
        conditions: Vec::new(),
    }
}

/// Known conditions in the order in which they come true, then those that this release doesn't know.
fn in_order(conditions: &[Condition]) -> impl Iterator<Item = &Condition> {
    let rank = |c: &Condition| {
        let known = PeeringCondition::ALL.iter().position(|known| known.as_str() == c.type_);
        known.unwrap_or(PeeringCondition::ALL.len())
    };
    let mut sorted: Vec<&Condition> = conditions.iter().collect();
    sorted.sort_by_key(|c| rank(c));
    sorted.into_iter()
}

/// A condition as it is reported.
pub fn condition_report(condition: &Condition) -> ConditionReport {
    ConditionReport {
        type_: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: Some(condition.last_transition_time.0),
    }
}
