//! Handshakes, sessions, routes and refusals.

use crate::network::{Network, OSAKA, PARIS, THIRD, frame, ip_packet, udp};
use carrick_gateway_core::{DropReason, Framing, TunnelId};
use proptest::prelude::*;

const PARIS_POD: &str = "10.1.0.5";
const OSAKA_POD: &str = "10.2.0.7";

/// Sends one packet from a pod in Paris to one in Osaka, and says what Osaka's device got.
fn cross(network: &mut Network) -> Vec<Vec<u8>> {
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b"hello")));
    network.run();
    network.delivered(OSAKA)
}

#[test]
fn the_first_packet_waits_for_the_handshake_and_arrives_a_hop_older() {
    let mut network = Network::new(Framing::Ethernet);
    let frames = cross(&mut network);
    assert_eq!(frames.len(), 1);
    let frame = &frames[0];
    assert_eq!(frame[..6], crate::network::node_mac(OSAKA).0);
    assert_eq!(frame[6..12], carrick_model::Mac::GATEWAY.0);
    let packet = &frame[14..];
    let header = carrick_gateway_core::packet::parse(packet).expect("packet");
    // Two gateways, one hop each.
    assert_eq!((header.hop_limit, &packet[header.payload + 8..]), (62, &b"hello"[..]));
    assert_eq!(network.drops(PARIS).total() + network.drops(OSAKA).total(), 0);
    assert_eq!(network.report(OSAKA).rx.packets, 1);
    assert!(network.report(PARIS).up && network.report(OSAKA).up);
}

#[test]
fn a_tun_leaves_hops_to_the_kernel() {
    let mut network = Network::new(Framing::Ip);
    network.enters(PARIS, &udp(PARIS_POD, OSAKA_POD, b"hello"));
    network.run();
    assert_eq!(network.delivered(OSAKA), [udp(PARIS_POD, OSAKA_POD, b"hello")]);
}

#[test]
fn version_six_crosses_too() {
    let mut network = Network::new(Framing::Ethernet);
    network.enters(PARIS, &frame(PARIS, &udp("fd00:1::5", "fd00:2::7", b"hello")));
    network.run();
    assert_eq!(network.delivered(OSAKA)[0][12..14], [0x86, 0xdd]);
}

#[test]
fn an_equal_configuration_touches_nothing_and_a_new_endpoint_no_session() {
    let mut network = Network::new(Framing::Ethernet);
    cross(&mut network);
    let before = network.report(PARIS);
    network.reapply(PARIS, |_| {});
    network.reapply(PARIS, |config| config.tunnels[0].keepalive = Some(7));
    network
        .reapply(PARIS, |config| config.peers[0].prefixes.push("10.9.0.0/16".parse().expect("p")));
    assert_eq!(network.on_the_wire(), 0);
    assert_eq!(network.report(PARIS), before);
    assert_eq!(cross(&mut network).len(), 1);
    let after = network.report(PARIS);
    assert_eq!((after.sessions, after.initiations), (1, 1));
}

#[test]
fn another_preshared_key_makes_another_session() {
    let mut network = Network::new(Framing::Ethernet);
    cross(&mut network);
    for city in [PARIS, OSAKA] {
        network.reapply(city, |config| config.tunnels[0].psk = Some([8; 32]));
    }
    assert_eq!(cross(&mut network).len(), 1);
    assert_eq!(network.report(PARIS).sessions, 1);
}

#[test]
fn different_preshared_keys_carry_nothing() {
    let mut network = Network::new(Framing::Ethernet);
    network.reapply(OSAKA, |config| config.tunnels[0].psk = Some([8; 32]));
    assert_eq!(cross(&mut network).len(), 0);
    assert!(network.drops(PARIS).of(DropReason::HandshakeFailed) > 0);
    assert!(!network.report(PARIS).up);
}

#[test]
fn a_removed_tunnel_takes_no_more_packets() {
    let mut network = Network::new(Framing::Ethernet);
    cross(&mut network);
    network.reapply(OSAKA, |config| {
        config.tunnels.clear();
        config.peers[0].tunnels.clear();
    });
    assert_eq!(cross(&mut network).len(), 0);
    assert_eq!(network.drops(OSAKA).of(DropReason::UnknownTunnel), 1);
}

#[test]
fn a_peer_may_only_speak_for_what_it_was_accepted_for() {
    let mut network = Network::new(Framing::Ethernet);
    cross(&mut network);
    // Osaka no longer accepts this pod's prefix; Paris still sends from it.
    network.reapply(OSAKA, |config| {
        config.peers[0].prefixes = vec!["10.1.9.0/24".parse().expect("p")]
    });
    assert_eq!(cross(&mut network).len(), 0);
    assert_eq!(network.drops(OSAKA).of(DropReason::SourceNotOfPeer), 1);
}

#[test]
fn what_waited_for_a_session_is_not_overtaken_when_the_socket_is_full() {
    let mut network = Network::new(Framing::Ethernet);
    for number in 0..10 {
        network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, &[number])));
    }
    network.step();
    assert_eq!(network.on_the_wire(), 1, "the response");
    network.refuses = true;
    network.step();
    network.refuses = false;
    // Ten packets and the keepalive that says that the session stands.
    assert_eq!(network.drops(PARIS).of(DropReason::SocketFull), 11);
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b"after")));
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 1, "only what came after");
}

#[test]
fn each_peer_has_its_own_largest_packet() {
    let mut network = Network::new(Framing::Ethernet);
    cross(&mut network);
    network.reapply(PARIS, |config| config.peers[0].mtu = Some(1300));
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, &[7; 1272])));
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 1, "1,300 bytes fit");
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, &[7; 1273])));
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 0);
    let answer = &network.delivered(PARIS)[0][14..];
    assert_eq!((answer[20], answer[21], &answer[26..28]), (3, 4, &1300u16.to_be_bytes()[..]));
    // More than the gateway carries is not had by asking.
    network.reapply(PARIS, |config| config.peers[0].mtu = Some(9000));
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, &[7; 1393])));
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 0);
}

#[test]
fn one_peer_cannot_speak_for_another() {
    let mut network = Network::new(Framing::Ethernet);
    cross(&mut network);
    network.reapply(OSAKA, |config| {
        // A third cluster holds a narrower prefix inside what Paris was accepted for.
        let mut third = config.peers[0].clone();
        third.cluster = THIRD.parse().expect("cluster");
        third.tunnels.clear();
        third.prefixes = vec!["10.1.0.0/24".parse().expect("prefix")];
        config.peers.push(third);
    });
    assert_eq!(cross(&mut network).len(), 0);
    assert_eq!(network.drops(OSAKA).of(DropReason::SourceNotOfPeer), 1);
}

#[test]
fn a_node_may_only_speak_for_its_own_pods() {
    let mut network = Network::new(Framing::Ethernet);
    let foreign = frame(PARIS, &udp("10.1.7.5", OSAKA_POD, b"not my pod"));
    let mut unknown = frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b"not a node"));
    unknown[11] ^= 1;
    network.enters(PARIS, &foreign);
    network.enters(PARIS, &unknown);
    network.run();
    assert_eq!(network.drops(PARIS).of(DropReason::SourceNotOnNode), 1);
    assert_eq!(network.drops(PARIS).of(DropReason::UnknownNode), 1);
    assert_eq!(network.delivered(OSAKA).len(), 0);
}

#[test]
fn frames_that_are_none_of_ours_are_counted_each_for_its_reason() {
    let mut network = Network::new(Framing::Ethernet);
    let mut arp = frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b""));
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut broadcast = frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b""));
    broadcast[..6].fill(0xff);
    let cases = [
        (arp, DropReason::NotIp),
        (broadcast, DropReason::NotUnicast),
        (frame(PARIS, &udp(PARIS_POD, "224.0.0.1", b"")), DropReason::NotUnicast),
        (frame(PARIS, &udp(PARIS_POD, "10.77.0.1", b"")), DropReason::NoRoute),
        (frame(PARIS, &[0x45, 0, 0, 90]), DropReason::MalformedPacket),
        (vec![1, 2, 3], DropReason::MalformedPacket),
    ];
    for (bytes, reason) in cases {
        let before = network.drops(PARIS).of(reason);
        network.enters(PARIS, &bytes);
        assert_eq!(network.drops(PARIS).of(reason), before + 1, "{reason:?}");
    }
    assert_eq!(network.delivered(PARIS).len() + network.on_the_wire(), 0);
}

#[test]
fn the_last_hop_and_the_too_big_are_answered_by_the_router() {
    let mut network = Network::new(Framing::Ethernet);
    let mut last_hop = udp(PARIS_POD, OSAKA_POD, b"x");
    last_hop[8] = 1;
    network.enters(PARIS, &frame(PARIS, &last_hop));
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, &[0; 1500])));
    let answers = network.delivered(PARIS);
    let kinds: Vec<_> = answers.iter().map(|frame| (frame[34], frame[35])).collect();
    assert_eq!(kinds, [(11, 0), (3, 4)]);
    assert_eq!(answers[0][..6], crate::network::node_mac(PARIS).0);
    assert_eq!(network.drops(PARIS).of(DropReason::TtlExceeded), 1);
    assert_eq!(network.drops(PARIS).of(DropReason::TooBig), 1);
}

#[test]
fn a_hop_that_ends_at_the_far_gateway_is_answered_through_the_tunnel() {
    let mut network = Network::new(Framing::Ethernet);
    let mut two_hops = udp(PARIS_POD, OSAKA_POD, b"x");
    two_hops[8] = 2;
    network.enters(PARIS, &frame(PARIS, &two_hops));
    network.run();
    assert_eq!(network.drops(OSAKA).of(DropReason::TtlExceeded), 1);
    assert_eq!(network.delivered(PARIS)[0][34], 11);
}

#[test]
fn syns_are_clamped_on_the_way() {
    let mut network = Network::new(Framing::Ethernet);
    let mut tcp = [0; 24];
    (tcp[12], tcp[13]) = (0x60, 2);
    tcp[20..24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
    network.enters(PARIS, &frame(PARIS, &ip_packet(PARIS_POD, OSAKA_POD, 6, &tcp)));
    network.run();
    assert_eq!(network.delivered(OSAKA)[0][14 + 42..][..2], 1380u16.to_be_bytes());
}

#[test]
fn a_replayed_datagram_is_dropped() {
    let mut network = Network::new(Framing::Ethernet);
    cross(&mut network);
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b"again")));
    let recorded = network.peek();
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 1);
    network.inject(OSAKA, &recorded);
    assert_eq!(network.delivered(OSAKA).len(), 0);
    assert_eq!(network.drops(OSAKA).of(DropReason::Replayed), 1);
}

#[test]
fn a_replayed_handshake_is_dropped() {
    let mut network = Network::new(Framing::Ethernet);
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b"x")));
    let initiation = network.peek();
    network.run();
    network.inject(OSAKA, &initiation);
    assert_eq!(network.drops(OSAKA).of(DropReason::Replayed), 1);
    assert_eq!(cross(&mut network).len(), 1 + 1, "the session before still stands");
}

#[test]
fn broken_datagrams_are_counted_each_for_its_reason() {
    let mut network = Network::new(Framing::Ethernet);
    cross(&mut network);
    network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b"x")));
    let good = network.peek();
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let mut bad_mac = vec![0; 148];
    bad_mac[0] = 1;
    let cases = [
        (Vec::new(), DropReason::MalformedDatagram),
        (good[..20].to_vec(), DropReason::MalformedDatagram),
        (good[..good.len() - 1].to_vec(), DropReason::BadAuthentication),
        (changed(good.len() - 1), DropReason::BadAuthentication),
        (changed(0), DropReason::MalformedDatagram),
        (changed(5), DropReason::UnknownTunnel),
        (changed(4), DropReason::NoSession),
        (vec![4; 65_535], DropReason::OversizedDatagram),
        (bad_mac, DropReason::BadMac),
    ];
    for (bytes, reason) in cases {
        let before = network.drops(OSAKA).of(reason);
        network.inject(OSAKA, &bytes);
        assert_eq!(network.drops(OSAKA).of(reason), before + 1, "{reason:?}");
    }
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 1, "the good one still arrives");
}

#[test]
fn a_stranger_gets_no_session() {
    let mut network = Network::new(Framing::Ethernet);
    // Osaka forgets Paris' key and knows another.
    network.reapply(OSAKA, |config| {
        config.tunnels[0].remote_key = carrick_model::TunnelKey::from_bytes([9; 32]);
        config.tunnels[0].id = TunnelId(77);
        config.peers[0].tunnels = vec![TunnelId(77)];
    });
    assert_eq!(cross(&mut network).len(), 0);
    assert_eq!(network.drops(OSAKA).of(DropReason::UnknownPeer), 1);
}

#[test]
fn what_waits_for_a_handshake_is_bounded() {
    let mut network = Network::new(Framing::Ethernet);
    for _ in 0..200 {
        network.enters(PARIS, &frame(PARIS, &udp(PARIS_POD, OSAKA_POD, b"x")));
    }
    assert_eq!(network.drops(PARIS).of(DropReason::HandshakeQueueFull), 200 - 64);
    assert_eq!(network.on_the_wire(), 1, "one handshake, however many packets ask");
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 64);
}

#[test]
fn both_may_begin_at_once() {
    let mut network = Network::new(Framing::Ethernet);
    for city in [PARIS, OSAKA] {
        network.reapply(city, |config| config.tunnels[0].initiate = true);
    }
    assert_eq!(network.on_the_wire(), 2, "two handshakes under way, crossing each other");
    network.run();
    assert!(network.report(PARIS).up && network.report(OSAKA).up);
    network.pass(std::time::Duration::from_secs(2));
    assert_eq!(network.on_the_wire(), 0, "and nobody begins again");
    assert_eq!(cross(&mut network).len(), 1);
    network.enters(OSAKA, &frame(OSAKA, &udp("10.2.0.7", PARIS_POD, b"back")));
    network.run();
    assert_eq!(network.delivered(PARIS).len(), 1);
    assert_eq!(network.drops(PARIS).total() + network.drops(OSAKA).total(), 0);
}

#[test]
fn an_idle_tunnel_stays_up_and_its_session_is_renewed_before_it_ends() {
    let mut network = Network::new(Framing::Ethernet);
    for city in [PARIS, OSAKA] {
        network.reapply(city, |config| {
            config.tunnels[0].initiate = true;
            config.tunnels[0].keepalive = Some(5);
        });
    }
    network.run();
    let first = network.report(PARIS).sessions;
    for step in 1..=320 * 20 {
        network.pass(std::time::Duration::from_millis(50));
        network.run();
        let seconds = step / 20;
        assert!(network.report(PARIS).up && network.report(OSAKA).up, "after {seconds} s");
        let renewed = network.report(PARIS).sessions - first;
        assert!(renewed <= seconds / 150, "{renewed} new sessions after {seconds} s");
    }
    assert_eq!(network.report(PARIS).sessions - first, 2, "one each 150 s");
    assert_eq!(network.drops(PARIS).total() + network.drops(OSAKA).total(), 0);
}

#[test]
fn a_lost_handshake_is_tried_again_soon() {
    let mut network = Network::new(Framing::Ethernet);
    network.reapply(PARIS, |config| config.tunnels[0].initiate = true);
    assert_eq!(network.on_the_wire(), 1);
    network.lose_all();
    network.pass(std::time::Duration::from_millis(300));
    assert_eq!(network.on_the_wire(), 1);
    network.run();
    assert!(network.report(PARIS).up);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_datagrams_and_frames_disturb_nothing(
        junk in proptest::collection::vec((0..5u8, proptest::collection::vec(any::<u8>(), 0..200)), 1..50),
    ) {
        let mut network = Network::new(Framing::Ethernet);
        cross(&mut network);
        for (kind, mut bytes) in junk {
            network.enters(PARIS, &bytes);
            if bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            network.inject(OSAKA, &bytes);
        }
        network.delivered(OSAKA);
        network.delivered(PARIS);
        prop_assert_eq!(cross(&mut network).len(), 1);
    }
}
