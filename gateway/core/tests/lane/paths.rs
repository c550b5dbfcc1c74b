//! The path's MTU: found, kept to, and told to those who send too much.

use std::time::Duration;

use carrick_gateway_core::path::message::{self, Echo, Message};
use carrick_gateway_core::path::overhead;
use carrick_gateway_core::{DropReason, Framing, PathState, packet};
use proptest::prelude::*;

use crate::network::{Network, OSAKA, PARIS, frame, ip_packet, udp};

const V4: [&str; 2] = ["10.1.0.5", "10.2.0.7"];
const V6: [&str; 2] = ["fd00:1::5", "fd00:2::7"];

/// Two lanes that keep a session up and probe, with an inner MTU of 9000, on a path of `mtu` bytes.
fn joined(mtu: usize, v6: bool) -> Network {
    let mut network = Network::over(Framing::Ethernet, v6);
    network.path = mtu;
    for city in [PARIS, OSAKA] {
        network.reapply(city, |config| {
            config.mtu = 9000;
            config.tunnels[0].initiate = true;
            config.tunnels[0].probes = true;
        });
    }
    network.run();
    network
}

fn found(network: &Network, city: usize) -> (Option<u16>, PathState) {
    let path = network.report(city).path;
    (path.mtu, path.state)
}

/// A UDP packet of `size` bytes, and what both ends' devices get when it is sent to Osaka.
fn send(network: &mut Network, [from, to]: [&str; 2], size: usize) -> (usize, Option<Vec<u8>>) {
    let headers = if from.contains(':') { 48 } else { 28 };
    let bytes = udp(from, to, &vec![7; size - headers]);
    send_packet(network, &bytes)
}

fn send_packet(network: &mut Network, bytes: &[u8]) -> (usize, Option<Vec<u8>>) {
    network.enters(PARIS, &frame(PARIS, bytes));
    network.run();
    let answer = network.delivered(PARIS).pop().map(|answer| answer[14..].to_vec());
    (network.delivered(OSAKA).len(), answer)
}

/// The MTU that an ICMP "too big" names, with what it quotes.
fn told(answer: &[u8]) -> (u32, &[u8]) {
    let header = packet::parse(answer).expect("a packet");
    let icmp = &answer[header.payload..];
    let word = |at: usize| u32::from(icmp[at]) << 8 | u32::from(icmp[at + 1]);
    let is_v4 = header.source.is_ipv4();
    assert_eq!((icmp[0], icmp[1]), if is_v4 { (3, 4) } else { (2, 0) });
    (word(6), &icmp[8..])
}

#[test]
fn each_underlay_is_found_kept_to_and_told() {
    for (mtu, v6) in [1280, 1400, 1500, 9000].into_iter().flat_map(|m| [(m, false), (m, true)]) {
        let mut network = joined(mtu, v6);
        network.live(Duration::from_secs(2));
        let inner = mtu - if v6 { 80 } else { 60 };
        for city in [PARIS, OSAKA] {
            assert_eq!(
                found(&network, city),
                (Some(mtu as u16), PathState::Verified),
                "{mtu} {v6}"
            );
            assert_eq!(network.report(city).mtu, Some(inner));
        }
        assert_eq!(send(&mut network, V4, inner), (1, None), "{mtu} {v6}: the full size");
        let big = udp(V4[0], V4[1], &vec![7; inner + 1 - 28]);
        let (arrived, answer) = send_packet(&mut network, &big);
        let answer = answer.expect("an answer");
        let (mtu_told, quoted) = told(&answer);
        assert_eq!((arrived, mtu_told as usize), (0, inner), "{mtu} {v6}");
        // A hop was not taken yet from what is quoted, and the quote is as long as it may be.
        assert_eq!(quoted, &big[..548]);
        assert_eq!(
            packet::parse(&answer).expect("packet").destination,
            V4[0].parse::<std::net::IpAddr>().expect("v4")
        );
        // What IPv6 guarantees passes always, in parts if need be; beyond it the sender is told.
        let least = inner.max(1280);
        assert_eq!(send(&mut network, V6, 1280), (1, None), "{mtu} {v6}");
        assert_eq!(network.in_parts, usize::from(inner < 1280), "{mtu} {v6}");
        let (arrived, answer) = send(&mut network, V6, least + 1);
        assert_eq!((arrived, told(&answer.expect("an answer")).0 as usize), (0, least));
        assert_eq!(network.drops(PARIS).of(DropReason::TooBig), 2);
        assert_eq!(network.drops(PARIS).of(DropReason::BadProbe), 0);
        assert_eq!(network.drops(OSAKA).total(), 0, "{mtu} {v6}");
    }
}

#[test]
fn packets_that_may_be_fragmented_pass_whatever_the_path() {
    let mut network = joined(1280, false);
    network.live(Duration::from_secs(2));
    let mut plain = udp(V4[0], V4[1], &[7; 1372]);
    plain[6] = 0;
    assert_eq!(send_packet(&mut network, &plain).0, 1);
    assert_eq!(network.in_parts, 1);
    // Configuration's limit is none of the path's.
    network.reapply(PARIS, |config| config.mtu = 1300);
    assert_eq!(send_packet(&mut network, &plain).0, 0);
}

#[test]
fn both_directions_of_tcp_are_clamped_to_the_path() {
    for (mtu, v6) in [(1280, false), (1400, false), (9000, false), (1400, true)] {
        let mut network = joined(mtu, v6);
        network.live(Duration::from_secs(2));
        let inner = mtu - if v6 { 80 } else { 60 };
        let mut tcp = [0; 24];
        (tcp[12], tcp[13]) = (0x60, 2);
        tcp[20..24].copy_from_slice(&[2, 4, 0xff, 0xff]);
        for ([from, to], headers) in [(V4, 40), (V6, 60)] {
            let syn = ip_packet(from, to, 6, &tcp);
            network.enters(PARIS, &frame(PARIS, &syn));
            network.run();
            let syn = &network.delivered(OSAKA)[0];
            let mss = u16::from_be_bytes([syn[syn.len() - 2], syn[syn.len() - 1]]);
            assert_eq!(usize::from(mss), inner - headers, "{mtu} {v6}");
        }
    }
}

#[test]
fn the_gateway_that_knows_the_path_clamps_what_goes_and_what_comes() {
    let mut network = Network::new(Framing::Ethernet);
    assert_eq!(send(&mut network, V4, 100).0, 1);
    network.tell(PARIS, 1300);
    let mut tcp = [0; 24];
    (tcp[12], tcp[13]) = (0x60, 2);
    tcp[20..24].copy_from_slice(&[2, 4, 0xff, 0xff]);
    for (city, [from, to]) in [(PARIS, V4), (OSAKA, [V4[1], V4[0]])] {
        network.enters(city, &frame(city, &ip_packet(from, to, 6, &tcp)));
        network.run();
        let syn = &network.delivered(1 - city)[0];
        let mss = u16::from_be_bytes([syn[syn.len() - 2], syn[syn.len() - 1]]);
        assert_eq!(mss, 1300 - 60 - 40, "from {from}");
    }
}

#[test]
fn what_the_other_side_cannot_pass_on_is_not_sent_there() {
    let mut network = joined(9000, false);
    network.live(Duration::from_secs(2));
    // Between Osaka's gateways and nodes there is room for so much only.
    network.reapply(OSAKA, |config| config.mtu = 1400);
    for (size, most) in [(1400, 1400), (9000, 8940)] {
        network.reapply(OSAKA, |config| config.mtu = size);
        network.live(Duration::from_secs(70));
        assert_eq!(network.report(PARIS).mtu, Some(most), "{size}");
    }
}

#[test]
fn a_path_that_shrinks_and_grows_is_followed() {
    let mut network = joined(1500, false);
    network.live(Duration::from_secs(2));
    network.path = 1400;
    // Nothing large is sent, so that only the next confirmation shows it.
    network.live(Duration::from_secs(12));
    assert_eq!(found(&network, PARIS), (Some(1400), PathState::Verified));
    assert_eq!(send(&mut network, V4, 1341).0, 0);
    network.path = 1500;
    network.recheck(PARIS);
    network.live(Duration::from_secs(1));
    assert_eq!(found(&network, PARIS), (Some(1500), PathState::Verified));
    assert_eq!(send(&mut network, V4, 1440), (1, None));
}

#[test]
fn a_link_that_refuses_is_believed_at_once() {
    let mut network = joined(9000, false);
    network.live(Duration::from_secs(2));
    assert_eq!(send(&mut network, V4, 8000), (1, None));
    network.link = 1400;
    assert_eq!(send(&mut network, V4, 8000), (0, None), "lost: nobody knew");
    assert_eq!(network.drops(PARIS).of(DropReason::LinkTooSmall), 1);
    network.pass(Duration::from_millis(250));
    let (_, answer) = send(&mut network, V4, 8000);
    assert!(told(&answer.expect("an answer")).0 < 8000 - 60);
    network.live(Duration::from_secs(2));
    assert_eq!(found(&network, PARIS), (Some(1400), PathState::Verified));
}

#[test]
fn plain_peers_are_never_probed_and_those_that_probe_are_probed_in_turn() {
    let mut network = Network::new(Framing::Ethernet);
    network.reapply(PARIS, |config| config.tunnels[0].initiate = true);
    network.run();
    network.live(Duration::from_secs(5));
    let before = network.sends();
    network.live(Duration::from_secs(5));
    assert_eq!(network.sends(), before, "nothing is sent");
    assert_eq!(found(&network, PARIS), (None, PathState::NotProbed));
    network.tell(PARIS, 1300);
    assert_eq!(told(&send(&mut network, V4, 1400).1.expect("an answer")).0, 1240);
    assert_eq!(found(&network, PARIS), (Some(1300), PathState::NotProbed));
    // Osaka's configuration says nothing of probes; Paris' probes say it.
    network.path = 1380;
    network.reapply(PARIS, |config| config.tunnels[0].probes = true);
    network.live(Duration::from_secs(2));
    assert_eq!(found(&network, PARIS), (Some(1380), PathState::Verified));
    assert_eq!(found(&network, OSAKA).0, Some(1380));
}

#[test]
fn an_unused_tunnel_is_left_in_peace() {
    let mut network = Network::new(Framing::Ethernet);
    for city in [PARIS, OSAKA] {
        network.reapply(city, |config| config.tunnels[0].probes = true);
    }
    assert_eq!(send(&mut network, V4, 100).0, 1);
    network.live(Duration::from_secs(20));
    let before = network.sends();
    network.live(Duration::from_secs(100));
    assert!(network.sends() - before < 3, "keepalives at most");
}

#[test]
fn nothing_of_a_probe_reaches_a_device_and_none_is_taken_from_one() {
    let mut network = joined(1500, false);
    network.live(Duration::from_secs(5));
    assert_eq!(network.delivered(PARIS).len() + network.delivered(OSAKA).len(), 0);
    assert_eq!(network.report(PARIS).rx.packets, 0, "probes are no traffic");
    let mut forged = vec![0; 100];
    let echo = Echo { path: 0, sequence: 1, nonce: 1 };
    assert!(message::write(Message::Probe(echo), 100, &mut forged));
    let before = network.sends();
    network.enters(PARIS, &frame(PARIS, &forged));
    assert_eq!(network.sends(), before);
    assert_eq!(network.drops(PARIS).of(DropReason::NotUnicast), 1);
}

#[test]
fn overheads_are_what_the_wire_says() {
    let mut network = joined(1500, false);
    network.live(Duration::from_secs(2));
    network.enters(PARIS, &frame(PARIS, &udp(V4[0], V4[1], &[7; 1412])));
    assert_eq!(network.peek().len() + 28, 1440 + overhead([192, 0, 2, 1].into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_path_is_found_and_full_packets_pass(mtu in 1280usize..=9000, v6: bool) {
        let mut network = joined(mtu, v6);
        network.live(Duration::from_secs(3));
        prop_assert_eq!(found(&network, PARIS), (Some(mtu as u16), PathState::Verified));
        let inner = mtu - if v6 { 80 } else { 60 };
        prop_assert_eq!(send(&mut network, V4, inner), (1, None));
        prop_assert_eq!(send(&mut network, V4, inner + 1).0, 0);
    }
}
