//! What is left of imported services when they are no longer shared: nothing of ours, and all of others'.

use carrick_controller::event::Event;
use carrick_controller::services::names::{IMPORT, derived};
use carrick_controller::services::plan::Write;
use carrick_controller::services::queue::Key;
use carrick_controller::services::remove::remove;
use carrick_controller::services::render::What;
use carrick_controller::services::write::{WriteError, write};
use carrick_crds::WITHDRAW_ANNOTATION;
use carrick_exchange::ClusterIdentity;
use carrick_exchange::message::member::{AgentState, from_member};
use carrick_model::ServiceName;
use serde_json::{Value, json};

use crate::api::FakeApi;
use crate::link::{Member, connected, peering};
use crate::rig::{PATIENCE, Rig};

const MCS: &str = "/apis/multicluster.x-k8s.io/v1beta1";

fn ours(name: &str) -> Value {
    json!({ "metadata": {
        "name": name, "namespace": "shop", "uid": "u", "annotations": { IMPORT: "hello" },
    } })
}

fn theirs(name: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "shop", "uid": "v" } })
}

fn list(items: &[Value]) -> Value {
    json!({ "metadata": {}, "items": items })
}

#[tokio::test]
async fn a_status_whose_object_is_gone_is_no_refusal() {
    let api = FakeApi::default();
    let service = ServiceName::new("shop", "hello").expect("name");
    let key = Key { service, what: What::ExportStatus };
    let status = Write::Status(json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": { "name": "hello", "namespace": "shop" }, "status": {},
    }));
    api.missing(&format!("{MCS}/namespaces/shop/serviceexports/hello/status"));
    let error = write(&api.client(), &key, &status).await.expect_err("gone");
    assert!(matches!(error, WriteError::Gone), "{error}");
    let fails = FakeApi::default();
    fails.fail(1);
    let error = write(&fails.client(), &key, &status).await.expect_err("refused");
    assert!(matches!(error, WriteError::Api(_)), "{error}");
}

#[tokio::test]
async fn what_we_made_goes_and_what_others_made_stays() {
    let api = FakeApi::default();
    let own = derived(&ServiceName::new("shop", "hello").expect("name"));
    let slice = format!("{own}-x-0");
    api.object("/api/v1/services", list(&[ours(&own), theirs("hello"), theirs("derived-other")]));
    let slices = list(&[ours(&slice), theirs("hello-1")]);
    api.object("/apis/discovery.k8s.io/v1/endpointslices", slices);
    api.object(&format!("{MCS}/serviceimports"), list(&[ours("hello"), theirs("other")]));
    let mut spoken = theirs("hello");
    spoken["status"] = json!({ "conditions": [{ "type": "Valid" }] });
    api.object(&format!("{MCS}/serviceexports"), list(&[spoken, theirs("silent")]));

    assert_eq!(remove(&api.client()).await.expect("removed"), 3);
    let written = api.written();
    let deleted: Vec<&str> =
        written.iter().filter(|p| !p.ends_with("/status")).map(String::as_str).collect();
    assert_eq!(
        deleted,
        [
            format!("/api/v1/namespaces/shop/services/{own}").as_str(),
            format!("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/{slice}").as_str(),
            format!("{MCS}/namespaces/shop/serviceimports/hello").as_str(),
        ]
    );
    let only = &api.writes("/serviceimports/hello")[0]["preconditions"]["uid"];
    assert_eq!(only, "u", "another one of that name is not meant");
    assert_eq!(api.writes("/serviceexports/hello/status")[0]["status"]["conditions"], json!([]));
    assert!(api.writes("/serviceexports/silent/status").is_empty());
}

#[tokio::test]
async fn where_services_were_never_shared_there_is_nothing_to_do() {
    let api = FakeApi::default();
    assert_eq!(remove(&api.client()).await.expect("no such kinds"), 0);
    assert!(api.written().is_empty());
}

#[tokio::test]
async fn what_cannot_be_removed_is_named() {
    let api = FakeApi::default();
    api.object(&format!("{MCS}/serviceimports"), list(&[ours("hello")]));
    api.fail(1);
    let error = remove(&api.client()).await.expect_err("the API server refuses").to_string();
    assert!(error.starts_with("serviceimports: "), "{error}");
}

#[tokio::test]
async fn a_controller_that_is_to_go_makes_no_imports_until_that_is_taken_back() {
    let mut rig = Rig::start().await;
    let osaka = ClusterIdentity::generate().expect("identity");
    rig.apply(peering(&osaka, false)).await;
    let mut gateway = Member::start(&rig, "token-of-gw-0").await;
    gateway.say(from_member::Kind::Gateway(connected(&osaka))).await;
    let mut agent = Member::start(&rig, "token-of-ag-0").await;
    agent.say(from_member::Kind::Agent(AgentState::default())).await;
    for (withdraw, knows) in [(None, true), (Some("all"), false), (None, true)] {
        let mut own = carrick_crds::ClusterIdentity::new("self", Default::default());
        let note = |value: &str| [(WITHDRAW_ANNOTATION.to_owned(), value.to_owned())].into();
        own.metadata.annotations = withdraw.map(note);
        rig.send(Event::Identity(Some(Box::new(own)))).await;
        let seen = rig.sight.wait_for(|sight| sight.is_some() == knows);
        assert!(tokio::time::timeout(PATIENCE, seen).await.is_ok(), "{withdraw:?}");
    }
}
