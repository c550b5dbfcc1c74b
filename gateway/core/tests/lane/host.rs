//! The gateway as a host: what it answers to its node, and to nobody else.

use std::net::Ipv4Addr;
use std::time::Duration;

use carrick_gateway_core::{DropReason, Framing, HostConfig, checksum, packet};
use carrick_model::Mac;
use carrick_model::gateway_probe::{Answer, PORT, QUESTION, Question, Reach};

use crate::network::{Network, OSAKA, PARIS, frame, ip_packet, node_mac, udp};

const NODE: &str = "240.0.0.2";
const GATEWAY: &str = "240.0.15.254";
/// The router addresses of Osaka and of a third cluster.
const OSAKA_ROUTER: [u8; 4] = [240, 0, 16, 1];
const THIRD_ROUTER: [u8; 4] = [240, 0, 32, 1];
const FROM: u16 = 40_000;

/// Two cities, of which Paris' gateway answers its node.
fn network() -> Network {
    let mut network = Network::new(Framing::Ethernet);
    network.reapply(PARIS, |config| {
        config.host = Some(HostConfig {
            address: GATEWAY.parse().expect("address"),
            draining: false,
            routers: [("osaka".parse().expect("a name"), Ipv4Addr::from(OSAKA_ROUTER))].into(),
        });
    });
    network
}

/// A tunnel comes up.
fn join(network: &mut Network) {
    network.enters(PARIS, &frame(PARIS, &udp("10.1.0.5", "10.2.0.7", b"hello")));
    network.run();
    network.pass(Duration::from_millis(300));
    assert!(network.report(PARIS).up);
}

fn question(sequence: u32, known: u32) -> Question {
    Question { nonce: 7, sequence, known }
}

fn udp_to(port: u16, data: &[u8]) -> Vec<u8> {
    let length = (8 + data.len() as u16).to_be_bytes();
    let ports = [FROM.to_be_bytes(), port.to_be_bytes()].concat();
    ip_packet(NODE, GATEWAY, 17, &[&ports[..], &length, &[0, 0], data].concat())
}

/// The packet that asks.
fn asking(question: Question) -> Vec<u8> {
    udp_to(PORT, &question.write())
}

/// What an answer says: sequence, whether unasked, whether draining, digest, and the list if there is one.
type Said = (u32, bool, bool, u32, Option<Vec<[u8; 4]>>);

/// The answers that Paris' node got since the last call.
fn answers(network: &mut Network) -> Vec<Said> {
    let read = |frame: Vec<u8>| {
        assert_eq!((&frame[..6], &frame[6..12]), (&node_mac(PARIS).0[..], &Mac::GATEWAY.0[..]));
        let bytes = &frame[14..];
        let header = packet::parse(bytes).expect("a packet");
        assert_eq!(
            (header.source.to_string(), header.destination.to_string()),
            (GATEWAY.to_owned(), NODE.to_owned())
        );
        assert_eq!(checksum::finish(checksum::add(0, &bytes[..20])), 0);
        let sum = checksum::pseudo(bytes, 17, (header.length - 20) as u16);
        assert_eq!(checksum::finish(checksum::add(sum, &bytes[20..header.length])), 0);
        assert_eq!(bytes[20..24], [PORT.to_be_bytes(), FROM.to_be_bytes()].concat());
        let answer = Answer::parse(&bytes[28..header.length]).expect("an answer");
        assert_eq!(answer.nonce, 7);
        let list = match answer.reach {
            Reach::Clusters(list) => Some(list.to_vec()),
            Reach::Same | Reach::TooMany => None,
        };
        (answer.sequence, answer.unasked, answer.draining, answer.digest, list)
    };
    network.delivered(PARIS).into_iter().map(read).collect()
}

fn ask(network: &mut Network, question: Question) -> Option<Said> {
    network.enters(PARIS, &frame(PARIS, &asking(question)));
    answers(network).pop()
}

#[test]
fn a_node_is_told_what_is_reached_and_that_it_changed() {
    let mut network = network();
    let (_, unasked, _, none, list) = ask(&mut network, question(1, 0)).expect("an answer");
    assert_eq!((unasked, list), (false, Some(Vec::new())), "no tunnel is up yet");
    let (.., list) = ask(&mut network, question(2, none)).expect("an answer");
    assert_eq!(list, None, "it knows that already");

    join(&mut network);
    let told = answers(&mut network).pop().expect("unasked");
    let reached = told.3;
    assert_eq!(told, (2, true, false, reached, Some(vec![OSAKA_ROUTER])));
    assert_eq!(ask(&mut network, question(3, reached)), Some((3, false, false, reached, None)));

    // Osaka falls silent, and the node goes on asking.
    let mut silent = Vec::new();
    for sequence in 4..160 {
        network.pass(Duration::from_millis(100));
        network.lose_all();
        silent.extend(answers(&mut network));
        silent.extend(ask(&mut network, question(sequence, reached)));
    }
    let first = silent.iter().find(|(.., digest, _)| *digest == none).expect("it is lost");
    assert_eq!((first.1, first.4.as_deref()), (true, Some(&[][..])), "told unasked: {first:?}");
}

#[test]
fn other_lanes_count_and_draining_is_told_at_once() {
    let mut network = network();
    join(&mut network);
    ask(&mut network, question(1, 0));
    network.tell_reached(PARIS, vec![OSAKA_ROUTER, THIRD_ROUTER]);
    let told = answers(&mut network).pop().expect("unasked");
    assert_eq!(told.4, Some(vec![OSAKA_ROUTER, THIRD_ROUTER]));
    network.tell_reached(PARIS, vec![OSAKA_ROUTER, THIRD_ROUTER]);
    assert_eq!(answers(&mut network), [], "nothing new");
    ask(&mut network, question(2, told.3));
    network.reapply(PARIS, |config| {
        config.host.as_mut().expect("a host").draining = true;
    });
    let both = Some(vec![OSAKA_ROUTER, THIRD_ROUTER]);
    let news = answers(&mut network).pop().expect("unasked");
    assert_eq!(news, (2, true, true, told.3, both), "whole, as what was said between may be lost");
}

#[test]
fn who_has_not_asked_lately_is_not_told() {
    let mut network = network();
    ask(&mut network, question(1, 0));
    network.pass(Duration::from_millis(1001));
    network.tell_reached(PARIS, vec![THIRD_ROUTER]);
    assert_eq!(answers(&mut network), []);
    ask(&mut network, question(2, 0));
    network.reapply(PARIS, |config| config.nodes[0].mesh_address = [240, 0, 0, 3].into());
    network.tell_reached(PARIS, Vec::new());
    assert_eq!(answers(&mut network), [], "a node that is no more");
}

#[test]
fn strangers_and_malformed_questions_get_nothing() {
    let mut network = network();
    let good = asking(question(1, 0));
    let whole = question(1, 0).write();
    let pod = ip_packet("10.1.0.5", GATEWAY, 17, &good[20..]);
    let tcp = ip_packet(NODE, GATEWAY, 6, &good[20..]);
    let echo = ip_packet(NODE, GATEWAY, 1, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let mut summed = good.clone();
    summed[26..28].copy_from_slice(&[0x12, 0x34]);
    let mut stretched = good.clone();
    stretched[25] += 1;
    let mut fragment = good.clone();
    fragment[6] = 0x20;
    let not_probe = DropReason::NotProbe;
    for (packet, reason) in [
        (pod, not_probe),
        (tcp, not_probe),
        (echo, not_probe),
        (fragment, not_probe),
        (udp_to(PORT - 1, &whole), not_probe),
        (udp_to(PORT, &whole[..QUESTION - 1]), DropReason::BadProbe),
        (udp_to(PORT, &[&whole[..], &[0]].concat()), DropReason::BadProbe),
        (udp_to(PORT, b""), DropReason::BadProbe),
        (summed, DropReason::MalformedPacket),
        (stretched, DropReason::MalformedPacket),
    ] {
        let before = network.drops(PARIS).of(reason);
        network.enters(PARIS, &frame(PARIS, &packet));
        assert_eq!(network.drops(PARIS).of(reason), before + 1, "{}: {packet:?}", reason.label());
    }
    // A stranger's Ethernet address, and another node's packet.
    let mut stranger = frame(PARIS, &good);
    stranger[11] ^= 1;
    network.enters(PARIS, &stranger);
    assert_eq!(network.drops(PARIS).of(DropReason::UnknownNode), 1);
    let other = frame(PARIS, &ip_packet("240.0.0.9", GATEWAY, 17, &good[20..]));
    network.enters(PARIS, &other);
    assert_eq!(network.drops(PARIS).of(DropReason::SourceNotOnNode), 1);
    assert_eq!(answers(&mut network), []);
    network.enters(PARIS, &frame(PARIS, &good));
    assert_eq!(answers(&mut network).len(), 1, "and the true node is heard");
}

#[test]
fn a_node_that_asks_too_often_is_answered_so_many_times_a_second() {
    let mut network = network();
    let asked = frame(PARIS, &asking(question(1, 0)));
    for _ in 0..200 {
        network.enters(PARIS, &asked);
    }
    assert_eq!(answers(&mut network).len(), 64);
    assert_eq!(network.drops(PARIS).of(DropReason::ProbeLimit), 136);
    network.pass(Duration::from_secs(1));
    assert!(ask(&mut network, question(2, 0)).is_some());
    assert_eq!(network.delivered(OSAKA), [] as [Vec<u8>; 0], "nothing leaves the cluster");
    assert_eq!(network.on_the_wire(), 0);
}
