//! From a merged service to the objects that stand for it here: pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use carrick_crds::service::GROUP;
use carrick_model::service::{Port, ServiceKind};
use carrick_model::{ClusterId, Family, ServiceName, ServicePolicy};
use serde_json::{Map, Value, json};

use super::choice::Chosen;
use super::facts::Place;
use super::merge::Merged;
use super::names::{
    CARRICK, CONTENT, EXPORTED_POLICY, IMPORT, MANAGED_BY, derived, fitting_annotations,
    fitting_labels, labels, short,
};

mod slices;

pub use slices::SLICE_LIMIT;

/// An object that belongs to a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The derived Service, whose address is the clusterset IP.
    Derived,
    /// An EndpointSlice, by name.
    Slice(String),
    /// The ServiceImport.
    Import,
    /// The status of the ServiceImport.
    ImportStatus,
    /// The status of the ServiceExport.
    ExportStatus,
}

/// The addresses that the derived Service has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Its addresses, one a family.
    pub ips: Vec<String>,
    /// Their families.
    pub families: Vec<String>,
}

/// What [`render`] looks at.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The service's name.
    pub name: &'a ServiceName,
    /// The service.
    pub merged: &'a Merged<'a>,
    /// Its families here.
    pub families: &'a [Family],
    /// The addresses that it has by now.
    pub addresses: &'a Addresses,
    /// This cluster.
    pub own: &'a ClusterId,
    /// Where our own endpoints are.
    pub places: &'a BTreeMap<IpAddr, Place>,
}

/// The objects, each with a digest of itself in an annotation. `chosen` says what serves.
pub fn render(scene: Scene<'_>, chosen: &Chosen<'_>) -> BTreeMap<What, Value> {
    let mut out = slices::render(scene, chosen);
    out.insert(What::Import, import(scene));
    if scene.merged.kind == ServiceKind::ClusterSetIp && !scene.merged.ports.is_empty() {
        out.insert(What::Derived, service(scene));
    }
    out.into_iter().map(|(what, object)| (what, sealed(object))).collect()
}

/// The ServiceImport.
fn import(scene: Scene<'_>) -> Value {
    let Scene { name, merged, addresses, .. } = scene;
    let mut marks = fitting_labels(merged.labels);
    marks.insert(MANAGED_BY.to_owned(), CARRICK.to_owned());
    let mut notes = fitting_annotations(merged.annotations);
    notes.insert(IMPORT.to_owned(), name.name().to_owned());
    if *merged.policy != ServicePolicy::Balanced {
        notes.insert(EXPORTED_POLICY.to_owned(), merged.policy.to_string());
    }
    let mut spec = traffic(merged);
    spec.insert("type".to_owned(), json!(kind(merged.kind)));
    let ports: Vec<Value> = merged.ports.iter().map(|port| port_value(port, "port")).collect();
    spec.insert("ports".to_owned(), json!(ports));
    let has_ips = merged.kind == ServiceKind::ClusterSetIp && !addresses.ips.is_empty();
    let families = match has_ips {
        true => addresses.families.clone(),
        false => families(scene),
    };
    spec.insert("ipFamilies".to_owned(), json!(families));
    if has_ips {
        spec.insert("ips".to_owned(), json!(addresses.ips));
    }
    json!({
        "apiVersion": format!("{GROUP}/v1beta1"),
        "kind": "ServiceImport",
        "metadata": {
            "name": name.name(), "namespace": name.namespace(),
            "labels": marks, "annotations": notes,
        },
        "spec": spec,
    })
}

/// The derived Service. It has no selector: its EndpointSlices are ours.
fn service(scene: Scene<'_>) -> Value {
    let Scene { name, merged, .. } = scene;
    let mut spec = traffic(merged);
    spec.insert("type".to_owned(), json!("ClusterIP"));
    let ports: Vec<Value> = merged.ports.iter().map(|port| port_value(port, "port")).collect();
    spec.insert("ports".to_owned(), json!(ports));
    let families = families(scene);
    let policy = if families.len() > 1 { "PreferDualStack" } else { "SingleStack" };
    spec.insert("ipFamilyPolicy".to_owned(), json!(policy));
    if !families.is_empty() {
        spec.insert("ipFamilies".to_owned(), json!(families));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": derived(name), "namespace": name.namespace(),
            "labels": labels(name), "annotations": { IMPORT: name.name() },
        },
        "spec": spec,
    })
}

/// What ServiceImport and Service have in common.
fn traffic(merged: &Merged<'_>) -> Map<String, Value> {
    let mut spec = Map::new();
    let affinity = if merged.affinity_seconds.is_some() { "ClientIP" } else { "None" };
    spec.insert("sessionAffinity".to_owned(), json!(affinity));
    if let Some(seconds) = merged.affinity_seconds {
        let config = json!({ "clientIP": { "timeoutSeconds": seconds } });
        spec.insert("sessionAffinityConfig".to_owned(), config);
    }
    let policy = if merged.local_only { "Local" } else { "Cluster" };
    spec.insert("internalTrafficPolicy".to_owned(), json!(policy));
    if let Some(distribution) = merged.traffic_distribution {
        spec.insert("trafficDistribution".to_owned(), json!(distribution));
    }
    spec
}

/// A port, as Services (whose field is `port`) and EndpointSlices have it. Only a single one has no name.
fn port_value(port: &Port, number: &str) -> Value {
    let mut out = json!({ "protocol": port.protocol.as_str(), number: port.number });
    if !port.name.is_empty() {
        out["name"] = json!(port.name);
    }
    if let Some(protocol) = &port.app_protocol {
        out["appProtocol"] = json!(protocol);
    }
    out
}

fn families(scene: Scene<'_>) -> Vec<String> {
    scene.families.iter().map(|one| family(*one).to_owned()).collect()
}

fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn kind(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::ClusterSetIp => "ClusterSetIP",
        ServiceKind::Headless => "Headless",
    }
}

/// The object with a digest of itself.
fn sealed(mut object: Value) -> Value {
    let digest = short(&[&object.to_string()], 16);
    object["metadata"]["annotations"][CONTENT] = json!(digest);
    object
}

/// The digest of an object of ours.
pub fn seal(object: &Value) -> &str {
    object["metadata"]["annotations"][CONTENT].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
