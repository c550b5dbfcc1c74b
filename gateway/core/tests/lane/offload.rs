//! Super-packets through two lanes, against a slow reference: what leaves, cut, is what entered, cut.

use crate::network::reference::{Flow, Segment, cut, is_right, udp_train};
use crate::network::{Network, OSAKA, PARIS, Written, udp};
use carrick_gateway_core::{Cut, CutKind, Framing, Offload};
use proptest::prelude::*;

const PARIS_POD: &str = "10.1.0.5";
const OSAKA_POD: &str = "10.2.0.7";

fn whole(packet: Vec<u8>) -> Written {
    (packet, Offload::Whole)
}

/// What was written, cut as a network card would, identifications left out where DF makes them
/// meaningless.
fn on_a_wire(written: &[Written]) -> Vec<Vec<u8>> {
    let packets = written.iter().flat_map(|(packet, offload)| cut(packet, *offload));
    packets.map(without_identification).collect()
}

fn without_identification(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// A network whose tunnel is up, with a TUN at each end: packets pass unchanged.
fn network() -> Network {
    let mut network = Network::new(Framing::Ip);
    network.enters(PARIS, &udp(PARIS_POD, OSAKA_POD, b"first"));
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 1);
    network
}

/// What comes out in Osaka of what enters in Paris.
fn cross(entering: &[Written]) -> Vec<Written> {
    let mut network = network();
    network.enter_all(PARIS, entering);
    network.run();
    assert_eq!(network.drops(PARIS).total() + network.drops(OSAKA).total(), 0);
    network.written(OSAKA)
}

#[test]
fn a_stream_crosses_in_one_send_and_one_write() {
    let mut network = network();
    let stream = Flow::tcp(PARIS_POD, OSAKA_POD, 1).stream(1380, 44 * 1380);
    let before = network.sends();
    network.enter_all(PARIS, std::slice::from_ref(&stream));
    assert_eq!(network.sends(), before + 1);
    network.run();
    let written = network.written(OSAKA);
    assert_eq!(written.len(), 1, "one super-packet");
    assert!(matches!(written[0].1, Offload::Cut(Cut { kind: CutKind::Tcp4, size: 1380, .. })));
    assert_eq!(on_a_wire(&written), on_a_wire(&[stream]));
}

#[test]
fn a_train_crosses_in_one_send_and_one_write() {
    let train = udp_train("fd00:1::5", "fd00:2::7", 1200, 40 * 1200 + 7);
    let written = cross(std::slice::from_ref(&train));
    assert_eq!(written.len(), 1, "one train");
    assert_eq!(on_a_wire(&written), on_a_wire(&[train]));
}

#[test]
fn a_wrong_checksum_stays_wrong_and_is_not_said_to_be_right() {
    let mut flow = Flow::tcp(PARIS_POD, OSAKA_POD, 1);
    let mut packets: Vec<_> = (0..4).map(|_| flow.packet(&Segment::of(1000))).collect();
    let last = packets[2].len() - 1;
    packets[2][last] ^= 1;
    let entering: Vec<_> = packets.iter().cloned().map(whole).collect();
    let written = cross(&entering);
    assert_eq!(on_a_wire(&written), on_a_wire(&entering));
    for (packet, offload) in &written {
        let checked = *offload != Offload::Whole;
        assert!(!checked || cut(packet, *offload).iter().all(|p| is_right(p)), "laundered");
    }
    assert!(!is_right(&on_a_wire(&written)[2]));
}

#[test]
fn unfinished_checksums_are_finished() {
    for mut packet in [
        Flow::tcp(PARIS_POD, OSAKA_POD, 1).packet(&Segment::of(333)),
        Flow::tcp("fd00:1::5", "fd00:2::7", 1).packet(&Segment::of(1)),
    ] {
        let right = packet.clone();
        let start = if packet[0] >> 4 == 4 { 20 } else { 40 };
        crate::network::reference::unfinish(&mut packet);
        assert_ne!(packet, right);
        let written = cross(&[(packet, Offload::Checksum { start, offset: 16 })]);
        assert_eq!(written, [(right, Offload::Checked)]);
    }
}

#[test]
fn lying_headers_are_refused_and_stop_nothing() {
    let mut network = network();
    let stream = Flow::tcp(PARIS_POD, OSAKA_POD, 1).stream(1380, 4 * 1380);
    let Offload::Cut(cut) = stream.1 else { panic!("a stream is to be cut") };
    let before = network.drops(PARIS).total();
    for lie in [
        Offload::Cut(Cut { size: 0, ..cut }),
        Offload::Cut(Cut { size: 1, ..cut }),
        Offload::Cut(Cut { kind: CutKind::Tcp6, ..cut }),
        Offload::Cut(Cut { kind: CutKind::Udp, ..cut }),
        Offload::Checksum { start: 60_000, offset: 16 },
        // Into the source, which has been checked already, and into the hop limit.
        Offload::Checksum { start: 8, offset: 4 },
        Offload::Checksum { start: 6, offset: 2 },
        Offload::Checksum { start: 20, offset: 60_000 },
        Offload::Checksum { start: usize::MAX, offset: usize::MAX },
    ] {
        network.enter_all(PARIS, &[(stream.0.clone(), lie)]);
        assert_eq!(network.on_the_wire(), 0, "{lie:?}");
    }
    assert!(network.drops(PARIS).total() >= before + 9);
    network.enter_all(PARIS, std::slice::from_ref(&stream));
    network.run();
    assert_eq!(on_a_wire(&network.written(OSAKA)), on_a_wire(&[stream]));
}

#[test]
fn too_large_segments_are_answered_as_their_first_packet_would_be() {
    let mut network = Network::new(Framing::Ethernet);
    let (packet, offload) = Flow::tcp(PARIS_POD, OSAKA_POD, 1).stream(1460, 10 * 1460);
    let Offload::Cut(inner) = offload else { panic!("a stream is to be cut") };
    let framed = Offload::Cut(Cut { upper: 34, payload: 54, ..inner });
    network.enter_all(PARIS, &[(crate::network::frame(PARIS, &packet), framed)]);
    let answers = network.delivered(PARIS);
    assert_eq!(answers.len(), 1);
    let icmp = &answers[0][14..];
    assert_eq!((icmp[9], icmp[20], icmp[21]), (1, 3, 4), "too big");
    assert_eq!(icmp[26..28], 1420u16.to_be_bytes());
    // The quoted packet is the first that was cut, not the uncut one.
    assert_eq!(icmp[28 + 2..28 + 4], 1500u16.to_be_bytes());
    let dropped = network.drops(PARIS).of(carrick_gateway_core::DropReason::TooBig);
    assert_eq!(dropped, 10, "every packet that it stands for");
}

#[test]
fn marks_of_congestion_reach_the_receiver() {
    let mut network = network();
    let mut flow = Flow::tcp(PARIS_POD, OSAKA_POD, 1);
    flow.ecn = 2;
    network.enter_all(PARIS, &[flow.stream(1000, 4000)]);
    network.on_wire(|wire| {
        assert!(wire.iter().all(|(_, _, ecn, _)| *ecn == 2), "copied outward");
        wire[2].2 = 3;
    });
    network.run();
    let marks: Vec<u8> =
        on_a_wire(&network.written(OSAKA)).iter().map(|packet| packet[1] & 3).collect();
    assert_eq!(marks, [2, 2, 3, 2]);
}

#[test]
fn what_another_lane_has_the_tunnel_for_is_handed_over_untouched() {
    let mut network = Network::new(Framing::Ethernet);
    network.reapply(PARIS, |config| config.tunnels[0].lane = 1);
    let (packet, offload) = Flow::tcp(PARIS_POD, OSAKA_POD, 1).stream(1380, 10 * 1380);
    let frame = crate::network::frame(PARIS, &packet);
    network.enter_all(PARIS, &[(frame.clone(), offload)]);
    assert_eq!(network.handed, [(1, (frame, offload))]);
    assert_eq!((network.on_the_wire(), network.drops(PARIS).total()), (0, 0));
    // What is nobody's, or from nowhere, is not handed on.
    let stray = crate::network::frame(PARIS, &udp(PARIS_POD, "192.0.2.77", b"stray"));
    network.enters(PARIS, &stray);
    assert_eq!((network.handed.len(), network.drops(PARIS).total()), (1, 1));
}

/// What may enter: pieces of several flows of both families.
fn piece() -> impl Strategy<Value = (usize, usize, usize, u8)> {
    // Which flow, segment size, bytes, and what is odd about it.
    (0..5usize, 1..1340usize, 1..9000usize, 0..12u8)
}

fn entering(pieces: &[(usize, usize, usize, u8)]) -> Vec<Written> {
    let mut flows = [
        Flow::tcp(PARIS_POD, OSAKA_POD, 1),
        Flow::tcp(PARIS_POD, OSAKA_POD, 2),
        Flow::tcp("fd00:1::5", "fd00:2::7", 1),
    ];
    let mut frames = Vec::new();
    for (flow, size, bytes, odd) in pieces {
        let size = (*size).max(bytes / 100);
        if *flow >= 3 {
            let pair = [(PARIS_POD, OSAKA_POD), ("fd00:1::5", "fd00:2::7")][flow - 3];
            let (packet, offload) = udp_train(pair.0, pair.1, size, *bytes);
            match odd {
                0..4 => frames.push((packet, offload)),
                _ => frames.extend(cut(&packet, offload).into_iter().map(whole)),
            }
            continue;
        }
        let flow = &mut flows[*flow];
        match odd {
            0..4 => frames.push(flow.stream(size, *bytes)),
            4 => frames.push(whole(flow.packet(&Segment { flags: 0x18, ..Segment::of(size) }))),
            5 => frames.push(whole(flow.packet(&Segment { options: 12, ..Segment::of(size) }))),
            6 => frames.push(whole(flow.packet(&Segment::of(0)))),
            7 => frames.push(whole(flow.packet(&Segment { flags: 0x11, ..Segment::of(size) }))),
            8 => {
                let mut packet = flow.packet(&Segment::of(size));
                *packet.last_mut().expect("bytes") ^= 0x55;
                frames.push(whole(packet));
            }
            9 => {
                flow.sequence = flow.sequence.wrapping_add(77);
                frames.push(whole(flow.packet(&Segment::of(size))));
            }
            _ => (0..3).for_each(|_| frames.push(whole(flow.packet(&Segment::of(size))))),
        }
    }
    frames
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_enters_leaves_in_order_and_unchanged(
        pieces in proptest::collection::vec(piece(), 1..12),
    ) {
        let frames = entering(&pieces);
        let written = cross(&frames);
        prop_assert_eq!(on_a_wire(&written), on_a_wire(&frames));
        for (packet, offload) in &written {
            if *offload != Offload::Whole {
                prop_assert!(cut(packet, *offload).iter().all(|p| is_right(p)), "laundered");
            }
        }
    }

    #[test]
    fn loss_reordering_and_duplication_change_no_packet(
        pieces in proptest::collection::vec(piece(), 1..8),
        fates in proptest::collection::vec((0..20u8, 0..6usize), 1..64),
    ) {
        let frames = entering(&pieces);
        let mut network = network();
        network.enter_all(PARIS, &frames);
        network.on_wire(|wire| {
            for (index, (fate, far)) in fates.iter().cycle().take(wire.len()).enumerate() {
                if index >= wire.len() {
                    break;
                }
                match fate {
                    0 => drop(wire.remove(index)),
                    1 => wire.push_back(wire[index].clone()),
                    2 => wire.swap(index, (index + far).min(wire.len() - 1)),
                    _ => {}
                }
            }
        });
        network.run();
        let mut sent = on_a_wire(&frames);
        sent.sort();
        for packet in on_a_wire(&network.written(OSAKA)) {
            prop_assert!(sent.binary_search(&packet).is_ok(), "a packet that nobody sent");
        }
    }

    #[test]
    fn any_bytes_with_any_header_stop_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        first in prop::sample::select(vec![0x45u8, 0x46, 0x60, 0x4f, 0x00]),
        kind in prop::sample::select(vec![CutKind::Tcp4, CutKind::Tcp6, CutKind::Udp]),
        protocol in prop::sample::select(vec![6u8, 17, 1, 44]),
        numbers in (0..70_000usize, 0..70_000usize, 0..70_000usize),
    ) {
        let mut bytes = bytes;
        if bytes.len() > 40 {
            bytes[0] = first;
            if first >> 4 == 4 {
                let length = (bytes.len() as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&length);
                bytes[9] = protocol;
                bytes[12..20].copy_from_slice(&[10, 1, 0, 5, 10, 2, 0, 7]);
            } else {
                let length = (bytes.len() as u16 - 40).to_be_bytes();
                bytes[4..6].copy_from_slice(&length);
                bytes[6] = protocol;
            }
        }
        let mut network = network();
        let (size, upper, payload) = numbers;
        for offload in [
            Offload::Whole,
            Offload::Checksum { start: upper, offset: payload },
            Offload::Cut(Cut { kind, size, upper, payload }),
        ] {
            network.enter_all(PARIS, &[(bytes.clone(), offload)]);
        }
        network.run();
        network.enters(PARIS, &udp(PARIS_POD, OSAKA_POD, b"after"));
        network.run();
        prop_assert!(network.delivered(OSAKA).contains(&udp(PARIS_POD, OSAKA_POD, b"after")));
    }
}
