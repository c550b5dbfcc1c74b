//! The conditions of a ClusterPeering. Pure; every path through here ends in a verdict for each of
//! the six, so that none is ever left standing from before.

mod connected;
mod nodes;

use std::time::Instant;

use carrick_crds::Reason;
use carrick_crds::condition::{self, ConditionStatus, PeeringCondition, Verdict};
use carrick_crds::peering::Peering;
use carrick_exchange::message::peer::Report;
use carrick_exchange::snapshot::Version;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Resolved, Standing};
use crate::outbox::Outbox;
use crate::plan::{PeeringPlan, Plan};
use crate::world::{Now, World};

/// How many nodes, endpoints or errors a message names.
const NAMED: usize = 4;

/// All that conditions are judged by.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// What is known.
    pub world: &'a World,
    /// What is planned.
    pub plan: &'a Plan,
    /// What members were told.
    pub outbox: &'a Outbox,
    /// When.
    pub now: Now,
}

/// The judgement of one ClusterPeering.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// One verdict a type, in the order of [`PeeringCondition::ALL`].
    pub verdicts: [(PeeringCondition, Verdict); 6],
    /// Judge again then, although nothing may have happened: a grace period ends.
    pub recheck: Option<Instant>,
}

/// Judges one ClusterPeering. `before` are its conditions as published last.
pub fn judge(evidence: Evidence<'_>, one: &Resolved<'_>, before: &[Condition]) -> Judgement {
    let peering = match &one.standing {
        Standing::Accepted(peering) => peering,
        Standing::Refused { verdict, .. } => return refused(verdict),
    };
    let accepted = Verdict::yes(Reason::Accepted, "the spec is good");
    let planned = evidence.plan.peerings.get(&one.object.name).cloned().unwrap_or_default();
    let connected = connected::judge(evidence, peering, &planned, before);
    let mut recheck = None;
    let (routes, data_path, degraded) = if connected.status == ConditionStatus::True {
        let routed = route_obstacle(evidence, peering, &planned);
        match routed {
            Some(obstacle) => (obstacle, not_routed(), nobody_degraded()),
            None => nodes::judge(evidence, peering, &planned, before, &mut recheck),
        }
    } else {
        let routes = Verdict::no(Reason::NotConnected, "there is no connection");
        (routes, not_routed(), nobody_degraded())
    };
    finish([accepted, connected, routes, data_path, degraded], recheck)
}

fn refused(verdict: &Verdict) -> Judgement {
    let connected = Verdict::no(Reason::NotAccepted, "the ClusterPeering is not accepted");
    let routes = Verdict::no(Reason::NotConnected, "there is no connection");
    finish([verdict.clone(), connected, routes, not_routed(), nobody_degraded()], None)
}

/// Why nothing can be routed although a connection stands.
fn route_obstacle(
    evidence: Evidence<'_>,
    peering: &Peering,
    planned: &PeeringPlan,
) -> Option<Verdict> {
    let remote = evidence.world.remotes.get(&peering.cluster);
    if let Some(error) = remote.and_then(|remote| remote.error.as_ref()) {
        return Some(Verdict::no(Reason::SnapshotRefused, error.to_string()));
    }
    let Some(filtered) = &planned.filtered else {
        let text = format!("no signed snapshot of cluster {} has come yet", peering.cluster);
        return Some(Verdict::no(Reason::NoSnapshot, text));
    };
    if let Some(error) = peers_objection(evidence, peering) {
        let text = format!("cluster {} does not take our snapshot: {error}", peering.cluster);
        return Some(Verdict::no(Reason::SnapshotRefused, text));
    }
    if filtered.accepted.is_empty() || filtered.mesh.is_none() {
        let refused = filtered.refused.iter().map(|(prefix, why)| format!("{prefix}: {why}"));
        let text = match listed(refused) {
            empty if empty.is_empty() => "the peer announced no prefix".to_owned(),
            list => list,
        };
        return Some(Verdict::no(Reason::NothingAccepted, text));
    }
    None
}

/// What the peer says against our snapshot as a whole. What it says of one that we have replaced since
/// does not count: a gateway of ours may hear of a change later than another.
fn peers_objection(evidence: Evidence<'_>, peering: &Peering) -> Option<String> {
    let gateways = evidence.world.gateways.values();
    let states = gateways.filter_map(|member| member.live(evidence.now.instant));
    let peers = states.flat_map(|state| &state.peers);
    let mut reports =
        peers.filter(|p| p.cluster == peering.cluster.as_str()).filter_map(|p| p.report.as_ref());
    let in_force = evidence.outbox.version_for(&peering.cluster).unwrap_or_default();
    let counts = |report: &&Report| {
        let about = Version { epoch: report.error_epoch, generation: report.error_generation };
        !report.error.is_empty() && (about == Version::default() || about >= in_force)
    };
    reports.find(counts).map(|report| report.error.clone())
}

fn not_routed() -> Verdict {
    Verdict::no(Reason::NotRouted, "nothing is routed")
}

fn nobody_degraded() -> Verdict {
    Verdict::no(Reason::NotRouted, "nothing is routed, so no node can fail")
}

/// Adds `Ready`: the first of the others that does not hold says why.
fn finish(verdicts: [Verdict; 5], recheck: Option<Instant>) -> Judgement {
    let missing = verdicts[..4].iter().find(|verdict| verdict.status != ConditionStatus::True);
    let ready = match missing {
        Some(missing) => Verdict::no(missing.reason, missing.message.clone()),
        None => Verdict::yes(Reason::Ready, "pods of both clusters reach each other"),
    };
    let [accepted, connected, routes, data_path, degraded] = verdicts;
    let verdicts = [
        (PeeringCondition::Accepted, accepted),
        (PeeringCondition::Connected, connected),
        (PeeringCondition::RoutesReady, routes),
        (PeeringCondition::DataPathReady, data_path),
        (PeeringCondition::NodesDegraded, degraded),
        (PeeringCondition::Ready, ready),
    ];
    Judgement { verdicts, recheck }
}

fn held_before(before: &[Condition], type_: PeeringCondition) -> bool {
    condition::is_true(before, type_.as_str())
}

/// The first few, joined, and how many more there are.
fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    let mut text = items.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if items.len() > NAMED {
        text.push_str(&format!("; and {} more", items.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests;
