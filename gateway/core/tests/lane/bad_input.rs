//! What strangers and broken networks send: each is counted for its reason, and stops nothing.

use std::net::SocketAddr;
use std::time::Duration;

use carrick_gateway_core::noise::{LONGEST_HANDSHAKE, NoiseTunnel};
use carrick_gateway_core::{DropReason, Framing, SecretKey};
use proptest::prelude::*;

use crate::network::{Network, OSAKA, PARIS, public_key, udp};

const PARIS_POD: &str = "10.1.0.5";
const OSAKA_POD: &str = "10.2.0.7";

fn hello() -> Vec<u8> {
    udp(PARIS_POD, OSAKA_POD, b"hello")
}

/// Whether a packet from Paris arrives in Osaka.
fn crosses(network: &mut Network) -> bool {
    network.enters(PARIS, &hello());
    network.run();
    network.delivered(OSAKA) == [hello()]
}

/// A network, and each message of its handshake with a data message behind: to whom, and its bytes.
fn messages() -> (Network, Vec<(usize, Vec<u8>)>) {
    let mut network = Network::new(Framing::Ip);
    let mut seen = Vec::new();
    network.enters(PARIS, &hello());
    while network.on_the_wire() > 0 {
        network.on_wire(|wire| {
            seen.extend(wire.iter().map(|(from, _, _, bytes)| (1 - from, bytes.clone())));
        });
        network.step();
    }
    let kinds: Vec<u8> = seen.iter().map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(kinds[..3], [1, 2, 4], "initiation, response, data");
    assert_eq!(network.delivered(OSAKA), [hello()]);
    (network, seen)
}

#[test]
fn every_cut_of_every_message_is_counted_once() {
    let (mut network, messages) = messages();
    for (to, bytes) in messages {
        for length in 0..bytes.len() {
            let before = network.drops(to).total();
            network.inject(to, &bytes[..length]);
            assert_eq!(network.drops(to).total(), before + 1, "{length} of {}", bytes.len());
        }
    }
    network.lose_all();
    assert!(network.delivered(PARIS).is_empty() && network.delivered(OSAKA).is_empty());
    assert!(crosses(&mut network));
}

#[test]
fn what_comes_back_to_its_sender_is_counted_and_changes_nothing() {
    let (mut network, messages) = messages();
    let before = (network.report(PARIS), network.report(OSAKA));
    let mut reasons = Vec::new();
    for (to, bytes) in messages {
        let sender = 1 - to;
        let counted: Vec<_> = network.drops(sender).iter().collect();
        network.inject(sender, &bytes);
        let changed = network.drops(sender).iter().zip(counted).find(|(now, then)| now != then);
        reasons.push(changed.expect("it is counted").0.0);
    }
    // Handshakes are for whom the MAC says; data is for who has the session's other key.
    assert_eq!(reasons[..2], [DropReason::BadMac, DropReason::BadMac]);
    let refused = [DropReason::BadAuthentication, DropReason::NoSession];
    assert!(reasons[2..].iter().all(|reason| refused.contains(reason)), "{reasons:?}");
    assert_eq!(network.on_the_wire(), 0);
    assert!(network.delivered(PARIS).is_empty() && network.delivered(OSAKA).is_empty());
    assert_eq!((network.report(PARIS), network.report(OSAKA)), before);
    assert!(crosses(&mut network));
}

#[test]
fn a_peer_gets_in_while_strangers_from_everywhere_flood_and_most_of_the_flood_is_cheap() {
    const EACH_SECOND: u32 = 3000;
    let mut network = Network::new(Framing::Ip);
    let secret = SecretKey::from_bytes([9; 32]);
    let mut stranger = NoiseTunnel::new(&secret, &public_key(OSAKA), None, 1);
    let mut message = [0; LONGEST_HANDSHAKE];
    let length = stranger.initiate(&mut message).expect("an initiation");
    let flood = |network: &mut Network, second: u32| {
        for number in 0..EACH_SECOND {
            let source = (0x0a00_0000 + second * EACH_SECOND + number).to_be_bytes();
            network.inject_from(OSAKA, SocketAddr::from((source, 4000)), &message[..length]);
        }
        // Answers to strangers are lost; so nothing is taken from the time of whoever is real.
        network.on_wire(|wire| wire.retain(|(_, to, ..)| to.ip().to_string().starts_with("192.")));
    };
    flood(&mut network, 0);
    network.enters(PARIS, &hello());
    let mut second = 0;
    while network.written(OSAKA).is_empty() {
        second += 1;
        assert!(second <= 12, "the peer does not get in");
        flood(&mut network, second);
        network.run();
        network.pass(Duration::from_secs(1));
        network.run();
    }
    // Whose key was looked for, that is after the costly part; the others got a cookie or nothing.
    let drops = network.drops(OSAKA);
    let (costly, cheap) = (drops.of(DropReason::UnknownPeer), drops.of(DropReason::UnderLoad));
    assert!(costly + cheap >= u64::from((second + 1) * EACH_SECOND));
    // boringtun's limit counts by the machine's own clock: on one that is busy, a flood takes longer.
    assert!(costly < cheap, "{costly} of {} were looked at", costly + cheap);
    assert!(crosses(&mut network));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_datagram_is_counted_for_one_reason(
        kind in 0..6u8, bytes in proptest::collection::vec(any::<u8>(), 0..300), to in 0..2usize,
    ) {
        let (mut network, _) = messages();
        let mut datagram = vec![kind, 0, 0, 0];
        datagram.extend(bytes);
        let before = network.drops(to).total();
        network.inject(to, &datagram);
        prop_assert_eq!(network.drops(to).total(), before + 1);
        prop_assert!(crosses(&mut network));
    }
}
