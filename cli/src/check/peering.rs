//! Does traffic flow to each peer? The first condition that does not hold says why not.

use carrick_crds::ClusterPeering;
use carrick_crds::condition::{self, PeeringCondition};

use super::{Finding, Outcome, Step, controller_log, remedy};
use crate::state::{Listed, State};

/// What must hold, in the order in which it comes true.
const CHAIN: [PeeringCondition; 5] = [
    PeeringCondition::Accepted,
    PeeringCondition::Connected,
    PeeringCondition::RoutesReady,
    PeeringCondition::DataPathReady,
    PeeringCondition::Ready,
];

/// A step for each peering.
pub fn steps(state: &State) -> Vec<Step> {
    match state.peerings.as_deref() {
        Ok([]) => {
            let hint = "none yet; `carrick invite` in the other cluster prints one";
            vec![Step { name: "Peerings".to_owned(), outcome: Outcome::Good(hint.to_owned()) }]
        }
        Ok(peerings) => peerings.iter().map(|listed| step(state, listed)).collect(),
        Err(error) => {
            vec![Step { name: "Peerings".to_owned(), outcome: Outcome::Wrong(error.into()) }]
        }
    }
}

fn step(state: &State, listed: &Listed) -> Step {
    let outcome = match &listed.object {
        Ok(object) => look(state, object),
        Err(error) => Outcome::Wrong(Finding::new(
            format!("cannot be read: {error}"),
            format!("correct it: kubectl edit clusterpeering {}", listed.name),
        )),
    };
    Step { name: format!("Peering {}", listed.name), outcome }
}

/// Whether traffic flows by a peering.
pub fn look(state: &State, object: &ClusterPeering) -> Outcome {
    let status = object.status.clone().unwrap_or_default();
    if status.observed_generation.is_none()
        || status.observed_generation < object.metadata.generation
    {
        let what = "the controller has not looked at its newest spec yet";
        let remedy = format!("wait a few seconds; if it stays: {}", controller_log(state));
        return Outcome::Wrong(Finding::new(what, remedy));
    }
    for type_ in CHAIN {
        match condition::find(&status.conditions, type_.as_str()) {
            Some(c) if c.status == "True" => {}
            Some(c) => {
                let what = format!("{}={}: {}: {}", c.type_, c.status, c.reason, c.message);
                return Outcome::Wrong(Finding::new(what, remedy(&c.reason)));
            }
            None => {
                let what = format!("has no condition {}", type_.as_str());
                let remedy =
                    "use a `carrick` of the same release as the controller (carrick version)";
                return Outcome::Wrong(Finding::new(what, remedy));
            }
        }
    }
    match condition::find(&status.conditions, PeeringCondition::NodesDegraded.as_str()) {
        Some(c) if c.status == "True" => {
            let what = format!("works, but {}: {}: {}", c.type_, c.reason, c.message);
            Outcome::Warning(Finding::new(what, remedy(&c.reason)))
        }
        _ => Outcome::Good(format!("traffic flows to and from cluster {}", object.spec.cluster_id)),
    }
}
