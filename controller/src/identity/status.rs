//! What is said of this cluster in ClusterIdentity's status. Pure.

use std::collections::BTreeSet;

use carrick_crds::condition::{self, IdentityCondition, Verdict};
use carrick_crds::identity::{IdentityEndpoint, IdentityGateway};
use carrick_crds::peering::{AcceptSpec, EndpointSpec};
use carrick_crds::{ClusterIdentityStatus, ClusterPeering, ClusterPeeringSpec, Reason};
use carrick_exchange::snapshot::MAX_GATEWAYS;
use carrick_model::Prefix;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Record;
use crate::cluster::ranges::{self, PodRanges, RangesError};
use crate::plan::Plan;
use crate::world::{Now, World};

/// How many nodes or pods a message names.
const NAMED: usize = 5;

/// The status on top of the conditions in `before`. While not `settled`, nobody has had time to
/// report, and the conditions stay.
pub fn status(
    world: &World,
    plan: &Plan,
    before: &ClusterIdentityStatus,
    generation: Option<i64>,
    settled: bool,
    now: Now,
) -> ClusterIdentityStatus {
    let pod_ranges = plan.ranges.as_ref().map(|found| found.ranges.as_slice()).unwrap_or_default();
    let endpoint = |e: &crate::cluster::endpoints::GatewayEndpoint| IdentityEndpoint {
        gateway: e.gateway.clone(),
        address: e.host.clone(),
        port: e.port.into(),
    };
    let mut status = ClusterIdentityStatus {
        observed_generation: generation,
        conditions: before.conditions.clone(),
        cluster_id: world.cluster().to_string(),
        identities: vec![world.identity.to_string()],
        pod_ranges: texts(pod_ranges),
        service_ranges: texts(&world.settings.service_ranges),
        mesh_prefix: world.mesh().prefix().to_string(),
        endpoints: plan.offer.iter().map(endpoint).collect(),
        gateways: if settled { gateways(world, now) } else { before.gateways.clone() },
        cluster_peering: offer(world, plan),
        ..ClusterIdentityStatus::default()
    };
    plan.record.write(&mut status);
    if settled {
        for (type_, verdict) in judge(world, plan, now) {
            let conditions = &mut status.conditions;
            condition::set(conditions, type_.as_str(), &verdict, generation, now.wall);
        }
    }
    status
}

/// The status of a cluster whose identity key cannot be read: all the rest stays.
pub fn unreadable(
    before: &ClusterIdentityStatus,
    why: &str,
    generation: Option<i64>,
    now: Now,
) -> ClusterIdentityStatus {
    let mut status = before.clone();
    let verdict = Verdict::no(Reason::IdentityUnreadable, why);
    let type_ = IdentityCondition::Ready.as_str();
    condition::set(&mut status.conditions, type_, &verdict, generation, now.wall);
    status
}

/// Our gateways of which something is known, by name: what they leave to the kernel, and how nodes find them.
fn gateways(world: &World, now: Now) -> Vec<IdentityGateway> {
    let pods = world.facts.gateway_pods(&world.settings.namespace);
    let probes = world.probes_by_gateway(now.instant);
    let reported = pods.iter().filter_map(|pod| {
        let said = world.gateway_says(pod, now.instant).map_or(&[][..], |state| &state.offloads);
        let those = |used: bool| {
            let some = said.iter().filter(|offload| offload.used == used);
            some.map(|offload| offload.name.clone()).collect()
        };
        let probes = probes.get(pod.uid.as_str()).map_or(&[][..], Vec::as_slice);
        let silent = probes.iter().filter(|(_, probe)| probe.is_silent());
        let gateway = IdentityGateway {
            name: pod.name.clone(),
            offloads: those(true),
            offloads_off: those(false),
            silent_to: silent.map(|(node, _)| node.to_string()).take(NAMED).collect(),
            shortcut: probes.iter().find_map(|(_, probe)| probe.shortcut),
        };
        let nothing = IdentityGateway { name: pod.name.clone(), ..IdentityGateway::default() };
        (gateway != nothing).then_some(gateway)
    });
    let mut gateways: Vec<_> = reported.take(MAX_GATEWAYS).collect();
    gateways.sort_unstable();
    gateways
}

/// Whether two statuses differ in more than figures and wordings. A gateway that falls back now and
/// then is no reason to write at once; that it is silent is, but not for whom.
pub fn differs_in_substance(old: &ClusterIdentityStatus, new: &ClusterIdentityStatus) -> bool {
    let bare = |status: &ClusterIdentityStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().for_each(|c: &mut Condition| c.message.clear());
        for gateway in &mut status.gateways {
            (gateway.offloads, gateway.offloads_off) = (Vec::new(), Vec::new());
            gateway.silent_to.truncate(1);
            gateway.silent_to.iter_mut().for_each(String::clear);
        }
        status
    };
    bare(old) != bare(new)
}

fn judge(world: &World, plan: &Plan, now: Now) -> [(IdentityCondition, Verdict); 3] {
    let withdrawn = withdrawn(world);
    let ready = if world.record.withdraw {
        Verdict::no(withdrawn.reason, withdrawn.message.clone())
    } else {
        ready(world, plan, now)
    };
    [
        (IdentityCondition::Ready, ready),
        (IdentityCondition::PrefixesCoverPods, covered(world, &plan.ranges)),
        (IdentityCondition::Withdrawn, withdrawn),
    ]
}

fn ready(world: &World, plan: &Plan, now: Now) -> Verdict {
    if let Err(error) = &plan.ranges {
        return Verdict::no(range_reason(error), error.to_string());
    }
    let live = |name| world.gateways.get(name).is_some_and(|m| m.live(now.instant).is_some());
    if plan.members.gateways.iter().any(live) {
        Verdict::yes(Reason::InService, "other clusters can be peered with")
    } else {
        Verdict::no(Reason::NoLocalGateway, "no gateway of this cluster is in service yet")
    }
}

fn range_reason(error: &RangesError) -> Reason {
    match error {
        RangesError::Unknown => Reason::PodRangesUnknown,
        RangesError::TooWide { .. } => Reason::PodRangesTooWide,
    }
}

fn covered(world: &World, found: &Result<PodRanges, RangesError>) -> Verdict {
    let found = match found {
        Ok(found) => found,
        Err(error) => return Verdict::unknown(range_reason(error), error.to_string()),
    };
    let (shown, count) = ranges::outside(&world.facts, &found.ranges);
    if count == 0 {
        return Verdict::yes(Reason::PodsCovered, "every pod lies in the pod ranges");
    }
    let more = if count > shown.len() {
        format!(" and {} more", count - shown.len())
    } else {
        String::new()
    };
    Verdict::no(
        Reason::PodsOutside,
        format!("outside of the pod ranges: {}{more}", shown.join(", ")),
    )
}

/// Every node with an agent has to say that nothing of ours is left on it.
fn withdrawn(world: &World) -> Verdict {
    if !world.record.withdraw {
        return Verdict::no(Reason::InService, "Carrick is in service");
    }
    let clean = |node: &str| {
        let mut agents = world.agents.iter().filter(|(name, _)| name.as_str() == node);
        agents.any(|(_, member)| member.state.as_ref().is_some_and(|state| state.withdrawn))
    };
    let pods = world.facts.agent_pods(&world.settings.namespace);
    let nodes: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    let missing: Vec<&str> =
        nodes.into_iter().filter(|node| !node.is_empty() && !clean(node)).collect();
    if missing.is_empty() {
        return Verdict::yes(Reason::AllWithdrawn, "nothing of Carrick is left on any node");
    }
    let named = missing.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let text = format!("{} nodes have not reported yet: {named}", missing.len());
    Verdict::no(Reason::Withdrawing, text)
}

/// A ClusterPeering for another cluster to apply.
fn offer(world: &World, plan: &Plan) -> Option<ClusterPeering> {
    let found = plan.ranges.as_ref().ok()?;
    let endpoint = |e: &crate::cluster::endpoints::GatewayEndpoint| EndpointSpec {
        address: e.host.clone(),
        port: e.port.into(),
        ..EndpointSpec::default()
    };
    let mut accept = texts(&found.ranges);
    let mesh = world.mesh().prefix();
    if !usual_mesh(&mesh) {
        accept.push(mesh.to_string());
    }
    let spec: ClusterPeeringSpec = ClusterPeeringSpec {
        cluster_id: world.cluster().to_string(),
        identities: vec![world.identity.to_string()],
        endpoints: plan.offer.iter().map(endpoint).collect(),
        accept: AcceptSpec {
            pod_ranges: accept,
            max_prefixes: carrick_crds::peering::DEFAULT_MAX_PREFIXES,
        },
        access: "AllPods".to_owned(),
        drills: "Deny".to_owned(),
        remap: "Never".to_owned(),
        ..ClusterPeeringSpec::default()
    };
    Some(ClusterPeering::new(world.cluster().as_str(), spec))
}

/// Whether peers take the mesh prefix without being told: those in class E.
fn usual_mesh(mesh: &Prefix) -> bool {
    "240.0.0.0/4".parse::<Prefix>().is_ok_and(|class_e| class_e.covers(mesh))
}

fn texts(prefixes: &[Prefix]) -> Vec<String> {
    prefixes.iter().map(ToString::to_string).collect()
}

/// Whether what must survive a restart is the same in both.
pub fn same_record(a: &Record, b: &Record) -> bool {
    (&a.mesh, &a.accepted, &a.tombstones) == (&b.mesh, &b.accepted, &b.tombstones)
}

#[cfg(test)]
mod tests;
