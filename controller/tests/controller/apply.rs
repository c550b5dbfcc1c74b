//! What is made in the Kubernetes API, once, and what is left alone: identity, trust, the Lease.

use std::time::Duration;

use carrick_controller::event::Event;
use carrick_controller::identity::{secret, trust};
use carrick_controller::leader::Elector;
use carrick_controller::metrics::Metrics;
use carrick_controller::withdraw::withdraw_with;
use carrick_controller::writer::{Desk, Target, Write, Writer};
use serde_json::json;

use crate::api::FakeApi;
use crate::rig::PATIENCE;

const NAMESPACE: &str = "carrick-system";
const SECRET: &str = "/api/v1/namespaces/carrick-system/secrets/carrick-identity";
const TRUST: &str = "/api/v1/namespaces/carrick-system/configmaps/carrick-trust";
const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/carrick-system/leases/carrick-controller";

#[tokio::test]
async fn the_identity_is_made_once_and_then_taken() {
    let api = FakeApi::default();
    let first = secret::ensure(&api.client(), NAMESPACE).await.expect("made");
    let second = secret::ensure(&api.client(), NAMESPACE).await.expect("taken");
    assert_eq!(first.public(), second.public());
    assert_eq!(api.writes("/secrets").len(), 1);
}

#[tokio::test]
async fn a_secret_that_is_no_key_is_named_and_never_replaced() {
    for data in [json!({}), json!({ "identity.pem": "bm9uc2Vuc2U=" }), json!({ "other": "eA==" })] {
        let api = FakeApi::default();
        let object = json!({ "metadata": { "name": "carrick-identity" }, "data": data });
        api.object(SECRET, object);
        let error = secret::ensure(&api.client(), NAMESPACE).await.expect_err("no key");
        assert!(error.needs_a_person());
        let text = error.to_string();
        assert!(text.contains("carrick-system/carrick-identity"), "{text}");
        assert!(text.contains("identity.pem"), "{text}");
        assert!(api.writes("").is_empty(), "nothing is written over it");
    }
}

#[tokio::test]
async fn trust_is_written_when_it_differs_only() {
    let api = FakeApi::default();
    let paris = "paris".parse().expect("id");
    let identity = secret::ensure(&api.client(), NAMESPACE).await.expect("made");
    let keys = [identity.public()];
    assert!(trust::ensure(&api.client(), NAMESPACE, &paris, &keys).await.expect("written"));
    assert!(!trust::ensure(&api.client(), NAMESPACE, &paris, &keys).await.expect("equal"));
    let held = api.held(TRUST).expect("there");
    assert_eq!(held["data"]["cluster-id"], "paris");
    assert_eq!(held["data"]["identities"], format!("{}\n", identity.public()));
    let lima = "lima".parse().expect("id");
    assert!(trust::ensure(&api.client(), NAMESPACE, &lima, &keys).await.expect("written"));
}

#[tokio::test]
async fn leadership_is_taken_released_and_taken_by_the_next() {
    let api = FakeApi::default();
    let mut first = Elector::new(&api.client(), NAMESPACE, "a".to_owned());
    tokio::time::timeout(PATIENCE, first.acquire(|| {})).await.expect("leads");
    assert_eq!(api.held(LEASE).expect("there")["spec"]["holderIdentity"], "a");

    let mut second = Elector::new(&api.client(), NAMESPACE, "b".to_owned());
    let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
    let waiting = tokio::spawn(async move {
        second.acquire(move || looked.send(()).expect("counted")).await;
    });
    tokio::time::timeout(PATIENCE, looks.recv()).await.expect("looked").expect("at it");
    assert_eq!(api.held(LEASE).expect("there")["spec"]["holderIdentity"], "a", "it is held");
    first.release().await;
    tokio::time::timeout(PATIENCE, waiting).await.expect("leads in time").expect("no panic");
    let spec = api.held(LEASE).expect("there")["spec"].clone();
    assert_eq!(spec["holderIdentity"], "b");
    assert_eq!(spec["leaseTransitions"], 2);
}

#[tokio::test]
async fn a_leader_hands_over_although_its_own_renewal_comes_between() {
    let api = FakeApi::default();
    let mut leader = Elector::new(&api.client(), NAMESPACE, "a".to_owned());
    tokio::time::timeout(PATIENCE, leader.acquire(|| {})).await.expect("leads");
    api.conflict(2);
    leader.release().await;
    assert_eq!(api.held(LEASE).expect("there")["spec"]["holderIdentity"], "");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hears_nothing_gives_up_before_its_lease_ends() {
    let api = FakeApi::default();
    let mut leader = Elector::new(&api.client(), NAMESPACE, "a".to_owned());
    let asked = tokio::time::Instant::now();
    leader.acquire(|| {}).await;
    api.fall_silent();
    leader.keep().await;
    let duration = api.held(LEASE).expect("there")["spec"]["leaseDurationSeconds"].clone();
    let led = asked.elapsed();
    assert!(led.as_secs() + 2 < duration.as_u64().expect("seconds"), "{led:?} of {duration}");
    leader.release().await;
    assert!(asked.elapsed() - led <= Duration::from_secs(2), "stopping does not wait for the API");
}

#[tokio::test]
async fn a_conflict_does_not_lose_what_is_to_be_remembered() {
    let api = FakeApi::default();
    let (events, mut queue) = tokio::sync::mpsc::channel(4);
    let desk = Desk::default();
    let client = api.client();
    let writer = Writer::new(client, NAMESPACE, "c-0", desk.clone(), events, Metrics::default());
    let write = Write::Identity { status: Default::default(), record: Default::default() };
    desk.leave(Target::Identity, write, std::time::Instant::now());
    api.conflict(1);
    tokio::select! {
        () = writer.run() => panic!("it never ends by itself"),
        written = tokio::time::timeout(PATIENCE, queue.recv()) => {
            assert!(matches!(written, Ok(Some(Event::Recorded(_)))), "it is tried again");
        }
    }
    assert_eq!(api.writes("/clusteridentities/self/status").len(), 1);
}

#[tokio::test]
async fn a_withdrawal_that_fails_is_taken_back() {
    let api = FakeApi::default();
    let error = withdraw_with(api.client(), "i-1", Duration::from_millis(200)).await;
    let text = error.expect_err("nobody withdraws").to_string();
    assert!(text.contains("in service") && text.contains("--no-hooks"), "{text}");
    let written = api.writes("clusteridentities/self");
    let annotation =
        |at: usize| written[at]["metadata"]["annotations"]["carrick.dev/withdraw"].clone();
    assert_eq!(written.len(), 2, "{written:?}");
    assert_eq!((annotation(0), annotation(1)), (json!("i-1"), serde_json::Value::Null));
}

#[tokio::test]
async fn withdrawing_what_never_ran_is_done_at_once() {
    let api = FakeApi::default();
    api.missing("/apis/carrick.dev/v1alpha1/clusteridentities/self");
    withdraw_with(api.client(), "all", Duration::from_secs(5)).await.expect("nothing to do");
}
