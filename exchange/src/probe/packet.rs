//! The probe's wire format: a header of 36 bytes, padded with zeros to the wanted size. An answer is
//! exactly as long as what it answers, so that both ways carry full-size packets and nothing is
//! amplified.
//!
//! | bytes | content |
//! |---|---|
//! | 0–3 | `CKPB` |
//! | 4 | version, 1 |
//! | 5 | 1 probe, 2 answer |
//! | 6–7 | source port that the responder saw (answers) |
//! | 8–15 | nonce of the prober |
//! | 16–19 | sequence number |
//! | 20–35 | source address that the responder saw (answers), IPv4 as mapped IPv6 |
//!
//! Numbers are most significant byte first.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Length of the header, and the smallest packet.
pub const HEADER: usize = 36;

/// The longest packet that is read or written: what fits in a jumbo frame.
pub const MAX: usize = 9_216 - 28;

const MAGIC: [u8; 4] = *b"CKPB";
const VERSION: u8 = 1;
const PROBE: u8 = 1;
const ANSWER: u8 = 2;

/// An answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The prober's nonce.
    pub nonce: u64,
    /// The probe's number.
    pub sequence: u32,
    /// Where the probe came from, as the responder saw it.
    pub seen: SocketAddr,
}

/// A probe of `size` bytes; at least a header long.
pub fn probe(nonce: u64, sequence: u32, size: usize) -> Vec<u8> {
    let mut packet = vec![0; size.clamp(HEADER, MAX)];
    packet[0..4].copy_from_slice(&MAGIC);
    packet[4] = VERSION;
    packet[5] = PROBE;
    packet[8..16].copy_from_slice(&nonce.to_be_bytes());
    packet[16..20].copy_from_slice(&sequence.to_be_bytes());
    packet
}

/// Turns a probe that came from `seen` into its answer, in place. `false`: it is none.
pub fn answer(packet: &mut [u8], seen: SocketAddr) -> bool {
    if !is(packet, PROBE) {
        return false;
    }
    let address = match seen.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    packet[5] = ANSWER;
    packet[6..8].copy_from_slice(&seen.port().to_be_bytes());
    packet[20..36].copy_from_slice(&address.octets());
    // Nobody gets bytes reflected that we did not look at.
    packet[HEADER..].fill(0);
    true
}

/// Reads an answer.
pub fn parse_answer(packet: &[u8]) -> Option<Answer> {
    if !is(packet, ANSWER) {
        return None;
    }
    let port = u16::from_be_bytes(packet[6..8].try_into().ok()?);
    let address: [u8; 16] = packet[20..36].try_into().ok()?;
    Some(Answer {
        nonce: u64::from_be_bytes(packet[8..16].try_into().ok()?),
        sequence: u32::from_be_bytes(packet[16..20].try_into().ok()?),
        seen: SocketAddr::new(Ipv6Addr::from(address).to_canonical(), port),
    })
}

fn is(packet: &[u8], kind: u8) -> bool {
    packet.len() >= HEADER && packet[0..4] == MAGIC && packet[4] == VERSION && packet[5] == kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_was_seen_and_is_as_long() {
        let mut packet = probe(0x0102_0304_0506_0708, 9, 1392);
        packet[100] = 1;
        let seen: SocketAddr = "240.1.16.2:4711".parse().expect("address");
        assert!(answer(&mut packet, seen));
        assert_eq!((packet.len(), packet[100]), (1392, 0));
        let parsed = parse_answer(&packet).expect("answer");
        assert_eq!(parsed, Answer { nonce: 0x0102_0304_0506_0708, sequence: 9, seen });
    }

    #[test]
    fn nothing_else_is_answered_or_believed() {
        let seen: SocketAddr = "[fd00::1]:1".parse().expect("address");
        for size in 0..HEADER {
            assert!(!answer(&mut vec![0x43; size], seen));
        }
        let mut packet = probe(1, 2, 0);
        assert_eq!(parse_answer(&packet), None, "a probe is no answer");
        assert!(answer(&mut packet, seen));
        assert!(!answer(&mut packet.clone(), seen), "an answer is not answered: no loops");
        packet[4] = 2;
        assert_eq!(parse_answer(&packet), None, "another version");
    }
}
