use carrick_model::ServiceName;
use carrick_model::service::{Endpoint, Protocol};
use proptest::prelude::*;

use super::*;

fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    Port { name: name.to_owned(), protocol, number, app_protocol: None }
}

/// An export with one endpoint that has all ports, under numbers of its own.
fn export(at: u64, ports: &[(&str, Protocol, u16)]) -> ExportedService {
    let port = |(name, protocol, number): &(&str, Protocol, u16)| port(name, *protocol, *number);
    let behind = ports.iter().map(|(name, protocol, _)| port(&(*name, *protocol, 8080)));
    ExportedService {
        ports: ports.iter().map(port).collect(),
        families: vec![Family::V4],
        groups: vec![EndpointGroup {
            family: Family::V4,
            ports: behind.collect(),
            endpoints: vec![Endpoint::ready("10.1.0.5".parse().expect("address"))],
        }],
        ..ExportedService::bare(
            ServiceName::new("shop", "hello").expect("name"),
            at,
            ServiceKind::ClusterSetIp,
        )
    }
}

fn id(name: &str) -> ClusterId {
    name.parse().expect("cluster")
}

fn conflicts(merged: &Merged<'_>) -> Vec<&'static str> {
    merged.conflicts.keys().map(|conflict| conflict.as_str()).collect()
}

/// The names of the ports that a cluster serves.
fn serves(merged: &Merged<'_>, cluster: &ClusterId) -> Vec<String> {
    let groups = merged.clusters.get(cluster).into_iter().flatten();
    groups.flat_map(|group| &group.ports).map(|port| port.name.clone()).collect()
}

use Protocol::{Sctp, Tcp, Udp};

#[test]
fn nothing_makes_nothing_and_one_export_makes_itself() {
    assert_eq!(merge([]), None);
    let (paris, one) = (id("paris"), export(1, &[("web", Tcp, 80)]));
    let merged = merge([(&paris, &one)]).expect("merged");
    assert_eq!((&merged.ports, merged.oldest), (&one.ports, &paris));
    assert!(merged.conflicts.is_empty());
    assert_eq!(merged.clusters[&paris], one.groups);
}

#[test]
fn ports_are_united_and_every_difference_is_a_conflict() {
    let (paris, osaka) = (id("paris"), id("osaka"));
    let one = export(1, &[("tcp", Tcp, 42), ("udp", Udp, 42)]);
    let other = export(2, &[("tcp", Tcp, 42), ("sctp", Sctp, 42)]);
    let merged = merge([(&osaka, &other), (&paris, &one)]).expect("merged");
    let names: Vec<_> = merged.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["tcp", "udp", "sctp"]);
    assert_eq!(conflicts(&merged), ["PortConflict"]);
    assert_eq!(serves(&merged, &paris), ["tcp", "udp"]);
    assert_eq!(serves(&merged, &osaka), ["tcp", "sctp"]);
}

#[test]
fn of_ports_that_clash_the_older_counts_and_only_its_cluster_serves_it() {
    let (paris, osaka) = (id("paris"), id("osaka"));
    for (newer, what) in [
        (("web", Tcp, 81), "one name, two numbers"),
        (("http", Tcp, 80), "one number, two names"),
        (("web", Udp, 80), "one name, two protocols"),
        (("", Tcp, 80), "one without a name"),
        (("", Tcp, 81), "another without a name"),
    ] {
        let (one, other) = (export(1, &[("web", Tcp, 80)]), export(2, &[newer]));
        let merged = merge([(&osaka, &other), (&paris, &one)]).expect("merged");
        assert_eq!(merged.ports, one.ports, "{what}");
        assert_eq!(conflicts(&merged), ["PortConflict"], "{what}");
        assert_eq!(serves(&merged, &paris), ["web"], "{what}");
        assert_eq!(serves(&merged, &osaka), [""; 0], "{what}");
    }
}

#[test]
fn ports_of_different_names_are_each_served_where_they_are() {
    let (paris, osaka) = (id("paris"), id("osaka"));
    let (one, other) = (export(1, &[("a", Tcp, 80)]), export(2, &[("b", Tcp, 81)]));
    let merged = merge([(&osaka, &other), (&paris, &one)]).expect("merged");
    assert_eq!(merged.ports.len(), 2);
    assert_eq!(
        (serves(&merged, &paris), serves(&merged, &osaka)),
        (vec!["a".into()], vec!["b".into()])
    );
}

#[test]
fn the_oldest_decides_whatever_its_name() {
    let (paris, osaka) = (id("paris"), id("osaka"));
    let mut old = export(1, &[("web", Tcp, 80)]);
    old.kind = ServiceKind::Headless;
    old.affinity_seconds = Some(10);
    old.traffic_distribution = Some("PreferClose".to_owned());
    old.labels.insert("a".to_owned(), "old".to_owned());
    old.policy = ServicePolicy::PreferLocal;
    let mut new = export(2, &[("web", Tcp, 80)]);
    new.local_only = true;
    new.affinity_seconds = Some(20);
    new.annotations.insert("a".to_owned(), "new".to_owned());
    new.families = vec![Family::V4, Family::V6];
    let merged = merge([(&osaka, &new), (&paris, &old)]).expect("merged");
    assert_eq!((merged.kind, merged.oldest), (ServiceKind::Headless, &paris));
    assert_eq!(merged.affinity_seconds, None, "means nothing when headless");
    assert_eq!((merged.traffic_distribution, merged.local_only), (Some("PreferClose"), false));
    assert_eq!((merged.labels, merged.policy), (&old.labels, &old.policy));
    assert_eq!(
        conflicts(&merged),
        [
            "TypeConflict",
            "SessionAffinityConfigConflict",
            "LabelsConflict",
            "AnnotationsConflict",
            "InternalTrafficPolicyConflict",
            "TrafficDistributionConflict",
            "IPFamilyConflict",
            "PolicyConflict",
        ]
    );
    assert!(merged.conflicts.values().all(|clusters| clusters.contains(&osaka)));
}

#[test]
fn a_headless_service_without_ports_keeps_its_endpoints() {
    let (paris, mut one) = (id("paris"), export(1, &[]));
    assert!(merge([(&paris, &one)]).expect("merged").clusters[&paris].is_empty());
    one.kind = ServiceKind::Headless;
    assert_eq!(merge([(&paris, &one)]).expect("merged").clusters[&paris].len(), 1);
}

fn any_export() -> impl Strategy<Value = ExportedService> {
    let port = (
        prop::sample::select(vec!["", "a", "b", "c"]),
        prop::sample::select(vec![Tcp, Udp, Sctp]),
        80u16..83,
    );
    let ports = prop::collection::vec(port, 0..4);
    (0u64..4, ports, any::<(bool, bool)>(), prop::option::of(1u32..3)).prop_map(
        |(at, ports, (headless, local_only), affinity_seconds)| {
            let kind = if headless { ServiceKind::Headless } else { ServiceKind::ClusterSetIp };
            ExportedService { kind, local_only, affinity_seconds, ..export(at, &ports) }
        },
    )
}

proptest! {
    #[test]
    fn every_cluster_computes_the_same(
        exports in prop::collection::vec(any_export(), 1..6),
        seed in any::<prop::sample::Index>(),
    ) {
        let clusters: Vec<ClusterId> = (0..exports.len()).map(|i| id(&format!("c{i}"))).collect();
        let mut pairs: Vec<_> = clusters.iter().zip(&exports).collect();
        let expected = merge(pairs.clone()).expect("merged");
        pairs.reverse();
        prop_assert_eq!(&merge(pairs.clone()).expect("merged"), &expected);
        let middle = seed.index(pairs.len());
        pairs.rotate_left(middle);
        prop_assert_eq!(&merge(pairs).expect("merged"), &expected);
    }

    #[test]
    fn what_comes_out_is_a_service_that_kubernetes_takes(
        exports in prop::collection::vec(any_export(), 1..6),
    ) {
        let clusters: Vec<ClusterId> = (0..exports.len()).map(|i| id(&format!("c{i}"))).collect();
        let merged = merge(clusters.iter().zip(&exports)).expect("merged");
        let names: BTreeSet<_> = merged.ports.iter().map(|port| &port.name).collect();
        let numbers: BTreeSet<_> = merged.ports.iter().map(|p| (p.protocol, p.number)).collect();
        prop_assert_eq!(names.len(), merged.ports.len());
        prop_assert_eq!(numbers.len(), merged.ports.len());
        prop_assert!(merged.ports.len() <= 1 || !names.iter().any(|name| name.is_empty()));
        let known = |port: &Port| names.contains(&port.name);
        let groups = merged.clusters.values().flatten();
        prop_assert!(groups.flat_map(|group| &group.ports).all(known));
    }
}
