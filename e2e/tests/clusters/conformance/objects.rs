//! The objects that the suite applies: Services of one name, their pods, and their exports.

use serde_json::{Value, json};

/// The name of every Service of the suite.
pub const NAME: &str = "hello";

/// The port by which it is reached, of TCP and UDP.
pub const PORT: u16 = 42;

/// Where the pods serve pages, and echo datagrams.
const PAGES: u16 = 8080;
const DATAGRAMS: u16 = 8082;

/// A port of a Service that leads to the pods' pages, or to their echo of datagrams.
pub fn port(name: &str, protocol: &str, number: u16) -> Value {
    let target = if protocol == "UDP" { DATAGRAMS } else { PAGES };
    json!({ "name": name, "protocol": protocol, "port": number, "targetPort": target })
}

/// The Service as most behaviours want it.
pub fn usual() -> Value {
    of_both_families(json!({
        "selector": { "app": NAME },
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } },
        "ports": [port("tcp", "TCP", PORT), port("udp", "UDP", PORT)],
    }))
}

/// The usual Service, where each connection may end elsewhere, with these ports.
pub fn with_ports(ports: &[Value]) -> Value {
    json!({ "selector": { "app": NAME }, "ports": ports })
}

/// A Service with addresses of both families.
pub fn of_both_families(spec: Value) -> Value {
    with(spec, "ipFamilyPolicy", json!("RequireDualStack"))
}

/// A headless Service: two ports of one number, which is the pods' own.
pub fn headless() -> Value {
    json!({
        "clusterIP": "None",
        "selector": { "app": NAME },
        "ports": [
            { "name": "tcp", "protocol": "TCP", "port": PAGES },
            { "name": "udp", "protocol": "UDP", "port": PAGES },
        ],
    })
}

/// The number of [`headless`]'s ports.
pub const HEADLESS_PORT: u16 = PAGES;

/// A Service with something else in it.
pub fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

/// An object in a namespace.
pub fn object(api: &str, kind: &str, [namespace, name]: [&str; 2], spec: Value) -> Value {
    json!({
        "apiVersion": api, "kind": kind,
        "metadata": { "name": name, "namespace": namespace },
        "spec": spec,
    })
}

/// What a pod is that serves pages with its own name, of the images with this tag.
pub fn pod_spec(tag: &str) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{ "operator": "Exists" }],
        "containers": [{
            "name": "probe", "image": format!("carrick-probe:{tag}"), "args": ["serve"],
            "readinessProbe": { "tcpSocket": { "port": PAGES }, "periodSeconds": 1 },
        }],
    })
}

/// A pod of the Service.
pub fn pod(place: [&str; 2], spec: Value) -> Value {
    let mut pod = object("v1", "Pod", place, spec);
    pod["metadata"]["labels"] = json!({ "app": NAME });
    pod
}

/// One pod with a stable name.
pub fn stateful_set(namespace: &str, tag: &str) -> Value {
    let labels = json!({ "app": NAME });
    let spec = json!({
        "serviceName": NAME,
        "replicas": 1,
        "selector": { "matchLabels": labels },
        "template": { "metadata": { "labels": labels }, "spec": pod_spec(tag) },
    });
    object("apps/v1", "StatefulSet", [namespace, NAME], spec)
}
