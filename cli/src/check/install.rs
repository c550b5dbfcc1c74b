//! Is Carrick itself well in this cluster? One look a part.

use super::{Finding, Outcome, controller_log, identity, look};
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
        let mut finding = unready(state, "controller", count, "Deployment");
        if let Some(hindrance) = identity::hindrance(state) {
            finding.what = format!("{}; {}", finding.what, hindrance.what);
            finding.remedy = format!("{}; {}", hindrance.remedy, finding.remedy);
        }
        return Outcome::Wrong(finding);
    }
    let leader = match &state.lease {
        Ok(lease) => lease.as_ref().and_then(|l| l.spec.as_ref()?.holder_identity.clone()),
        Err(error) => return Outcome::Wrong(error.into()),
    };
    match leader.filter(|holder| !holder.is_empty()) {
        None => Outcome::Wrong(Finding::new(
            format!("no controller leads: Lease {} has no holder", parts::CONTROLLER),
            controller_log(state),
        )),
        Some(_) if count.ready < count.wanted => {
            Outcome::Warning(unready(state, "controller", count, "Deployment"))
        }
        Some(holder) => Outcome::Good(format!("{count} ready, {holder} leads")),
    }
}

/// Are gateways in service?
pub fn gateways(state: &State) -> Outcome {
    let count = parts::gateways(state);
    let pods =
        workload(state, &state.gateways, "gateway", "StatefulSet", count, |count| count.ready == 0);
    match (pods, identity::no_gateway(state)) {
        (Outcome::Good(_) | Outcome::Warning(_), Some(none_joined)) => Outcome::Wrong(none_joined),
        (pods, _) => pods,
    }
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
