//! The probe's wire format: a header of 36 bytes, padded with zeros to the wanted size. An answer is
//! as long as what it answers, so that both ways carry full-size packets, but never longer than what the way
//! back is known to carry, which may be less. Nothing is amplified.
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
//! | 36–37 | length of what it answers (answers that are so long); 0 is its own |
//!
//! Numbers are most significant byte first.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Length of the header, and the smallest packet.
pub const HEADER: usize = 36;

/// The longest packet that is read or written: what fits in a jumbo frame.
pub const MAX: usize = 9_216 - 28;

/// Where the header ends of an answer that says what it answers.
const LENGTH: usize = HEADER + 2;

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
    /// The probe's length in bytes.
    pub length: usize,
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

/// Turns a probe that came from `seen` into its answer, in place, and says how many bytes of it to send:
/// `most`, the largest that the way back carries, if it is longer than that. `None`: it is no probe.
pub fn answer(packet: &mut [u8], seen: SocketAddr, most: usize) -> Option<usize> {
    if !is(packet, PROBE) {
        return None;
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
    if packet.len() <= most || packet.len() < LENGTH {
        return Some(packet.len());
    }
    let length = u16::try_from(packet.len()).unwrap_or(0);
    packet[HEADER..LENGTH].copy_from_slice(&length.to_be_bytes());
    Some(most.max(LENGTH))
}

/// Reads an answer.
pub fn parse_answer(packet: &[u8]) -> Option<Answer> {
    if !is(packet, ANSWER) {
        return None;
    }
    let port = u16::from_be_bytes(packet[6..8].try_into().ok()?);
    let address: [u8; 16] = packet[20..36].try_into().ok()?;
    let said = packet.get(HEADER..LENGTH).and_then(|bytes| bytes.try_into().ok());
    let said = said.map(u16::from_be_bytes).filter(|length| *length > 0);
    Some(Answer {
        nonce: u64::from_be_bytes(packet[8..16].try_into().ok()?),
        sequence: u32::from_be_bytes(packet[16..20].try_into().ok()?),
        seen: SocketAddr::new(Ipv6Addr::from(address).to_canonical(), port),
        length: said.map_or(packet.len(), usize::from),
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
        assert_eq!((answer(&mut packet, seen, MAX), packet[100]), (Some(1392), 0));
        let parsed = parse_answer(&packet).expect("answer");
        let nonce = 0x0102_0304_0506_0708;
        assert_eq!(parsed, Answer { nonce, sequence: 9, seen, length: 1392 });
    }

    #[test]
    fn an_answer_is_no_longer_than_the_way_back_carries_and_says_what_it_answers() {
        let seen: SocketAddr = "240.1.16.2:4711".parse().expect("address");
        for (size, most, sent) in [(1392, 1252, 1252), (1392, 0, 38), (38, 37, 38), (37, 20, 37)] {
            let mut packet = probe(1, 2, size);
            let length = answer(&mut packet, seen, most).expect("a probe");
            assert_eq!(length, sent, "{size} bytes, at most {most}");
            let parsed = parse_answer(&packet[..length]).expect("answer");
            assert_eq!(parsed.length, size, "{size} bytes, at most {most}");
        }
    }

    #[test]
    fn nothing_else_is_answered_or_believed() {
        let seen: SocketAddr = "[fd00::1]:1".parse().expect("address");
        for size in 0..HEADER {
            assert_eq!(answer(&mut vec![0x43; size], seen, MAX), None);
        }
        let mut packet = probe(1, 2, 0);
        assert_eq!(parse_answer(&packet), None, "a probe is no answer");
        assert_eq!(answer(&mut packet, seen, MAX), Some(HEADER));
        assert_eq!(
            answer(&mut packet.clone(), seen, MAX),
            None,
            "an answer is not answered: no loops"
        );
        packet[4] = 2;
        assert_eq!(parse_answer(&packet), None, "another version");
    }
}
