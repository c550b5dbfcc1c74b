//! What conditions come of which reports.

use std::time::Duration;

use carrick_crds::condition::PeeringCondition::{
    self, Connected, DataPathReady, NodesDegraded, Ready, RoutesReady,
};
use carrick_exchange::message::member::{AgentState, PeerState};

use crate::cluster::node::Readiness;
use crate::scene::{Peer, Scene, name};
use crate::world::MEMBER_GRACE;

fn dialling() -> (Scene, Peer) {
    let osaka = Peer::new("osaka", &["10.2.0.0/23"]);
    let mut scene = Scene::new();
    let mut spec = osaka.spec(&["10.2.0.0/16"]);
    spec.endpoints = vec![carrick_crds::peering::EndpointSpec {
        address: "192.0.2.1".to_owned(),
        port: 31820,
        ..Default::default()
    }];
    scene.peer("osaka", spec);
    scene.step();
    (scene, osaka)
}

fn ready() -> (Scene, Peer) {
    let (mut scene, osaka) = dialling();
    scene.gateway_says(vec![osaka.connected()]);
    scene.step();
    scene.agents_apply(&[&osaka]);
    scene.step();
    (scene, osaka)
}

fn reason(scene: &Scene, type_: PeeringCondition) -> (String, String) {
    let (status, reason, _) = scene.says("osaka", type_);
    (status, reason)
}

fn is(scene: &Scene, type_: PeeringCondition, status: &str, why: &str) {
    let (found, reason, message) = scene.says("osaka", type_);
    assert_eq!((found.as_str(), reason.as_str()), (status, why), "{type_:?}: {message}");
}

fn fail_probe(scene: &mut Scene, node: &'static str, reason: &'static str) {
    scene.agents_say(move |name, state| {
        if name == node {
            let target = &mut state.probes[0].targets[0];
            (target.ok, target.reason) = (false, reason.to_owned());
            target.detail = "172.20.0.10 arrived instead of 10.1.0.1".to_owned();
        }
    });
    scene.step();
}

#[test]
fn it_becomes_ready_step_by_step() {
    let (mut scene, osaka) = dialling();
    is(&scene, Connected, "False", "Connecting");
    is(&scene, Ready, "False", "Connecting");

    scene.gateway_says(vec![osaka.connected()]);
    scene.step();
    is(&scene, Connected, "True", "Connected");
    is(&scene, RoutesReady, "False", "AgentsPending");

    scene.agents_apply(&[]);
    scene.step();
    is(&scene, RoutesReady, "True", "RoutesProgrammed");
    is(&scene, DataPathReady, "Unknown", "ProbesPending");
    is(&scene, Ready, "False", "ProbesPending");

    scene.agents_apply(&[&osaka]);
    scene.step();
    for type_ in [Connected, RoutesReady, DataPathReady, Ready] {
        assert_eq!(reason(&scene, type_).0, "True", "{type_:?}");
    }
    is(&scene, NodesDegraded, "False", "NodesHealthy");
}

#[test]
fn a_failing_probe_shows_at_once_and_names_node_and_cause() {
    for why in ["NoAnswer", "LargePacketsLost", "SourceRewritten", "NoRoute"] {
        let (mut scene, _) = ready();
        fail_probe(&mut scene, "n1", why);
        is(&scene, DataPathReady, "False", why);
        is(&scene, Ready, "False", why);
        is(&scene, NodesDegraded, "True", "NodesFailing");
        let message = scene.says("osaka", Ready).2;
        assert!(message.contains("n1") && message.contains("172.20.0.10"), "{message}");
    }
}

#[test]
fn a_node_on_which_no_agent_is_wanted_is_not_waited_for_and_counted() {
    let (mut scene, _) = ready();
    scene.world.agents.remove(&name("n1"));
    scene.step();
    is(&scene, Ready, "False", "AgentsPending");
    assert!(!scene.says("osaka", RoutesReady).2.contains("left out"));
    scene.world.facts.nodes.get_mut("n1").expect("node").wants_agent = false;
    scene.step();
    is(&scene, Ready, "True", "Ready");
    let message = scene.says("osaka", RoutesReady).2;
    assert!(message.contains("on 1 nodes; 1 node is left out"), "{message}");
}

#[test]
fn different_causes_are_not_blamed_on_one() {
    let (mut scene, _) = ready();
    fail_probe(&mut scene, "n0", "NoAnswer");
    fail_probe(&mut scene, "n1", "SourceRewritten");
    is(&scene, DataPathReady, "False", "ProbesFail");
}

#[test]
fn a_dead_node_does_not_count_and_a_silent_agent_does() {
    let (mut scene, _) = ready();
    fail_probe(&mut scene, "n1", "NoAnswer");
    let lost = scene.now.instant;
    scene.world.agents.get_mut(&name("n1")).expect("agent").lost = Some(lost);
    scene.world.facts.nodes.get_mut("n1").expect("node").readiness = Readiness::Unreachable;
    scene.step();
    is(&scene, Ready, "True", "Ready");

    scene.world.agents.get_mut(&name("n0")).expect("agent").lost = Some(lost);
    scene.step();
    is(&scene, Ready, "True", "Ready");
    scene.pass(MEMBER_GRACE);
    scene.step();
    is(&scene, RoutesReady, "False", "NoAgents");
    is(&scene, Ready, "False", "NoAgents");
}

#[test]
fn nodes_whose_kubelets_lost_the_api_server_serve_as_their_agents_say() {
    let (mut scene, _) = ready();
    for node in scene.world.facts.nodes.values_mut() {
        node.readiness = Readiness::Unreachable;
    }
    let plan = scene.step();
    is(&scene, Ready, "True", "Ready");
    assert!(
        plan.snapshots.values().all(|told| told.nodes.len() == 2),
        "others go on to probe them"
    );
    fail_probe(&mut scene, "n1", "NoAnswer");
    is(&scene, Ready, "False", "NoAnswer");
}

#[test]
fn an_agent_that_cannot_apply_is_quoted() {
    let (mut scene, _) = ready();
    scene.agents_say(|node, state| {
        state.errors = if node == "n0" { vec!["carrick0: EPERM".to_owned()] } else { Vec::new() };
    });
    scene.step();
    is(&scene, RoutesReady, "False", "AgentErrors");
    let message = scene.says("osaka", RoutesReady).2;
    assert!(message.contains("n0") && message.contains("EPERM"), "{message}");
}

#[test]
fn an_agents_trouble_with_another_cluster_is_not_this_ones() {
    let (mut scene, _) = ready();
    let say = |scene: &mut Scene, error: &'static str| {
        scene.agents_say(move |_, state| state.errors = vec![error.to_owned()]);
        scene.step();
    };
    say(&mut scene, "cluster lima: 10.3.0.0/16 overlaps our own pods");
    is(&scene, RoutesReady, "True", "RoutesProgrammed");
    say(&mut scene, "cluster osaka: 10.2.0.0/16 overlaps our own pods");
    is(&scene, RoutesReady, "False", "AgentErrors");
}

#[test]
fn a_small_change_does_not_shake_what_is_ready() {
    let (mut scene, _) = ready();
    let node = scene.world.facts.nodes.get_mut("n1").expect("node");
    node.pod_prefixes = vec!["10.1.2.0/24".parse().expect("prefix")];
    scene.peer("osaka", {
        let mut spec = scene.world.peerings["osaka"].spec.clone().expect("spec");
        spec.tunnel.mtu = Some(1400);
        spec
    });
    scene.step();
    is(&scene, RoutesReady, "True", "RoutesProgrammed");
    scene.pass(Duration::from_secs(3));
    scene.step();
    is(&scene, RoutesReady, "False", "AgentsPending");
}

#[test]
fn an_agents_restart_keeps_its_results_for_a_moment_only() {
    let (mut scene, _) = ready();
    scene.agents_say(|_, state: &mut AgentState| state.probes.clear());
    scene.step();
    is(&scene, DataPathReady, "True", "ProbesPass");
    scene.pass(Duration::from_secs(6));
    scene.agents_say(|_, _| {});
    scene.step();
    is(&scene, DataPathReady, "Unknown", "ProbesPending");
}

#[test]
fn failures_to_connect_name_address_and_what_was_tried() {
    let (mut scene, osaka) = dialling();
    let text = "192.0.2.1:31820: nothing answered within 5 s";
    let mut state: PeerState = osaka.failing("192.0.2.1:31820", "Timeout", text);
    scene.gateway_says(vec![state.clone()]);
    scene.step();
    is(&scene, Connected, "False", "Timeout");
    assert_eq!(scene.says("osaka", Connected).2, text);

    let other = osaka.failing("198.51.100.7:40000", "WrongIdentity", "holds another key");
    state.failures.extend(other.failures);
    scene.gateway_says(vec![state]);
    scene.step();
    is(&scene, Connected, "False", "WrongIdentity");
    let message = scene.says("osaka", Connected).2;
    assert!(message.starts_with("198.51.100.7:40000: holds another key; 192.0.2.1"), "{message}");
}

#[test]
fn every_other_way_to_be_unconnected_has_its_reason() {
    let (mut scene, osaka) = dialling();
    scene.world.gateways.clear();
    scene.step();
    is(&scene, Connected, "False", "NoLocalGateway");

    let mut down = osaka.connected();
    down.connections[0].tunnels[0].up = false;
    scene.gateway_says(vec![down]);
    scene.step();
    is(&scene, Connected, "False", "NoTunnel");

    scene.peer("osaka", osaka.spec(&["10.2.0.0/16"]));
    scene.gateway_says(Vec::new());
    scene.step();
    is(&scene, Connected, "False", "NoEndpoint");

    let (mut scene, _) = ready();
    scene.gateway_says(Vec::new());
    scene.step();
    is(&scene, Connected, "False", "Disconnected");
    is(&scene, RoutesReady, "False", "NotConnected");
    is(&scene, DataPathReady, "False", "NotRouted");
}

#[test]
fn a_peer_that_refuses_our_snapshot_is_heard() {
    let (mut scene, osaka) = ready();
    let mut state = osaka.connected();
    state.report = Some(carrick_exchange::message::peer::Report {
        error: "meant for lima".to_owned(),
        ..Default::default()
    });
    scene.gateway_says(vec![state]);
    scene.step();
    is(&scene, RoutesReady, "False", "SnapshotRefused");
}

#[test]
fn a_refusal_of_a_snapshot_that_we_replaced_since_does_not_count() {
    let (mut scene, osaka) = ready();
    let now = scene.outbox.version_for(&"osaka".parse().expect("id")).expect("signed");
    for (generation, counts) in [(now.generation - 1, false), (now.generation, true)] {
        let mut state = osaka.connected();
        state.report = Some(carrick_exchange::message::peer::Report {
            error: "older than the one that is held".to_owned(),
            error_epoch: now.epoch,
            error_generation: generation,
            ..Default::default()
        });
        scene.gateway_says(vec![state]);
        scene.step();
        let (status, why) = reason(&scene, RoutesReady);
        assert_eq!((status == "False", why == "SnapshotRefused"), (counts, counts), "{why}");
    }
}
