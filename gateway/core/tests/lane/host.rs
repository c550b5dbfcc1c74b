//! The gateway as a host: what it answers to its node, and to nobody else.

use std::net::Ipv4Addr;
use std::time::Duration;

use carrick_gateway_core::{DropReason, Framing, HostConfig, checksum, packet};
use carrick_model::Mac;
use carrick_model::gateway_probe::{Answer, PORT, QUESTION, Question, RANKS, Reach};

use crate::network::{Network, OSAKA, PARIS, frame, ip_packet, node_mac, udp};

const NODE: &str = "240.0.0.2";
const GATEWAY: &str = "240.0.15.254";
/// The router addresses of Osaka and of a third cluster.
const OSAKA_ROUTER: [u8; 4] = [240, 0, 16, 1];
const THIRD_ROUTER: [u8; 4] = [240, 0, 32, 1];
/// The same, with their ranks.
const OSAKA_FIT: [u8; 5] = [240, 0, 16, 1, 0];
const THIRD_FIT: [u8; 5] = [240, 0, 32, 1, 0];
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

/// The answers that Paris' node got since the last call, which are without ranks.
fn answers(network: &mut Network) -> Vec<Said> {
    let plain = |(said, ranks): (Said, Option<Vec<u8>>)| {
        assert_eq!(ranks, None, "{said:?}");
        said
    };
    ranked_answers(network).into_iter().map(plain).collect()
}

/// The answers that Paris' node got since the last call, and the ranks where there are any.
fn ranked_answers(network: &mut Network) -> Vec<(Said, Option<Vec<u8>>)> {
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
        let (list, ranks) = match answer.reach {
            Reach::Clusters(list) => (Some(list.to_vec()), None),
            Reach::Ranked(list) => {
                let routers = list.iter().map(|[a, b, c, d, _]| [*a, *b, *c, *d]);
                (Some(routers.collect()), Some(list.iter().map(|entry| entry[4]).collect()))
            }
            Reach::Same | Reach::TooMany => (None, None),
        };
        ((answer.sequence, answer.unasked, answer.draining, answer.digest, list), ranks)
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

/// A node that reads ranks.
fn ask_ranks(network: &mut Network, question: Question) -> Option<(Said, Option<Vec<u8>>)> {
    network.enters(PARIS, &frame(PARIS, &asking(question)));
    ranked_answers(network).pop()
}

#[test]
fn how_well_is_told_to_one_who_reads_ranks() {
    let mut network = network();
    join(&mut network);
    let (said, ranks) = ask_ranks(&mut network, question(1, RANKS)).expect("an answer");
    assert_eq!((said.4, ranks), (Some(vec![OSAKA_ROUTER]), Some(vec![0])));
    let (again, _) = ask_ranks(&mut network, question(2, said.3)).expect("an answer");
    assert_eq!((again.3, again.4), (said.3, None), "it knows that already");
    // What other lanes reach less well is reached less well.
    network.tell_reached(PARIS, vec![[240, 0, 16, 1, 2], THIRD_FIT]);
    let (news, ranks) = ranked_answers(&mut network).pop().expect("unasked");
    assert_eq!((news.1, news.4.clone()), (true, Some(vec![OSAKA_ROUTER, THIRD_ROUTER])));
    assert_eq!(ranks, Some(vec![2, 0]));
    network.tell_reached(PARIS, vec![OSAKA_FIT, THIRD_FIT]);
    let (_, ranks) = ranked_answers(&mut network).pop().expect("unasked");
    assert_eq!(ranks, Some(vec![0, 0]));
    // An agent of an older release takes over: it knows nothing, and says so as it always did.
    let told = ask(&mut network, question(3, 0)).expect("an answer");
    assert_eq!(told.4, Some(vec![OSAKA_ROUTER, THIRD_ROUTER]));
    network.tell_reached(PARIS, vec![[240, 0, 16, 1, 2], THIRD_FIT]);
    assert!(answers(&mut network).iter().all(|said| said.3 == told.3), "nothing that it reads");
}

#[test]
fn a_gateway_that_began_anew_learns_who_reads_ranks() {
    // The node knows what the gateway's former process said, with ranks and without.
    for ranks in [true, false] {
        let mut network = network();
        join(&mut network);
        let nothing = if ranks { RANKS } else { 0 };
        let (said, _) = ask_ranks(&mut network, question(1, nothing)).expect("an answer");
        let mut network = self::network();
        join(&mut network);
        let (again, _) = ask_ranks(&mut network, question(2, said.3)).expect("an answer");
        assert_eq!((again.3, again.4), (said.3, None), "it knows that already");
        network.tell_reached(PARIS, vec![THIRD_FIT]);
        let (_, told) = ranked_answers(&mut network).pop().expect("unasked");
        assert_eq!(told.is_some(), ranks);
        // What nobody knows here says nothing of it.
        let stranger = ask_ranks(&mut network, question(3, 12_345)).expect("an answer");
        assert_eq!(stranger.1.is_some(), ranks);
    }
}

#[test]
fn other_lanes_count_and_draining_is_told_at_once() {
    let mut network = network();
    join(&mut network);
    ask(&mut network, question(1, 0));
    network.tell_reached(PARIS, vec![OSAKA_FIT, THIRD_FIT]);
    let told = answers(&mut network).pop().expect("unasked");
    assert_eq!(told.4, Some(vec![OSAKA_ROUTER, THIRD_ROUTER]));
    network.tell_reached(PARIS, vec![OSAKA_FIT, THIRD_FIT]);
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
    network.tell_reached(PARIS, vec![THIRD_FIT]);
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

#[test]
fn loss_on_all_paths_is_told_and_that_it_is_over_after_a_while() {
    for (loses, rank, within) in [((3, 10), 2, 2000), ((1, 33), 1, 8000)] {
        let mut network = network();
        for city in [PARIS, OSAKA] {
            network.reapply(city, |config| {
                (config.tunnels[0].initiate, config.tunnels[0].probes) = (true, true);
            });
        }
        network.live(Duration::from_secs(2));
        ranked_answers(&mut network);
        let mut sequence = 0;
        let mut until = |network: &mut Network, wanted: u8, known: u32| {
            let mut millis = 0;
            loop {
                sequence += 1;
                if millis % 100 == 0 {
                    network.enters(PARIS, &frame(PARIS, &asking(question(sequence, known))));
                }
                network.enters(PARIS, &frame(PARIS, &udp("10.1.0.5", "10.2.0.7", b"hello")));
                network.live(Duration::from_millis(5));
                millis += 5;
                let ranks = ranked_answers(network).into_iter().filter_map(|(_, ranks)| ranks);
                if ranks.flatten().any(|rank| rank == wanted) {
                    return millis;
                }
                assert!(millis < 100_000, "rank {wanted} was never told");
            }
        };
        until(&mut network, 0, RANKS);
        network.loses[PARIS] = loses;
        let took = until(&mut network, rank, RANKS);
        println!("{loses:?} lost: rank {rank} after {took} ms");
        assert!(took <= within, "{took} ms");
        network.loses[PARIS] = (0, 1);
        let took = until(&mut network, 0, RANKS);
        println!("{loses:?} no longer: rank 0 after {took} ms");
        assert!(took >= 59_000, "{took} ms");
    }
}
