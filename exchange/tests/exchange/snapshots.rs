//! Snapshots: what is verified, what is refused, what the filter believes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::Cluster;
use carrick_exchange::filter::{Filtered, Policy, RefusalReason, filter};
use carrick_exchange::message::WireEndpoint;
use carrick_exchange::message::snapshot::{
    ClusterSnapshot, GatewayEntry, NodeEntry, SignedSnapshot,
};
use carrick_exchange::snapshot::{MAX_PREFIXES, SnapshotError, VerifiedSnapshot, Version, verify};
use carrick_model::{ClusterId, MeshPrefix, Prefix, Role};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect(text)
}

fn paris() -> ClusterId {
    "paris".parse().expect("cluster ID")
}

/// What Osaka says to Paris.
fn snapshot() -> ClusterSnapshot {
    ClusterSnapshot {
        cluster: "osaka".to_owned(),
        audience: "paris".to_owned(),
        epoch: 5,
        generation: 3,
        issued_at: NOW,
        expires_at: NOW + 1000,
        gateways: vec![GatewayEntry {
            name: "gw-0".to_owned(),
            endpoints: vec![WireEndpoint { host: "192.0.2.1".to_owned(), port: 31820 }],
        }],
        pod_prefixes: vec![prefix("10.2.0.0/16").into()],
        mesh_prefix: Some(prefix("240.0.16.0/20").into()),
        nodes: vec![NodeEntry { name: "n1".to_owned(), mesh_address: vec![240, 0, 16, 2] }],
        consents: true,
        ..ClusterSnapshot::default()
    }
}

fn check(raw: &ClusterSnapshot, held: Option<Version>) -> Result<VerifiedSnapshot, SnapshotError> {
    let osaka = Cluster::new("osaka");
    verify(&osaka.sign(raw), &osaka.pin(Role::Gateway), &paris(), now(), held)
}

fn refused(change: impl FnOnce(&mut ClusterSnapshot)) -> SnapshotError {
    let mut raw = snapshot();
    change(&mut raw);
    check(&raw, None).expect_err("refused")
}

#[test]
fn signed_snapshot_is_taken_as_it_was_said() {
    let taken = check(&snapshot(), None).expect("verified");
    assert_eq!(taken.version, Version { epoch: 5, generation: 3 });
    assert_eq!(taken.pod_prefixes, [prefix("10.2.0.0/16")]);
    assert_eq!(taken.gateways[0].endpoints[0].to_string(), "192.0.2.1:31820");
    assert!(taken.consents);
}

#[test]
fn tampered_payload_signature_or_key_is_refused() {
    let osaka = Cluster::new("osaka");
    let pin = osaka.pin(Role::Gateway);
    let good = osaka.sign(&snapshot());
    for field in 0..3 {
        let mut bad = good.clone();
        let bytes = [&mut bad.payload, &mut bad.signature, &mut bad.key];
        let last = bytes.into_iter().nth(field).expect("field").last_mut().expect("byte");
        *last ^= 1;
        let error = verify(&bad, &pin, &paris(), now(), None).expect_err("tampered");
        assert_eq!(error.reason(), "WrongSignature");
    }
    let thief = Cluster::new("osaka");
    let error = verify(&thief.sign(&snapshot()), &pin, &paris(), now(), None);
    assert_eq!(error.expect_err("unpinned").reason(), "WrongSignature");
}

#[test]
fn older_versions_are_refused_and_equal_ones_taken() {
    let held = |epoch, generation| Some(Version { epoch, generation });
    assert!(check(&snapshot(), held(5, 3)).is_ok());
    assert!(check(&snapshot(), held(4, 99)).is_ok());
    for newer in [held(5, 4), held(6, 0)] {
        let error = check(&snapshot(), newer).expect_err("older");
        assert_eq!(error.reason(), "OlderSnapshot");
    }
}

#[test]
fn wrong_audience_cluster_and_times_are_refused() {
    assert_eq!(refused(|s| s.audience = "lima".to_owned()).reason(), "WrongAudience");
    assert_eq!(refused(|s| s.cluster = "lima".to_owned()).reason(), "WrongCluster");
    let expired = refused(|s| s.expires_at = NOW);
    assert_eq!(expired.reason(), "SnapshotExpired");
    assert_eq!(expired.to_string().matches("2027-01-15T08:00:00Z").count(), 2, "{expired}");
    let future = refused(|s| (s.issued_at, s.expires_at) = (NOW + 9999, u64::MAX));
    assert_eq!(future.reason(), "SnapshotNotYetValid");
}

#[test]
fn malformed_fields_are_refused_by_name() {
    for (field, error) in [
        ("mesh_prefix", refused(|s| s.mesh_prefix = None)),
        ("mesh_prefix", refused(|s| s.mesh_prefix = Some(prefix("240.0.0.0/8").into()))),
        ("pod_prefixes", refused(|s| s.pod_prefixes[0].length = 33)),
        ("pod_prefixes", refused(|s| s.pod_prefixes[0].address = vec![10, 2, 0, 1])),
        ("mesh_address", refused(|s| s.nodes[0].mesh_address = vec![10, 0, 0, 1])),
        ("gateways.name", refused(|s| s.gateways[0].name = "A B".to_owned())),
        ("endpoint", refused(|s| s.gateways[0].endpoints[0].port = 0)),
    ] {
        assert_eq!(error.reason(), "MalformedSnapshot");
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
}

#[test]
fn more_than_we_hold_is_refused_with_the_numbers() {
    let error = refused(|s| s.pod_prefixes = vec![prefix("10.2.0.0/16").into(); MAX_PREFIXES + 1]);
    assert_eq!(error.reason(), "TooMany");
    assert!(error.to_string().contains("4097"), "{error}");
    let error = refused(|s| s.gateways = vec![s.gateways[0].clone(); 65]);
    assert_eq!(error.reason(), "TooMany");
    let endpoint = WireEndpoint { host: "192.0.2.1".to_owned(), port: 1 };
    let error = refused(|s| s.gateways[0].endpoints = vec![endpoint; 9]);
    assert_eq!(error.reason(), "TooMany");
}

fn policy() -> Policy {
    Policy {
        accept: vec![prefix("10.0.0.0/8"), prefix("127.0.0.0/8")],
        max_prefixes: 8,
        own_ranges: vec![prefix("10.1.0.0/16"), prefix("10.96.0.0/12")],
        own_mesh: MeshPrefix::try_from(prefix("240.0.32.0/20")).expect("mesh"),
        others: vec![("lima".parse().expect("cluster ID"), prefix("10.3.0.0/16"))],
    }
}

fn filtered(prefixes: &[&str], policy: &Policy) -> Filtered {
    let mut raw = snapshot();
    raw.pod_prefixes = prefixes.iter().map(|text| prefix(text).into()).collect();
    filter(&check(&raw, None).expect("verified"), policy)
}

#[test]
fn only_what_the_receiver_accepts_is_believed() {
    use RefusalReason::{DefaultRoute, OutsideAccept, OverlapsOwn, OverlapsPeer, SpecialUse};
    let lima: ClusterId = "lima".parse().expect("cluster ID");
    for (announced, reason) in [
        ("0.0.0.0/0", DefaultRoute),
        ("127.1.0.0/16", SpecialUse),
        ("172.16.0.0/16", OutsideAccept),
        ("fd00::/64", OutsideAccept),
        ("10.1.2.0/24", OverlapsOwn(prefix("10.1.0.0/16"))),
        ("10.0.0.0/8", OverlapsOwn(prefix("10.1.0.0/16"))),
        ("10.100.0.0/16", OverlapsOwn(prefix("10.96.0.0/12"))),
        ("10.3.128.0/17", OverlapsPeer(lima)),
    ] {
        let out = filtered(&["10.2.0.0/16", announced], &policy());
        assert_eq!(out.accepted, [prefix("10.2.0.0/16")], "{announced}");
        assert_eq!(out.refused, [(prefix(announced), reason)]);
    }
}

#[test]
fn default_route_is_refused_even_where_it_is_accepted() {
    let accept = vec![prefix("0.0.0.0/0")];
    let out = filtered(&["0.0.0.0/0"], &Policy { accept, own_ranges: Vec::new(), ..policy() });
    assert_eq!(out.refused, [(prefix("0.0.0.0/0"), RefusalReason::DefaultRoute)]);
}

#[test]
fn prefixes_beyond_the_limit_and_duplicates_are_dropped() {
    let limited = Policy { max_prefixes: 1, ..policy() };
    let out = filtered(&["10.2.0.0/24", "10.2.0.0/24", "10.2.1.0/24"], &limited);
    assert_eq!(out.accepted, [prefix("10.2.0.0/24")]);
    assert_eq!(out.refused, [(prefix("10.2.1.0/24"), RefusalReason::TooMany)]);
}

#[test]
fn mesh_prefix_is_class_e_or_accepted_and_nobody_elses() {
    let mesh = |text: &str, policy: &Policy| {
        let mut raw = snapshot();
        raw.nodes.clear();
        raw.mesh_prefix = Some(prefix(text).into());
        filter(&check(&raw, None).expect("verified"), policy)
    };
    assert!(mesh("240.0.16.0/20", &policy()).mesh.is_some());
    assert!(mesh("10.4.0.0/20", &policy()).mesh.is_some());
    for (bad, reason) in [
        ("8.8.0.0/20", "OutsideAccept"),
        ("240.0.32.0/20", "OverlapsOwn"),
        ("10.3.16.0/20", "OverlapsPeer"),
    ] {
        let out = mesh(bad, &policy());
        assert_eq!(out.mesh, None, "{bad}");
        assert_eq!(out.refused[0].1.as_str(), reason);
    }
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    (any::<[u8; 4]>(), 0_u8..=32).prop_map(|(a, length)| Prefix::containing(a.into(), length))
}

proptest! {
    /// Whatever is announced, what is believed lies inside `accept` and outside our own and others'.
    #[test]
    fn belief_never_leaves_the_policy(announced in prop::collection::vec(any_prefix(), 0..40)) {
        let mut raw = snapshot();
        raw.pod_prefixes = announced.iter().map(|p| (*p).into()).collect();
        let policy = policy();
        let out = filter(&check(&raw, None).expect("verified"), &policy);
        prop_assert!(out.accepted.len() <= policy.max_prefixes);
        for taken in &out.accepted {
            prop_assert!(policy.accept.iter().any(|range| range.covers(taken)));
            prop_assert!(!policy.own_ranges.iter().any(|range| range.overlaps(taken)));
            prop_assert!(!policy.others.iter().any(|(_, held)| held.overlaps(taken)));
        }
    }

    /// Bytes that happen to decode are verified or refused, signed or not.
    #[test]
    fn random_payloads_are_refused_or_verified(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(raw) = <ClusterSnapshot as prost::Message>::decode(payload.as_slice()) {
            prop_assert!(check(&raw, None).is_err(), "it names neither cluster nor audience");
        }
        let osaka = Cluster::new("osaka");
        let signed = SignedSnapshot { payload, ..osaka.sign(&snapshot()) };
        let error = verify(&signed, &osaka.pin(Role::Gateway), &paris(), now(), None);
        prop_assert_eq!(error.expect_err("not signed").reason(), "WrongSignature");
    }

    /// A signed snapshot with arbitrary numbers and bytes in its fields never panics.
    #[test]
    fn arbitrary_fields_are_refused_or_verified(
        times in any::<(u64, u64)>(), address in prop::collection::vec(any::<u8>(), 0..20),
        length in any::<u32>(), host in ".{0,20}", port in any::<u32>(),
    ) {
        let mut raw = snapshot();
        (raw.issued_at, raw.expires_at) = times;
        raw.pod_prefixes[0].address = address.clone();
        raw.pod_prefixes[0].length = length;
        raw.nodes[0].mesh_address = address;
        raw.gateways[0].endpoints[0] = WireEndpoint { host, port };
        let expired = raw.expires_at <= NOW;
        prop_assert!(check(&raw, None).is_err() || !expired);
    }
}
