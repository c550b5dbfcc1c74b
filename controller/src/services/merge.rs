//! From the exports of all clusters to the one import that every cluster makes of them: pure, and the same everywhere.

use std::collections::{BTreeMap, BTreeSet};

use carrick_model::service::{EndpointGroup, Port, ServiceKind};
use carrick_model::{ClusterId, ExportedService, Family, ServicePolicy};

/// A service of the cluster set.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged<'a> {
    /// How it is reached.
    pub kind: ServiceKind,
    /// The union of the exports' ports: no name and no number of a protocol is there twice.
    pub ports: Vec<Port>,
    /// The families, the preferred one first.
    pub families: &'a [Family],
    /// Affinity by the client's address, for so many seconds; never when headless.
    pub affinity_seconds: Option<u32>,
    /// Only endpoints on the client's own node.
    pub local_only: bool,
    /// Which endpoints are preferred.
    pub traffic_distribution: Option<&'a str>,
    /// Which clusters serve it, unless the importing one wants otherwise.
    pub policy: &'a ServicePolicy,
    /// Labels of the import.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations of the import.
    pub annotations: &'a BTreeMap<String, String>,
    /// What each cluster has behind it, with only those ports that are the service's.
    pub clusters: BTreeMap<&'a ClusterId, Vec<EndpointGroup>>,
    /// In what the exports differ, each with the clusters that do not get their way.
    pub conflicts: BTreeMap<Conflict, BTreeSet<&'a ClusterId>>,
    /// The cluster whose export is the oldest, and decides.
    pub oldest: &'a ClusterId,
}

/// In what exports differ. The order is that in which the condition names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conflict {
    /// Ports.
    Port,
    /// Headless or not.
    Type,
    /// Affinity or none.
    SessionAffinity,
    /// For how long.
    SessionAffinityConfig,
    /// Labels.
    Labels,
    /// Annotations.
    Annotations,
    /// Which endpoints a node may use.
    InternalTrafficPolicy,
    /// Which endpoints are preferred.
    TrafficDistribution,
    /// Families.
    IpFamily,
    /// Which clusters serve. Not a word of KEP-1645's.
    Policy,
}

impl Conflict {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Port => "PortConflict",
            Self::Type => "TypeConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
            Self::SessionAffinityConfig => "SessionAffinityConfigConflict",
            Self::Labels => "LabelsConflict",
            Self::Annotations => "AnnotationsConflict",
            Self::InternalTrafficPolicy => "InternalTrafficPolicyConflict",
            Self::TrafficDistribution => "TrafficDistributionConflict",
            Self::IpFamily => "IPFamilyConflict",
            Self::Policy => "PolicyConflict",
        }
    }
}

/// Merges the exports of one name; `None` when there is none. In whatever order they come, the result is the same.
pub fn merge<'a>(
    exports: impl IntoIterator<Item = (&'a ClusterId, &'a ExportedService)>,
) -> Option<Merged<'a>> {
    let mut exports: Vec<_> = exports.into_iter().collect();
    // Two that were made in the same second are told apart by their clusters.
    exports.sort_by_key(|(cluster, export)| (export.exported_at, *cluster));
    let (oldest, first) = *exports.first()?;
    let ports = union(&exports);
    let mut conflicts: BTreeMap<Conflict, BTreeSet<&ClusterId>> = BTreeMap::new();
    for (cluster, export) in &exports[1..] {
        for conflict in differences(first, export) {
            conflicts.entry(conflict).or_default().insert(*cluster);
        }
    }
    let clusters =
        exports.iter().map(|(cluster, export)| (*cluster, behind(export, first.kind, &ports)));
    Some(Merged {
        kind: first.kind,
        families: &first.families,
        affinity_seconds: first
            .affinity_seconds
            .filter(|_| first.kind == ServiceKind::ClusterSetIp),
        local_only: first.local_only,
        traffic_distribution: first.traffic_distribution.as_deref(),
        policy: &first.policy,
        labels: &first.labels,
        annotations: &first.annotations,
        clusters: clusters.collect(),
        ports,
        conflicts,
        oldest,
    })
}

/// The ports of all exports, the oldest's first. Of two that clash, by name or by number, the older counts; and as a
/// Service demands, a port without a name stays alone.
fn union(exports: &[(&ClusterId, &ExportedService)]) -> Vec<Port> {
    let mut out: Vec<Port> = Vec::new();
    for port in exports.iter().flat_map(|(_, export)| &export.ports) {
        let clashes = |held: &Port| {
            held.name == port.name
                || (held.protocol, held.number) == (port.protocol, port.number)
                || held.name.is_empty()
                || port.name.is_empty()
        };
        if !out.iter().any(clashes) {
            out.push(port.clone());
        }
    }
    out
}

/// In what an export differs from the oldest.
fn differences(first: &ExportedService, other: &ExportedService) -> Vec<Conflict> {
    let set = |ports: &[Port]| ports.iter().cloned().collect::<BTreeSet<Port>>();
    let families =
        |export: &ExportedService| export.families.iter().copied().collect::<BTreeSet<_>>();
    let affinity = (first.affinity_seconds, other.affinity_seconds);
    let found = [
        (Conflict::Port, set(&first.ports) != set(&other.ports)),
        (Conflict::Type, first.kind != other.kind),
        (Conflict::SessionAffinity, affinity.0.is_some() != affinity.1.is_some()),
        (
            Conflict::SessionAffinityConfig,
            matches!(affinity, (Some(one), Some(other)) if one != other),
        ),
        (Conflict::Labels, first.labels != other.labels),
        (Conflict::Annotations, first.annotations != other.annotations),
        (Conflict::InternalTrafficPolicy, first.local_only != other.local_only),
        (Conflict::TrafficDistribution, first.traffic_distribution != other.traffic_distribution),
        (Conflict::IpFamily, families(first) != families(other)),
        (Conflict::Policy, first.policy != other.policy),
    ];
    found.into_iter().filter(|(_, differs)| *differs).map(|(conflict, _)| conflict).collect()
}

/// A cluster's endpoints with those of its ports that mean the service's: traffic to a port goes only where it is.
fn behind(export: &ExportedService, kind: ServiceKind, ports: &[Port]) -> Vec<EndpointGroup> {
    let means = |name: &str| {
        let own = export.ports.iter().find(|port| port.name == name);
        let key = |port: &Port| (port.protocol, port.number);
        own.is_some_and(|own| ports.iter().any(|port| port.name == name && key(port) == key(own)))
    };
    let group = |group: &EndpointGroup| {
        let ports: Vec<Port> =
            group.ports.iter().filter(|port| means(&port.name)).cloned().collect();
        // A headless service need not have ports at all.
        let bare = kind == ServiceKind::Headless && group.ports.is_empty();
        let endpoints = group.endpoints.clone();
        (bare || !ports.is_empty()).then_some(EndpointGroup {
            family: group.family,
            ports,
            endpoints,
        })
    };
    export.groups.iter().filter_map(group).collect()
}

#[cfg(test)]
mod tests;
