use carrick_model::service::{Port, Protocol, ServiceKind};
use carrick_model::{ExportedService, Family, ServiceName};
use proptest::prelude::*;

use super::super::merge::merge;
use super::*;

/// What a cluster has behind each of its ports: endpoints that are ready, and such that only serve.
type Behind = Vec<(&'static str, usize, usize)>;

fn id(name: &str) -> ClusterId {
    name.parse().expect("cluster")
}

fn endpoint(i: usize, ready: bool) -> Endpoint {
    let address = std::net::Ipv4Addr::from(0x0a02_0000 + u32::try_from(i).expect("few")).into();
    Endpoint { ready, terminating: !ready, ..Endpoint::ready(address) }
}

fn export(behind: &Behind) -> ExportedService {
    let port = |name: &str| Port {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        number: u16::from(name.as_bytes()[0]),
        app_protocol: None,
    };
    let group = |(name, ready, serving): &(&'static str, usize, usize)| EndpointGroup {
        family: Family::V4,
        ports: vec![port(name)],
        endpoints: (0..ready + serving).map(|i| endpoint(i, i < *ready)).collect(),
    };
    ExportedService {
        ports: behind.iter().map(|(name, _, _)| port(name)).collect(),
        groups: behind.iter().map(group).collect(),
        ..ExportedService::bare(
            ServiceName::new("shop", "hello").expect("name"),
            1,
            ServiceKind::ClusterSetIp,
        )
    }
}

/// Which clusters serve a port in paris, where all but those that are `down` are reached; with a `?` just so.
fn serve(policy: &str, clusters: &[(&str, Behind)], down: &[&str], port: &str) -> Vec<String> {
    let exports: Vec<(ClusterId, ExportedService)> =
        clusters.iter().map(|(name, behind)| (id(name), export(behind))).collect();
    let merged = merge(exports.iter().map(|(id, export)| (id, export))).expect("merged");
    let policy = policy.parse().expect("policy");
    let access = |cluster: &ClusterId| {
        if down.contains(&cluster.as_str()) {
            Access::Lost
        } else if down.contains(&format!("{cluster}?").as_str()) {
            Access::LastResort
        } else {
            Access::Full
        }
    };
    let chosen = choose(&merged, &policy, &id("paris"), access);
    let has = |groups: &&Vec<EndpointGroup>| {
        groups.iter().any(|group| group.ports.iter().any(|p| p.name == port))
    };
    chosen.iter().filter(|(_, groups)| has(groups)).map(|(c, _)| c.to_string()).collect()
}

fn web(ready: usize) -> Behind {
    vec![("web", ready, 0)]
}

#[test]
fn each_policy_chooses_among_those_that_can_serve() {
    let all = [("lima", web(1)), ("osaka", web(1)), ("paris", web(1))];
    let idle = [("lima", web(1)), ("osaka", web(1)), ("paris", web(0))];
    for (policy, clusters, down, expected) in [
        ("Balanced", &all, &[][..], &["lima", "osaka", "paris"][..]),
        ("Balanced", &all, &["lima"], &["osaka", "paris"]),
        ("Balanced", &idle, &[], &["lima", "osaka"]),
        ("PreferLocal", &all, &[], &["paris"]),
        ("PreferLocal", &idle, &[], &["lima", "osaka"]),
        ("PreferLocal", &idle, &["osaka"], &["lima"]),
        ("Failover: osaka, lima", &all, &[], &["osaka"]),
        ("Failover: osaka, lima", &all, &["osaka"], &["lima"]),
        ("Failover: osaka, lima", &all, &["osaka", "lima"], &[]),
        ("Failover: osaka, *", &all, &["osaka"], &["lima", "paris"]),
        ("Balanced", &all, &["lima?"], &["osaka", "paris"]),
        ("Balanced", &idle, &["lima?", "osaka?"], &["lima", "osaka"]),
        ("PreferLocal", &idle, &["lima?", "osaka?"], &["lima", "osaka"]),
        ("Failover: osaka, lima", &all, &["osaka?", "lima"], &["osaka"]),
        ("Failover: osaka, lima", &all, &["osaka?"], &["lima"]),
        ("Failover: osaka, *", &all, &["osaka?"], &["lima", "paris"]),
        ("Failover: paris, osaka", &idle, &[], &["osaka"]),
        ("Failover: quito, *", &all, &[], &["lima", "osaka", "paris"]),
    ] {
        assert_eq!(serve(policy, clusters, down, "web"), expected, "{policy} without {down:?}");
    }
}

#[test]
fn whoever_is_preferred_keeps_nobody_from_a_port_that_it_cannot_serve() {
    let clusters = [
        ("osaka", vec![("web", 1, 0), ("dns", 1, 0)]),
        ("paris", vec![("web", 1, 0), ("dns", 0, 0)]),
    ];
    assert_eq!(serve("PreferLocal", &clusters, &[], "web"), ["paris"]);
    assert_eq!(serve("PreferLocal", &clusters, &[], "dns"), ["osaka"]);
}

#[test]
fn pods_that_only_serve_are_the_last_resort() {
    let ending = [("osaka", vec![("web", 0, 2)]), ("paris", vec![("web", 0, 0)])];
    assert_eq!(serve("PreferLocal", &ending, &[], "web"), ["osaka"]);
    let one_is_ready = [("osaka", vec![("web", 0, 2)]), ("paris", vec![("web", 1, 0)])];
    assert_eq!(serve("Failover: osaka, paris", &one_is_ready, &[], "web"), ["paris"]);
    assert_eq!(serve("Failover: osaka", &one_is_ready, &[], "web"), ["osaka"], "paris may not");
    assert_eq!(serve("Balanced", &one_is_ready, &["paris?"], "web"), ["paris"]);
    assert_eq!(serve("Failover: osaka", &one_is_ready, &["osaka?"], "web"), ["osaka"]);
    let none = [("osaka", web(0)), ("paris", web(0))];
    assert!(serve("Balanced", &none, &[], "web").is_empty());
}

fn any_policy() -> impl Strategy<Value = ServicePolicy> {
    let order = Just(vec!["c0", "c1", "c2", "c3"]).prop_shuffle();
    let failover = (order, 1..5usize, any::<bool>()).prop_map(|(order, count, others)| {
        let named = order.into_iter().take(count).map(|name| Turn::Cluster(id(name)));
        ServicePolicy::Failover(named.chain(others.then_some(Turn::Others)).collect())
    });
    prop_oneof![Just(ServicePolicy::Balanced), Just(ServicePolicy::PreferLocal), failover]
}

fn any_access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::Lost, Access::LastResort, Access::Full])
}

fn any_behind() -> impl Strategy<Value = Behind> {
    let port = |name| (prop::bool::ANY, Just(name), 0..3usize, 0..2usize);
    (port("a"), port("b")).prop_map(|(a, b)| {
        let there = |(is, name, ready, serving)| {
            let is: bool = is;
            is.then_some((name, ready, serving))
        };
        there(a).into_iter().chain(there(b)).collect()
    })
}

proptest! {
    /// Whatever the policy: only clusters that are reached serve, and a port that could be served is, unless the policy
    /// names those who may and none of them can.
    #[test]
    fn nobody_is_refused_while_somebody_may_serve(
        policy in any_policy(),
        behind in prop::collection::vec((any_behind(), any_access()), 1..5),
        own in 0..5usize,
    ) {
        let exports: Vec<(ClusterId, ExportedService, Access)> = (0..)
            .zip(&behind)
            .map(|(i, (behind, access))| (id(&format!("c{i}")), export(behind), *access))
            .collect();
        let merged = merge(exports.iter().map(|(id, export, _)| (id, export))).expect("merged");
        let access = |cluster: &ClusterId| {
            exports.iter().find(|(id, ..)| id == cluster).map_or(Access::Lost, |found| found.2)
        };
        let own = id(&format!("c{own}"));
        let chosen = choose(&merged, &policy, &own, access);
        prop_assert!(chosen.keys().all(|cluster| access(cluster) != Access::Lost));
        let may = |cluster: &ClusterId| match &policy {
            ServicePolicy::Failover(turns) => {
                turns.contains(&Turn::Others) || turns.contains(&Turn::Cluster(cluster.clone()))
            }
            _ => true,
        };
        for port in ["a", "b"] {
            let ready = |groups: &[EndpointGroup]| {
                let mine = groups.iter().filter(|g| g.ports.iter().any(|p| p.name == port));
                mine.flat_map(|group| &group.endpoints).any(|endpoint| endpoint.ready)
            };
            let able: Vec<&ClusterId> = merged
                .clusters
                .iter()
                .filter(|(cluster, groups)| access(cluster) != Access::Lost && ready(groups))
                .map(|(cluster, _)| *cluster)
                .collect();
            let full = |cluster: &ClusterId| access(cluster) == Access::Full;
            let serving: Vec<&ClusterId> = chosen
                .iter()
                .filter(|(_, groups)| ready(groups))
                .map(|(cluster, _)| *cluster)
                .collect();
            prop_assert!(serving.iter().all(|cluster| may(cluster)));
            prop_assert_eq!(serving.is_empty(), !able.iter().any(|cluster| may(cluster)));
            if able.iter().any(|cluster| may(cluster) && full(cluster)) {
                prop_assert!(serving.iter().all(|cluster| full(cluster)));
            }
            if policy == ServicePolicy::PreferLocal && full(&own) && able.contains(&&own) {
                prop_assert_eq!(serving, vec![&own]);
            }
        }
    }

    #[test]
    fn the_order_of_exports_does_not_matter(
        policy in any_policy(),
        behind in prop::collection::vec(any_behind(), 1..5),
    ) {
        let mut exports: Vec<(ClusterId, ExportedService)> =
            (0..).zip(&behind).map(|(i, one)| (id(&format!("c{i}")), export(one))).collect();
        let there = exports.clone();
        let forth = merge(there.iter().map(|(id, export)| (id, export))).expect("merged");
        exports.reverse();
        let back = merge(exports.iter().map(|(id, export)| (id, export))).expect("merged");
        let own = id("c0");
        prop_assert_eq!(
            choose(&forth, &policy, &own, |_| Access::Full),
            choose(&back, &policy, &own, |_| Access::Full)
        );
    }
}
