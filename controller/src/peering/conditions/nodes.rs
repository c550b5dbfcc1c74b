//! `RoutesReady`, `DataPathReady` and `NodesDegraded`: what every live node says.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use carrick_crds::Reason;
use carrick_crds::condition::{PeeringCondition, Verdict};
use carrick_crds::peering::Peering;
use carrick_exchange::message::member::ProbeTarget;
use carrick_model::MemberName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Evidence, held_before, listed};
use crate::plan::{PeeringPlan, prefixes_of};

/// How long an agent may take to apply a change before routes that were ready no longer count so.
const APPLY_GRACE: Duration = Duration::from_secs(2);

/// What is wrong with one node.
struct Fault {
    node: String,
    reason: Reason,
    text: String,
}

impl Fault {
    fn new(node: &MemberName, reason: Reason, text: impl Into<String>) -> Self {
        Self { node: node.to_string(), reason, text: text.into() }
    }
}

pub(super) fn judge(
    evidence: Evidence<'_>,
    peering: &Peering,
    planned: &PeeringPlan,
    before: &[Condition],
    recheck: &mut Option<Instant>,
) -> (Verdict, Verdict, Verdict) {
    let nodes: Vec<MemberName> = live_nodes(evidence);
    let left_out = left_out(evidence);
    if nodes.is_empty() {
        let text = format!("no node of this cluster is ready{left_out}");
        let none = Verdict::no(Reason::NoAgents, text);
        return (none, super::not_routed(), super::nobody_degraded());
    }
    let cluster = peering.cluster.as_str();
    let settled = held_before(before, PeeringCondition::RoutesReady);
    let route_faults: Vec<Fault> = nodes
        .iter()
        .filter_map(|node| route_fault(evidence, node, cluster, settled, recheck))
        .collect();
    let probe_faults: Vec<Fault> =
        nodes.iter().filter_map(|node| probe_fault(evidence, node, cluster, recheck)).collect();

    let all = nodes.len();
    let routes = if route_faults.is_empty() {
        let prefixes = planned.filtered.as_ref().map(|f| prefixes_of(f).count());
        let prefixes = prefixes.unwrap_or_default();
        let text = format!("{prefixes} prefixes on {all} nodes{left_out}");
        Verdict::yes(Reason::RoutesProgrammed, text)
    } else {
        let nobody = route_faults.len() == all
            && route_faults.iter().all(|fault| fault.reason == Reason::NoAgents);
        let wrong = route_faults.iter().find(|fault| fault.reason == Reason::AgentErrors);
        let reason = match wrong {
            _ if nobody => Reason::NoAgents,
            Some(fault) => fault.reason,
            None => Reason::AgentsPending,
        };
        Verdict::no(reason, named(&route_faults))
    };
    let targets = evidence.world.remotes.snapshot(&peering.cluster).map(|s| s.nodes.len());
    let data_path = data_path(&probe_faults, all, targets.unwrap_or_default());
    let degraded = degraded(&route_faults, &probe_faults);
    (routes, data_path, degraded)
}

/// Nodes that serve. One that is down is Kubernetes' to report, and nothing runs there.
fn live_nodes(evidence: Evidence<'_>) -> Vec<MemberName> {
    let world = evidence.world;
    let serving = world.facts.nodes.values().filter(|node| world.serves(node));
    serving.filter_map(|node| node.name.parse().ok()).collect()
}

/// How many nodes nobody waits for, in words; nothing when there are none.
fn left_out(evidence: Evidence<'_>) -> String {
    let nodes = evidence.world.facts.nodes.values();
    match nodes.filter(|node| !node.wants_agent).count() {
        0 => String::new(),
        1 => "; 1 node is left out, as no agent is wanted there".to_owned(),
        many => format!("; {many} nodes are left out, as no agent is wanted there"),
    }
}

fn route_fault(
    evidence: Evidence<'_>,
    node: &MemberName,
    cluster: &str,
    settled: bool,
    recheck: &mut Option<Instant>,
) -> Option<Fault> {
    let now = evidence.now.instant;
    let member = evidence.world.agents.get(node);
    let Some(state) = member.and_then(|member| member.live(now)) else {
        let text = "its agent is not connected to the controller";
        return Some(Fault::new(node, Reason::NoAgents, text));
    };
    if let Some(error) = state.errors.iter().find(|error| concerns(error, cluster)) {
        return Some(Fault::new(node, Reason::AgentErrors, error.clone()));
    }
    let Some((since, told_at)) = evidence.outbox.routes_since(node, cluster) else {
        let text = "it has no address in the mesh yet";
        return Some(Fault::new(node, Reason::AgentsPending, text));
    };
    if state.applied >= since {
        return None;
    }
    if settled && now < told_at + APPLY_GRACE {
        wake(recheck, told_at + APPLY_GRACE);
        return None;
    }
    let text = "its agent has not applied the newest routes yet";
    Some(Fault::new(node, Reason::AgentsPending, text))
}

/// Whether an agent's error is about `cluster` or about the node as a whole, by its form.
fn concerns(error: &str, cluster: &str) -> bool {
    let about = error.strip_prefix("cluster ").and_then(|rest| rest.split_once(": "));
    about.is_none_or(|(name, _)| name == cluster)
}

fn probe_fault(
    evidence: Evidence<'_>,
    node: &MemberName,
    cluster: &str,
    recheck: &mut Option<Instant>,
) -> Option<Fault> {
    let held = evidence.world.probes.get(node).and_then(|probes| probes.get(cluster));
    let Some(probes) = held.filter(|probes| !probes.targets.is_empty()) else {
        return Some(Fault::new(node, Reason::ProbesPending, "no probe has come back yet"));
    };
    let member = evidence.world.agents.get(node);
    if member.is_none_or(|member| member.live(evidence.now.instant).is_none()) {
        return Some(Fault::new(node, Reason::ProbesPending, "its agent does not report"));
    }
    if let Some(lost) = member.and_then(|member| member.lost) {
        wake(recheck, lost + crate::world::MEMBER_GRACE);
    }
    let failing = probes.targets.iter().find(|target| !target.ok)?;
    let reason = failing.reason.parse().unwrap_or(Reason::ProbesFail);
    Some(Fault::new(node, reason, describe(failing)))
}

fn describe(target: &ProbeTarget) -> String {
    let address = <[u8; 4]>::try_from(target.address.as_slice()).map(Ipv4Addr::from);
    let address = address.map_or_else(|_| "its target".to_owned(), |a| a.to_string());
    if target.detail.is_empty() {
        format!("{} from {address}", target.reason)
    } else {
        format!("{} from {address}: {}", target.reason, target.detail)
    }
}

fn data_path(faults: &[Fault], all: usize, targets: usize) -> Verdict {
    let Some(first) = faults.first() else {
        let text = format!("full-size packets cross between {all} nodes here and the peer's");
        return Verdict::yes(Reason::ProbesPass, text);
    };
    if targets == 0 {
        return Verdict::no(Reason::NoTargets, "the peer announced no node to probe");
    }
    // What failed says more than what is still to come.
    let failing: Vec<&Fault> =
        faults.iter().filter(|fault| fault.reason != Reason::ProbesPending).collect();
    let reason = match failing.first() {
        None => first.reason,
        Some(fault) if failing.iter().all(|other| other.reason == fault.reason) => fault.reason,
        Some(_) => Reason::ProbesFail,
    };
    if failing.is_empty() {
        Verdict::unknown(reason, named(faults))
    } else {
        Verdict::no(reason, listed(failing.iter().map(|fault| one(fault))))
    }
}

fn degraded(routes: &[Fault], probes: &[Fault]) -> Verdict {
    // A node that has only just been told, or has not probed yet, is not failing.
    let waiting = [Reason::AgentsPending, Reason::ProbesPending];
    let failing = routes.iter().chain(probes).filter(|fault| !waiting.contains(&fault.reason));
    let mut texts: Vec<String> = failing.map(one).collect();
    texts.sort_unstable();
    if texts.is_empty() {
        Verdict::no(Reason::NodesHealthy, "every live node works")
    } else {
        Verdict::yes(Reason::NodesFailing, listed(texts.into_iter()))
    }
}

fn named(faults: &[Fault]) -> String {
    listed(faults.iter().map(one))
}

fn one(fault: &Fault) -> String {
    format!("node {}: {}", fault.node, fault.text)
}

fn wake(recheck: &mut Option<Instant>, at: Instant) {
    *recheck = Some(recheck.map_or(at, |held| held.min(at)));
}
