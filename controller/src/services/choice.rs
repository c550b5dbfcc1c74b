//! Which clusters serve a service here, by its policy: pure, and the same in whatever order clusters come.
//!
//! It is decided port by port, as traffic to a port goes only to clusters that have it: one that is preferred and lacks a
//! port, or has no ready pod behind it, keeps nobody else from serving that.

use std::collections::{BTreeMap, BTreeSet};

use carrick_model::policy::Turn;
use carrick_model::service::{Endpoint, EndpointGroup};
use carrick_model::{ClusterId, ServicePolicy};

use super::Access;
use super::merge::Merged;

/// What clusters serve with.
pub type Chosen<'a> = BTreeMap<&'a ClusterId, Vec<EndpointGroup>>;

/// A port by its name; `None` stands for a headless service's pods without any.
type PortName<'a> = Option<&'a str>;

type Clusters<'a> = BTreeSet<&'a ClusterId>;

/// A cluster to which packets get.
struct There<'a, 'm> {
    cluster: &'a ClusterId,
    groups: &'m [EndpointGroup],
    access: Access,
}

/// What makes a cluster able to serve: how it is reached, and an endpoint like that.
type Rank = (Access, fn(&Endpoint) -> bool);

/// The best first. One is looked at only where none before it has a cluster that the policy wants.
const RANKS: [Rank; 4] = [
    (Access::Full, |endpoint| endpoint.ready),
    (Access::LastResort, |endpoint| endpoint.ready),
    (Access::Full, |endpoint| endpoint.serving),
    (Access::LastResort, |endpoint| endpoint.serving),
];

/// The endpoints that are to be used in the cluster `own`; `access` says to which clusters packets get.
///
/// Those of a cluster without a ready one are not. Where no cluster that the policy wants has one, those of clusters to
/// which packets have just begun to get again are used; and then pods that terminate and still serve, as kube-proxy does
/// with the pods of one cluster.
pub fn choose<'a>(
    merged: &Merged<'a>,
    policy: &ServicePolicy,
    own: &ClusterId,
    access: impl Fn(&ClusterId) -> Access,
) -> Chosen<'a> {
    let there: Vec<There<'a, '_>> = merged
        .clusters
        .iter()
        .map(|(cluster, groups)| There { cluster, groups, access: access(cluster) })
        .filter(|there| there.access != Access::Lost)
        .collect();
    let ports: BTreeSet<PortName<'_>> =
        there.iter().flat_map(|there| there.groups.iter().flat_map(names)).collect();
    let best = |port| {
        let mut ranks = RANKS.iter().map(|rank| allowed(policy, own, able(&there, port, *rank)));
        ranks.find(|clusters| !clusters.is_empty()).unwrap_or_default()
    };
    let serving: BTreeMap<PortName<'_>, Clusters<'_>> =
        ports.into_iter().map(|port| (port, best(port))).collect();
    let serves = |cluster: &ClusterId, port: PortName<'_>| {
        serving.get(&port).is_some_and(|clusters| clusters.contains(cluster))
    };
    let one = |there: &There<'a, '_>| {
        let groups = there.groups.iter();
        let groups: Vec<EndpointGroup> = groups
            .filter_map(|group| narrowed(group, |port| serves(there.cluster, port)))
            .collect();
        (!groups.is_empty()).then_some((there.cluster, groups))
    };
    there.iter().filter_map(one).collect()
}

fn names(group: &EndpointGroup) -> Vec<PortName<'_>> {
    if group.ports.is_empty() {
        return vec![None];
    }
    group.ports.iter().map(|port| Some(port.name.as_str())).collect()
}

/// The clusters of a rank that could serve a port.
fn able<'a>(there: &[There<'a, '_>], port: PortName<'_>, (access, usable): Rank) -> Clusters<'a> {
    let has = |group: &&EndpointGroup| names(group).contains(&port);
    let can = |there: &&There<'a, '_>| {
        let mut behind = there.groups.iter().filter(has).flat_map(|group| &group.endpoints);
        there.access == access && behind.any(usable)
    };
    there.iter().filter(can).map(|there| there.cluster).collect()
}

/// Those of them that the policy wants.
fn allowed<'a>(policy: &ServicePolicy, own: &ClusterId, able: Clusters<'a>) -> Clusters<'a> {
    let only = |wanted: &ClusterId| -> Clusters<'a> {
        able.iter().copied().filter(|cluster| *cluster == wanted).collect()
    };
    match policy {
        ServicePolicy::Balanced => able,
        ServicePolicy::PreferLocal => match only(own) {
            local if local.is_empty() => able,
            local => local,
        },
        ServicePolicy::Failover(turns) => {
            let named = |cluster: &ClusterId| turns.contains(&Turn::Cluster(cluster.clone()));
            let clusters = |turn: &Turn| match turn {
                Turn::Cluster(cluster) => only(cluster),
                Turn::Others => able.iter().copied().filter(|cluster| !named(cluster)).collect(),
            };
            turns.iter().map(clusters).find(|found| !found.is_empty()).unwrap_or_default()
        }
    }
}

/// A group with only those of its ports that are served; `None` when none is.
fn narrowed(group: &EndpointGroup, serves: impl Fn(PortName<'_>) -> bool) -> Option<EndpointGroup> {
    if group.ports.is_empty() {
        return serves(None).then(|| group.clone());
    }
    let ports = group.ports.iter().filter(|port| serves(Some(&port.name)));
    let ports: Vec<_> = ports.cloned().collect();
    let endpoints = group.endpoints.clone();
    (!ports.is_empty()).then_some(EndpointGroup { family: group.family, ports, endpoints })
}

#[cfg(test)]
mod tests;
