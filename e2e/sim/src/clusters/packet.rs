//! Frames and packets as nodes write and read them.

use std::net::Ipv4Addr;

use carrick_gateway_core::checksum;
use carrick_model::Mac;

/// Ethernet, IPv4 and UDP header.
pub const ETHERNET: usize = 14;
const IP: usize = ETHERNET;
const UDP: usize = IP + 20;
pub const PAYLOAD: usize = UDP + 8;
/// Hops that a packet may take at first.
pub const HOPS: u8 = 64;

/// Writes a frame with a UDP packet from a node into `out`.
pub fn udp(
    out: &mut Vec<u8>,
    mac: Mac,
    (source, port): (Ipv4Addr, u16),
    (target, to): (Ipv4Addr, u16),
    payload: &[u8],
    length: usize,
) {
    out.clear();
    out.resize(PAYLOAD, 0);
    out[..6].copy_from_slice(&Mac::GATEWAY.0);
    out[6..12].copy_from_slice(&mac.0);
    out[12..14].copy_from_slice(&[8, 0]);
    let total = (28 + length) as u16;
    out[IP] = 0x45;
    out[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
    out[IP + 6] = 0x40;
    (out[IP + 8], out[IP + 9]) = (HOPS, 17);
    out[IP + 12..IP + 16].copy_from_slice(&source.octets());
    out[IP + 16..IP + 20].copy_from_slice(&target.octets());
    let sum = checksum::finish(checksum::add(0, &out[IP..UDP]));
    out[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    out[UDP..UDP + 2].copy_from_slice(&port.to_be_bytes());
    out[UDP + 2..UDP + 4].copy_from_slice(&to.to_be_bytes());
    out[UDP + 4..UDP + 6].copy_from_slice(&(total - 20).to_be_bytes());
    out.extend_from_slice(payload);
    out.resize(PAYLOAD + length, 0);
}

/// What a packet says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub source: [u8; 4],
    pub target: [u8; 4],
    pub protocol: u8,
    pub hops: u8,
    /// Port to which it goes, if it is a UDP packet.
    pub port: u16,
    /// What is behind the UDP header.
    pub payload: &'a [u8],
}

/// Reads an IPv4 packet without options; `None` if it is none.
pub fn read(packet: &[u8]) -> Option<Seen<'_>> {
    if packet.len() < 28 || packet[0] != 0x45 {
        return None;
    }
    let quad = |at: usize| -> [u8; 4] { std::array::from_fn(|i| packet[at + i]) };
    Some(Seen {
        source: quad(12),
        target: quad(16),
        protocol: packet[9],
        hops: packet[8],
        port: u16::from_be_bytes([packet[22], packet[23]]),
        payload: &packet[28..],
    })
}

/// The payload of a user's packet: flow and number.
pub fn stamp(flow: usize, number: u32) -> [u8; 12] {
    let mut bytes = *b"user........";
    bytes[4..8].copy_from_slice(&(flow as u32).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Flow and number of a user's packet; `None` if it is none.
pub fn stamped(payload: &[u8]) -> Option<(usize, u32)> {
    let rest = payload.strip_prefix(b"user")?;
    let (flow, rest) = rest.split_first_chunk::<4>()?;
    let number = rest.first_chunk::<4>()?;
    Some((u32::from_be_bytes(*flow) as usize, u32::from_be_bytes(*number)))
}
