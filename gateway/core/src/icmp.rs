//! The answers that a router owes: time exceeded, and packet too big.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::checksum;
use crate::config::Routers;
use crate::packet::{Header, ICMP, ICMPV6};

/// The longest answer in bytes: IPv6's minimum MTU (RFC 4443, section 2.4).
pub const LONGEST: usize = 1280;
/// The longest answer for IPv4 (RFC 1812, section 4.3.2.3).
const LONGEST_V4: usize = 576;
/// Answers a second, after a first burst of as many.
const PER_SECOND: u32 = 100;

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The hop limit ended here.
    TimeExceeded,
    /// The packet is larger than so many bytes.
    TooBig(usize),
}

/// Bounds the answers, so that nobody makes us send more than we get.
#[derive(Debug)]
pub struct Limiter {
    per_second: u32,
    tokens: u32,
    refilled: Option<Instant>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Default for Limiter {
    fn default() -> Self {
        Self::new(PER_SECOND)
    }
}

impl Limiter {
    /// Lets so many pass at once, and so many a second in the long run.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, tokens: per_second, refilled: None }
    }

    /// Whether one more answer may be sent.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let may = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        may
    }

    /// Little by little: who has used up all gets some again soon.
    fn refill(&mut self, now: Instant) {
        let refilled = *self.refilled.get_or_insert(now);
        let passed = now.saturating_duration_since(refilled);
        if passed >= SECOND {
            (self.tokens, self.refilled) = (self.per_second, Some(now));
            return;
        }
        let gained = passed.as_nanos() * u128::from(self.per_second) / SECOND.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if gained > 0 {
            self.tokens = self.tokens.saturating_add(gained).min(self.per_second);
            self.refilled = Some(refilled + SECOND * gained / self.per_second);
        }
    }
}

/// Writes the answer to `packet` into `out` ([`LONGEST`] bytes or more) and says its length. `None` where none may be sent: to an
/// ICMP error, to a later fragment, to IPv4 that may be fragmented, or without an address to send it from.
pub fn answer(
    answer: Answer,
    packet: &[u8],
    header: &Header,
    routers: Routers,
    out: &mut [u8],
) -> Option<usize> {
    let out = out.first_chunk_mut::<LONGEST>()?;
    if header.later_fragment || is_icmp_error(packet, header) {
        return None;
    }
    let packet = packet.get(..header.length)?;
    // A router without an address lets the far end speak: without this answer the sender would go on.
    let speaks = |own: Option<IpAddr>| {
        own.or(Some(header.destination).filter(|_| answer != Answer::TimeExceeded))
    };
    match header.source {
        IpAddr::V4(to) => {
            if answer != Answer::TimeExceeded && !header.dont_fragment {
                return None;
            }
            let IpAddr::V4(from) = speaks(routers.v4.map(IpAddr::V4))? else { return None };
            Some(answer_v4(answer, packet, from, to, out))
        }
        IpAddr::V6(to) => {
            let IpAddr::V6(from) = speaks(routers.v6.map(IpAddr::V6))? else { return None };
            Some(answer_v6(answer, packet, from, to, out))
        }
    }
}

fn is_icmp_error(packet: &[u8], header: &Header) -> bool {
    match (header.protocol, packet.get(header.payload)) {
        (ICMP, Some(kind)) => !matches!(kind, 0 | 8 | 13 | 14),
        (ICMPV6, Some(kind)) => *kind < 128,
        (ICMP | ICMPV6, None) => true,
        _ => false,
    }
}

fn answer_v4(
    answer: Answer,
    packet: &[u8],
    from: Ipv4Addr,
    to: Ipv4Addr,
    out: &mut [u8; LONGEST],
) -> usize {
    let quoted = packet.len().min(LONGEST_V4 - 28);
    let length = 28 + quoted;
    out[..28].fill(0);
    out[0] = 0x45;
    out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    out[8] = 64;
    out[9] = ICMP;
    out[12..16].copy_from_slice(&from.octets());
    out[16..20].copy_from_slice(&to.octets());
    let sum = checksum::finish(checksum::add(0, &out[..20]));
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    match answer {
        Answer::TimeExceeded => out[20] = 11,
        Answer::TooBig(mtu) => {
            (out[20], out[21]) = (3, 4);
            out[26..28].copy_from_slice(&u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out[28..length].copy_from_slice(&packet[..quoted]);
    let sum = checksum::finish(checksum::add(0, &out[20..length]));
    out[22..24].copy_from_slice(&sum.to_be_bytes());
    length
}

fn answer_v6(
    answer: Answer,
    packet: &[u8],
    from: Ipv6Addr,
    to: Ipv6Addr,
    out: &mut [u8; LONGEST],
) -> usize {
    let quoted = packet.len().min(LONGEST - 48);
    let length = 48 + quoted;
    out[..48].fill(0);
    out[0] = 0x60;
    out[4..6].copy_from_slice(&(8 + quoted as u16).to_be_bytes());
    (out[6], out[7]) = (ICMPV6, 64);
    out[8..24].copy_from_slice(&from.octets());
    out[24..40].copy_from_slice(&to.octets());
    match answer {
        Answer::TimeExceeded => out[40] = 3,
        Answer::TooBig(mtu) => {
            out[40] = 2;
            out[44..48].copy_from_slice(&u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out[48..length].copy_from_slice(&packet[..quoted]);
    let pseudo = checksum::pseudo(&out[..], ICMPV6, 8 + quoted as u16);
    let sum = checksum::finish(checksum::add(pseudo, &out[40..length]));
    out[42..44].copy_from_slice(&sum.to_be_bytes());
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{UDP, parse, samples::packet};

    fn routers() -> Routers {
        Routers {
            v4: Some(Ipv4Addr::new(240, 0, 0, 1)),
            v6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        }
    }

    fn answered(kind: Answer, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0xaa; LONGEST];
        let header = parse(bytes).expect("packet");
        answer(kind, bytes, &header, routers(), &mut out).map(|n| out[..n].to_vec())
    }

    #[test]
    fn too_big_names_the_mtu_and_quotes_the_packet() {
        let big = packet("10.1.0.1", "10.2.0.1", UDP, &[7; 3000]);
        let icmp = answered(Answer::TooBig(1420), &big).expect("an answer");
        let header = parse(&icmp).expect("packet");
        assert_eq!((header.length, header.destination), (576, parse(&big).expect("packet").source));
        assert_eq!((&icmp[20..22], &icmp[26..28]), (&[3, 4][..], &1420u16.to_be_bytes()[..]));
        assert_eq!(checksum::finish(checksum::add(0, &icmp[20..])), 0);
        assert_eq!(checksum::finish(checksum::add(0, &icmp[..20])), 0);
        assert_eq!(icmp[28..], big[..548]);
    }

    #[test]
    fn version_six_has_a_pseudo_header_in_its_sum() {
        let big = packet("fd01::1", "fd02::1", UDP, &[7; 3000]);
        let icmp = answered(Answer::TooBig(1400), &big).expect("an answer");
        assert_eq!((icmp.len(), icmp[40], &icmp[44..48]), (1280, 2, &[0, 0, 5, 120][..]));
        let pseudo = checksum::add(checksum::add(0, &icmp[8..40]), &[icmp[4], icmp[5], 0, ICMPV6]);
        assert_eq!(checksum::finish(checksum::add(pseudo, &icmp[40..])), 0);
        assert_eq!(answered(Answer::TimeExceeded, &big).expect("an answer")[40], 3);
    }

    #[test]
    fn a_router_without_an_address_lets_the_far_end_say_too_big() {
        for (from, to) in [("10.1.0.1", "10.2.0.1"), ("fd01::1", "fd02::1")] {
            let big = packet(from, to, UDP, &[7; 3000]);
            let header = parse(&big).expect("packet");
            let mut out = [0; LONGEST];
            let mut answered = |kind| {
                answer(kind, &big, &header, Routers::default(), &mut out).map(|n| out[..n].to_vec())
            };
            assert_eq!(answered(Answer::TimeExceeded), None);
            let icmp = answered(Answer::TooBig(1400)).expect("an answer");
            let answer = parse(&icmp).expect("packet");
            assert_eq!((answer.source, answer.destination), (header.destination, header.source));
        }
    }

    #[test]
    fn errors_fragments_and_fragmentable_packets_get_no_answer() {
        assert_eq!(
            answered(Answer::TimeExceeded, &packet("10.1.0.1", "10.2.0.1", ICMP, &[3; 8])),
            None
        );
        assert!(
            answered(Answer::TimeExceeded, &packet("10.1.0.1", "10.2.0.1", ICMP, &[8; 8]))
                .is_some()
        );
        let v6_error = packet("fd01::1", "fd02::1", ICMPV6, &[1; 8]);
        assert_eq!(answered(Answer::TimeExceeded, &v6_error), None);
        let mut plain = packet("10.1.0.1", "10.2.0.1", UDP, &[7; 3000]);
        plain[6] = 0;
        assert_eq!(answered(Answer::TooBig(1420), &plain), None);
        plain[7] = 1;
        assert_eq!(answered(Answer::TimeExceeded, &plain), None);
    }

    #[test]
    fn answers_are_bounded_a_second() {
        let (mut limiter, start) = (Limiter::default(), crate::testing::start());
        let given = (0..1000).filter(|_| limiter.take(start)).count();
        assert_eq!(given, PER_SECOND as usize);
        // A hundredth of a second later there is one more, and after a second all are.
        let then = start + Duration::from_millis(10);
        assert!(limiter.take(then) && !limiter.take(then));
        let given = (0..1000).filter(|_| limiter.take(then + SECOND)).count();
        assert_eq!(given, PER_SECOND as usize);
    }
}
