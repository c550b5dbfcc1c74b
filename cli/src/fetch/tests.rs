//! What is made of an API server's answers.

use serde_json::{Value, json};

use super::*;
use crate::fixture::api;

/// A cluster whose API server answers each path as `answer` says: a status code and an object.
fn cluster(answer: impl Fn(&str) -> (u16, Value) + Send + 'static) -> Cluster {
    api::cluster(move |_, path| answer(path)).0
}

fn refusal(code: u16, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code,
    });
    (code, status)
}

/// The kind is known, and there is no such object.
fn not_found() -> (u16, Value) {
    let (code, mut status) = refusal(404, "not found");
    status["reason"] = "NotFound".into();
    (code, status)
}

fn list(items: Value) -> (u16, Value) {
    (200, json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items }))
}

#[tokio::test]
async fn an_empty_cluster_is_told_from_one_that_cannot_be_read() {
    let found = state(&cluster(|path| match path {
        "/version" => (
            200,
            json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            }),
        ),
        path if path.starts_with("/apis/carrick.dev/") => refusal(404, "404 page not found"),
        path if path.ends_with("/pods") => refusal(403, "pods is forbidden"),
        path if path.ends_with("/deployments") => list(json!([])),
        _ => not_found(),
    }))
    .await;
    assert_eq!(found.version, Ok("v1.36.3".to_owned()));
    assert_eq!(found.namespace, "carrick-system");
    assert_eq!(
        found.missing_kinds,
        Ok(vec!["clusteridentities.carrick.dev".into(), "clusterpeerings.carrick.dev".into()])
    );
    assert_eq!(found.controller, Ok(None));
    let pods = found.pods.expect_err("forbidden");
    assert_eq!(pods.kind, FetchErrorKind::Forbidden);
    assert_eq!(
        pods.to_string(),
        "cannot list pods in the namespace carrick-system at https://192.0.2.9:6443/: \
         pods is forbidden"
    );
    assert_eq!(found.peerings.expect_err("no such kind").kind, FetchErrorKind::KindMissing);
}

#[tokio::test]
async fn the_namespace_is_found_by_the_controller() {
    let cluster = cluster(|path| match path {
        "/apis/apps/v1/deployments" => list(json!([
            { "metadata": { "name": "carrick-controller", "namespace": "network" } },
        ])),
        _ => not_found(),
    });
    assert_eq!(namespace(&cluster).await, "network");
}

#[tokio::test]
async fn a_malformed_peering_is_listed_beside_good_ones() {
    let good = serde_json::to_value(crate::fixture::peering()).expect("json");
    let cluster = cluster(move |_| {
        list(json!([
            good.clone(),
            { "apiVersion": "carrick.dev/v1alpha1", "kind": "ClusterPeering",
              "metadata": { "name": "bad" }, "spec": { "clusterID": 7 } },
        ]))
    });
    let found = peerings(&cluster).await.expect("list");
    let read: Vec<_> = found.iter().map(|l| (l.name.as_str(), l.object.is_ok())).collect();
    assert_eq!(read, [("bad", false), ("osaka", true)]);
}

#[tokio::test]
async fn answers_are_told_apart() {
    for (code, kind) in [
        (401, FetchErrorKind::Unauthorized),
        (403, FetchErrorKind::Forbidden),
        (500, FetchErrorKind::Other),
    ] {
        let cluster = cluster(move |_| refusal(code, "no"));
        assert_eq!(identity(&cluster).await.expect_err("refused").kind, kind);
    }
    let missing = cluster(|_| not_found());
    assert!(identity(&missing).await.expect("read").is_none());
}
