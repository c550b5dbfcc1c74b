//! Has this cluster an identity that others can be given, and do its ranges hold its pods?

use carrick_crds::condition::{self, IdentityCondition};
use carrick_crds::{ClusterIdentity, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Finding, Outcome, controller_log, look, remedy};
use crate::state::State;

/// Looks at ClusterIdentity `self`. That no gateway has joined is for the step of the gateways.
pub fn identity(state: &State) -> Outcome {
    look(&state.identity, |found| match found {
        Some(identity) => conditions(state, identity),
        None => Outcome::Wrong(Finding::new(
            "there is no ClusterIdentity `self`, which the controller makes",
            controller_log(state),
        )),
    })
}

/// What is wrong when gateways run, and the controller still knows none.
pub fn no_gateway(state: &State) -> Option<Finding> {
    let ready = unmet(state, IdentityCondition::Ready).filter(|c| is_no_gateway(c))?;
    let what = format!("none has joined the controller: {}", ready.message);
    let remedy = format!("kubectl -n {} logs carrick-gateway-0", state.namespace);
    Some(Finding::new(what, remedy))
}

/// What the controller says keeps it from being in service.
pub fn hindrance(state: &State) -> Option<Finding> {
    unmet(state, IdentityCondition::Ready).filter(|c| !is_no_gateway(c)).map(finding)
}

fn unmet(state: &State, type_: IdentityCondition) -> Option<&Condition> {
    let status = state.identity.as_ref().ok()?.as_ref()?.status.as_ref()?;
    condition::find(&status.conditions, type_.as_str()).filter(|c| c.status != "True")
}

fn is_no_gateway(condition: &Condition) -> bool {
    condition.reason == Reason::NoLocalGateway.as_str()
}

fn conditions(state: &State, identity: &ClusterIdentity) -> Outcome {
    let status = identity.status.clone().unwrap_or_default();
    if let Some(withdrawn) = condition::find(&status.conditions, "Withdrawn")
        && withdrawn.status == "True"
    {
        return Outcome::Wrong(finding(withdrawn));
    }
    for type_ in [IdentityCondition::Ready, IdentityCondition::PrefixesCoverPods] {
        match condition::find(&status.conditions, type_.as_str()) {
            Some(c) if c.status == "True" || is_no_gateway(c) => {}
            Some(c) => return Outcome::Wrong(finding(c)),
            None => {
                let what = format!("ClusterIdentity self has no condition {}", type_.as_str());
                return Outcome::Wrong(Finding::new(what, controller_log(state)));
            }
        }
    }
    let ranges = status.pod_ranges.join(", ");
    Outcome::Good(format!("cluster {}, pods in {ranges}", status.cluster_id))
}

fn finding(c: &Condition) -> Finding {
    let what =
        format!("ClusterIdentity self, {}={}: {}: {}", c.type_, c.status, c.reason, c.message);
    Finding::new(what, remedy(&c.reason))
}
