//! What `ClusterPeering.spec` may say, and how each mistake is named.

use carrick_crds::peering::parse::{Access, Peering};
use carrick_crds::{ClusterPeering, ClusterPeeringSpec};

const KEY: &str = "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OTHER_KEY: &str = "ed25519:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn spec(change: &str) -> ClusterPeeringSpec {
    let base: serde_json::Value = serde_json::json!({
        "clusterID": "osaka",
        "identities": [KEY],
        "accept": { "podRanges": ["10.2.0.0/16"] },
    });
    let change: serde_yaml::Value = serde_yaml::from_str(change).expect("yaml");
    let mut merged = base;
    let change = serde_json::to_value(change).expect("json");
    for (field, value) in change.as_object().into_iter().flatten() {
        merged[field] = value.clone();
    }
    serde_json::from_value(merged).expect("spec deserializes")
}

/// The errors of a spec changed so, one a line.
fn errors(change: &str) -> String {
    let errors = Peering::parse(&spec(change)).expect_err(change);
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_smallest_spec_gets_the_defaults() {
    let peering = Peering::parse(&spec("{}")).expect("good");
    assert_eq!(peering.cluster.as_str(), "osaka");
    assert_eq!(peering.max_prefixes, 32);
    assert_eq!(peering.keepalive_seconds, 25);
    assert_eq!(peering.access, Access::AllPods);
    assert!(!peering.suspended && !peering.post_quantum_required);
    assert!(peering.endpoints.is_empty() && peering.announce.is_empty() && peering.mtu.is_none());
}

#[test]
fn all_that_this_release_can_do_is_read() {
    let peering = Peering::parse(&spec(&format!(
        "
identities: ['{KEY}', '{OTHER_KEY}']
endpoints:
- {{address: 192.0.2.1}}
- {{address: '2001:db8::1', port: 31828, cost: 65535}}
- {{address: gw.example.org., port: 4500}}
accept: {{podRanges: [10.2.0.0/16, 'fd00:2::/48'], maxPrefixes: 4}}
announce: {{podRanges: [10.1.0.0/17]}}
access: ExportedServices
failover: {{detectionMilliseconds: 150}}
tunnel: {{lanes: 2, mtu: 1380, keepaliveSeconds: 0, postQuantum: Required}}
suspended: true
"
    )))
    .expect("good");
    let endpoints: Vec<_> = peering.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["192.0.2.1:31820", "[2001:db8::1]:31828", "gw.example.org:4500"]);
    let costs: Vec<_> = peering.endpoints.iter().map(|endpoint| endpoint.cost).collect();
    assert_eq!((costs, peering.detection_milliseconds), (vec![0, 65_535, 0], Some(150)));
    assert_eq!(peering.identities.len(), 2);
    assert_eq!(peering.accept.len(), 2);
    assert_eq!(peering.announce.len(), 1);
    assert_eq!((peering.max_prefixes, peering.mtu, peering.keepalive_seconds), (4, Some(1380), 0));
    assert_eq!(peering.lanes, Some(2));
    assert_eq!(peering.access, Access::ExportedServices);
    assert!(peering.suspended && peering.post_quantum_required);
}

#[test]
fn every_mistake_is_named_at_once_with_its_field() {
    let all = errors(
        "
clusterID: Osaka
identities: [nonsense]
endpoints: [{address: '192.0.2.1:31820', port: 0}]
accept: {podRanges: [10.2.3.0/16], maxPrefixes: 0}
access: Everything
remap: Auto
tunnel: {keepaliveSeconds: -1}
",
    );
    let fields: Vec<_> = all.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(
        fields,
        [
            "spec.clusterID",
            "spec.identities[0]",
            "spec.endpoints[0].address",
            "spec.endpoints[0].port",
            "spec.accept.podRanges[0]",
            "spec.accept.maxPrefixes",
            "spec.access",
            "spec.remap",
            "spec.tunnel.keepaliveSeconds",
        ],
        "{all}"
    );
}

#[test]
fn bad_ranges_are_refused() {
    for (ranges, expected) in [
        ("[]", "spec.accept.podRanges: must name at least one range, or nothing can be reached"),
        (
            "[ten]",
            "spec.accept.podRanges[0]: prefix \"ten\" must be an address and a length such as 10.1.0.0/16",
        ),
        (
            "[10.2.3.4/16]",
            "spec.accept.podRanges[0]: prefix 10.2.3.4/16 has host bits set; did you mean 10.2.0.0/16?",
        ),
        (
            "[0.0.0.0/0]",
            "spec.accept.podRanges[0]: 0.0.0.0/0 is a default route; name the ranges where pods live",
        ),
        (
            "['::/0']",
            "spec.accept.podRanges[0]: ::/0 is a default route; name the ranges where pods live",
        ),
        (
            "[10.2.0.0/16, 169.254.0.0/16]",
            "spec.accept.podRanges[1]: 169.254.0.0/16 holds loopback, link-local or multicast addresses; pods never live there",
        ),
        (
            "[10.2.0.0/16, 10.2.4.0/24]",
            "spec.accept.podRanges[1]: 10.2.4.0/24 overlaps 10.2.0.0/16 in the same list",
        ),
    ] {
        assert_eq!(errors(&format!("accept: {{podRanges: {ranges}}}")), expected);
    }
}

#[test]
fn too_many_entries_are_refused_unread() {
    let ranges: Vec<_> = (0..65).map(|i| format!("10.{i}.0.0/16")).collect();
    let text = errors(&format!("accept: {{podRanges: {ranges:?}}}"));
    assert_eq!(text, "spec.accept.podRanges: has 65 entries; at most 64 are allowed");
    let keys = vec![KEY; 5];
    assert_eq!(
        errors(&format!("identities: {keys:?}")),
        "spec.identities: has 5 entries; at most 4 are allowed"
    );
    let endpoints: Vec<_> = (0..33).map(|i| format!("{{address: 192.0.2.{i}}}")).collect();
    assert_eq!(
        errors(&format!("endpoints: [{}]", endpoints.join(","))),
        "spec.endpoints: has 33 entries; at most 32 are allowed"
    );
}

#[test]
fn bad_identities_are_refused() {
    assert!(errors("identities: []").contains("carrick invite"));
    assert!(errors(&format!("identities: ['{KEY}', '{KEY}']")).contains("is there twice"));
    assert!(errors("identities: ['rsa:AAAA']").contains("must begin with \"ed25519:\""));
}

#[test]
fn bad_endpoints_are_refused() {
    for bad in ["", "a b", "192.0.2.256", "192.0.2.1:1", "-x.org", "0.0.0.0", "x..org", "ff02::1"] {
        let text = errors(&format!("endpoints: [{{address: '{bad}'}}]"));
        assert!(text.starts_with("spec.endpoints[0].address: "), "{bad:?}: {text}");
    }
}

#[test]
fn detection_times_and_costs_out_of_range_are_refused_with_the_range() {
    for (change, field) in [
        (
            "failover: {detectionMilliseconds: 149}",
            "spec.failover.detectionMilliseconds: 149 must be",
        ),
        ("failover: {detectionMilliseconds: 60001}", "spec.failover.detectionMilliseconds: 60001 "),
        ("endpoints: [{address: 192.0.2.1, cost: -1}]", "spec.endpoints[0].cost: -1 must be"),
    ] {
        let text = errors(change);
        assert!(text.starts_with(field), "{change}: {text}");
    }
}

#[test]
fn what_this_release_cannot_do_is_refused_as_such() {
    for (change, field) in [
        ("remap: Auto", "spec.remap"),
        ("endpoints: [{address: 192.0.2.1, network: backbone}]", "spec.endpoints[0].network"),
    ] {
        let text = errors(change);
        assert!(text.starts_with(field), "{change}: {text}");
        assert!(text.ends_with("is not implemented in this release"), "{change}: {text}");
    }
}

#[test]
fn namespaces_are_shared_when_they_are_named() {
    let nothing = Peering::parse(&spec("{}")).expect("good");
    assert!(!nothing.exports.contain("shop") && !nothing.imports.contain("shop"));
    let some = Peering::parse(&spec("services: {export: [shop], import: ['*']}")).expect("good");
    assert!(some.exports.contain("shop") && !some.exports.contain("default"));
    assert!(some.imports.contain("default") && !some.imports.contain("kube-system"));
    assert_eq!(some.max_imports, None);
}

#[test]
fn how_many_are_imported_is_bounded() {
    let some = Peering::parse(&spec("services: {import: ['*'], maxImports: 7}")).expect("good");
    assert_eq!(some.max_imports, Some(7));
    for bad in ["0", "-1", "16385"] {
        let text = errors(&format!("services: {{maxImports: {bad}}}"));
        assert_eq!(text, format!("spec.services.maxImports: {bad} must be 1–16384"));
    }
}

#[test]
fn bad_namespaces_are_refused() {
    for (bad, why) in [
        ("Shop", "must be a namespace"),
        ("", "must be a namespace"),
        ("shop*", "must be a namespace"),
        ("kube-system", "belongs to Kubernetes itself"),
    ] {
        let text = errors(&format!("services: {{import: [shop, '{bad}']}}"));
        assert!(text.starts_with("spec.services.import[1]: ") && text.contains(why), "{text}");
    }
    let many: Vec<_> = (0..257).map(|i| format!("n{i}")).collect();
    assert_eq!(
        errors(&format!("services: {{export: {many:?}}}")),
        "spec.services.export: has 257 entries; at most 256 are allowed"
    );
}

#[test]
fn words_that_are_none_of_the_choices_are_refused() {
    for (change, expected) in [
        ("access: x", "spec.access: \"x\" must be AllPods or ExportedServices"),
        ("drills: x", "spec.drills: \"x\" must be Allow or Deny"),
        ("remap: x", "spec.remap: \"x\" must be Never or Auto"),
        (
            "tunnel: {postQuantum: x}",
            "spec.tunnel.postQuantum: \"x\" must be Preferred or Required",
        ),
        ("tunnel: {mtu: 100}", "spec.tunnel.mtu: 100 must be 1280–9000"),
    ] {
        assert_eq!(errors(change), expected);
    }
}

#[test]
fn an_object_survives_the_way_through_the_api() {
    let object = ClusterPeering::new("osaka", spec("endpoints: [{address: 192.0.2.1}]"));
    let text = serde_json::to_string(&object).expect("json");
    assert_eq!(serde_json::from_str::<ClusterPeering>(&text).expect("object"), object);
}
