//! Messages between two gateways about the path, inside the tunnel.
//!
//! A message is an IPv6 packet between two fixed link-local addresses. A WireGuard peer that knows nothing
//! of it drops it, since no link-local source is among its allowed prefixes; no gateway routes it, and
//! none takes it from its device. After the IPv6 header come, in network byte order:
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | `crrk` |
//! | 4 | version, 1 |
//! | 5 | kind: 1 probe, 2 answer |
//! | 6–7 | the path, by its sender's number |
//! | 8–11 | sequence number |
//! | 12–19 | nonce |
//! | 20–21 | the size of the inner packet; an answer says the size that arrived |
//! | 22–31 | zero |
//!
//! and zeros up to the size. Other versions and kinds are ignored, so that later ones can be added.

use std::net::Ipv6Addr;

/// The addresses: `carrick` in ASCII, and the one after it.
const FROM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0063, 0x6172, 0x7269, 0x636b);
const TO: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0063, 0x6172, 0x7269, 0x636c);
/// "Use for experimentation and testing" (RFC 3692).
const PROTOCOL: u8 = 253;
const MAGIC: [u8; 4] = *b"crrk";
const VERSION: u8 = 1;
const PROBE: u8 = 1;
const ANSWER: u8 = 2;
const HEADER: usize = 40;

/// The shortest message in bytes, and the length of every answer.
pub const SHORTEST: usize = HEADER + 32;

/// What an answer repeats of its probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// The path, by the number that the probe's sender gave it.
    pub path: u16,
    /// The probe's number on that path.
    pub sequence: u32,
    /// What only a receiver of the probe knows.
    pub nonce: u64,
}

/// A message that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Asks for an answer.
    Probe(Echo),
    /// A probe arrived, and how long it was in bytes.
    Answer(Echo, u16),
}

/// The packet says that it is a message of ours, and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message about the path whose form is wrong")]
pub struct Malformed;

/// Whether `packet` is a message: then it is for the gateway itself and goes no further.
pub fn is_message(packet: &[u8]) -> bool {
    packet.len() >= HEADER
        && packet[0] >> 4 == 6
        && packet[6] == PROTOCOL
        && packet[8..24] == FROM.octets()
        && packet[24..40] == TO.octets()
}

/// Reads a message; `None` if it is of a version or kind that we do not know.
pub fn parse(packet: &[u8]) -> Result<Option<Message>, Malformed> {
    let payload = packet.get(HEADER..).filter(|_| is_message(packet)).ok_or(Malformed)?;
    let fixed: &[u8; SHORTEST - HEADER] = payload.first_chunk().ok_or(Malformed)?;
    if fixed[..4] != MAGIC {
        return Err(Malformed);
    }
    let echo = Echo {
        path: u16::from_be_bytes([fixed[6], fixed[7]]),
        sequence: u32::from_be_bytes(std::array::from_fn(|i| fixed[8 + i])),
        nonce: u64::from_be_bytes(std::array::from_fn(|i| fixed[12 + i])),
    };
    let size = u16::from_be_bytes([fixed[20], fixed[21]]);
    match (fixed[4], fixed[5]) {
        (VERSION, PROBE) if usize::from(size) == packet.len() => Ok(Some(Message::Probe(echo))),
        (VERSION, PROBE) => Err(Malformed),
        (VERSION, ANSWER) => Ok(Some(Message::Answer(echo, size))),
        _ => Ok(None),
    }
}

/// Writes a message of `length` bytes in all ([`SHORTEST`] or more) to where `out` begins, whose other
/// bytes must be zero. False where there is no room for it.
pub fn write(message: Message, length: usize, out: &mut [u8]) -> bool {
    let Some(packet) = out.get_mut(..length).filter(|packet| packet.len() >= SHORTEST) else {
        return false;
    };
    let Ok(payload) = u16::try_from(length - HEADER) else { return false };
    let (kind, echo, size) = match message {
        Message::Probe(echo) => (PROBE, echo, length as u16),
        Message::Answer(echo, size) => (ANSWER, echo, size),
    };
    packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, PROTOCOL, 1]);
    packet[4..6].copy_from_slice(&payload.to_be_bytes());
    packet[8..24].copy_from_slice(&FROM.octets());
    packet[24..40].copy_from_slice(&TO.octets());
    let fixed = &mut packet[HEADER..];
    fixed[..4].copy_from_slice(&MAGIC);
    fixed[4..6].copy_from_slice(&[VERSION, kind]);
    fixed[6..8].copy_from_slice(&echo.path.to_be_bytes());
    fixed[8..12].copy_from_slice(&echo.sequence.to_be_bytes());
    fixed[12..20].copy_from_slice(&echo.nonce.to_be_bytes());
    fixed[20..22].copy_from_slice(&size.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet;

    const ECHO: Echo = Echo { path: 7, sequence: 0x0102_0304, nonce: u64::MAX - 1 };

    fn written(message: Message, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        assert!(write(message, length, &mut out), "{length} bytes");
        out
    }

    #[test]
    fn what_is_written_is_read_again_and_is_no_packet_for_anyone_else() {
        for (message, length) in [
            (Message::Probe(ECHO), SHORTEST),
            (Message::Probe(ECHO), 9000),
            (Message::Answer(ECHO, 9000), SHORTEST),
        ] {
            let bytes = written(message, length);
            assert!(is_message(&bytes));
            assert_eq!(parse(&bytes), Ok(Some(message)));
            let header = packet::parse(&bytes).expect("an IPv6 packet");
            assert_eq!(header.length, length);
            assert!(!header.is_unicast(), "a router drops it");
        }
        assert!(!write(Message::Probe(ECHO), SHORTEST - 1, &mut [0; 100]));
        assert!(!write(Message::Probe(ECHO), 101, &mut [0; 100]));
    }

    #[test]
    fn other_versions_and_kinds_are_ignored_and_lies_refused() {
        let good = written(Message::Probe(ECHO), 100);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            parse(&bytes)
        };
        assert_eq!((with(HEADER + 4, 2), with(HEADER + 5, 9)), (Ok(None), Ok(None)));
        assert_eq!(with(HEADER, b'x'), Err(Malformed));
        assert_eq!(with(HEADER + 21, 99), Err(Malformed), "a size that is not its own");
        assert_eq!(with(39, 0), Err(Malformed), "to somebody else");
        assert_eq!(parse(&good[..SHORTEST - 1]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            payload in proptest::collection::vec(any::<u8>(), 0..60), ours: bool,
        ) {
            let mut bytes = written(Message::Probe(ECHO), SHORTEST);
            bytes.truncate(HEADER);
            bytes.extend(&payload);
            if let (Some(start), true) = (bytes.get_mut(HEADER..HEADER + 4), ours) {
                start.copy_from_slice(&MAGIC);
            }
            let long_enough = payload.len() >= SHORTEST - HEADER;
            prop_assert!(parse(&bytes).is_err() || long_enough);
            prop_assert_eq!(parse(&payload), Err(Malformed));
        }
    }
}
