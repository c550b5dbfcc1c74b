//! Explicit congestion notification through the tunnel, by RFC 6040.
//!
//! Outward the inner mark is copied to the outer header (normal mode, section 4.1), so that routers on
//! the way may mark; inward both are combined (section 4.2). The DSCP is not copied: what the inner
//! traffic is stays inside, and the inner header keeps its own from end to end.

use crate::checksum;

/// The mark of congestion experienced.
pub const CE: u8 = 3;
/// Capable of ECN, by either codepoint.
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;

/// The packet was marked on the way and its ends do not know the mark: it must be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Congested;

/// The mark of an IP packet, 0–3; of something too short, 0.
pub fn mark(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => second & 3,
        [first, second, ..] if first >> 4 == 6 => second >> 4 & 3,
        _ => 0,
    }
}

/// Combines the mark of the outer header with the inner packet's.
pub fn combine(packet: &mut [u8], outer: u8) -> Result<(), Congested> {
    match (mark(packet), outer) {
        (0, CE) => Err(Congested),
        (ECT_0 | ECT_1, CE) => {
            set_mark(packet, CE);
            Ok(())
        }
        (ECT_0, ECT_1) => {
            set_mark(packet, ECT_1);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Only for packets whose [`mark`] is not 0, which have these bytes.
fn set_mark(packet: &mut [u8], mark: u8) {
    if packet[0] >> 4 == 6 {
        packet[1] = packet[1] & 0xcf | mark << 4;
        return;
    }
    let old = u16::from_be_bytes([packet[0], packet[1]]);
    packet[1] = packet[1] & 0xfc | mark;
    let new = u16::from_be_bytes([packet[0], packet[1]]);
    if let Some(field) = packet.get_mut(10..12) {
        let sum = u16::from_be_bytes([field[0], field[1]]);
        field.copy_from_slice(&checksum::updated(sum, old, new).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{UDP, samples::packet};

    fn marked(v4: bool, mark: u8) -> Vec<u8> {
        let (source, destination) =
            if v4 { ("10.1.0.1", "10.2.0.1") } else { ("fd01::1", "fd02::1") };
        let mut bytes = packet(source, destination, UDP, b"12345678");
        if mark != 0 {
            set_mark(&mut bytes, mark);
        }
        bytes
    }

    /// RFC 6040, figure 4.
    #[test]
    fn marks_combine_as_the_rfc_has_it() {
        for v4 in [true, false] {
            for (inner, outer, result) in [
                (0, 0, Some(0)),
                (0, 1, Some(0)),
                (0, 2, Some(0)),
                (0, CE, None),
                (ECT_0, 0, Some(ECT_0)),
                (ECT_0, ECT_0, Some(ECT_0)),
                (ECT_0, ECT_1, Some(ECT_1)),
                (ECT_0, CE, Some(CE)),
                (ECT_1, 0, Some(ECT_1)),
                (ECT_1, ECT_0, Some(ECT_1)),
                (ECT_1, ECT_1, Some(ECT_1)),
                (ECT_1, CE, Some(CE)),
                (CE, 0, Some(CE)),
                (CE, ECT_0, Some(CE)),
                (CE, CE, Some(CE)),
            ] {
                let mut bytes = marked(v4, inner);
                let combined = combine(&mut bytes, outer).ok().map(|()| mark(&bytes));
                assert_eq!(combined, result, "inner {inner}, outer {outer}");
                assert!(!v4 || checksum::finish(checksum::add(0, &bytes[..20])) == 0);
            }
        }
    }

    #[test]
    fn what_is_no_packet_has_no_mark() {
        assert_eq!((mark(&[]), mark(&[0x45]), mark(&[0x15, 3])), (0, 0, 0));
        assert_eq!(combine(&mut [0x45, 2], CE), Ok(()));
    }
}
