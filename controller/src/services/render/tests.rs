use std::collections::BTreeSet;

use carrick_model::ExportedService;
use carrick_model::service::{Endpoint, EndpointGroup, Protocol};

use super::super::Access;
use super::super::choice::choose;
use super::super::merge::merge;
use super::*;

fn name() -> ServiceName {
    ServiceName::new("shop", "hello").expect("name")
}

fn endpoint(i: usize) -> Endpoint {
    Endpoint {
        address: std::net::Ipv4Addr::from(0x0a02_0000 + u32::try_from(i).expect("few")).into(),
        ready: true,
        serving: true,
        terminating: false,
        hostname: Some(format!("hello-{i}")),
    }
}

fn export(kind: ServiceKind, endpoints: usize) -> ExportedService {
    let port = |number| Port {
        name: "web".to_owned(),
        protocol: Protocol::Tcp,
        number,
        app_protocol: Some("http".to_owned()),
    };
    let group = EndpointGroup {
        family: Family::V4,
        ports: vec![port(8080)],
        endpoints: (0..endpoints).map(endpoint).collect(),
    };
    ExportedService {
        name: name(),
        exported_at: 1,
        kind,
        ports: vec![port(80)],
        families: vec![Family::V4],
        affinity_seconds: Some(10),
        local_only: false,
        traffic_distribution: Some("PreferClose".to_owned()),
        policy: ServicePolicy::PreferLocal,
        labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        annotations: BTreeMap::from([("note".to_owned(), "b".to_owned())]),
        groups: vec![group],
    }
}

/// As rendered in paris.
fn rendered(exports: &[(&str, ExportedService)], reached: &[&str]) -> BTreeMap<What, Value> {
    let clusters: Vec<ClusterId> =
        exports.iter().map(|(id, _)| id.parse().expect("cluster")).collect();
    let pairs = clusters.iter().zip(exports.iter().map(|(_, export)| export));
    let merged = merge(pairs).expect("merged");
    let place = Place { node: Some("n0".to_owned()), zone: Some("z".to_owned()) };
    let scene = Scene {
        name: &name(),
        merged: &merged,
        families: merged.families,
        addresses: &Addresses {
            ips: vec!["10.96.0.7".to_owned()],
            families: vec!["IPv4".to_owned()],
        },
        own: &"paris".parse().expect("cluster"),
        places: &BTreeMap::from([(endpoint(0).address, place)]),
    };
    let access = |cluster: &ClusterId| {
        if reached.contains(&cluster.as_str()) { Access::Full } else { Access::Lost }
    };
    render(scene, &choose(&merged, &ServicePolicy::Balanced, scene.own, access))
}

fn slices(objects: &BTreeMap<What, Value>) -> Vec<&Value> {
    let slices = objects.iter().filter(|(what, _)| matches!(what, What::Slice(_)));
    slices.map(|(_, object)| object).collect()
}

#[test]
fn a_service_with_an_address_is_an_import_a_service_and_slices() {
    let exports = [
        ("osaka", export(ServiceKind::ClusterSetIp, 1)),
        ("paris", export(ServiceKind::ClusterSetIp, 1)),
    ];
    let objects = rendered(&exports, &["osaka", "paris"]);
    let import = &objects[&What::Import];
    assert_eq!(import["spec"]["ips"], json!(["10.96.0.7"]));
    assert_eq!(import["spec"]["type"], "ClusterSetIP");
    assert_eq!(
        import["spec"]["ports"][0],
        json!({"name": "web", "protocol": "TCP", "port": 80, "appProtocol": "http"})
    );
    assert_eq!(import["metadata"]["labels"]["team"], "a");
    assert_eq!(import["metadata"]["annotations"]["note"], "b");
    assert_eq!(
        import["metadata"]["annotations"]["carrick.dev/exported-service-policy"],
        "PreferLocal"
    );
    let service = &objects[&What::Derived];
    assert_eq!(service["metadata"]["name"], derived(&name()));
    assert_eq!(service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10);
    assert!(service["spec"].get("selector").is_none());
    let slices = slices(&objects);
    let sources: Vec<&str> = slices
        .iter()
        .filter_map(|slice| {
            slice["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"].as_str()
        })
        .collect();
    assert_eq!(sources.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&"osaka", &"paris"]));
    for slice in slices {
        let labels = &slice["metadata"]["labels"];
        assert_eq!(labels["kubernetes.io/service-name"], derived(&name()));
        assert_eq!(labels["multicluster.kubernetes.io/service-name"], "hello");
        assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "services.carrick.dev");
        // Nodes of other clusters are nobody's business here, and names of them could be ours.
        let ours = labels["multicluster.kubernetes.io/source-cluster"] == "paris";
        assert_eq!(slice["endpoints"][0].get("nodeName").is_some(), ours);
    }
}

#[test]
fn a_headless_service_has_no_address_and_no_service() {
    let objects = rendered(&[("osaka", export(ServiceKind::Headless, 2))], &["osaka"]);
    assert!(!objects.contains_key(&What::Derived));
    let import = &objects[&What::Import];
    assert_eq!(import["spec"]["type"], "Headless");
    assert!(import["spec"].get("ips").is_none(), "{import}");
    assert_eq!(import["spec"]["sessionAffinity"], "None");
    assert_eq!(slices(&objects)[0]["endpoints"][1]["hostname"], "hello-1");
}

#[test]
fn a_cluster_that_no_packet_reaches_has_no_slices() {
    let exports = [
        ("osaka", export(ServiceKind::ClusterSetIp, 1)),
        ("paris", export(ServiceKind::ClusterSetIp, 1)),
    ];
    let objects = rendered(&exports, &["paris"]);
    assert_eq!(slices(&objects).len(), 1);
    assert!(objects.contains_key(&What::Derived));
}

#[test]
fn many_endpoints_are_spread_and_one_more_changes_one_slice() {
    for count in [1, 99, 100, 101, 250, 1000] {
        let few = rendered(&[("osaka", export(ServiceKind::ClusterSetIp, count))], &["osaka"]);
        let lengths: Vec<usize> = slices(&few)
            .iter()
            .map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len))
            .collect();
        assert_eq!(lengths.iter().sum::<usize>(), count);
        assert!(lengths.iter().all(|length| *length <= SLICE_LIMIT), "{lengths:?}");
    }
    let one = rendered(&[("osaka", export(ServiceKind::ClusterSetIp, 300))], &["osaka"]);
    let other = rendered(&[("osaka", export(ServiceKind::ClusterSetIp, 301))], &["osaka"]);
    let changed = other.iter().filter(|(what, object)| one.get(*what) != Some(*object));
    assert_eq!(changed.count(), 1);
}

#[test]
fn the_digest_follows_the_content() {
    let one = rendered(&[("osaka", export(ServiceKind::ClusterSetIp, 1))], &["osaka"]);
    let same = rendered(&[("osaka", export(ServiceKind::ClusterSetIp, 1))], &["osaka"]);
    assert_eq!(one, same);
    let other = rendered(&[("osaka", export(ServiceKind::Headless, 1))], &["osaka"]);
    assert!(!seal(&one[&What::Import]).is_empty());
    assert_ne!(seal(&one[&What::Import]), seal(&other[&What::Import]));
}
