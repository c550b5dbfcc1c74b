//! Packets whose bytes follow from a number, so that whoever gets one can tell whether it is right.

use std::net::Ipv4Addr;

use carrick_gateway_core::{Cut, CutKind, Offload, checksum};

/// Bytes of each datagram of a train.
pub const TRAIN_PAYLOAD: usize = 1200;
/// The most datagrams of a train.
pub const MOST_IN_TRAIN: usize = 50;
/// Bytes of IPv4 and UDP header.
const HEADERS: usize = 28;
const NUMBER: usize = 8;

/// The pod of a side.
fn pod(side: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, side as u8 + 1, 0, 5)
}

/// What the datagram with this number carries.
fn payload(number: u64, length: usize) -> impl Iterator<Item = u8> {
    let filler = move |at: usize| (number.wrapping_mul(31).wrapping_add(at as u64) % 251) as u8;
    number.to_be_bytes().into_iter().chain((NUMBER..length).map(filler))
}

/// `count` datagrams with `length` bytes each from `side`, numbered from `first`: one packet, or a
/// train to be cut.
pub(crate) fn train(side: usize, first: u64, count: usize, length: usize) -> (Vec<u8>, Offload) {
    let bytes = count * length;
    let (source, destination) = (pod(side).octets(), pod(1 - side).octets());
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0];
    packet.extend(source.into_iter().chain(destination));
    packet[2..4].copy_from_slice(&((HEADERS + bytes) as u16).to_be_bytes());
    let sum = checksum::finish(checksum::add(0, &packet));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend([0x9c, 0x40, 0, 53]);
    packet.extend(((8 + bytes) as u16).to_be_bytes());
    packet.extend([0, 0]);
    for number in first..first + count as u64 {
        packet.extend(payload(number, length));
    }
    let cut = Cut { kind: CutKind::Udp, size: length, upper: 20, payload: HEADERS };
    (packet, if count > 1 { Offload::Cut(cut) } else { Offload::Whole })
}

/// The numbers of the datagrams in what a device got from `side`; `None` if it is not as it was sent.
pub(crate) fn numbers(side: usize, packet: &[u8], offload: Offload) -> Option<Vec<u64>> {
    let (headers, bytes) = packet.split_at_checked(HEADERS)?;
    let addressed =
        headers[12..16] == pod(side).octets() && headers[16..20] == pod(1 - side).octets();
    if !addressed || headers[20..24] != [0x9c, 0x40, 0, 53] {
        return None;
    }
    let size = if let Offload::Cut(cut) = offload { cut.size } else { bytes.len() };
    bytes.chunks(size).map(number).collect()
}

fn number(datagram: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*datagram.first_chunk::<NUMBER>()?);
    payload(number, datagram.len()).eq(datagram.iter().copied()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_noticed() {
        let (mut packet, offload) = train(0, 7, 3, 100);
        assert_eq!(numbers(0, &packet, offload), Some(vec![7, 8, 9]));
        assert_eq!(numbers(1, &packet, offload), None);
        packet[HEADERS + 150] ^= 1;
        assert_eq!(numbers(0, &packet, offload), None);
    }
}
