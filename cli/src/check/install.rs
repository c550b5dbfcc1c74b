//! Is Carrick itself well in this cluster? One look a part.

use carrick_crds::condition::{self, IdentityCondition};
use carrick_crds::{ClusterIdentity, Reason};

use super::{Finding, Outcome, look};
use crate::parts::{self, Count};
use crate::state::State;

const INSTALL: &str = "install Carrick: helm install carrick charts/carrick -n carrick-system \
                       --create-namespace --set clusterID=NAME";

/// Does an API server answer, and let us in?
pub fn api(state: &State) -> Outcome {
    look(&state.version, |version| Outcome::Good(format!("{version} at {}", state.server)))
}

/// Does it know our kinds?
pub fn kinds(state: &State) -> Outcome {
    look(&state.missing_kinds, |missing| match missing.as_slice() {
        [] => Outcome::Good("ClusterPeering and ClusterIdentity are served".to_owned()),
        missing => Outcome::Wrong(Finding::new(
            format!("the API server does not serve {}", missing.join(", ")),
            INSTALL,
        )),
    })
}

/// Does a controller run, and lead?
pub fn controller(state: &State) -> Outcome {
    let Some(count) = (match &state.controller {
        Ok(_) => parts::controllers(state),
        Err(error) => return Outcome::Wrong(error.into()),
    }) else {
        let what =
            format!("no Deployment {} in the namespace {}", parts::CONTROLLER, state.namespace);
        return Outcome::Wrong(Finding::new(
            what,
            format!("{INSTALL}; or name its namespace by -n"),
        ));
    };
    if count.ready == 0 {
        return Outcome::Wrong(unready(state, "controller", count, "Deployment"));
    }
    let leader = match &state.lease {
        Ok(lease) => lease.as_ref().and_then(|l| l.spec.as_ref()?.holder_identity.clone()),
        Err(error) => return Outcome::Wrong(error.into()),
    };
    match leader.filter(|holder| !holder.is_empty()) {
        None => Outcome::Wrong(Finding::new(
            format!("no controller leads: Lease {} has no holder", parts::CONTROLLER),
            logs(state, "deployment/carrick-controller"),
        )),
        Some(_) if count.ready < count.wanted => {
            Outcome::Warning(unready(state, "controller", count, "Deployment"))
        }
        Some(holder) => Outcome::Good(format!("{count} ready, {holder} leads")),
    }
}

/// Does this cluster have an identity, and do its ranges hold its pods?
pub fn identity(state: &State) -> Outcome {
    look(&state.identity, |found| match found {
        Some(identity) => identity_conditions(state, identity),
        None => Outcome::Wrong(Finding::new(
            "there is no ClusterIdentity `self`, which the controller makes",
            logs(state, "deployment/carrick-controller"),
        )),
    })
}

fn identity_conditions(state: &State, identity: &ClusterIdentity) -> Outcome {
    let status = identity.status.clone().unwrap_or_default();
    for (wanted, type_) in [
        ("False", IdentityCondition::Withdrawn),
        ("True", IdentityCondition::Ready),
        ("True", IdentityCondition::PrefixesCoverPods),
    ] {
        let found = condition::find(&status.conditions, type_.as_str());
        let absent_is_fine = type_ == IdentityCondition::Withdrawn;
        match found {
            Some(c) if c.status == wanted => {}
            None if absent_is_fine => {}
            Some(c) => {
                let what = format!(
                    "ClusterIdentity self, {}={}: {}: {}",
                    c.type_, c.status, c.reason, c.message
                );
                return Outcome::Wrong(Finding::new(what, remedy(&c.reason)));
            }
            None => {
                let what = format!("ClusterIdentity self has no condition {}", type_.as_str());
                return Outcome::Wrong(Finding::new(
                    what,
                    logs(state, "deployment/carrick-controller"),
                ));
            }
        }
    }
    Outcome::Good(format!(
        "cluster {}, pods in {}",
        status.cluster_id,
        status.pod_ranges.join(", ")
    ))
}

/// Are gateways in service?
pub fn gateways(state: &State) -> Outcome {
    workload(state, &state.gateways, "gateway", "StatefulSet", parts::gateways(state), |count| {
        count.ready == 0
    })
}

/// Has every node its agent?
pub fn agents(state: &State) -> Outcome {
    workload(state, &state.agents, "agent", "DaemonSet", parts::agents(state), |count| {
        count.ready < count.wanted || count.wanted == 0
    })
}

fn workload<T>(
    state: &State,
    fetched: &crate::state::Fetched<Option<T>>,
    part: &str,
    kind: &str,
    count: Option<Count>,
    is_wrong: impl FnOnce(Count) -> bool,
) -> Outcome {
    look(fetched, |_| match count {
        None => Outcome::Wrong(Finding::new(
            format!("no {kind} carrick-{part} in the namespace {}", state.namespace),
            "repair the installation: helm upgrade --install, as at first",
        )),
        Some(count) if is_wrong(count) => Outcome::Wrong(unready(state, part, count, kind)),
        Some(count) if count.ready < count.wanted => {
            Outcome::Warning(unready(state, part, count, kind))
        }
        Some(count) => Outcome::Good(format!("{count} ready")),
    })
}

fn unready(state: &State, part: &str, count: Count, kind: &str) -> Finding {
    let mut what = format!("{kind} carrick-{part}: {count} ready");
    for trouble in parts::troubles(state, part) {
        what.push_str("; ");
        what.push_str(&trouble);
    }
    let remedy = format!(
        "kubectl -n {0} describe pods -l app.kubernetes.io/component={part}; \
         kubectl -n {0} logs -l app.kubernetes.io/component={part}",
        state.namespace
    );
    Finding::new(what, remedy)
}

fn logs(state: &State, of: &str) -> String {
    format!("kubectl -n {} logs {of}", state.namespace)
}

/// The remedy that goes with a condition's reason, if this release knows the reason.
pub fn remedy(reason: &str) -> String {
    let known = reason.parse::<Reason>().map(Reason::remedy).unwrap_or_default();
    known.to_owned()
}
