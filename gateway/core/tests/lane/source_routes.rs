//! Super-packets whose headers name another last address than the one that they go to next: what is cut
//! from them has the sums of the last one, as the device says.

use carrick_gateway_core::{Offload, packet, segment::Segments};

use crate::network::Written;
use crate::network::reference::{Flow, cut, udp_train};

const LAST: [&str; 2] = ["10.2.0.7", "fd00:2::7"];
const SOURCE: [&str; 2] = ["10.1.0.5", "fd00:1::5"];

/// The packet on its way to another address, with its last one behind in a header of its own.
fn detoured(direct: &[u8]) -> (Vec<u8>, usize) {
    let mut packet = direct.to_vec();
    let length = if packet[0] >> 4 == 4 { detour_v4(&mut packet) } else { detour_v6(&mut packet) };
    (packet, length)
}

/// Loose source route (RFC 791, section 3.1) and an end of options.
fn detour_v4(packet: &mut Vec<u8>) -> usize {
    let last: [u8; 4] = std::array::from_fn(|i| packet[16 + i]);
    packet[16..20].copy_from_slice(&[10, 2, 0, 99]);
    packet.splice(20..20, [131, 7, 4, last[0], last[1], last[2], last[3], 0]);
    packet[0] = 0x47;
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    28
}

/// A routing header with one segment left (RFC 8200, section 4.4).
fn detour_v6(packet: &mut Vec<u8>) -> usize {
    let mut header = vec![packet[6], 2, 4, 1, 0, 0, 0, 0];
    header.extend_from_slice(&packet[24..40]);
    packet[39] = 0x99;
    packet[6] = 43;
    packet.splice(40..40, header);
    let length = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    64
}

/// What is cut from the detoured packet has the upper part that it has on the direct way.
fn keeps_its_sums((direct, offload): Written) {
    let Offload::Cut(inner) = offload else { panic!("it is to be cut") };
    let upper = if direct[0] >> 4 == 4 { 20 } else { 40 };
    let (mut packet, moved) = detoured(&direct);
    let header = packet::parse(&packet).expect("a packet");
    assert_eq!(header.payload, moved);
    let mut segments =
        Segments::new(&mut packet, &header, inner.kind, inner.size).expect("it can be cut");
    let mut count = 0;
    for expected in cut(&direct, offload) {
        let segment = segments.next_packet().expect("as many as on the direct way");
        assert!(segment[moved..] == expected[upper..], "segment {count} differs");
        count += 1;
    }
    assert!(count > 2 && segments.next_packet().is_none());
}

#[test]
fn streams_with_a_source_route_keep_their_sums() {
    for (source, last) in SOURCE.into_iter().zip(LAST) {
        keeps_its_sums(Flow::tcp(source, last, 1).stream(1000, 3501));
    }
}

#[test]
fn trains_with_a_source_route_keep_their_sums() {
    for (source, last) in SOURCE.into_iter().zip(LAST) {
        keeps_its_sums(udp_train(source, last, 700, 2222));
    }
}
