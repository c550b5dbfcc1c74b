//! Each thing that can be wrong is named, with its remedy, and what follows is not guessed at.

use carrick_crds::Reason;
use carrick_crds::condition::{PeeringCondition, Verdict};
use serde_json::json;

use super::*;
use crate::fixture::{self, failure, peering_of};
use crate::state::FetchErrorKind;

/// Name and finding of the one step that is wrong.
fn wrong(state: &State) -> (String, Finding) {
    let steps = diagnose(state);
    let mut wrong = steps.iter().filter_map(|step| match &step.outcome {
        Outcome::Wrong(finding) => Some((step.name.clone(), finding.clone())),
        _ => None,
    });
    let first = wrong.next().unwrap_or_else(|| panic!("nothing wrong: {}", render(&steps)));
    assert_eq!(wrong.next(), None, "{}", render(&steps));
    first
}

fn pod(component: &str, name: &str, status: serde_json::Value) -> k8s_openapi::api::core::v1::Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "app.kubernetes.io/component": component } },
        "spec": { "containers": [], "nodeName": "paris-2" },
        "status": status,
    }))
    .expect("pod")
}

#[test]
fn a_cluster_that_is_well() {
    let steps = diagnose(&fixture::well());
    assert!(!fails(&steps));
    assert_eq!(
        render(&steps),
        "\
ok       Kubernetes API  v1.36.3 at https://192.0.2.9:6443/
ok       Kinds           ClusterPeering and ClusterIdentity are served
ok       Controller      2/2 ready, carrick-controller-7f6d-x2x4k leads
ok       Identity        cluster paris, pods in 10.1.0.0/16
ok       Gateways        1/1 ready
ok       Agents          2/2 ready
ok       Peering osaka   traffic flows to and from cluster osaka

All is well.
"
    );
}

#[test]
fn what_depends_on_something_wrong_is_skipped() {
    let mut state = fixture::well();
    state.version = Err(failure(FetchErrorKind::Unreachable, "read the version", "timed out"));
    let steps = diagnose(&state);
    assert!(fails(&steps));
    assert_eq!(
        render(&steps),
        "\
WRONG    Kubernetes API  cannot read the version at https://192.0.2.9:6443/: timed out
                         do: see that https://192.0.2.9:6443/ is the right API server and can be \
reached from here (VPN, firewall, `kubectl version`)
skipped  Kinds
skipped  Controller
skipped  Identity
skipped  Gateways
skipped  Agents
skipped  Peerings

Something is wrong.
"
    );
}

#[test]
fn refusals_of_the_api_server_have_remedies_of_their_own() {
    let mut state = fixture::well();
    for (kind, remedy) in [
        (FetchErrorKind::Unauthorized, "renew the credentials"),
        (FetchErrorKind::Forbidden, "ask a cluster administrator for the right to get"),
        (FetchErrorKind::KindMissing, "helm install carrick"),
    ] {
        state.missing_kinds = Err(failure(kind, "get customresourcedefinitions", "no"));
        let (step, finding) = wrong(&state);
        assert_eq!(step, "Kinds");
        assert!(finding.remedy.contains(remedy), "{finding:?}");
    }
}

#[test]
fn a_cluster_without_carrick() {
    let mut state = fixture::well();
    state.missing_kinds = Ok(vec!["clusterpeerings.carrick.dev".to_owned()]);
    let (step, finding) = wrong(&state);
    assert_eq!(step, "Kinds");
    assert_eq!(finding.what, "the API server does not serve clusterpeerings.carrick.dev");
    assert!(finding.remedy.contains("helm install"));

    state.missing_kinds = Ok(Vec::new());
    state.controller = Ok(None);
    let (step, finding) = wrong(&state);
    assert_eq!(step, "Controller");
    assert!(finding.what.contains("in the namespace carrick-system"), "{finding:?}");
}

#[test]
fn a_controller_that_does_not_run_or_lead() {
    let mut state = fixture::well();
    state.lease = Ok(None);
    assert!(wrong(&state).1.what.contains("no controller leads"));

    let deployment = state.controller.as_mut().expect("read").as_mut().expect("deployment");
    deployment.status = None;
    let waiting = json!({ "containerStatuses": [{
        "name": "controller", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } },
    }] });
    state.pods = Ok(vec![pod("controller", "carrick-controller-a", waiting)]);
    let (step, finding) = wrong(&state);
    assert_eq!(step, "Controller");
    assert_eq!(
        finding.what,
        "Deployment carrick-controller: 0/2 ready; \
         carrick-controller-a on paris-2: ImagePullBackOff: no such image"
    );
}

#[test]
fn an_identity_that_is_missing_unready_or_withdrawn() {
    let mut state = fixture::well();
    state.identity = Ok(None);
    assert_eq!(wrong(&state).0, "Identity");

    for (type_, verdict) in [
        ("Ready", Verdict::no(Reason::IdentityUnreadable, "no PEM")),
        ("PrefixesCoverPods", Verdict::no(Reason::PodsOutside, "pod a/b has 10.7.0.3")),
        ("Withdrawn", Verdict::yes(Reason::AllWithdrawn, "2 nodes")),
    ] {
        let mut identity = fixture::identity();
        let reason = verdict.reason;
        fixture::set(&mut identity.status.as_mut().expect("status").conditions, type_, verdict);
        state.identity = Ok(Some(identity));
        let (step, finding) = wrong(&state);
        assert_eq!(step, "Identity");
        assert!(finding.what.contains(type_), "{finding:?}");
        assert_eq!(finding.remedy, reason.remedy());
    }
}

#[test]
fn gateways_that_run_but_do_not_join() {
    let mut state = fixture::well();
    let conditions = |state: &mut State, verdict: Verdict| {
        let mut identity = fixture::identity();
        fixture::set(&mut identity.status.as_mut().expect("status").conditions, "Ready", verdict);
        state.identity = Ok(Some(identity));
    };
    conditions(&mut state, Verdict::no(Reason::NoLocalGateway, "no gateway is in service"));
    let (step, finding) = wrong(&state);
    assert_eq!(step, "Gateways");
    assert_eq!(finding.what, "none has joined the controller: no gateway is in service");

    // A controller that does not get ready may have said why.
    conditions(&mut state, Verdict::no(Reason::IdentityUnreadable, "no PEM"));
    let deployment = state.controller.as_mut().expect("read").as_mut().expect("deployment");
    deployment.status = None;
    let (step, finding) = wrong(&state);
    assert_eq!(step, "Controller");
    assert!(finding.what.ends_with("Ready=False: IdentityUnreadable: no PEM"), "{finding:?}");
    assert!(finding.remedy.starts_with(Reason::IdentityUnreadable.remedy()), "{finding:?}");
}

#[test]
fn gateways_and_agents_that_are_not_ready() {
    let mut state = fixture::well();
    let set = state.gateways.as_mut().expect("read").as_mut().expect("set");
    set.spec.as_mut().expect("spec").replicas = Some(2);
    let steps = diagnose(&state);
    assert!(!fails(&steps) && render(&steps).contains("warning  Gateways"), "{}", render(&steps));

    let set = state.gateways.as_mut().expect("read").as_mut().expect("set");
    set.status.as_mut().expect("status").ready_replicas = Some(0);
    assert_eq!(wrong(&state).0, "Gateways");

    let mut state = fixture::well();
    let set = state.agents.as_mut().expect("read").as_mut().expect("set");
    set.status.as_mut().expect("status").number_ready = 1;
    let crashed = json!({ "containerStatuses": [{
        "name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 3,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "exitCode": 101 } },
    }] });
    let fine = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
    state.pods = Ok(vec![pod("agent", "agent-a", crashed), pod("agent", "agent-b", fine)]);
    let (step, finding) = wrong(&state);
    assert_eq!(step, "Agents");
    assert_eq!(
        finding.what,
        "DaemonSet carrick-agent: 1/2 ready; \
         agent-a on paris-2: CrashLoopBackOff: its last run ended with 101"
    );
}

#[test]
fn the_first_condition_that_does_not_hold_is_named() {
    let mut state = fixture::well();
    let conditions = &mut peering_of(&mut state).status.as_mut().expect("status").conditions;
    let timeout = Verdict::no(Reason::Timeout, "no answer from 198.51.100.7:31820");
    fixture::set(conditions, "Connected", timeout.clone());
    fixture::set(conditions, "DataPathReady", Verdict::unknown(Reason::NotRouted, "no route"));
    fixture::set(conditions, "Ready", timeout);
    let (step, finding) = wrong(&state);
    assert_eq!(step, "Peering osaka");
    assert_eq!(finding.what, "Connected=False: Timeout: no answer from 198.51.100.7:31820");
    assert_eq!(finding.remedy, Reason::Timeout.remedy());
}

#[test]
fn a_peering_that_is_stale_incomplete_or_unreadable() {
    let mut state = fixture::well();
    peering_of(&mut state).metadata.generation = Some(2);
    assert!(wrong(&state).1.what.contains("newest spec"));

    let mut state = fixture::well();
    let status = peering_of(&mut state).status.as_mut().expect("status");
    status.conditions.retain(|c| c.type_ != PeeringCondition::RoutesReady.as_str());
    assert_eq!(wrong(&state).1.what, "has no condition RoutesReady");

    let mut state = fixture::well();
    state.peerings.as_mut().expect("peerings")[0].object = Err("missing field `spec`".to_owned());
    assert_eq!(wrong(&state).1.what, "cannot be read: missing field `spec`");
}

#[test]
fn degraded_nodes_are_a_warning() {
    let mut state = fixture::well();
    let conditions = &mut peering_of(&mut state).status.as_mut().expect("status").conditions;
    fixture::set(conditions, "NodesDegraded", Verdict::yes(Reason::NodesFailing, "paris-2"));
    let steps = diagnose(&state);
    assert!(!fails(&steps));
    assert!(render(&steps).contains("warning  Peering osaka   works, but NodesDegraded"));
}

#[test]
fn one_peering_does_not_hide_another() {
    let mut state = fixture::well();
    let mut other = state.peerings.as_ref().expect("peerings")[0].clone();
    other.name = "oslo".to_owned();
    state.peerings.as_mut().expect("peerings").push(other);
    peering_of(&mut state).status = None;
    let text = render(&diagnose(&state));
    assert!(text.contains("WRONG    Peering osaka"), "{text}");
    assert!(text.contains("ok       Peering oslo"), "{text}");
}

#[test]
fn no_peering_yet_is_no_fault() {
    let mut state = fixture::well();
    state.peerings = Ok(Vec::new());
    let steps = diagnose(&state);
    assert!(!fails(&steps));
    assert!(render(&steps).contains("none yet; `carrick invite`"));
}
