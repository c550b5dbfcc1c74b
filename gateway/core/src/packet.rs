//! Reading an IP packet's headers, and passing it on as a router does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::spread::mix;

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// ICMPv6's protocol number.
pub const ICMPV6: u8 = 58;

/// More extension headers than this, and what follows them is not looked at.
const MAX_EXTENSION_HEADERS: usize = 8;

/// What a packet's headers say. All lengths lie inside the bytes that were parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Length of the whole packet; bytes after it are padding.
    pub length: usize,
    /// The upper protocol's number, behind IPv6 extension headers.
    pub protocol: u8,
    /// Where the upper protocol begins.
    pub payload: usize,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Part of a fragmented packet.
    pub fragment: bool,
    /// A fragment that is not the first: it has no upper header.
    pub later_fragment: bool,
    /// IPv4's DF, or any IPv6 packet: routers must not fragment it.
    pub dont_fragment: bool,
}

/// The bytes are no IP packet: wrong version, or a length that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no IP packet: wrong version, or a length that does not fit")]
pub struct Malformed;

/// Reads the headers of the packet that `bytes` begins with.
pub fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => parse_v4(bytes),
        Some(6) => parse_v6(bytes),
        _ => Err(Malformed),
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

fn parse_v4(bytes: &[u8]) -> Result<Header, Malformed> {
    let fixed: &[u8; 20] = bytes.first_chunk().ok_or(Malformed)?;
    let header = usize::from(fixed[0] & 0xf) * 4;
    let length = word(fixed, 2);
    if header < 20 || length < header || length > bytes.len() {
        return Err(Malformed);
    }
    let (flags, offset) = (fixed[6] >> 5, word(fixed, 6) & 0x1fff);
    let address = |at: usize| {
        IpAddr::V4(Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]))
    };
    Ok(Header {
        source: address(12),
        destination: address(16),
        length,
        protocol: fixed[9],
        payload: header,
        hop_limit: fixed[8],
        fragment: flags & 1 != 0 || offset != 0,
        later_fragment: offset != 0,
        dont_fragment: flags & 2 != 0,
    })
}

fn parse_v6(bytes: &[u8]) -> Result<Header, Malformed> {
    let fixed: &[u8; 40] = bytes.first_chunk().ok_or(Malformed)?;
    let length = 40 + word(fixed, 4);
    if length > bytes.len() {
        return Err(Malformed);
    }
    let address = |at: usize| {
        let octets: [u8; 16] = std::array::from_fn(|i| fixed[at + i]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let upper = walk_extensions(&bytes[..length], fixed[6]);
    Ok(Header {
        source: address(8),
        destination: address(24),
        length,
        protocol: upper.protocol,
        payload: upper.at,
        hop_limit: fixed[7],
        fragment: upper.fragment,
        later_fragment: upper.later_fragment,
        dont_fragment: true,
    })
}

struct Upper {
    protocol: u8,
    at: usize,
    fragment: bool,
    later_fragment: bool,
}

/// Follows the extension headers (RFC 8200, section 4) to the upper protocol, or to the first header
/// that is cut off or unknown, which then counts as the upper one.
fn walk_extensions(packet: &[u8], next: u8) -> Upper {
    let mut upper = Upper { protocol: next, at: 40, fragment: false, later_fragment: false };
    for _ in 0..MAX_EXTENSION_HEADERS {
        let Some(header) = packet.get(upper.at..upper.at + 8) else { break };
        let length = match upper.protocol {
            0 | 43 | 60 => (usize::from(header[1]) + 1) * 8,
            44 => {
                upper.later_fragment = word(header, 2) >> 3 != 0;
                upper.fragment = upper.later_fragment || header[3] & 1 != 0;
                8
            }
            _ => break,
        };
        if upper.at + length > packet.len() {
            break;
        }
        upper.protocol = header[0];
        upper.at += length;
        if upper.later_fragment {
            break;
        }
    }
    upper
}

impl Header {
    /// Whether both addresses are a host's: neither group, broadcast, loopback nor unspecified.
    pub fn is_unicast(&self) -> bool {
        let host = |address: IpAddr| match address {
            IpAddr::V4(a) => !(a.is_multicast() || a.is_broadcast() || a.octets()[0] == 0),
            IpAddr::V6(a) => !(a.is_multicast() || a.is_unspecified() || is_link_local(a)),
        };
        [self.source, self.destination].into_iter().all(|a| host(a) && !a.is_loopback())
    }

    /// A number that is the same for all packets of one flow (addresses, protocol and, where they are
    /// in every packet, ports).
    pub fn flow(&self, packet: &[u8]) -> u64 {
        let mut hash = mix(0, u64::from(self.protocol));
        for address in [self.source, self.destination] {
            hash = match address {
                IpAddr::V4(a) => mix(hash, u64::from(u32::from(a))),
                IpAddr::V6(a) => {
                    let bits = u128::from(a);
                    mix(mix(hash, (bits >> 64) as u64), bits as u64)
                }
            };
        }
        match packet.get(self.payload..self.payload + 4) {
            Some(ports) if !self.fragment && matches!(self.protocol, TCP | UDP) => {
                mix(hash, (word(ports, 0) << 16 | word(ports, 2)) as u64)
            }
            _ => hash,
        }
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Takes one from the hop limit, as a router must, and keeps IPv4's header checksum right.
/// False when nothing is left: then the packet is unchanged and must be dropped.
pub fn decrement_hop_limit(packet: &mut [u8], header: &Header) -> bool {
    if header.hop_limit <= 1 {
        return false;
    }
    match header.source {
        IpAddr::V6(_) => packet[7] = header.hop_limit - 1,
        IpAddr::V4(_) => {
            let old = u16::from_be_bytes([packet[8], packet[9]]);
            packet[8] = header.hop_limit - 1;
            let new = u16::from_be_bytes([packet[8], packet[9]]);
            let sum = u16::from_be_bytes([packet[10], packet[11]]);
            packet[10..12].copy_from_slice(&checksum::updated(sum, old, new).to_be_bytes());
        }
    }
    true
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// An IPv4 or IPv6 packet with right lengths and IPv4 header checksum.
    pub fn packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let parse = |text: &str| text.parse::<IpAddr>().expect("address");
        match (parse(source), parse(destination)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
                let sum = checksum::finish(checksum::add(0, &packet));
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet.extend(payload);
                packet
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
                packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(payload);
                packet
            }
            _ => panic!("one family a packet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::samples::packet;
    use super::*;

    #[test]
    fn padding_after_the_packet_is_seen() {
        let mut bytes = packet("10.1.0.1", "10.2.0.1", UDP, b"12345678");
        bytes.extend([0; 6]);
        let header = parse(&bytes).expect("packet");
        assert_eq!((header.length, header.payload, header.protocol), (28, 20, UDP));
        assert!(header.dont_fragment && !header.fragment && header.is_unicast());
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let whole = packet("10.1.0.1", "10.2.0.1", UDP, b"12345678");
        assert_eq!(parse(&whole[..27]), Err(Malformed));
        assert_eq!(parse(&[]), Err(Malformed));
        let mut short_header = whole.clone();
        short_header[0] = 0x44;
        assert_eq!(parse(&short_header), Err(Malformed));
        let v6 = packet("fd00::1", "fd01::1", UDP, b"12345678");
        assert_eq!(parse(&v6[..47]), Err(Malformed));
        assert_eq!(parse(&v6[..39]), Err(Malformed));
    }

    #[test]
    fn extension_headers_are_walked() {
        let mut payload = vec![60, 0, 0, 0, 0, 0, 0, 0]; // hop-by-hop, then destination options
        payload.extend([TCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        payload.extend([0; 20]);
        let header = parse(&packet("fd00::1", "fd01::1", 0, &payload)).expect("packet");
        assert_eq!((header.protocol, header.payload), (TCP, 64));
    }

    #[test]
    fn fragments_are_told_apart() {
        let first = packet("fd00::1", "fd01::1", 44, &[UDP, 0, 0, 1, 0, 0, 0, 1, 9, 9]);
        let header = parse(&first).expect("packet");
        assert!(header.fragment && !header.later_fragment);
        let later = packet("fd00::1", "fd01::1", 44, &[UDP, 0, 0, 8, 0, 0, 0, 1, 9, 9]);
        assert!(parse(&later).expect("packet").later_fragment);
        let mut v4 = packet("10.1.0.1", "10.2.0.1", UDP, b"12345678");
        v4[6] = 0x20;
        assert!(parse(&v4).expect("packet").fragment);
    }

    #[test]
    fn hop_limit_goes_down_with_a_right_checksum() {
        let mut bytes = packet("10.1.0.1", "10.2.0.1", UDP, b"12345678");
        for left in (1..64).rev() {
            let header = parse(&bytes).expect("packet");
            assert!(decrement_hop_limit(&mut bytes, &header));
            assert_eq!(bytes[8], left);
            assert_eq!(checksum::finish(checksum::add(0, &bytes[..20])), 0);
        }
        let header = parse(&bytes).expect("packet");
        assert!(!decrement_hop_limit(&mut bytes, &header));
    }

    #[test]
    fn a_flow_is_its_ports_too_unless_fragmented() {
        let flow = |payload: &[u8], fragment: bool| {
            let mut bytes = packet("10.1.0.1", "10.2.0.1", UDP, payload);
            if fragment {
                bytes[6] = 0x20;
            }
            parse(&bytes).expect("packet").flow(&bytes)
        };
        assert_ne!(flow(&[0, 1, 0, 2, 0, 0, 0, 0], false), flow(&[0, 1, 0, 3, 0, 0, 0, 0], false));
        assert_eq!(flow(&[0, 1, 0, 2, 0, 0, 0, 0], true), flow(&[0, 1, 0, 3, 0, 0, 0, 0], true));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..3u8,
        ) {
            if let (Some(first), true) = (bytes.first_mut(), version < 2) {
                *first = if version == 0 { 0x45 } else { 0x60 };
            }
            if let Ok(header) = parse(&bytes) {
                prop_assert!(header.payload <= header.length && header.length <= bytes.len());
                header.flow(&bytes);
                decrement_hop_limit(&mut bytes, &header);
            }
        }
    }
}
