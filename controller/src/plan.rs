//! From the world to what everybody is to know: pure. No clock but the one passed in, no client.
//!
//! The plan says what content each member gets; generations, signatures and sending are the
//! [`Outbox`](crate::outbox::Outbox)'s, conditions are [`crate::peering::conditions`]'.

mod agent;
mod gateway;
mod guard;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use carrick_crds::peering::{MTU_RANGE, Peering};
use carrick_exchange::filter::{Filtered, Policy, RefusalReason, filter};
use carrick_exchange::message::member::{AgentConfig, GatewayConfig};
use carrick_exchange::message::snapshot::ClusterSnapshot;
use carrick_model::{ClusterId, Family, MemberName, MeshPrefix, Prefix};

use crate::cluster::claims::{self, Claims};
use crate::cluster::endpoints::{self, GatewayEndpoint};
use crate::cluster::mesh;
use crate::cluster::ranges::{self, PodRanges, RangesError};
use crate::identity::Record;
use crate::peering::{OwnCluster, Resolved};
use crate::world::{Now, World};

/// The least MTU in bytes that nodes are told, whatever gateways report.
const LEAST_MTU: u32 = 576;
/// An MTU in bytes that most networks carry, while none is configured and nobody knows more.
const USUAL_MTU: u32 = 1420;

/// What everybody is to know. Generations are 0 and nothing is signed in here.
#[derive(Debug)]
pub struct Plan {
    /// Where our pods live.
    pub ranges: Result<PodRanges, RangesError>,
    /// What became of each ClusterPeering, by name.
    pub peerings: BTreeMap<String, PeeringPlan>,
    /// For every gateway, still without snapshots.
    pub gateway: GatewayConfig,
    /// What is said to each peer, still without version and times.
    pub snapshots: BTreeMap<ClusterId, ClusterSnapshot>,
    /// For each agent, by node.
    pub agents: BTreeMap<MemberName, AgentConfig>,
    /// What is to be remembered.
    pub record: Record,
    /// Which node has which pods.
    pub claims: Claims,
    /// What the paths to each cluster carry in inner packets, in bytes, as it was last known.
    pub path_mtus: BTreeMap<ClusterId, u32>,
    /// Who may be linked to us.
    pub members: Members,
    /// Where other clusters are told to dial.
    pub offer: Vec<GatewayEndpoint>,
}

/// What became of one ClusterPeering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeeringPlan {
    /// Of what the peer announced: taken and refused. `None` before its snapshot came.
    pub filtered: Option<Filtered>,
    /// Gateways of ours that have a live tunnel to it.
    pub gateways: BTreeSet<MemberName>,
    /// Our nodes have routes for it.
    pub routed: bool,
    /// Both sides hold a peering, so that nodes may route it as soon as a gateway reaches it.
    pub routable: bool,
    /// The largest inner packet in bytes: what is configured, or less where the paths carry less.
    pub mtu: u32,
    /// What the paths carry in inner packets, as far as gateways found out.
    pub found: Option<u32>,
}

/// Who may be linked to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// UIDs of gateway pods that exist.
    pub gateways: BTreeSet<MemberName>,
    /// Nodes that exist.
    pub agents: BTreeSet<MemberName>,
}

/// What a plan needs of our own cluster; the peerings are validated against it as well.
#[derive(Debug, Clone)]
pub struct Base {
    /// Where our pods live.
    pub ranges: Result<PodRanges, RangesError>,
    /// What peerings are checked against.
    pub own: OwnCluster,
}

/// What is known of our own cluster.
pub fn base(world: &World) -> Base {
    let settings = &world.settings;
    let ranges = ranges::find(&settings.pod_ranges, &world.facts.nodes);
    let (pods, announced) = match &ranges {
        Ok(found) => (found.ranges.clone(), found.announced.clone()),
        Err(_) => (Vec::new(), Vec::new()),
    };
    let nodes = world.facts.nodes.values().flat_map(|n| n.internal.iter().chain(&n.external));
    let mut all: Vec<Prefix> = pods.iter().chain(&announced).copied().collect();
    all.extend(world.facts.nodes.values().flat_map(|node| node.pod_prefixes.iter().copied()));
    all.extend(settings.service_ranges.iter().chain(&settings.reserved).copied());
    all.extend(nodes.map(|address| Prefix::host(*address)));
    all.extend(world.facts.api_server.addresses().map(Prefix::host));
    let ranges_of_ours = outermost(all);
    let own = OwnCluster {
        cluster: world.cluster().clone(),
        identity: world.identity,
        mesh: world.mesh(),
        pod_ranges: pods,
        ranges: ranges_of_ours,
    };
    Base { ranges, own }
}

/// Without those that another one covers.
fn outermost(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    prefixes.sort_by_key(|prefix| (prefix.length(), *prefix));
    let mut out: Vec<Prefix> = Vec::new();
    for prefix in prefixes {
        if !out.iter().any(|wider| wider.covers(&prefix)) {
            out.push(prefix);
        }
    }
    out.sort_unstable();
    out
}

/// Makes the plan.
pub fn plan(world: &World, base: &Base, resolved: &[Resolved<'_>], now: Now) -> Plan {
    let settings = &world.settings;
    let announced = base.ranges.as_ref().map(|r| r.announced.as_slice()).unwrap_or_default();
    let peerings = peerings(world, base, resolved, now);
    let record = record(world, base, resolved, now);
    let claims = claims(world, base);
    let members = members(world);
    let known = |one: &Resolved<'_>| {
        let found = peerings.get(&one.object.name)?.found?;
        Some((one.accepted()?.cluster.clone(), found))
    };
    let path_mtus = resolved.iter().filter_map(known).collect();

    let served: Vec<&Peering> = resolved
        .iter()
        .filter_map(Resolved::accepted)
        .filter(|peering| !peering.suspended && !world.record.withdraw)
        .collect();
    let snapshots = served
        .iter()
        .map(|peering| (peering.cluster.clone(), snapshot::content(world, peering, announced)))
        .collect();
    let gateway = gateway::config(world, base, &served, &claims, now);
    let routes = Routes::collect(world, base, resolved, &peerings, &record);
    let agents = agent::configs(world, base, &routes, &gateway);
    Plan {
        ranges: base.ranges.clone(),
        peerings,
        gateway,
        snapshots,
        agents,
        record,
        claims,
        path_mtus,
        members,
        offer: endpoints::offer(&world.facts, settings),
    }
}

/// The largest inner packet in bytes that a peering may have: what is wanted, or all that there is, but never what nodes
/// and gateways could exchange in pieces only.
fn most_mtu(world: &World, wanted: Option<u32>, now: Now) -> u32 {
    let mesh = world.mesh_mtu(now.instant);
    let most = match (wanted.unwrap_or(world.settings.tunnel_mtu), mesh) {
        (0, None) => USUAL_MTU,
        (0, Some(mesh)) => mesh.min(MTU_RANGE.1.unsigned_abs()),
        (wanted, mesh) => mesh.map_or(wanted, |mesh| mesh.min(wanted)),
    };
    most.max(LEAST_MTU)
}

fn peerings(
    world: &World,
    base: &Base,
    resolved: &[Resolved<'_>],
    now: Now,
) -> BTreeMap<String, PeeringPlan> {
    let mut others: Vec<(ClusterId, Prefix)> = Vec::new();
    let mut out = BTreeMap::new();
    for one in resolved {
        let mut planned = PeeringPlan::default();
        if let Some(peering) = one.accepted() {
            let snapshot = world.remotes.snapshot(&peering.cluster);
            planned.filtered = snapshot
                .map(|snapshot| filter(snapshot, &policy(base, peering, &others)))
                .map(|filtered| carried_only(base, filtered));
            let held = planned.filtered.iter().flat_map(prefixes_of);
            others.extend(held.map(|prefix| (peering.cluster.clone(), prefix)));
            let consents = snapshot.is_some_and(|snapshot| snapshot.consents);
            planned.found = gateway::path_mtu(world, &peering.cluster, now)
                .or(world.path_mtus.get(&peering.cluster).copied());
            let most = most_mtu(world, peering.mtu, now);
            planned.mtu = planned.found.map_or(most, |found| found.min(most)).max(LEAST_MTU);
            if !peering.suspended && !world.record.withdraw {
                planned.gateways = gateway::connected(world, &peering.cluster, now);
                let meshed = planned.filtered.as_ref().is_some_and(|f| f.mesh.is_some());
                planned.routable = consents && meshed;
                planned.routed = planned.routable && !planned.gateways.is_empty();
            }
        }
        out.insert(one.object.name.clone(), planned);
    }
    out
}

fn policy(base: &Base, peering: &Peering, others: &[(ClusterId, Prefix)]) -> Policy {
    Policy {
        accept: peering.accept.clone(),
        max_prefixes: peering.max_prefixes as usize,
        own_ranges: base.own.ranges.clone(),
        own_mesh: base.own.mesh,
        others: others.to_vec(),
    }
}

/// Moves what nodes do not carry from the believed to the refused: IPv6, where our own pods have none.
fn carried_only(base: &Base, mut filtered: Filtered) -> Filtered {
    let six = base.own.pod_ranges.iter().any(|range| range.family() == Family::V6);
    let is_carried = |prefix: &Prefix| six || prefix.family() == Family::V4;
    let (carried, rest) = filtered.accepted.into_iter().partition(is_carried);
    filtered.accepted = carried;
    filtered.refused.extend(rest.into_iter().map(|prefix| (prefix, RefusalReason::NotCarried)));
    filtered
}

/// All that is taken from a peer, its mesh prefix among it.
pub fn prefixes_of(filtered: &Filtered) -> impl Iterator<Item = Prefix> + '_ {
    filtered.accepted.iter().copied().chain(filtered.mesh.map(|mesh| mesh.prefix()))
}

/// What nodes are to route, for all agents alike.
struct Routes {
    clusters: Vec<RemoteRoutes>,
    unreachable: Vec<Prefix>,
}

/// A remote cluster whose prefixes are known.
struct RemoteRoutes {
    cluster: ClusterId,
    mesh: MeshPrefix,
    prefixes: Vec<Prefix>,
    gateways: BTreeSet<MemberName>,
    nodes: Vec<std::net::Ipv4Addr>,
    mtu: u32,
    access_all_pods: bool,
    routable: bool,
    drills: bool,
}

impl Routes {
    fn collect(
        world: &World,
        base: &Base,
        resolved: &[Resolved<'_>],
        planned: &BTreeMap<String, PeeringPlan>,
        record: &Record,
    ) -> Self {
        let clusters: Vec<RemoteRoutes> = resolved
            .iter()
            .filter_map(|one| remote_routes(world, one, planned.get(&one.object.name)?))
            .collect();
        let routed: Vec<Prefix> = clusters.iter().flat_map(|c| c.prefixes.clone()).collect();
        let unreachable = guard::unreachable(base, resolved, record, &routed);
        Self { clusters, unreachable }
    }
}

fn remote_routes(world: &World, one: &Resolved<'_>, planned: &PeeringPlan) -> Option<RemoteRoutes> {
    let peering = one.accepted().filter(|peering| !peering.suspended)?;
    let snapshot = world.remotes.snapshot(&peering.cluster)?;
    let filtered = planned.filtered.as_ref()?;
    let (gateways, nodes) = if planned.routed {
        let nodes = snapshot.nodes.iter().map(|node| node.mesh_address).collect();
        (planned.gateways.clone(), nodes)
    } else {
        (BTreeSet::new(), Vec::new())
    };
    let mut prefixes: Vec<Prefix> = prefixes_of(filtered).collect();
    prefixes.sort_unstable();
    Some(RemoteRoutes {
        cluster: peering.cluster.clone(),
        mesh: filtered.mesh?,
        prefixes,
        gateways,
        nodes,
        mtu: planned.mtu,
        access_all_pods: peering.access == carrick_crds::peering::parse::Access::AllPods,
        routable: planned.routable,
        drills: peering.drills_allowed,
    })
}

fn record(world: &World, base: &Base, resolved: &[Resolved<'_>], now: Now) -> Record {
    let (accepted, tombstones) = guard::remember(&world.record, resolved, now.wall);
    Record {
        mesh: mesh::allocate(&base.own.mesh, &world.record.mesh, world.facts.nodes.keys()),
        accepted,
        tombstones,
        withdraw: world.record.withdraw,
        forget: world.record.forget.clone(),
    }
}

fn claims(world: &World, base: &Base) -> Claims {
    let said = world.agents.iter().filter_map(|(name, member)| {
        let wire = &member.state.as_ref()?.claims;
        // An unreadable claim is none.
        let prefixes =
            wire.iter().filter_map(|p| carrick_exchange::wire::prefix(p, "claims").ok()).collect();
        Some((name.as_str().to_owned(), prefixes))
    });
    claims::decide(&world.facts, &base.own.pod_ranges, &said.collect(), &world.claims)
}

fn members(world: &World) -> Members {
    let gateways = world.facts.gateway_pods(&world.settings.namespace);
    Members {
        gateways: gateways.iter().filter_map(|pod| pod.uid.parse().ok()).collect(),
        agents: world.facts.nodes.keys().filter_map(|name| name.parse().ok()).collect(),
    }
}

#[cfg(test)]
mod tests;
