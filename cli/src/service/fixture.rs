//! A service for tests: `hello` of namespace `shop` in paris, exported by paris and osaka.

use carrick_crds::{ServiceExport, ServiceImport};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::found::Services;

fn object<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("fixture")
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": "as the controller says",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

/// An export with these conditions.
pub fn export(conditions: &[[&str; 3]]) -> ServiceExport {
    let conditions: Vec<Value> = conditions.iter().map(|[t, s, r]| condition(t, s, r)).collect();
    object(json!({
        "metadata": { "name": "hello", "namespace": "shop" }, "spec": {},
        "status": { "conditions": conditions },
    }))
}

/// The import.
pub fn import() -> ServiceImport {
    object(json!({
        "metadata": {
            "name": "hello", "namespace": "shop", "annotations": { "carrick.dev/service-import": "hello" },
        },
        "spec": {
            "type": "ClusterSetIP", "ips": ["10.96.4.7"],
            "ports": [{ "name": "web", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }],
        },
        "status": {
            "clusters": [{ "cluster": "osaka" }, { "cluster": "paris" }],
            "conditions": [condition("Ready", "True", "Ready")],
        },
    }))
}

/// The derived Service.
pub fn derived() -> Service {
    object(json!({
        "metadata": {
            "name": "derived-x", "namespace": "shop", "annotations": { "carrick.dev/service-import": "hello" },
            "labels": { "multicluster.kubernetes.io/service-name": "hello" },
        },
        "spec": { "clusterIP": "10.96.4.7" },
    }))
}

/// A slice of a cluster's endpoints, each with whether it is ready.
pub fn slice(cluster: &str, endpoints: &[(&str, bool)]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, ready)| json!({ "addresses": [address], "conditions": { "ready": ready } }))
        .collect();
    object(json!({
        "metadata": {
            "name": format!("derived-x-{cluster}"), "namespace": "shop",
            "labels": {
                "multicluster.kubernetes.io/service-name": "hello",
                "multicluster.kubernetes.io/source-cluster": cluster,
            },
        },
        "addressType": "IPv4", "endpoints": endpoints,
    }))
}

/// All is well.
pub fn services() -> Services {
    let good = [
        ["Valid", "True", "Valid"],
        ["Ready", "True", "Exported"],
        ["Conflict", "False", "NoConflicts"],
    ];
    Services {
        exports: Ok(vec![export(&good)]),
        imports: Ok(vec![import()]),
        derived: Ok(vec![derived()]),
        slices: Ok(vec![
            slice("osaka", &[("10.2.0.9", true), ("10.2.0.10", true)]),
            slice("paris", &[("10.1.0.5", true), ("10.1.0.6", false)]),
        ]),
    }
}
