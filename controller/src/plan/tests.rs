//! What plans come of which worlds.

use carrick_crds::condition::PeeringCondition::{Accepted, Connected};
use carrick_crds::peering::{EndpointSpec, FailoverSpec};
use carrick_exchange::message::member::{AgentConfig, GatewayProbe, TunnelState};

use crate::cluster::node::Readiness;
use crate::identity;
use crate::plan::Plan;
use crate::scene::{GATEWAY_UID, Peer, Scene, name, prefix};

fn peered() -> (Scene, Peer) {
    let osaka = Peer::new("osaka", &["10.2.0.0/23"]);
    let mut scene = Scene::new();
    scene.peer("osaka", osaka.spec(&["10.2.0.0/16"]));
    scene.gateway_says(vec![osaka.connected()]);
    scene.step();
    (scene, osaka)
}

/// The pod ranges that others are offered to accept.
fn offered(scene: &Scene, plan: &Plan) -> Vec<String> {
    let none = Default::default();
    let own = identity::status::status(&scene.world, plan, &none, None, true, scene.now);
    own.cluster_peering.expect("offer").spec.accept.pod_ranges
}

#[test]
fn nodes_route_what_is_accepted_by_gateways_with_a_tunnel() {
    let (scene, osaka) = peered();
    let (prefixes, gateways) = scene.routes("osaka").expect("routed");
    assert_eq!(prefixes, [prefix("10.2.0.0/23"), osaka.mesh().prefix()]);
    assert_eq!(gateways, 1);
    let config = scene.agent_config("n1");
    assert_eq!(config.clusters[0].next_hop, osaka.mesh().router().octets());
    assert_eq!(config.clusters[0].mtu, 1420);
    assert_eq!(scene.unreachable(), ["10.2.0.0/16"], "the rest of the range must not leak");
}

#[test]
fn nodes_take_on_the_smallest_path_and_keep_it_while_nobody_knows_better() {
    let (mut scene, osaka) = peered();
    let mut says = |mtus: &[u32]| {
        let mut state = osaka.connected();
        let tunnel = state.connections[0].tunnels[0].clone();
        let with = |mtu: &u32| TunnelState { mtu: *mtu, ..tunnel.clone() };
        state.connections[0].tunnels = mtus.iter().map(with).collect();
        scene.gateway_says(vec![state]);
        scene.step();
        let config = scene.agent_config("n1");
        (config.clusters[0].mtu, config.generation)
    };
    let (mtu, before) = says(&[0]);
    assert_eq!(mtu, 1420, "nobody knows");
    assert_eq!(says(&[1420, 8940]), (1420, before), "no more than is configured, and no news");
    assert_eq!(says(&[1420, 1220]).0, 1220);
    let (mtu, before) = says(&[1340, 0]);
    assert_eq!(mtu, 1340);
    assert_eq!(says(&[0]), (1340, before), "a gateway that has just begun knows nothing yet");
    assert_eq!(says(&[1380]).0, 1380);
    assert_eq!(says(&[3]).0, 576, "nonsense breaks nothing");
    scene.gateway_says(vec![osaka.connected()]);
    let status = &scene.statuses["osaka"];
    assert_eq!(status.mtu, Some(576));
}

/// The MTUs of nodes' routes, of the gateways' devices and of their tunnels, when `n0`'s way to the gateways carries
/// that, and `n1`'s more.
fn over_a_mesh_of(scene: &mut Scene, mtu: u32) -> [u32; 3] {
    scene.agents_say(|node, state| state.mesh_mtu = if node == "n0" { mtu } else { 8951 });
    scene.step();
    let gateway = scene.gateway_config();
    [scene.agent_config("n1").clusters[0].mtu, gateway.mtu, gateway.peerings[0].mtu]
}

#[test]
fn no_packet_is_larger_than_nodes_and_gateways_exchange_whole() {
    let (mut scene, _) = peered();
    assert_eq!(over_a_mesh_of(&mut scene, 1450), [1420; 3]);
    assert_eq!(over_a_mesh_of(&mut scene, 1400), [1400; 3], "an overlay");
    assert_eq!(over_a_mesh_of(&mut scene, 0), [1400; 3], "an agent that has just begun");
    assert_eq!(over_a_mesh_of(&mut scene, 1230), [1230, 1280, 1280], "IPv6 needs 1,280");
    assert_eq!(over_a_mesh_of(&mut scene, 7), [576, 1280, 1280]);
}

#[test]
fn in_an_overlay_nodes_have_the_address_that_their_agents_say_if_it_is_among_their_own() {
    let (mut scene, _) = peered();
    let addresses = |scene: &Scene| {
        let nodes = scene.gateway_config().nodes;
        let of =
            |name: &str| nodes.iter().find(|node| node.name == name).map(|n| n.address.clone());
        let agents = ["n0", "n1"].map(|name| scene.agent_config(name).node_address);
        assert_eq!(["n0", "n1"].map(of), agents.clone().map(Some), "both sides hear the same");
        (agents, scene.agent_config("n1").node_addresses)
    };
    let known = [[172, 20, 0, 10], [172, 20, 0, 11]].map(|address| address.to_vec());
    assert_eq!(addresses(&scene), (known.clone(), Vec::new()));
    for (said, why) in [
        (vec![10, 1, 1, 0], "of another node"),
        (vec![192, 0, 2, 1], "of nobody's"),
        (vec![10, 1, 0], "no address"),
        (known[0].clone(), "the same"),
    ] {
        scene.agents_say(|node, state| {
            state.outer_address = if node == "n0" { said.clone() } else { Vec::new() };
        });
        scene.step();
        assert_eq!(addresses(&scene), (known.clone(), Vec::new()), "{why}");
    }
    let overlay = vec![10, 1, 0, 0];
    scene.agents_say(|node, state| {
        state.outer_address = if node == "n0" { overlay.clone() } else { known[1].clone() };
    });
    scene.step();
    let both = ([overlay.clone(), known[1].clone()], vec![overlay]);
    assert_eq!(addresses(&scene), both);
    scene.agents_say(|_, state| state.outer_address.clear());
    scene.step();
    assert_eq!(addresses(&scene), both, "agents that have just begun");
}

#[test]
fn as_much_as_there_is_may_be_wanted() {
    let (mut scene, _) = peered();
    let mut settings = (*scene.world.settings).clone();
    settings.tunnel_mtu = 0;
    scene.world.settings = settings.into();
    scene.step();
    assert_eq!(scene.gateway_config().mtu, 1420, "nobody knows yet");
    assert_eq!(over_a_mesh_of(&mut scene, 8951), [8951; 3]);
    assert_eq!(over_a_mesh_of(&mut scene, 1450), [1450; 3]);
    assert_eq!(over_a_mesh_of(&mut scene, 65_000), [8951; 3]);
}

#[test]
fn gateways_hear_how_fast_to_notice_and_what_paths_cost() {
    let (mut scene, osaka) = peered();
    let config = scene.gateway_config();
    let peering = &config.peerings[0];
    assert_eq!((peering.detection_milliseconds, peering.endpoint_costs.len()), (0, 0));
    let mut spec = osaka.spec(&["10.2.0.0/16"]);
    let endpoint = |address: &str, cost| EndpointSpec {
        address: address.to_owned(),
        port: 31_820,
        cost,
        ..EndpointSpec::default()
    };
    spec.endpoints = vec![endpoint("192.0.2.1", 0), endpoint("192.0.2.2", 10)];
    spec.failover = Some(FailoverSpec { detection_milliseconds: Some(600) });
    scene.peer("osaka", spec);
    scene.step();
    let config = scene.gateway_config();
    let peering = &config.peerings[0];
    assert_eq!(peering.detection_milliseconds, 600);
    let probes = |scene: &Scene| scene.agent_config("n0").gateway_probe_millis;
    assert_eq!(probes(&scene), 200, "nodes wait for their gateways as long");
    let quito = Peer::new("quito", &["10.3.0.0/16"]);
    scene.peer("quito", quito.spec(&["10.3.0.0/16"]));
    scene.step();
    assert_eq!(probes(&scene), 0, "the hastiest counts");
    scene.world.peerings.remove("quito");
    let failover = Some(FailoverSpec { detection_milliseconds: Some(60_000) });
    scene.peer(
        "osaka",
        carrick_crds::ClusterPeeringSpec { failover, ..osaka.spec(&["10.2.0.0/16"]) },
    );
    scene.step();
    assert_eq!(probes(&scene), 800, "news come to those who asked within a second");
    assert_eq!((peering.endpoints.len(), &peering.endpoint_costs[..]), (2, &[0, 10][..]));
}

#[test]
fn gateways_hear_of_nodes_peers_and_own_ranges_and_carry_a_signed_snapshot() {
    let (scene, _) = peered();
    let config = scene.gateway_config();
    assert_eq!(config.nodes.len(), 2);
    assert_eq!(config.nodes[1].prefixes, [prefix("10.1.1.0/24").into()]);
    assert_eq!(config.peerings.len(), 1);
    assert!(config.peerings[0].snapshot.is_some());
    for own in ["10.1.0.0/23", "10.96.0.0/16", "172.20.0.10/32", "172.20.1.1/32"] {
        assert!(config.own_ranges.contains(&prefix(own).into()), "{own}");
    }
}

#[test]
fn an_equal_world_says_nothing_new() {
    let (mut scene, _) = peered();
    let (gateway, agent) = (scene.gateway_config(), scene.agent_config("n0"));
    scene.pass(std::time::Duration::from_secs(60));
    scene.step();
    assert_eq!(scene.gateway_config().generation, gateway.generation);
    assert_eq!(scene.agent_config("n0").generation, agent.generation);
}

#[test]
fn a_new_controller_says_the_same_with_a_newer_generation() {
    let (mut scene, _) = peered();
    let before = scene.agent_config("n0");
    let mut later = scene.now;
    later.wall += jiff::SignedDuration::from_secs(5);
    scene.outbox = crate::outbox::Outbox::new(later);
    scene.step();
    let after = scene.agent_config("n0");
    assert!(after.generation > before.generation);
    assert_eq!(AgentConfig { generation: 0, ..after }, AgentConfig { generation: 0, ..before });
}

#[test]
fn a_third_cluster_disturbs_nobody() {
    let (mut scene, osaka) = peered();
    let since = scene.outbox.routes_since(&name("n0"), "osaka").expect("told").0;
    let before = scene.gateway_config();
    let lima = Peer::new("lima", &["10.3.0.0/24"]);
    scene.peer("lima", lima.spec(&["10.3.0.0/16"]));
    scene.gateway_says(vec![osaka.connected(), lima.connected()]);
    scene.step();
    assert!(scene.routes("lima").is_some());
    assert_eq!(scene.outbox.routes_since(&name("n0"), "osaka").expect("told").0, since);
    assert_eq!(scene.gateway_config().peerings[0], before.peerings[0], "the same snapshot");
}

#[test]
fn what_the_peer_announces_beyond_the_peering_is_refused() {
    let osaka = Peer::new("osaka", &["10.2.0.0/24", "10.9.0.0/24", "10.1.0.0/24", "0.0.0.0/0"]);
    let mut scene = Scene::new();
    scene.peer("osaka", osaka.spec(&["10.2.0.0/16"]));
    scene.gateway_says(vec![osaka.connected()]);
    scene.step();
    let (prefixes, _) = scene.routes("osaka").expect("routed");
    assert_eq!(prefixes, [prefix("10.2.0.0/24"), osaka.mesh().prefix()]);
    let status = scene.statuses["osaka"].prefixes.clone().expect("prefixes");
    assert_eq!(status.imported, ["10.2.0.0/24"]);
    let refused: Vec<&str> = status.refused.iter().map(|r| r.prefix.as_str()).collect();
    assert_eq!(refused, ["10.9.0.0/24", "10.1.0.0/24", "0.0.0.0/0"]);
}

#[test]
fn what_nodes_do_not_carry_is_neither_offered_announced_nor_taken() {
    let osaka = Peer::new("osaka", &["fd00:2::/56", "10.2.0.0/24"]);
    let mut scene = Scene::new();
    scene.world.settings = std::sync::Arc::new(crate::options::Settings {
        pod_ranges: vec![prefix("10.1.0.0/16")],
        ..crate::scene::settings()
    });
    scene.peer("osaka", osaka.spec(&["10.2.0.0/16", "fd00:2::/48"]));
    scene.gateway_says(vec![osaka.connected()]);
    let plan = scene.step();
    assert_eq!(scene.routes("osaka").expect("routed").0[0], prefix("10.2.0.0/24"));
    let refused = scene.statuses["osaka"].prefixes.clone().expect("prefixes").refused;
    assert_eq!(
        (refused[0].prefix.as_str(), refused[0].reason.as_str()),
        ("fd00:2::/56", "NotCarried")
    );
    assert!(scene.unreachable_prefixes().contains(&prefix("fd00:2::/48")), "it must not leak");
    let said = plan.snapshots.values().next().expect("one");
    assert_eq!(said.pod_prefixes, [prefix("10.1.0.0/16").into()]);
    assert_eq!(offered(&scene, &plan), ["10.1.0.0/16"]);
}

#[test]
fn with_two_families_both_are_offered_announced_and_taken() {
    let osaka = Peer::new("osaka", &["fd00:2::/56", "10.2.0.0/24"]);
    let mut scene = Scene::new();
    let own = [prefix("10.1.0.0/16"), prefix("fd00:1::/56")];
    scene.world.settings = std::sync::Arc::new(crate::options::Settings {
        pod_ranges: own.to_vec(),
        ..crate::scene::settings()
    });
    scene.peer("osaka", osaka.spec(&["10.2.0.0/16", "fd00:2::/48"]));
    scene.gateway_says(vec![osaka.connected()]);
    let plan = scene.step();
    let routed = scene.routes("osaka").expect("routed").0;
    assert_eq!(routed, [prefix("10.2.0.0/24"), osaka.mesh().prefix(), prefix("fd00:2::/56")]);
    assert!(scene.statuses["osaka"].prefixes.clone().expect("prefixes").refused.is_empty());
    let said = plan.snapshots.values().next().expect("one");
    assert_eq!(said.pod_prefixes, own.map(Into::into));
    assert_eq!(offered(&scene, &plan), ["10.1.0.0/16", "fd00:1::/56"]);
}

#[test]
fn the_older_peer_keeps_a_prefix_that_both_announce() {
    let (mut scene, osaka) = peered();
    let lima = Peer::new("lima", &["10.2.0.0/24"]);
    scene.peer("lima", lima.spec(&["10.2.0.0/16"]));
    scene.gateway_says(vec![osaka.connected(), lima.connected()]);
    scene.step();
    assert_eq!(scene.routes("osaka").expect("routed").0[0], prefix("10.2.0.0/23"));
    assert_eq!(scene.routes("lima").expect("known").0, [lima.mesh().prefix()]);
    let refused = scene.statuses["lima"].prefixes.clone().expect("prefixes").refused;
    assert_eq!(refused[0].reason, "OverlapsPeer");
}

#[test]
fn a_lost_tunnel_a_withdrawn_consent_and_a_suspension_make_prefixes_unreachable() {
    let (mut scene, mut osaka) = peered();
    scene.gateway_says(Vec::new());
    scene.step();
    assert_eq!(scene.routes("osaka").expect("known").1, 0, "no gateway, no way");

    osaka.generation = 2;
    osaka.consents = false;
    scene.gateway_says(vec![osaka.connected()]);
    scene.step();
    assert_eq!(scene.routes("osaka").expect("known").1, 0);
    assert_eq!(scene.says("osaka", Connected).1, "Withdrawn");

    let mut spec = osaka.spec(&["10.2.0.0/16"]);
    spec.suspended = true;
    scene.peer("osaka", spec);
    scene.step();
    assert!(scene.gateway_config().peerings.is_empty(), "links close");
    assert!(scene.routes("osaka").is_none());
    assert_eq!(scene.unreachable(), ["10.2.0.0/16"]);
    assert_eq!(scene.says("osaka", Connected).1, "Suspended");
}

#[test]
fn a_deleted_peering_leaves_its_ranges_unreachable_until_another_takes_them() {
    let (mut scene, osaka) = peered();
    scene.world.peerings.clear();
    scene.step();
    assert!(scene.gateway_config().peerings.is_empty());
    assert_eq!(scene.unreachable(), ["10.2.0.0/16"]);
    assert_eq!(scene.world.record.tombstones.len(), 1);

    scene.peer("osaka", osaka.spec(&["10.2.0.0/15"]));
    scene.step();
    assert!(scene.world.record.tombstones.is_empty());
}

#[test]
fn a_deletion_that_nobody_saw_is_noticed() {
    let mut scene = Scene::new();
    scene.world.record.accepted.insert(prefix("10.7.0.0/16"), "lima".to_owned());
    scene.step();
    assert_eq!(scene.unreachable(), ["10.7.0.0/16"]);
}

#[test]
fn our_own_ranges_are_never_unreachable() {
    let (mut scene, _) = peered();
    scene.world.peerings.clear();
    scene.step();
    let node = scene.world.facts.nodes.get_mut("n1").expect("node");
    node.pod_prefixes = vec![prefix("10.1.1.0/24"), prefix("10.2.4.0/24")];
    scene.world.settings = std::sync::Arc::new(crate::options::Settings {
        pod_ranges: vec![prefix("10.1.0.0/16"), prefix("10.2.4.0/24")],
        ..crate::scene::settings()
    });
    scene.step();
    let left = scene.unreachable_prefixes();
    assert!(left.iter().all(|piece| !piece.overlaps(&prefix("10.2.4.0/24"))), "{left:?}");
    assert!(left.iter().any(|piece| piece.covers(&prefix("10.2.5.0/24"))), "{left:?}");
    assert_eq!(scene.world.record.tombstones.len(), 1);
}

#[test]
fn a_node_that_appears_inside_an_accepted_range_opens_no_more_than_itself() {
    let osaka = Peer::new("osaka", &["10.2.0.0/23"]);
    let mut scene = Scene::new();
    scene.peer("osaka", osaka.spec(&["10.2.0.0/15"]));
    scene.gateway_says(vec![osaka.connected()]);
    scene.step();
    let node = scene.world.facts.nodes.get_mut("n1").expect("node");
    node.internal = vec!["10.3.0.5".parse().expect("address")];
    scene.step();
    assert_eq!(scene.says("osaka", Accepted).1, "OverlapsOwnRanges");
    let open = |scene: &Scene, text: &str| {
        !scene.unreachable_prefixes().iter().any(|piece| piece.overlaps(&prefix(text)))
    };
    assert!(open(&scene, "10.3.0.5/32"));
    for remote in ["10.2.0.0/23", "10.3.0.4/32", "10.3.0.6/31"] {
        assert!(!open(&scene, remote), "{remote} leaks");
    }

    scene.world.peerings.clear();
    scene.step();
    assert!(!open(&scene, "10.2.0.0/23"), "deleted, and still it must not leak");
    scene.world.record.forget = vec![prefix("10.2.0.0/15")];
    scene.step();
    assert!(scene.unreachable().is_empty(), "lifted by hand");
}

#[test]
fn a_range_that_was_never_accepted_because_it_holds_ours_cuts_nothing_off() {
    let mut scene = Scene::new();
    scene.peer("osaka", Peer::new("osaka", &[]).spec(&["172.16.0.0/12"]));
    scene.step();
    assert_eq!(scene.says("osaka", Accepted).1, "OverlapsOwnRanges");
    assert!(scene.unreachable().is_empty(), "{:?}", scene.unreachable());
}

#[test]
fn a_forged_or_foreign_snapshot_is_not_believed() {
    let osaka = Peer::new("osaka", &["10.2.0.0/24"]);
    let thief = Peer::new("osaka", &["10.2.9.0/24"]);
    let mut scene = Scene::new();
    scene.peer("osaka", osaka.spec(&["10.2.0.0/16"]));
    let mut state = osaka.connected();
    state.snapshot = Some(thief.snapshot());
    scene.gateway_says(vec![state]);
    scene.step();
    assert!(scene.routes("osaka").is_none(), "a gateway cannot announce what was not signed");
    let why = scene.says("osaka", carrick_crds::condition::PeeringCondition::RoutesReady);
    assert_eq!(why.1, "SnapshotRefused");
}

#[test]
fn an_older_snapshot_changes_nothing() {
    let (mut scene, mut osaka) = peered();
    osaka.generation = 0;
    osaka.prefixes = vec![prefix("10.2.8.0/24")];
    scene.gateway_says(vec![osaka.connected()]);
    scene.step();
    assert_eq!(scene.routes("osaka").expect("routed").0[0], prefix("10.2.0.0/23"));
}

#[test]
fn a_changed_pin_drops_what_the_old_key_said() {
    let (mut scene, _) = peered();
    let other = Peer::new("osaka", &[]);
    scene.peer("osaka", other.spec(&["10.2.0.0/16"]));
    scene.step();
    assert!(scene.routes("osaka").is_none());
}

#[test]
fn bad_peerings_are_refused_and_disturb_nothing() {
    let (mut scene, osaka) = peered();
    let own_key = scene.identity.public().to_string();
    let lima = Peer::new("lima", &[]);
    let good = || lima.spec(&["10.3.0.0/16"]);
    let with = |change: &dyn Fn(&mut carrick_crds::ClusterPeeringSpec)| {
        let mut spec = good();
        change(&mut spec);
        spec
    };
    let many: Vec<String> = (0..65).map(|i| format!("10.3.{i}.0/24")).collect();
    let cases = [
        ("own cluster", with(&|s| s.cluster_id = "paris".into()), "OwnCluster", "paris"),
        ("own key", with(&|s| s.identities = vec![own_key.clone()]), "OwnIdentity", &own_key),
        ("own pods", lima.spec(&["10.1.0.0/24"]), "OverlapsOwnRanges", "10.1.0.0/23"),
        ("services", lima.spec(&["10.96.7.0/24"]), "OverlapsOwnRanges", "10.96.0.0/16"),
        ("a node", lima.spec(&["172.20.0.0/24"]), "OverlapsOwnRanges", "172.20.0.10"),
        ("API server", lima.spec(&["172.20.1.0/24"]), "OverlapsOwnRanges", "172.20.1.1"),
        ("same cluster", with(&|s| s.cluster_id = "osaka".into()), "DuplicatePeering", "osaka"),
        (
            "same key",
            with(&|s| s.identities = vec![osaka.identity.public().to_string()]),
            "DuplicatePeering",
            "osaka",
        ),
        ("default route", lima.spec(&["0.0.0.0/0"]), "InvalidSpec", "spec.accept.podRanges[0]"),
        ("host bits", lima.spec(&["10.3.0.1/16"]), "InvalidSpec", "10.3.0.0/16?"),
        ("malformed", lima.spec(&["10.3.0.0"]), "InvalidSpec", "spec.accept.podRanges[0]"),
        ("nested", lima.spec(&["10.3.0.0/16", "10.3.1.0/24"]), "InvalidSpec", "podRanges[1]"),
        ("too many", with(&|s| s.accept.pod_ranges = many.clone()), "InvalidSpec", "65"),
        ("remap", with(&|s| s.remap = "Auto".into()), "NotImplemented", "spec.remap"),
        ("bad key", with(&|s| s.identities = vec!["x".into()]), "InvalidSpec", "identities[0]"),
    ];
    let (agent, gateway) = (scene.agent_config("n0").clusters, scene.gateway_config().peerings);
    for (what, spec, reason, named) in cases {
        scene.peer("lima", spec);
        scene.step();
        let (status, said, message) = scene.says("lima", Accepted);
        assert_eq!((status.as_str(), said.as_str()), ("False", reason), "{what}: {message}");
        assert!(message.contains(named), "{what}: {message}");
        assert_eq!(scene.agent_config("n0").clusters, agent, "{what}");
        assert_eq!(scene.gateway_config().peerings, gateway, "{what}");
        assert_eq!(scene.says("osaka", Accepted).0, "True", "{what}");
    }
}

#[test]
fn an_unreadable_spec_is_told_so() {
    let mut scene = Scene::new();
    scene.peer("osaka", Peer::new("osaka", &[]).spec(&["10.2.0.0/16"]));
    scene.world.peerings.get_mut("osaka").expect("there").spec = Err("spec: bad".to_owned());
    scene.step();
    let (_, reason, message) = scene.says("osaka", Accepted);
    assert_eq!((reason.as_str(), message.as_str()), ("InvalidSpec", "spec: bad"));
}

#[test]
fn a_lost_or_deleted_gateway_carries_nothing_and_the_only_one_goes_on_while_it_drains() {
    let (mut scene, osaka) = peered();
    let gateway = name(GATEWAY_UID);
    let change = |scene: &mut Scene, draining, lost| {
        let member = scene.world.gateways.get_mut(&gateway).expect("gateway");
        member.state.as_mut().expect("state").draining = draining;
        member.lost = lost;
        scene.step();
        scene.routes("osaka").expect("known").1
    };
    assert_eq!(change(&mut scene, true, None), 1, "there is no other");
    let lost = Some(scene.now.instant);
    assert_eq!(change(&mut scene, false, lost), 1, "a moment without a link is none");
    scene.pass(crate::world::MEMBER_GRACE);
    assert_eq!(change(&mut scene, false, lost), 0);
    scene.gateway_says(vec![osaka.connected()]);
    scene.world.facts.pods.remove(GATEWAY_UID);
    scene.step();
    assert_eq!(scene.routes("osaka").expect("known").1, 0);
}

#[test]
fn a_dead_node_is_no_target_for_the_peers_probes_nor_one_without_an_agent() {
    let (mut scene, _) = peered();
    let nodes = |plan: &super::Plan| plan.snapshots.values().next().expect("one").nodes.len();
    assert_eq!(nodes(&scene.step()), 2);
    let lost = Some(scene.now.instant);
    scene.world.agents.get_mut(&name("n1")).expect("agent").lost = lost;
    assert_eq!(nodes(&scene.step()), 2, "a moment without a link is none");
    scene.world.facts.nodes.get_mut("n1").expect("node").readiness = Readiness::Unreachable;
    assert_eq!(nodes(&scene.step()), 1);
    scene.world.facts.nodes.get_mut("n0").expect("node").wants_agent = false;
    assert_eq!(nodes(&scene.step()), 0);
}

#[test]
fn withdrawal_empties_gateways_and_tells_agents() {
    let (mut scene, _) = peered();
    scene.world.record.withdraw = true;
    scene.step();
    assert!(scene.gateway_config().peerings.is_empty());
    let config = scene.agent_config("n0");
    assert!(config.withdraw && config.clusters.is_empty() && config.unreachable.is_empty());
}

#[test]
fn nodes_hear_where_to_ask_gateways_and_which_of_them_answer() {
    let (mut scene, _) = peered();
    let gateway = |scene: &Scene| scene.agent_config("n0").gateways[0].clone();
    let address = scene.world.mesh().gateway(0).expect("the first").octets().to_vec();
    assert_eq!(gateway(&scene).mesh_address, address);
    assert!(!gateway(&scene).answers_probes, "an older release says nothing of it");
    let member = scene.world.gateways.get_mut(&name(GATEWAY_UID)).expect("joined");
    member.state.as_mut().expect("reported").mesh_address = address;
    scene.step();
    assert!(gateway(&scene).answers_probes);
    assert_eq!(scene.agent_config("n0").gateway_probe_millis, 0);
}

#[test]
fn a_gateway_that_is_silent_for_one_node_is_counted_once() {
    let (mut scene, _) = peered();
    let probe = |state: &str| GatewayProbe {
        gateway: GATEWAY_UID.to_owned(),
        state: state.to_owned(),
        ..GatewayProbe::default()
    };
    scene.agents_say(|_, state| state.gateways = vec![probe("Answers")]);
    assert!(scene.world.silent_gateways(scene.now.instant).is_empty());
    scene.agents_say(|_, state| state.gateways = vec![probe("Silent")]);
    assert_eq!(scene.world.silent_gateways(scene.now.instant).len(), 1);
}

#[test]
fn a_cluster_without_tunnels_may_be_routed_as_soon_as_a_gateway_reaches_it_if_both_want_that() {
    let (mut scene, mut osaka) = peered();
    let remote = |scene: &Scene| {
        let config = scene.agent_config("n0");
        config.clusters.first().map(|c| (c.gateways.len(), c.routable))
    };
    assert_eq!(remote(&scene), Some((1, true)));
    scene.gateway_says(vec![osaka.failing("192.0.2.1:31820", "TimedOut", "no answer")]);
    scene.step();
    assert_eq!(remote(&scene), Some((0, true)));
    (osaka.consents, osaka.generation) = (false, 2);
    scene.gateway_says(vec![osaka.connected()]);
    scene.step();
    assert_eq!(remote(&scene), Some((0, false)));
}
