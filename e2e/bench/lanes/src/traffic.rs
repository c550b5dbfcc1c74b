//! Super-packets of TCP, as a device hands them over: uncut, up to 64 KiB.

use carrick_gateway_core::{Cut, CutKind, Offload, checksum};

/// Bytes of each packet that a super-packet is cut into.
pub const PACKET: usize = 1420;
/// Packets of one super-packet: as many as fit 64 KiB.
pub const PACKETS: usize = 47;
/// Bytes of IPv4's header.
const IP: usize = 20;
/// Bytes of both headers; TCP's has a timestamp, as everywhere.
pub const HEADERS: usize = IP + 32;

/// One super-packet from 10.1.0.5 to 10.2.0.5, with what is left to do with it.
#[must_use]
pub fn super_packet() -> (Vec<u8>, Offload) {
    let size = PACKET - HEADERS;
    let length = HEADERS + PACKETS * size;
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 5, 10, 2, 0, 5];
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    let sum = checksum::finish(checksum::add(0, &packet));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    // Ports, sequence, acknowledgement; eight words of header, ACK; window, no sum, no urgent data.
    packet.extend([0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 1, 0, 0, 0, 0, 0]);
    packet.extend([1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 8]);
    packet.extend((HEADERS..length).map(|at| (at % 251) as u8));
    (packet, Offload::Cut(Cut { kind: CutKind::Tcp4, size, upper: IP, payload: HEADERS }))
}
