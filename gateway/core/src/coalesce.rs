//! Merging packets of one flow that follow each other into one super-packet, which the kernel then
//! handles as one: the other direction of [`segment`](crate::segment).
//!
//! Only what cutting would give back exactly is merged (save IPv4's identification where DF makes it
//! meaningless, RFC 6864), and only packets whose checksum is right: a wrong one must stay wrong.

use crate::checksum;
use crate::offload::{Cut, CutKind};
use crate::packet::{Header, TCP, UDP};
use crate::segment::upper_length;

/// The longest IP and upper header of a packet that is merged: IPv6 and TCP with all options.
pub const LONGEST_MERGED: usize = 100;
/// The longest super-packet: IPv4's length field.
const LONGEST: usize = 65_535;
/// The most datagrams in a UDP train: what every kernel with UDP segmentation takes.
const MOST_DATAGRAMS: usize = 64;
/// Ports of tunnels whose datagrams some kernels break when they are merged: VXLAN, the older VXLAN
/// port of Linux, and GENEVE.
const TUNNEL_PORTS: [u16; 3] = [4789, 8472, 6081];

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// Which kinds are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merging {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams.
    pub udp: bool,
}

/// A run of packets of one flow.
#[derive(Debug)]
pub struct Run {
    /// The headers of all, with what may differ from packet to packet as zero.
    template: [u8; LONGEST_MERGED],
    /// Bytes of IP header, and of both headers.
    upper: usize,
    headers: usize,
    v4: bool,
    tcp: bool,
    dont_fragment: bool,
    /// Payload bytes of each but the last, and of all.
    size: usize,
    payload: usize,
    count: usize,
    next_sequence: u32,
    next_identification: u16,
    /// The last asks to be delivered at once.
    pushed: bool,
    /// Nothing can follow: the last was pushed or short.
    closed: bool,
}

impl Run {
    /// A run that begins with `packet`. `None` when nothing may be merged with it.
    pub fn begin(packet: &[u8], header: &Header, merging: Merging) -> Option<Self> {
        let v4 = header.source.is_ipv4();
        let tcp = match header.protocol {
            TCP if merging.tcp => true,
            UDP if merging.udp => false,
            _ => return None,
        };
        let upper = header.payload;
        if upper != if v4 { 20 } else { 40 } || header.fragment || packet.len() != header.length {
            return None;
        }
        let headers = upper + upper_length(packet.get(upper..)?, tcp)?;
        let payload = packet.len().checked_sub(headers).filter(|length| *length > 0)?;
        let (ip, rest) = packet.split_at(upper);
        let may = if tcp { may_merge_tcp(rest) } else { may_merge_udp(rest) };
        if !may || !has_right_sums(ip, rest, header.protocol) {
            return None;
        }
        let mut run = Self {
            template: [0; LONGEST_MERGED],
            upper,
            headers,
            v4,
            tcp,
            dont_fragment: header.dont_fragment,
            size: payload,
            payload,
            count: 1,
            next_sequence: sequence(&packet[upper..]).wrapping_add(payload as u32),
            next_identification: identification(packet).wrapping_add(1),
            pushed: tcp && packet[upper + 13] & PSH != 0,
            closed: false,
        };
        run.closed = run.pushed;
        run.template = run.template_of(packet);
        Some(run)
    }

    /// Bytes of both headers.
    pub fn headers(&self) -> usize {
        self.headers
    }

    /// How many packets it holds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether anything could follow.
    pub fn is_open(&self) -> bool {
        let room = self.headers + self.payload + self.size <= LONGEST;
        !self.closed && room && (self.tcp || self.count < MOST_DATAGRAMS)
    }

    /// Takes `packet` as the next one, if it is: its payload then follows the others'.
    pub fn take(&mut self, packet: &[u8]) -> bool {
        let Some(payload) = packet.len().checked_sub(self.headers) else { return false };
        if !self.is_open() || payload == 0 || payload > self.size {
            return false;
        }
        if self.template_of(packet) != self.template || !self.follows(packet) {
            return false;
        }
        self.count += 1;
        self.payload += payload;
        self.next_sequence = self.next_sequence.wrapping_add(payload as u32);
        self.next_identification = self.next_identification.wrapping_add(1);
        self.pushed = self.tcp && packet[self.upper + 13] & PSH != 0;
        self.closed = self.pushed || payload < self.size;
        true
    }

    /// The headers of `packet` with what may differ as zero.
    fn template_of(&self, packet: &[u8]) -> [u8; LONGEST_MERGED] {
        let mut template = [0; LONGEST_MERGED];
        let upper = self.upper;
        template[..self.headers].copy_from_slice(&packet[..self.headers]);
        if self.v4 {
            // Length, identification, checksum.
            template[2..6].fill(0);
            template[10..12].fill(0);
        } else {
            template[4..6].fill(0);
        }
        // Sequence number, or UDP's length and checksum.
        template[upper + 4..upper + 8].fill(0);
        if self.tcp {
            template[upper + 13] &= !PSH;
            template[upper + 16..upper + 18].fill(0);
        }
        template
    }

    /// Lengths, order and checksum; addresses and all else are equal already.
    fn follows(&self, packet: &[u8]) -> bool {
        let upper = &packet[self.upper..];
        let field = usize::from(u16::from_be_bytes(if self.v4 {
            [packet[2], packet[3]]
        } else {
            [packet[4], packet[5]]
        }));
        let length = if self.v4 { field } else { field + 40 };
        let in_order =
            if self.tcp { sequence(upper) == self.next_sequence } else { may_merge_udp(upper) };
        let numbered =
            !self.v4 || self.dont_fragment || identification(packet) == self.next_identification;
        let (ip, _) = packet.split_at(self.upper);
        let protocol = if self.tcp { TCP } else { UDP };
        length == packet.len() && in_order && numbered && has_right_sums(ip, upper, protocol)
    }

    /// Makes one super-packet of what now is in `packet`: the first packet with its headers, and the
    /// payloads of the others behind it. Offsets in the answer count from the packet's first byte.
    pub fn finish(&self, packet: &mut [u8]) -> Cut {
        let length = self.headers + self.payload;
        let upper_length = (length - self.upper) as u16;
        if self.v4 {
            packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            packet[10..12].fill(0);
            let sum = checksum::finish(checksum::add(0, &packet[..20]));
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            packet[4..6].copy_from_slice(&upper_length.to_be_bytes());
        }
        let protocol = if self.tcp { TCP } else { UDP };
        let pseudo = checksum::pseudo(packet, protocol, upper_length);
        let pseudo = checksum::fold(pseudo).to_be_bytes();
        let upper = &mut packet[self.upper..];
        let kind = if self.tcp {
            upper[16..18].copy_from_slice(&pseudo);
            if self.pushed {
                upper[13] |= PSH;
            }
            if self.v4 { CutKind::Tcp4 } else { CutKind::Tcp6 }
        } else {
            upper[4..6].copy_from_slice(&upper_length.to_be_bytes());
            upper[6..8].copy_from_slice(&pseudo);
            CutKind::Udp
        };
        Cut { kind, size: self.size, upper: self.upper, payload: self.headers }
    }
}

/// A plain segment: nothing but ACK, and PSH perhaps.
fn may_merge_tcp(tcp: &[u8]) -> bool {
    tcp[13] & !PSH == ACK
}

/// A datagram with a checksum and a right length, and no tunnel's.
fn may_merge_udp(udp: &[u8]) -> bool {
    let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    let tunnel = TUNNEL_PORTS.contains(&word(0)) || TUNNEL_PORTS.contains(&word(2));
    !tunnel && word(6) != 0 && usize::from(word(4)) == udp.len()
}

fn sequence(tcp: &[u8]) -> u32 {
    u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]])
}

fn identification(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[4], packet[5]])
}

/// Whether IPv4's header checksum and the upper checksum are right. `ip` has no options.
fn has_right_sums(ip: &[u8], upper: &[u8], protocol: u8) -> bool {
    let v4 = ip.len() == 20;
    let pseudo = checksum::pseudo(ip, protocol, upper.len() as u16);
    (!v4 || checksum::fold(checksum::add(0, ip)) == 0xffff)
        && checksum::fold(checksum::add(pseudo, upper)) == 0xffff
}
