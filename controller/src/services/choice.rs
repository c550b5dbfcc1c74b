//! Which clusters serve a service here, by its policy: pure, and the same in whatever order clusters come.
//!
//! It is decided port by port, as traffic to a port goes only to clusters that have it: one that is preferred and lacks a
//! port, or has no ready pod behind it, keeps nobody else from serving that.

use std::collections::{BTreeMap, BTreeSet};

use carrick_model::policy::Turn;
use carrick_model::service::{Endpoint, EndpointGroup};
use carrick_model::{ClusterId, ServicePolicy};

use super::merge::Merged;

/// What clusters serve with.
pub type Chosen<'a> = BTreeMap<&'a ClusterId, Vec<EndpointGroup>>;

/// A port by its name; `None` stands for a headless service's pods without any.
type PortName<'a> = Option<&'a str>;

type Clusters<'a> = BTreeSet<&'a ClusterId>;

/// The endpoints that are to be used in the cluster `own`; `reached` says to which clusters packets get.
///
/// Those of a cluster without a ready one are not. Where no cluster has one, pods that terminate and still serve are used,
/// as kube-proxy does with the pods of one cluster.
pub fn choose<'a>(
    merged: &Merged<'a>,
    policy: &ServicePolicy,
    own: &ClusterId,
    reached: impl Fn(&ClusterId) -> bool,
) -> Chosen<'a> {
    let there: Vec<(&'a ClusterId, &Vec<EndpointGroup>)> = merged
        .clusters
        .iter()
        .filter(|(cluster, _)| reached(cluster))
        .map(|(cluster, groups)| (*cluster, groups))
        .collect();
    let ports: BTreeSet<PortName<'_>> =
        there.iter().flat_map(|(_, groups)| groups.iter().flat_map(names)).collect();
    let serving: BTreeMap<PortName<'_>, Clusters<'_>> =
        ports.into_iter().map(|port| (port, allowed(policy, own, able(&there, port)))).collect();
    let serves = |cluster: &ClusterId, port: PortName<'_>| {
        serving.get(&port).is_some_and(|clusters| clusters.contains(cluster))
    };
    let one = |(cluster, groups): &(&'a ClusterId, &Vec<EndpointGroup>)| {
        let groups: Vec<EndpointGroup> = groups
            .iter()
            .filter_map(|group| narrowed(group, |port| serves(cluster, port)))
            .collect();
        (!groups.is_empty()).then_some((*cluster, groups))
    };
    there.iter().filter_map(one).collect()
}

fn names(group: &EndpointGroup) -> Vec<PortName<'_>> {
    if group.ports.is_empty() {
        return vec![None];
    }
    group.ports.iter().map(|port| Some(port.name.as_str())).collect()
}

/// The clusters that could serve a port.
fn able<'a>(there: &[(&'a ClusterId, &Vec<EndpointGroup>)], port: PortName<'_>) -> Clusters<'a> {
    let with = |usable: fn(&Endpoint) -> bool| -> Clusters<'a> {
        let has = |group: &&EndpointGroup| names(group).contains(&port);
        let can = |groups: &Vec<EndpointGroup>| {
            groups.iter().filter(has).any(|group| group.endpoints.iter().any(usable))
        };
        there.iter().filter(|(_, groups)| can(groups)).map(|(cluster, _)| *cluster).collect()
    };
    let ready = with(|endpoint| endpoint.ready);
    if ready.is_empty() { with(|endpoint| endpoint.serving) } else { ready }
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
