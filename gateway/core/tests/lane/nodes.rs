//! What a gateway tells its peers of its nodes, and how these choose.

use std::net::Ipv4Addr;
use std::time::Duration;

use carrick_gateway_core::path::Standing;
use carrick_gateway_core::{Framing, HostConfig};
use carrick_model::gateway_probe::{PORT, Question, RANKS};

use crate::network::{Network, OSAKA, PARIS, frame, ip_packet};

const NODE: &str = "240.0.0.2";
const GATEWAY: &str = "240.0.15.254";
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 9);

/// Two lanes with heartbeats, of which Paris' answers its node.
fn joined() -> Network {
    let mut network = Network::new(Framing::Ethernet);
    for city in [PARIS, OSAKA] {
        network.reapply(city, |config| {
            let tunnel = &mut config.tunnels[0];
            (tunnel.initiate, tunnel.probes) = (true, true);
        });
    }
    network.reapply(PARIS, |config| {
        let address = GATEWAY.parse().expect("an address");
        config.host = Some(HostConfig { address, draining: false, routers: Default::default() });
    });
    network.live(Duration::from_secs(1));
    network
}

/// Paris' node asks so often, with that knowledge, a tenth of a second apart.
fn ask(network: &mut Network, count: u32, known: u32) {
    for sequence in 0..count {
        let question = Question { nonce: 7, sequence, known }.write();
        let ports = [40_000u16.to_be_bytes(), PORT.to_be_bytes()].concat();
        let length = (8 + question.len() as u16).to_be_bytes();
        let udp = [&ports[..], &length, &[0, 0], &question].concat();
        network.enters(PARIS, &frame(PARIS, &ip_packet(NODE, GATEWAY, 17, &udp)));
        network.live(Duration::from_millis(100));
    }
}

fn told(network: &Network) -> Option<u16> {
    network.report(OSAKA).nodes
}

#[test]
fn a_peer_is_told_how_many_nodes_hear_a_gateway() {
    let mut network = joined();
    assert_eq!(told(&network), Some(0));
    assert_eq!(network.report(PARIS).nodes, None, "Osaka has no nodes to tell of");
    ask(&mut network, 5, RANKS);
    assert_eq!(told(&network), Some(0), "it asks, but does not hear the answers");
    ask(&mut network, 4, 77);
    assert_eq!(told(&network), Some(1));
    // It hears no answers any more; then it is not heard either.
    ask(&mut network, 3, RANKS);
    assert_eq!(told(&network), Some(0));
    ask(&mut network, 4, 77);
    assert_eq!(told(&network), Some(1));
    network.live(Duration::from_millis(200));
    assert_eq!(told(&network), Some(1), "some questions may be lost");
    network.live(Duration::from_millis(500));
    assert_eq!(told(&network), Some(0));
}

#[test]
fn a_node_that_asks_another_lane_counts_once() {
    let mut network = joined();
    ask(&mut network, 4, 77);
    let own = network.tell_lane(PARIS, |lane, _| lane.hearers().0.to_vec());
    assert_eq!(own, [NODE.parse::<Ipv4Addr>().expect("an address")]);
    for (others, count) in [(vec![ELSEWHERE], 2), (vec![own[0], ELSEWHERE], 2), (vec![], 1)] {
        network.tell_lane(PARIS, |lane, now| lane.tell_hearers(now, others));
        ask(&mut network, 1, 77);
        assert_eq!(told(&network), Some(count));
    }
    // It turns to this lane, which need not count to three.
    network.live(Duration::from_secs(1));
    assert_eq!(told(&network), Some(0));
    network.tell_lane(PARIS, |lane, now| lane.tell_hearers(now, own));
    ask(&mut network, 1, 77);
    network.tell_lane(PARIS, |lane, now| lane.tell_hearers(now, Vec::new()));
    ask(&mut network, 1, 77);
    assert_eq!(told(&network), Some(1));
}

#[test]
fn what_was_lost_is_said_again() {
    let mut network = joined();
    ask(&mut network, 4, 77);
    // A node that is no more is forgotten at once, and nothing of that arrives.
    network.cut = [true, false];
    network.reapply(PARIS, |config| config.nodes.clear());
    network.live(Duration::from_millis(900));
    assert_eq!(told(&network), Some(1));
    network.cut = [false; 2];
    network.live(Duration::from_secs(5));
    assert_eq!(told(&network), Some(0));
    assert_eq!(network.report(OSAKA).standing, Standing::Even, "there is no other");
    assert!(network.tell_lane(OSAKA, |lane, now| lane.is_reachable(0, now)));
}

#[test]
fn a_lane_that_stood_still_gives_up_no_node() {
    let mut network = joined();
    ask(&mut network, 4, 77);
    let changes = network.tell_lane(PARIS, |lane, _| lane.hearers().1);
    network.stand_still(Duration::from_secs(3));
    // Its timers run before it reads.
    network.pass(Duration::from_millis(1));
    ask(&mut network, 3, 77);
    assert_eq!(network.tell_lane(PARIS, |lane, _| lane.hearers().1), changes);
}

#[test]
fn a_lane_without_tunnels_notices_that_nodes_fall_silent() {
    let mut network = joined();
    network.reapply(PARIS, |config| {
        config.tunnels.clear();
        config.peers.clear();
    });
    let heard = |network: &mut Network| network.tell_lane(PARIS, |lane, _| lane.nodes_heard());
    ask(&mut network, 4, 77);
    network.live(Duration::from_millis(150));
    assert_eq!(heard(&mut network), Some(1));
    network.live(Duration::from_secs(1));
    assert_eq!(heard(&mut network), Some(0));
}
