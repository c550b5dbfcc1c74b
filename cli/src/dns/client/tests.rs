//! What is asked of an API server, in which order.

use serde_json::Value;

use super::*;
use crate::dns::fixture::{plain, serving};
use crate::dns::plan;
use crate::fixture::api::{self, Asked};

/// A cluster that answers a path as `answer` says, and remembers what it was asked.
fn cluster(answer: impl Fn(&str) -> (u16, Value) + Send + 'static) -> (Cluster, Asked) {
    api::cluster(move |_, path| answer(path))
}

fn steps(asked: &Asked) -> Vec<String> {
    let asked = asked.lock().expect("log");
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    asked.iter().map(|(method, path, _)| format!("{method} {}", last(path))).collect()
}

fn echo(path: &str) -> (u16, Value) {
    let kind = match path {
        _ if path.contains("clusterrolebindings") => "ClusterRoleBinding",
        _ if path.contains("clusterroles") => "ClusterRole",
        _ => "ConfigMap",
    };
    let role = json!({ "apiGroup": "", "kind": "", "name": "" });
    (200, json!({ "kind": kind, "metadata": { "name": NAME }, "roleRef": role }))
}

#[tokio::test]
async fn rights_come_before_the_corefile_and_go_after_it() {
    let (cluster, asked) = cluster(echo);
    let dns = plain();
    apply(&cluster, &dns, &plan::enable(&dns).expect("a plan")).await.expect("applied");
    assert_eq!(steps(&asked), ["POST clusterroles", "POST clusterrolebindings", "PATCH coredns"]);
    let patch = asked.lock().expect("log")[2].2.clone();
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    assert_eq!(patch["data"].as_object().map(|data| data.len()), Some(1));

    let (cluster, asked) = self::cluster(echo);
    let dns = serving();
    apply(&cluster, &dns, &plan::disable(&dns).expect("a plan")).await.expect("applied");
    assert_eq!(steps(&asked), ["PATCH coredns", "DELETE carrick-dns", "DELETE carrick-dns"]);
}

#[tokio::test]
async fn what_was_changed_meanwhile_is_left() {
    let (cluster, _) = cluster(|path| match path.ends_with("/coredns") {
        true => (
            409,
            json!({ "kind": "Status", "status": "Failure", "code": 409, "message": "x", "reason": "Conflict" }),
        ),
        false => echo(path),
    });
    let dns = plain();
    let plan = plan::enable(&dns).expect("a plan");
    let error = apply(&cluster, &dns, &plan).await.expect_err("a conflict");
    assert!(matches!(error, DnsError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn coredns_is_known_by_what_it_mounts() {
    let pods = |volumes: Value| {
        json!({ "spec": {
            "serviceAccountName": "dns", "volumes": volumes,
            "containers": [{ "name": "a", "image": "sidecar:1" }, { "name": "b", "image": "x/coredns:1.14.0" }],
        } })
    };
    let (cluster, _) = cluster(move |path| {
        let object = |name: &str, template: &Value| json!({ "metadata": { "name": name }, "spec": { "selector": {}, "template": template } });
        let with = pods(json!([{ "name": "c", "configMap": { "name": "coredns" } }]));
        let projected = json!([{ "name": "c", "projected": { "sources": [{ "configMap": { "name": "coredns" } }] } }]);
        let items = match path.rsplit('/').next() {
            Some("deployments") => json!([object("dns", &with), object("other", &pods(json!([])))]),
            _ => json!([object("node-dns", &pods(projected))]),
        };
        (200, json!({ "kind": "List", "metadata": {}, "items": items }))
    });
    let found = workloads(&cluster, "kube-system", "coredns").await.expect("listed");
    let names: Vec<_> = found.iter().map(|w| (w.kind, w.name.as_str(), w.image.as_str())).collect();
    assert_eq!(
        names,
        [("Deployment", "dns", "x/coredns:1.14.0"), ("DaemonSet", "node-dns", "x/coredns:1.14.0")]
    );
    assert!(found.iter().all(|workload| workload.service_account == "dns"));
}

#[tokio::test]
async fn the_version_that_coredns_reads_must_be_served() {
    for (versions, served) in [
        (json!([{ "name": "v1alpha1", "served": true, "storage": false }]), true),
        (json!([{ "name": "v1alpha1", "served": false, "storage": false }]), false),
        (json!([{ "name": "v1beta1", "served": true, "storage": true }]), false),
    ] {
        let (cluster, _) = cluster(move |_| {
            let names = json!({ "kind": "ServiceImport", "plural": "serviceimports" });
            let spec = json!({ "group": "g", "names": names, "scope": "Namespaced", "versions": versions });
            (200, json!({ "metadata": { "name": "x" }, "spec": spec }))
        });
        assert_eq!(kind_served(&cluster).await, Ok(served));
    }
}
