//! EndpointSlices of an import: one source cluster a slice, and few enough endpoints in each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use carrick_model::ClusterId;
use carrick_model::fnv::fnv1a;
use carrick_model::service::{Endpoint, EndpointGroup};
use serde_json::{Value, json};

use super::{Chosen, Scene, What, family, port_value};
use crate::services::facts::{Place, SERVICE_LABEL, SLICE_MANAGER_LABEL};
use crate::services::names::{
    IMPORT, SLICE_MANAGER, SOURCE_CLUSTER, cluster_label, derived, labels, short,
};

/// The most endpoints of a slice.
pub const SLICE_LIMIT: usize = 100;

/// The slices of all clusters that serve.
pub(super) fn render(scene: Scene<'_>, chosen: &Chosen<'_>) -> BTreeMap<What, Value> {
    let mut out = BTreeMap::new();
    for (cluster, groups) in chosen {
        for group in groups {
            let base = base(scene, cluster, group);
            for (bucket, endpoints) in spread(&group.endpoints).into_iter().enumerate() {
                if !endpoints.is_empty() {
                    let name = format!("{base}-{bucket}");
                    let slice = slice(scene, cluster, group, &name, &endpoints);
                    out.insert(What::Slice(name), slice);
                }
            }
        }
    }
    out
}

/// What the names of a group's slices begin with. It follows from the ports, so that pods with other ports come into
/// other slices, while those that are there stay.
fn base(scene: Scene<'_>, cluster: &ClusterId, group: &EndpointGroup) -> String {
    let ports: Vec<String> = group.ports.iter().map(|port| format!("{port:?}")).collect();
    let words: Vec<&str> = [cluster.as_str(), family(group.family)]
        .into_iter()
        .chain(ports.iter().map(String::as_str))
        .collect();
    format!("{}-{}", derived(scene.name), short(&words, 8))
}

/// Endpoints in as few slices as hold them. In which one an endpoint is follows from its address, so that one that comes
/// or goes leaves all other slices alone.
fn spread(endpoints: &[Endpoint]) -> Vec<Vec<&Endpoint>> {
    let fewest = endpoints.len().div_ceil(SLICE_LIMIT).max(1).next_power_of_two();
    let counts = std::iter::successors(Some(fewest), |count| count.checked_mul(2));
    let spread = |count: usize| {
        let mut buckets = vec![Vec::new(); count];
        for endpoint in endpoints {
            let hash = fnv1a(endpoint.address.to_string().as_bytes());
            buckets[hash as usize % count].push(endpoint);
        }
        buckets
    };
    let fits = |buckets: &Vec<Vec<&Endpoint>>| buckets.iter().all(|b| b.len() <= SLICE_LIMIT);
    // Addresses are all different: at the latest with a slice for each they fit, if the hash is any good.
    let last = counts.clone().take_while(|count| *count <= 16 * fewest);
    last.map(spread).find(fits).unwrap_or_else(|| {
        endpoints.chunks(SLICE_LIMIT).map(|chunk| chunk.iter().collect()).collect()
    })
}

fn slice(
    scene: Scene<'_>,
    cluster: &ClusterId,
    group: &EndpointGroup,
    name: &str,
    endpoints: &[&Endpoint],
) -> Value {
    let mut marks = labels(scene.name);
    for (key, value) in [
        (SERVICE_LABEL, derived(scene.name)),
        (SOURCE_CLUSTER, cluster_label(cluster)),
        (SLICE_MANAGER_LABEL, SLICE_MANAGER.to_owned()),
    ] {
        marks.insert(key.to_owned(), value);
    }
    let places = (cluster == scene.own).then_some(scene.places);
    let endpoints: Vec<Value> = endpoints.iter().map(|one| endpoint(one, places)).collect();
    let ports: Vec<Value> = group
        .ports
        .iter()
        .map(|port| {
            let mut value = port_value(port, "port");
            // Here a port without a name has an empty one.
            value["name"] = json!(port.name);
            value
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": scene.name.namespace(),
            "labels": marks, "annotations": { IMPORT: scene.name.name() },
        },
        "addressType": family(group.family),
        "ports": ports,
        "endpoints": endpoints,
    })
}

fn endpoint(endpoint: &Endpoint, places: Option<&BTreeMap<IpAddr, Place>>) -> Value {
    let mut out = json!({
        "addresses": [endpoint.address.to_string()],
        "conditions": {
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
        },
    });
    if let Some(hostname) = &endpoint.hostname {
        out["hostname"] = json!(hostname);
    }
    let place = places.and_then(|places| places.get(&endpoint.address));
    if let Some(node) = place.and_then(|place| place.node.as_ref()) {
        out["nodeName"] = json!(node);
    }
    if let Some(zone) = place.and_then(|place| place.zone.as_ref()) {
        out["zone"] = json!(zone);
    }
    out
}
