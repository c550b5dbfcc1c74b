//! The texts of `status`, whole.

use carrick_crds::Reason;
use carrick_crds::condition::Verdict;

use super::*;
use crate::fixture;
use crate::state::{FetchErrorKind, Listed};

fn text(state: &crate::state::State) -> String {
    let report = report(state, fixture::now()).expect("report");
    render(&report, Output::Table).expect("text")
}

#[test]
fn a_cluster_that_is_well() {
    assert_eq!(
        text(&fixture::well()),
        "\
cluster     paris
identity    ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
pods in     10.1.0.0/16
mesh        240.1.16.0/20
dialled at  192.0.2.1:31820
ready       controllers 2/2, gateways 1/1, agents 2/2

GATEWAY             SILENT TO NODES   SHORTCUT   OFFLOADS IN USE           OFF
carrick-gateway-0   -                 yes        device_tcp, socket_send   device_udp

PEERING   CLUSTER   READY   REASON   PEER VERSION   GATEWAYS   TUNNELS   MTU    ROUTED   REFUSED   AGE
osaka     osaka     True    Ready    0.1.0          1/1        1/1       1420   1        1         100s

PEERING   GATEWAY             REMOTE               LANE   STATE   HANDSHAKE   RTT    PATH MTU   UNHEALTHY PATHS
osaka     carrick-gateway-0   198.51.100.7:31821   0      Up      40s         20ms   1480       -

PEERING   PREFIX        STATE     WHY
osaka     10.2.0.0/16   Routed    -
osaka     10.9.0.0/16   Refused   OutsideAccept

PEERING   CONDITION       STATUS   SINCE   REASON             MESSAGE
osaka     Accepted        True     100s    Accepted           the spec is good
osaka     Connected       True     100s    Connected          1 of 1 gateways
osaka     RoutesReady     True     100s    RoutesProgrammed   on 2 of 2 nodes
osaka     DataPathReady   True     100s    ProbesPass         from 2 of 2 nodes
osaka     NodesDegraded   False    100s    NodesHealthy       2 nodes
osaka     Ready           True     100s    Ready              traffic flows
"
    );
}

#[test]
fn a_cluster_where_nothing_is_known_yet() {
    let mut state = fixture::well();
    state.identity = Ok(None);
    state.peerings = Ok(Vec::new());
    state.controller = Ok(None);
    assert_eq!(
        text(&state),
        "\
cluster     not known yet
identity    none
pods in     none
mesh        none
dialled at  none
ready       controllers none, gateways 1/1, agents 2/2

No ClusterPeering yet: `carrick invite` in the other cluster prints one.
"
    );
}

#[test]
fn trouble_of_the_cluster_itself_is_shown() {
    let mut state = fixture::well();
    let mut identity = fixture::identity();
    let status = identity.status.as_mut().expect("status");
    let outside = Verdict::no(Reason::PodsOutside, "pod a/b has 10.7.0.3");
    fixture::set(&mut status.conditions, "PrefixesCoverPods", outside);
    state.identity = Ok(Some(identity));
    let expected = "attention   PrefixesCoverPods=False PodsOutside: pod a/b has 10.7.0.3\n";
    assert!(text(&state).contains(expected), "{}", text(&state));
}

#[test]
fn a_gateway_that_does_not_answer_nodes_is_shown() {
    let mut state = fixture::well();
    let mut identity = fixture::identity();
    let status = identity.status.as_mut().expect("status");
    let gateway = &mut status.gateways[0];
    (gateway.silent_to, gateway.shortcut) = (vec!["n0".to_owned(), "n1".to_owned()], None);
    state.identity = Ok(Some(identity));
    let expected = "carrick-gateway-0   n0, n1            -          device_tcp";
    assert!(text(&state).contains(expected), "{}", text(&state));
}

#[test]
fn peerings_without_a_status_and_unreadable_ones_are_listed() {
    let mut state = fixture::well();
    fixture::peering_of(&mut state).status = None;
    let unreadable = Listed { name: "oslo".to_owned(), object: Err("no spec".to_owned()) };
    state.peerings.as_mut().expect("peerings").push(unreadable);
    let text = text(&state);
    assert!(text.contains("NoStatus    the controller has not looked at"), "{text}");
    assert!(text.contains("Malformed   this ClusterPeering cannot be read: no spec"), "{text}");
}

#[test]
fn programs_get_the_same_as_json_and_yaml() {
    let report = report(&fixture::well(), fixture::now()).expect("report");
    let json = render(&report, Output::Json).expect("json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("json parses");
    let yaml = render(&report, Output::Yaml).expect("yaml");
    let yaml: serde_json::Value = serde_yaml::from_str(&yaml).expect("yaml parses");
    assert_eq!(json, yaml);
    let peering = &json["peerings"][0];
    assert_eq!(json["cluster"]["clusterID"], "paris");
    assert_eq!(json["cluster"]["offloads"][0]["off"][0], "device_udp");
    assert_eq!(peering["ready"], "True");
    assert_eq!(peering["tunnels"][0]["lastHandshake"], "2026-01-01T00:01:00Z");
    assert_eq!(peering["conditions"][0]["type"], "Accepted");
}

#[test]
fn a_report_is_not_made_of_what_could_not_be_read() {
    let mut state = fixture::well();
    let error =
        fixture::failure(FetchErrorKind::Forbidden, "list clusterpeerings.carrick.dev", "no");
    state.peerings = Err(error.clone());
    assert_eq!(report(&state, fixture::now()), Err(error));
}
