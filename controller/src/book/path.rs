//! Whether packets get to a cluster, as gateways and agents say: pure.
//!
//! It is what the nodes go by (see `agent/src/probe/gateways`), so that services leave a cluster when routes do, and not
//! only when the last session with it has been silent for 15 s.

use std::collections::BTreeSet;

use carrick_crds::peering::Peering;
use carrick_exchange::message::member::{GatewayProbe, GatewayState, PathHealth, TunnelState};
use carrick_model::{ClusterId, MemberName};

use super::reach::Word;
use crate::cluster::PodFacts;
use crate::plan::PeeringPlan;
use crate::world::{Now, World};

/// Gateways that no node hears any more, by their pods' UIDs.
pub type Silent = BTreeSet<String>;

/// What is known of the way to a peer.
pub fn word(
    world: &World,
    peering: &Peering,
    planned: &PeeringPlan,
    silent: &Silent,
    now: Now,
) -> Word {
    let refused = planned.filtered.is_some() && !planned.routable;
    if refused || peering.suspended || world.record.withdraw {
        return Word::Fails;
    }
    let pods = world.facts.gateway_pods(&world.settings.namespace);
    let says = |pod: &&PodFacts| match world.gateway_says(pod, now.instant) {
        _ if silent.contains(&pod.uid) => Word::Fails,
        Some(state) if planned.routable && carries(state, &peering.cluster) => Word::Works,
        Some(_) => Word::Fails,
        // By Kubernetes it is well, so that it may be our own link to it that is cut.
        None if pod.ready => Word::Unknown,
        None => Word::Fails,
    };
    pods.iter().map(says).max().unwrap_or(Word::Fails)
}

fn carries(state: &GatewayState, cluster: &ClusterId) -> bool {
    let peer = state.peers.iter().filter(|peer| peer.cluster == cluster.as_str());
    let mut tunnels = peer.flat_map(|peer| peer.connections.iter().flat_map(|c| &c.tunnels));
    tunnels.any(works)
}

/// A tunnel counts as up for 15 s after the last sign of life; by heartbeats it is known sooner. Peers that send none
/// have paths of which nobody knows.
fn works(tunnel: &TunnelState) -> bool {
    // One without a round trip was never used both ways: a peer that we do not reach may reach us by another address.
    let alive = |path: &PathHealth| match path.state.as_str() {
        "down" => false,
        "unknown" => true,
        _ => path.rtt_micros > 0,
    };
    tunnel.up && (tunnel.paths.is_empty() || tunnel.paths.iter().any(alive))
}

/// Gateways that no node hears. A gateway's own node does not count where others ask as well: the two may have died
/// together, and the last word of an agent counts for a while.
pub fn silent(world: &World, now: Now) -> Silent {
    let is_silent = |(gateway, mut said): (&str, Vec<(&MemberName, &GatewayProbe)>)| {
        // One that never answered may be of a release that does not.
        said.retain(|(_, probe)| probe.state != "Unknown");
        let pod = world.facts.pods.get(gateway);
        let own = |node: &MemberName| pod.is_some_and(|pod| pod.node == node.as_str());
        if said.iter().any(|(node, _)| !own(node)) {
            said.retain(|(node, _)| !own(node));
        }
        let all = !said.is_empty() && said.iter().all(|(_, probe)| probe.is_silent());
        all.then(|| gateway.to_owned())
    };
    world.probes_by_gateway(now.instant).into_iter().filter_map(is_silent).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use carrick_exchange::message::member::{GatewayProbe, PeerState};

    use super::*;
    use crate::scene::{GATEWAY_UID, Peer, Scene, name};
    use crate::world::MEMBER_GRACE;

    fn peered() -> (Scene, Peer) {
        let (mut scene, osaka) = (Scene::new(), Peer::new("osaka", &["10.2.0.0/16"]));
        scene.peer("osaka", osaka.spec(&["10.2.0.0/16"]));
        scene.gateway_says(vec![osaka.connected()]);
        (scene, osaka)
    }

    fn says(scene: &mut Scene) -> Word {
        let plan = scene.step();
        let object = &scene.world.peerings["osaka"];
        let peering = Peering::parse(object.spec.as_ref().expect("good")).expect("good");
        let silent = silent(&scene.world, scene.now);
        word(&scene.world, &peering, &plan.peerings["osaka"], &silent, scene.now)
    }

    fn with_paths(osaka: &Peer, states: &[&str]) -> Vec<PeerState> {
        let mut peer = osaka.connected();
        let path = |state: &&str| PathHealth {
            state: (*state).to_owned(),
            rtt_micros: 20_000,
            ..PathHealth::default()
        };
        peer.connections[0].tunnels[0].paths = states.iter().map(path).collect();
        vec![peer]
    }

    #[test]
    fn the_paths_say_it_before_the_session_does() {
        let (mut scene, osaka) = peered();
        assert_eq!(says(&mut scene), Word::Works, "an older release says nothing of paths");
        for (states, word) in [
            (&["up"][..], Word::Works),
            (&["down", "held"], Word::Works),
            (&["unknown"], Word::Works),
            (&["down"], Word::Fails),
            (&["down", "down"], Word::Fails),
        ] {
            scene.gateway_says(with_paths(&osaka, states));
            assert_eq!(says(&mut scene), word, "{states:?}");
        }
        let mut heard = with_paths(&osaka, &["down", "up"]);
        heard[0].connections[0].tunnels[0].paths[1].rtt_micros = 0;
        scene.gateway_says(heard);
        assert_eq!(says(&mut scene), Word::Fails, "nothing came back by the second one yet");
    }

    #[test]
    fn whoever_does_not_consent_or_is_suspended_is_not_reached() {
        let (mut scene, mut osaka) = peered();
        scene.peer(
            "osaka",
            carrick_crds::ClusterPeeringSpec { suspended: true, ..osaka.spec(&["10.2.0.0/16"]) },
        );
        assert_eq!(says(&mut scene), Word::Fails);
        scene.peer("osaka", osaka.spec(&["10.2.0.0/16"]));
        (osaka.consents, osaka.generation) = (false, 2);
        scene.gateway_says(vec![osaka.connected()]);
        assert_eq!(says(&mut scene), Word::Fails);
        scene.world.record.withdraw = true;
        assert_eq!(says(&mut scene), Word::Fails);
    }

    #[test]
    fn a_gateway_that_no_node_hears_carries_nothing_whatever_it_said() {
        let (mut scene, _) = peered();
        let mut heard = |on_its_node: &str, elsewhere: &str| {
            // Its pod is on n0.
            let probe = |state: &str| GatewayProbe {
                gateway: GATEWAY_UID.to_owned(),
                state: state.to_owned(),
                ..GatewayProbe::default()
            };
            scene.agents_say(|node, state| {
                state.gateways = vec![probe(if node == "n0" { on_its_node } else { elsewhere })];
            });
            says(&mut scene)
        };
        assert_eq!(heard("Answers", "Answers"), Word::Works);
        assert_eq!(heard("Silent", "Answers"), Word::Works, "some node gets there");
        assert_eq!(heard("Answers", "Silent"), Word::Fails, "its node may be dead as well");
        assert_eq!(heard("Silent", "Silent"), Word::Fails);
        assert_eq!(heard("Unknown", "Unknown"), Word::Works, "an older release answers nobody");
        assert_eq!(heard("Silent", "Unknown"), Word::Fails);
    }

    #[test]
    fn a_link_that_is_cut_says_nothing_of_the_way() {
        let (mut scene, _) = peered();
        let gateway = scene.world.gateways.get_mut(&name(GATEWAY_UID)).expect("joined");
        gateway.lost = Some(scene.now.instant);
        assert_eq!(says(&mut scene), Word::Works, "its last word counts for a while");
        scene.pass(MEMBER_GRACE + Duration::from_millis(1));
        assert_eq!(says(&mut scene), Word::Unknown);
        scene.world.facts.pods.get_mut(GATEWAY_UID).expect("pod").ready = false;
        assert_eq!(says(&mut scene), Word::Fails);
        scene.world.facts.pods.remove(GATEWAY_UID);
        assert_eq!(says(&mut scene), Word::Fails, "there is no gateway");
    }
}
