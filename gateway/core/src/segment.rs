//! Cutting a super-packet into the packets that it stands for, in place.
//!
//! The header of packet i is written over the tail of packet i − 1's payload, so that nothing is
//! copied but headers; each packet must therefore be used before the next is asked for.

use crate::checksum;
use crate::offload::CutKind;
use crate::packet::{Header, TCP, UDP};

/// The longest headers, IP and upper, that are cut or merged, in bytes.
pub const LONGEST_HEADERS: usize = 256;
/// The most packets that one super-packet makes: 64 KiB at TCP's least segment of 48 bytes.
pub const MOST_PACKETS: usize = 1366;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// A super-packet does not fit what it says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a super-packet whose headers and segment size do not fit it")]
pub struct BadSuperPacket;

/// A super-packet that is being cut.
#[derive(Debug)]
pub struct Segments<'a> {
    bytes: &'a mut [u8],
    plan: Plan,
    /// Payload bytes done.
    done: usize,
    /// Packets made.
    made: u16,
}

/// What all packets share.
#[derive(Debug)]
struct Plan {
    template: [u8; LONGEST_HEADERS],
    headers: usize,
    upper: usize,
    tcp: bool,
    v4: bool,
    size: usize,
    sequence: u32,
    identification: u16,
    /// Sums of what does not change: IPv4's header, and the pseudo-header with the upper header.
    ip_sum: u32,
    upper_sum: u32,
}

impl<'a> Segments<'a> {
    /// Begins with the packet `bytes`, whose headers say `header`; each gets `size` bytes of payload.
    /// What the device says of the headers' length is not asked: for forwarded packets it is wrong.
    pub fn new(
        bytes: &'a mut [u8],
        header: &Header,
        kind: CutKind,
        size: usize,
    ) -> Result<Self, BadSuperPacket> {
        let bytes = bytes.get_mut(..header.length).ok_or(BadSuperPacket)?;
        let plan = Plan::new(bytes, header, kind, size)?;
        Ok(Self { bytes, plan, done: 0, made: 0 })
    }

    /// The next packet, whole and with right checksums. The one after it overwrites its end.
    pub fn next_packet(&mut self) -> Option<&mut [u8]> {
        let plan = &self.plan;
        let left = self.bytes.len() - plan.headers - self.done;
        let length = left.min(plan.size);
        if length == 0 {
            return None;
        }
        let packet = &mut self.bytes[self.done..self.done + plan.headers + length];
        packet[..plan.headers].copy_from_slice(&plan.template[..plan.headers]);
        let (ip, upper) = packet.split_at_mut(plan.upper);
        plan.finish_ip(ip, upper.len(), self.made);
        if plan.tcp {
            let sequence = plan.sequence.wrapping_add(self.done as u32);
            finish_tcp(upper, plan.upper_sum, sequence, self.done == 0, length == left);
        } else {
            finish_udp(upper, plan.upper_sum);
        }
        self.done += length;
        self.made = self.made.wrapping_add(1);
        Some(packet)
    }
}

impl Plan {
    fn new(
        bytes: &[u8],
        header: &Header,
        kind: CutKind,
        size: usize,
    ) -> Result<Self, BadSuperPacket> {
        let headers = headers(bytes, header, kind, size)?;
        let (v4, upper) = (header.source.is_ipv4(), header.payload);
        let tcp = kind != CutKind::Udp;
        let mut template = [0; LONGEST_HEADERS];
        template[..headers].copy_from_slice(&bytes[..headers]);
        let (sequence, identification) = (&template[upper + 4..upper + 8], &template[4..6]);
        let sequence = u32::from_be_bytes(std::array::from_fn(|i| sequence[i]));
        let identification = u16::from_be_bytes([identification[0], identification[1]]);
        // What differs from packet to packet is summed as zero here.
        if v4 {
            template[2..6].fill(0);
            template[10..12].fill(0);
        }
        template[upper + 4..upper + 8].fill(0);
        if tcp {
            template[upper + 16..upper + 18].fill(0);
        }
        let ip_sum = if v4 { checksum::add(0, &template[..upper]) } else { 0 };
        let pseudo = match (v4, upper) {
            (true, 20) | (false, 40) => checksum::pseudo(bytes, header.protocol, 0),
            _ => said_pseudo(&bytes[upper..], tcp),
        };
        let upper_sum = checksum::add(pseudo, &template[upper..headers]);
        Ok(Self {
            template,
            headers,
            upper,
            tcp,
            v4,
            size,
            sequence,
            identification,
            ip_sum,
            upper_sum,
        })
    }

    /// Lengths, identification and header checksum of packet number `made`.
    fn finish_ip(&self, ip: &mut [u8], upper_length: usize, made: u16) {
        if self.v4 {
            let length = (ip.len() + upper_length) as u16;
            let identification = self.identification.wrapping_add(made);
            ip[2..4].copy_from_slice(&length.to_be_bytes());
            ip[4..6].copy_from_slice(&identification.to_be_bytes());
            let sum = checksum::sum_of(checksum::sum_of(self.ip_sum, length), identification);
            ip[10..12].copy_from_slice(&checksum::finish(sum).to_be_bytes());
        } else {
            let length = (ip.len() - 40 + upper_length) as u16;
            ip[4..6].copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// The pseudo-header's sum without a length, as the device left it in the checksum field. Where there are
/// IP options or extension headers, an address that it holds may be in one of them: a source route's
/// last one (RFC 791, section 3.1; RFC 8200, section 8.1), or a mobile node's home address (RFC 6275,
/// section 11.3.2).
fn said_pseudo(upper: &[u8], tcp: bool) -> u32 {
    let at = if tcp { 16 } else { 6 };
    let said = u16::from_be_bytes([upper[at], upper[at + 1]]);
    checksum::sum_of(u32::from(said), !(upper.len() as u16))
}

/// How long the longest packet of a super-packet is, in bytes.
pub fn longest(
    bytes: &[u8],
    header: &Header,
    kind: CutKind,
    size: usize,
) -> Result<usize, BadSuperPacket> {
    Ok(bytes.len().min(headers(bytes, header, kind, size)? + size))
}

/// The length of both headers of a super-packet that can be cut.
fn headers(
    bytes: &[u8],
    header: &Header,
    kind: CutKind,
    size: usize,
) -> Result<usize, BadSuperPacket> {
    let v4 = header.source.is_ipv4();
    let fits = match kind {
        CutKind::Tcp4 => v4 && header.protocol == TCP,
        CutKind::Tcp6 => !v4 && header.protocol == TCP,
        CutKind::Udp => header.protocol == UDP,
    };
    let upper = bytes.get(header.payload..).ok_or(BadSuperPacket)?;
    let length = upper_length(upper, kind != CutKind::Udp).ok_or(BadSuperPacket)?;
    let headers = header.payload + length;
    let payload = bytes.len().checked_sub(headers).ok_or(BadSuperPacket)?;
    let bounded = size > 0 && payload > 0 && payload.div_ceil(size) <= MOST_PACKETS;
    if !fits || header.fragment || headers > LONGEST_HEADERS || !bounded {
        return Err(BadSuperPacket);
    }
    Ok(headers)
}

/// The length of a TCP or UDP header in bytes, when it is whole.
pub(crate) fn upper_length(upper: &[u8], tcp: bool) -> Option<usize> {
    if !tcp {
        return (upper.len() >= 8).then_some(8);
    }
    let length = usize::from(upper.get(12)? >> 4) * 4;
    (length >= 20 && upper.len() >= length).then_some(length)
}

/// Sequence number, flags and checksum (RFC 9293, section 3.1): FIN and PSH belong to the last
/// segment, CWR to the first (RFC 3168, section 6.1.2).
fn finish_tcp(tcp: &mut [u8], shared: u32, sequence: u32, first: bool, last: bool) {
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    let before = u16::from_be_bytes([tcp[12], tcp[13]]);
    if !last {
        tcp[13] &= !(FIN | PSH);
    }
    if !first {
        tcp[13] &= !CWR;
    }
    let flags = u16::from_be_bytes([tcp[12], tcp[13]]);
    let header = usize::from(tcp[12] >> 4) * 4;
    // The shared sum holds the flags of all; the difference is added (RFC 1624).
    let sum = checksum::sum_of(checksum::sum_of(shared, !before), flags);
    let sum = checksum::sum_of(sum, tcp.len() as u16);
    let sum = checksum::sum_of(checksum::sum_of(sum, (sequence >> 16) as u16), sequence as u16);
    let sum = checksum::add(sum, &tcp[header..]);
    tcp[16..18].copy_from_slice(&checksum::finish(sum).to_be_bytes());
}

/// Length and checksum (RFC 768): a sum of zero is written as all ones.
fn finish_udp(udp: &mut [u8], shared: u32) {
    let length = udp.len() as u16;
    udp[4..6].copy_from_slice(&length.to_be_bytes());
    // The length is in the pseudo-header as well.
    let sum = checksum::sum_of(checksum::sum_of(shared, length), length);
    let sum = checksum::finish(checksum::add(sum, &udp[8..]));
    let sum = if sum == 0 { 0xffff } else { sum };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// Finishes the checksum of one packet: the sum from `start` on is written at `start` + `offset`. False
/// when the places lie outside the packet. A UDP sum of zero becomes all ones.
pub fn finish_checksum(packet: &mut [u8], start: usize, offset: usize, udp: bool) -> bool {
    let Some(covered) = packet.get_mut(start..) else { return false };
    if offset + 2 > covered.len() {
        return false;
    }
    let sum = checksum::finish(checksum::add(0, covered));
    let sum = if udp && sum == 0 { 0xffff } else { sum };
    covered[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
    true
}
