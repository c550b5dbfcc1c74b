//! Keeping TCP below the tunnel's MTU: the maximum segment size in SYNs is lowered on the way.

use std::net::IpAddr;

use crate::checksum;
use crate::packet::{Header, TCP};

const SYN: u8 = 2;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;

/// Lowers the MSS option of a TCP SYN (RFC 9293, section 3.7.1) to what fits `mtu`; true when it did.
/// Everything else, SYNs without the option included, is left as it is.
pub fn clamp(packet: &mut [u8], header: &Header, mtu: usize) -> bool {
    if header.protocol != TCP || header.later_fragment {
        return false;
    }
    let overhead = if matches!(header.source, IpAddr::V4(_)) { 40 } else { 60 };
    let Ok(most) = u16::try_from(mtu.saturating_sub(overhead)) else { return false };
    let Some(tcp) = packet.get_mut(header.payload..header.length) else { return false };
    match find_mss(tcp) {
        Some(at) => lower(tcp, at, most),
        None => false,
    }
}

/// Where in `tcp` the MSS value of a SYN is.
fn find_mss(tcp: &[u8]) -> Option<usize> {
    let fixed: &[u8; 20] = tcp.first_chunk()?;
    if fixed[13] & SYN == 0 {
        return None;
    }
    let options = tcp.get(20..usize::from(fixed[12] >> 4) * 4)?;
    let mut at = 0;
    loop {
        match (options.get(at)?, options.get(at + 1)) {
            (&OPTION_END, _) => return None,
            (&OPTION_NOP, _) => at += 1,
            (&OPTION_MSS, Some(4)) if at + 4 <= options.len() => return Some(20 + at + 2),
            (_, Some(&length)) if length >= 2 => at += usize::from(length),
            _ => return None,
        }
    }
}

fn lower(tcp: &mut [u8], at: usize, most: u16) -> bool {
    let old = u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    if old <= most {
        return false;
    }
    let sum = u16::from_be_bytes([tcp[16], tcp[17]]);
    tcp[at..at + 2].copy_from_slice(&most.to_be_bytes());
    let sum = if at.is_multiple_of(2) {
        checksum::updated(sum, old, most)
    } else {
        // The value straddles two words; the sum does not mind which byte of a word is which, as
        // long as both sides are swapped alike.
        checksum::updated(sum, old.swap_bytes(), most.swap_bytes())
    };
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::{parse, samples};

    fn tcp_sum(packet: &[u8]) -> u16 {
        let header = parse(packet).expect("packet");
        let octets = |address: IpAddr| match address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let tcp = &packet[header.payload..header.length];
        let mut sum = checksum::add(0, &octets(header.source));
        sum = checksum::add(sum, &octets(header.destination));
        sum = checksum::add(sum, &[0, TCP]);
        sum = checksum::add(sum, &(tcp.len() as u32).to_be_bytes());
        checksum::finish(checksum::add(sum, tcp))
    }

    fn segment(v6: bool, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
        let mut tcp =
            vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0, flags, 0xff, 0xff, 0, 0, 0, 0];
        tcp.extend(options);
        tcp.resize(tcp.len().next_multiple_of(4), OPTION_END);
        tcp[12] = (tcp.len() << 2) as u8;
        tcp.extend(data);
        let (from, to) = if v6 { ("fd00::1", "fd01::2") } else { ("10.1.0.1", "10.2.0.2") };
        let mut packet = samples::packet(from, to, TCP, &tcp);
        let sum = tcp_sum(&packet).to_be_bytes();
        let at = parse(&packet).expect("packet").payload + 16;
        packet[at..at + 2].copy_from_slice(&sum);
        packet
    }

    fn mss_of(packet: &[u8]) -> u16 {
        let tcp = &packet[parse(packet).expect("packet").payload..];
        let at = find_mss(tcp).expect("an MSS option");
        u16::from_be_bytes([tcp[at], tcp[at + 1]])
    }

    proptest! {
        #[test]
        fn a_clamped_syn_has_the_checksum_of_one_made_so(
            v6: bool, mss: u16, mtu in 1280usize..9000, nops in 0usize..6,
            data in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut options = vec![OPTION_NOP; nops];
            options.extend([OPTION_MSS, 4]);
            options.extend(mss.to_be_bytes());
            let mut packet = segment(v6, SYN, &options, &data);
            let header = parse(&packet).expect("packet");
            let most = (mtu - if v6 { 60 } else { 40 }) as u16;
            prop_assert_eq!(clamp(&mut packet, &header, mtu), mss > most);
            prop_assert_eq!(mss_of(&packet), mss.min(most));
            prop_assert_eq!(tcp_sum(&packet), 0);
        }

        #[test]
        fn any_bytes_survive(
            payload in proptest::collection::vec(any::<u8>(), 0..80), syn: bool,
        ) {
            let mut payload = payload;
            if let (Some(flags), true) = (payload.get_mut(13), syn) {
                *flags |= SYN;
            }
            let mut packet = samples::packet("10.1.0.1", "10.2.0.2", TCP, &payload);
            let header = parse(&packet).expect("packet");
            clamp(&mut packet, &header, 1420);
        }
    }

    #[test]
    fn only_syns_are_touched() {
        let options = [OPTION_MSS, 4, 0xff, 0xff];
        let mut packet = segment(false, 0x10, &options, b"data");
        let before = packet.clone();
        let header = parse(&packet).expect("packet");
        assert!(!clamp(&mut packet, &header, 1420));
        assert_eq!(packet, before);
    }
}
