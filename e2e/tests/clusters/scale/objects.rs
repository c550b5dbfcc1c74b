//! The objects of which there are so many: Services, what is behind them and their exports, and for comparison such as
//! an import consists of.

use carrick_e2e::address::ClusterPlan;
use serde_json::{Value, json};

/// Where the many Services are.
pub const CROWD: &str = "crowd";

/// Where those are that are made for comparison.
pub const BARE: &str = "crowd-bare";

/// How many endpoints a Service has.
pub const ENDPOINTS: usize = 3;

const API: &str = "multicluster.x-k8s.io/v1beta1";

/// The name of a Service. Names that only count would make a book smaller than those that people give.
pub fn name(number: usize) -> String {
    format!("s{number:05}-{:06x}", scattered(number) & 0xff_ffff)
}

/// A number that looks like chance, and is the same each time (the finalizer of SplitMix64).
fn scattered(number: usize) -> usize {
    let mut z = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

/// The addresses behind a Service: somewhere among its cluster's pods.
pub fn addresses(plan: &ClusterPlan, number: usize) -> Vec<String> {
    let nodes = &plan.nodes;
    let address = |place: usize| {
        let chance = scattered(ENDPOINTS * number + place);
        let [a, b, c, _] = nodes[chance % nodes.len()].pods.network().octets();
        // All of one Service are different.
        let last = 3 + 80 * place + chance / 16 % 80;
        format!("{a}.{b}.{c}.{last}")
    };
    (0..ENDPOINTS).map(address).collect()
}

/// A Service without a selector.
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "ports": [{ "name": "web", "port": 80, "protocol": "TCP" }] },
    })
}

/// Its EndpointSlice.
pub fn slice(namespace: &str, name: &str, addresses: &[String], ready: &[bool]) -> Value {
    let endpoint = |(address, ready): (&String, &bool)| {
        let conditions = json!({ "ready": ready, "serving": ready, "terminating": false });
        json!({ "addresses": [address], "conditions": conditions })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "e2e.carrick.dev",
            },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "web", "port": 8080, "protocol": "TCP" }],
        "endpoints": addresses.iter().zip(ready).map(endpoint).collect::<Vec<_>>(),
    })
}

/// A Service, its slice with endpoints that are all ready, and its export.
pub fn exported(namespace: &str, name: &str, addresses: &[String]) -> [Value; 3] {
    let export = json!({
        "apiVersion": API, "kind": "ServiceExport",
        "metadata": { "name": name, "namespace": namespace },
    });
    let slice = slice(namespace, name, addresses, &[true; ENDPOINTS]);
    [service(namespace, name), slice, export]
}

/// A ServiceImport as an import has it.
pub fn import(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": API, "kind": "ServiceImport",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "type": "ClusterSetIP", "ips": ["10.101.0.1"],
            "ports": [{ "name": "web", "port": 80, "protocol": "TCP" }],
        },
    })
}

/// The status of one that is ready.
pub fn import_status(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": API, "kind": "ServiceImport",
        "metadata": { "name": name, "namespace": namespace },
        "status": {
            "clusters": [{ "cluster": "osaka" }],
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Ready", "message": "it has an address",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        },
    })
}
