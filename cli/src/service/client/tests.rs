//! What is made of an API server's answers.

use serde_json::{Value, json};

use super::*;
use crate::fixture::api;
use crate::service::report;

/// A cluster that answers a method and path as `answer` says.
fn cluster(answer: impl Fn(&str, &str) -> (u16, Value) + Send + 'static) -> Cluster {
    api::cluster(answer).0
}

fn status(code: u16, reason: &str, details: Value) -> (u16, Value) {
    let message = "as the API server says";
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code, "details": details,
    });
    (code, status)
}

fn asked_for() -> ExportArgs {
    let label = Pair { key: "team".to_owned(), value: "a".to_owned() };
    ExportArgs { name: "hello".to_owned(), labels: vec![label], ..ExportArgs::default() }
}

#[tokio::test]
async fn a_missing_kind_a_missing_namespace_and_a_missing_export_are_told_apart() {
    let no_kind = |namespace: u16| {
        cluster(move |_, path| match path {
            "/api/v1/namespaces/shop" if namespace == 200 => {
                (200, json!({ "metadata": { "name": "shop" } }))
            }
            "/api/v1/namespaces/shop" => {
                status(404, "NotFound", json!({ "name": "shop", "kind": "namespaces" }))
            }
            _ => status(404, "NotFound", json!({})),
        })
    };
    let error = export(&no_kind(200), "shop", &asked_for()).await.expect_err("no kind");
    assert!(matches!(error, ServiceError::NotServed { .. }), "{error}");
    let error = export(&no_kind(404), "shop", &asked_for()).await.expect_err("no namespace");
    assert!(matches!(error, ServiceError::NoNamespace(_)), "{error}");

    let error = unexport(&no_kind(200), "shop", "hello").await.expect_err("no kind");
    assert!(matches!(error, ServiceError::NotServed { .. }), "{error}");
    let no_export = cluster(|_, _| {
        status(404, "NotFound", json!({ "name": "hello", "kind": "serviceexports" }))
    });
    let error = unexport(&no_export, "shop", "hello").await.expect_err("no export");
    assert_eq!(error.to_string(), "there is no ServiceExport shop/hello");
    assert!(error.remedy().contains("carrick service list -n shop"));
}

#[tokio::test]
async fn missing_rights_are_named() {
    let cluster = cluster(|_, _| status(403, "Forbidden", json!({})));
    let error = export(&cluster, "shop", &asked_for()).await.expect_err("forbidden");
    assert!(
        error.remedy().contains("the right to get serviceexports.multicluster.x-k8s.io shop/hello"),
        "{}",
        error.remedy()
    );
    let error = report::of(find(&cluster, None).await).expect_err("forbidden");
    assert!(
        error.to_string().contains("cannot list serviceexports.multicluster.x-k8s.io at"),
        "{error}"
    );
}

#[tokio::test]
async fn an_export_is_made_or_written_anew() {
    let path = "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports";
    let held = json!({
        "metadata": {
            "name": "hello", "namespace": "shop", "resourceVersion": "7",
            "annotations": { "carrick.dev/service-policy": "PreferLocal", "note": "theirs" },
        },
        "spec": { "exportedLabels": { "old": "x" }, "exportedAnnotations": { "old": "x" } },
    });
    let held_there = held.clone();
    let cluster = cluster(move |method, asked| match method {
        "GET" if asked == format!("{path}/hello") => (200, held_there.clone()),
        "PUT" if asked == format!("{path}/hello") => (200, held_there.clone()),
        _ => status(500, "InternalError", json!({})),
    });
    export(&cluster, "shop", &asked_for()).await.expect("written anew");

    let held: ServiceExport = serde_json::from_value(held).expect("an export");
    let new = wanted(held, &asked_for());
    assert_eq!(new.resource_version().as_deref(), Some("7"));
    assert_eq!(new.spec.exported_labels, BTreeMap::from([("team".to_owned(), "a".to_owned())]));
    assert!(new.spec.exported_annotations.is_empty());
    assert_eq!(new.annotations()["note"], "theirs");
    assert_eq!(new.annotations()[POLICY], "PreferLocal");
    let args = ExportArgs { policy: "Failover: paris".parse().ok(), ..asked_for() };
    assert_eq!(wanted(new, &args).annotations()[POLICY], "Failover: paris");

    let none = self::cluster(move |method, asked| match method {
        "GET" => status(404, "NotFound", json!({ "name": "hello" })),
        "POST" if asked == path => (201, json!({ "metadata": { "name": "hello" }, "spec": {} })),
        _ => status(500, "InternalError", json!({})),
    });
    export(&none, "shop", &asked_for()).await.expect("made");
}
